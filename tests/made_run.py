"""A small run for tests of report, release and diff: the real orchestration, gate and scoring, with made-up models.

A made model answers item k of a suite of sums right when k is below its skill. Nothing is trained or sampled.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from posttrain.evals import runner, task
from posttrain.evals.task import Done
from posttrain.gates import Rule
from posttrain.pipeline import Outcome, Ref, Runtime, Stage, run
from posttrain.rows import Demo, Message, write_jsonl
from posttrain.stages.gate import Gate
from posttrain.stages.release import Release

ITEMS = 10
NASTY = "<script>alert('x')</script> & more"


class MadeBase(Stage):
    makes = "policy"
    type: Literal["base_model"] = "base_model"
    model: str = "bundled"
    skill: int = 0

    def run(self, inputs, out, runtime):
        model_files(out, self.skill)
        return {"parameters": 2_000_000.0, "seconds": 2.0}


class MadeTraining(Stage):
    makes = "policy"
    type: Literal["sft"] = "sft"
    policy: Annotated[str, Ref("policy")]
    data: Annotated[tuple[str, ...] | str, Ref("demos")]
    skill: int = 10
    loss: dict[str, float | str] = {"type": "nll", "beta": 0.1}

    def run(self, inputs, out, runtime):
        model_files(out, self.skill)
        log = [{"step": 0, "held_loss": 3.0}]
        log += [{"step": s, "loss": 3 / s, "lr": 0.1, "norm": 1.0, "tokens": 100.0} for s in range(1, 5)]
        log[-1]["held_loss"] = 0.9
        (out / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in log))
        facts = {"rows": 3, "longest": 7, "warnings": ["a row has only 2.0 tokens to learn on average"]}
        (out / "preflight.json").write_text(json.dumps(facts))
        (out / "ledger.jsonl").write_text("")
        return {"held_loss_before": 3.0, "held_loss": 0.9, "tokens": 400.0, "flops": 4e6, "steps": 4.0, "seconds": 30.0}


class MadeDemos(Stage):
    makes = "demos"
    type: Literal["demos"] = "demos"
    policy: Annotated[str | None, Ref("policy")] = None
    decontaminate: tuple[str, ...] = ("sums",)

    def run(self, inputs, out, runtime):
        def demo(text: str, category: str) -> Demo:
            messages = (Message(role="user", content=text), Message(role="assistant", content="Yes."))
            return Demo(messages=messages, category=category, source="human")

        write_jsonl(out / "train.jsonl", [demo("a", "lists"), demo("b", "lists"), demo("c", "<b>odd</b>")])
        write_jsonl(out / "holdout.jsonl", [demo("d", "stories")])
        reasons = ["duplicate: of f:1", "duplicate: of f:2", "holds an evaluation item: sums s1 (the whole item)"]
        entries = [{"where": f"f:{n}", "reason": r, "text": NASTY} for n, r in enumerate(reasons)]
        (out / "ledger.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
        example = {"row": "f:7", "asked": "Is it so?", "answer": NASTY}
        warning = {"kind": "contradictory_answers", "count": 2, "serious": True, "says": "guess", "examples": [example]}
        (out / "audit.json").write_text(json.dumps({"rows": 4, "warnings": [warning]}))
        return {"rows": 4.0, "seconds": 12.0}


class MadeReport(Stage):
    makes = "report"
    type: Literal["evaluate"] = "evaluate"
    policy: Annotated[str, Ref("policy")]
    suites: tuple[str, ...]

    def run(self, inputs, out, runtime):
        skill = int((inputs.one("policy") / "model.safetensors").read_text())
        sums = task.load(self.suites[0])
        done = [
            Done(
                id=item.id,
                suite=sums.name,
                text=f"It is {item.answer if k < skill else NASTY}.",
                ended="stop",
                tokens=4,
            )
            for k, item in enumerate(sums.items)
        ]
        summary = runner.write(out, [sums], done)
        return {name: m["value"] for name, m in summary["metrics"].items()} | {"tokens": 40.0, "seconds": 5.0}


def model_files(out: Path, skill: int) -> None:
    """What a policy's folder holds, the weights being one number; config.json is a link as in a base model's folder."""
    outside = out.parent / "outside.json"
    outside.write_text("{}")
    (out / "config.json").symlink_to(outside)
    (out / "tokenizer_config.json").write_text("{}")
    (out / "chat_template.jinja").write_text("{{ messages }}")
    (out / "README.md").write_text("the card of another model")
    (out / "model.safetensors").write_text(str(skill))


def suite(folder: Path, items: int = ITEMS) -> str:
    """A suite of sums; each item is a cluster of its own."""
    path = folder / "sums.jsonl"
    rows = [
        {
            "id": f"s{k}",
            "cluster": f"c{k}",
            "answer": str(k + 2),
            "messages": [{"role": "user", "content": f"{k}+2? {NASTY}"}],
        }
        for k in range(items)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def stages(
    folder: Path, *, base: int = 0, sft: int = 10, dpo: int = 10, margin: float = 0.5, items: int = ITEMS
) -> dict:
    """base -> sft -> dpo with a report of each, a gate that asks for `margin` more than the base, a release."""
    suites = (suite(folder, items),)
    rule = Rule(metric="sums.accuracy", better_than=margin)
    return {
        "base": MadeBase(skill=base),
        "demos": MadeDemos(),
        "sft": MadeTraining(policy="base", data="demos", skill=sft),
        "sampled": MadeDemos(policy="sft"),
        "dpo": MadeTraining(policy="sft", data=("sampled",), skill=dpo),
        "before": MadeReport(policy="base", suites=suites),
        "middle": MadeReport(policy="sft", suites=suites),
        "after": MadeReport(policy="dpo", suites=suites),
        "gate": Gate(candidate="after", baseline="before", rules=(rule,)),
        "release": Release(
            policy="dpo", gate="gate", reports=("before", "after"), name="small: one", limits="Sums only."
        ),
    }


def made(folder: Path, *, price: float = 0.0, **skills) -> tuple[Path, Outcome]:
    """Run it all; returns (run directory, outcome)."""
    root = folder / "runs" / "made"
    return root, run(stages(folder, **skills), root, Runtime(price_per_hour=price))
