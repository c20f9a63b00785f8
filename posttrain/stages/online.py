"""Online preference training: the policy answers, a judge says which answer is better, the policy learns; N rounds.

A round is a directory: pairs/ (what was sampled and judged), policy/ (the preference stage's own output). Each is made
whole or resumed, so a killed run goes on where it was. Earlier rounds' weights are removed, their pairs and logs stay.
Left out on purpose: the training itself (stages/preference.py), rewards without pairs (stages/rl.py).
Importing this file does not import torch.
"""

import asyncio
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from posttrain import bundled, stats
from posttrain.errors import UserError
from posttrain.judge import items as by_rules
from posttrain.judge.base import Judge
from posttrain.lora import Lora
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, Stage, write_text
from posttrain.rl import rewards
from posttrain.rl.rollout import asked, at_once
from posttrain.rows import Item, Message, Pair, Sample, digest, read_jsonl, set_aside, write_jsonl
from posttrain.spec import one_of
from posttrain.stages.preference import LOSSES, Preference
from posttrain.stages.sample import Scored, answered, examined, extremes, fit, judge_of, placed, sides

WATCHED = 64  # held-out prompts that are answered and judged after every round
Score = float | None


class OnlinePreference(Stage):
    """rounds times: `n` answers to each of `per_round` prompts, judged; the best and the worst become a pair; training.

    prompts: a bundled name or a JSONL file of items. judge: a reward by name; a reward model is one of the edge
    `reward_models`. reference: the policy that the first round starts from, or each
    round's own start. epochs: of a round, over its own pairs.
    """

    makes: ClassVar[Kind] = "policy"
    resumes: ClassVar[bool] = True
    places: ClassVar[frozenset[str]] = frozenset({"prompts"})

    type: Literal["online_preference"] = "online_preference"
    policy: Annotated[str, Ref("policy")]
    reward_models: Annotated[tuple[str, ...] | str | None, Ref("reward")] = None
    prompts: str = "bundled:prompts"
    judge: rewards.AnyReward = {"type": "asked"}  # type: ignore[valid-type]
    rounds: int = Field(default=3, ge=1)
    per_round: int = Field(default=200, ge=1)
    n: int = Field(default=4, ge=2)
    temperature: float = Field(default=1.0, gt=0)
    max_new: int = Field(default=96, ge=1)
    holdout: float = Field(default=0.1, ge=0, lt=1)
    reference: Literal["start", "round"] = "start"
    loss: one_of(LOSSES) = {"type": "dpo"}  # type: ignore[valid-type]
    sft: float = Field(default=0.0, ge=0)
    lora: Lora | None = None
    lr: float = Field(default=1e-5, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    batch_tokens: int = Field(default=4096, ge=32)
    micro_tokens: int = Field(default=4096, ge=32)
    max_tokens: int = Field(default=1024, ge=8)
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        examined(self.judge)
        if (self.judge.type == "reward_model") != bool(self.reward_models):
            raise UserError(
                "judge: {type: reward_model} and the edge `reward_models` go together", where="judge",
                remedy="reward_models: a stage that makes a reward model, with judge: {type: reward_model}",
            )  # fmt: skip
        return self

    def identity(self) -> dict[str, str]:
        found = {"prompts": digest(self._path().read_text(encoding="utf-8"))}
        return found | rewards.source_identity({"judge": self.judge})

    def _path(self) -> Path:
        return bundled.rows_or_file(self.prompts, "prompts")

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        if (out / "finished.json").exists():
            return self._end(out)
        items, held = self._items()
        judge, policy = judge_of(self.judge, inputs, runtime), inputs.one("policy")
        for number in range(1, self.rounds + 1):
            folder = out / f"round-{number}"
            made = folder / "pairs"
            if not (made / "judged.json").exists():
                self._sample(policy, self._drawn(items, number), held, number, judge, made, runtime)
            if not any(made.glob("train.jsonl")):
                runtime.progress.say(f"  round {number}: no answers that the judge tells apart, so training ends here")
                break
            if not (folder / "done.json").exists():
                metrics = self._train(inputs, policy, folder, runtime)
                write_text(folder / "done.json", json.dumps(metrics))
            if number > 1:  # what this round started from is not needed again
                shutil.rmtree(out / f"round-{number - 1}" / "policy", ignore_errors=True)
            policy = folder / "policy"
        self._finish(policy, held, judge, out, runtime)
        return self._end(out)

    def _items(self) -> tuple[list[Item], list[Item]]:
        """(to train on, held out), in an order drawn by the seed; which is which depends on the id alone."""
        found = list(read_jsonl(self._path(), Item))
        for item in found if self.judge.type == "asked" else ():
            by_rules.check(item.model_dump(), f"{self.prompts}: {item.id}")
        random.Random(self.seed).shuffle(found)
        held = [i for i in found if set_aside(i.id, self.holdout)][:WATCHED]
        apart = {i.id for i in held}
        items = [i for i in found if i.id not in apart]
        if not items:
            raise UserError("there is no prompt to answer", where=self.prompts)
        return items, held

    def _drawn(self, items: Sequence[Item], number: int) -> list[Item]:
        """A round's prompts: the next `per_round` ones, from the beginning again when all had their turn."""
        count = min(self.per_round, len(items))
        first = (number - 1) * count
        return [items[(first + k) % len(items)] for k in range(count)]

    def _sample(
        self, policy: Path, items: list[Item], held: list[Item], number: int, judge: Judge, made: Path, runtime: Runtime
    ) -> None:
        """pairs/: train.jsonl, holdout.jsonl, and judged.json, which is written last."""
        drawn = {"temperature": self.temperature, "seed": self.seed + 7919 * number}
        groups = answers(policy, items, self.n, self.max_new, drawn, runtime)
        scores = judged(judge, items, groups)
        found = [(i.id, best_and_worst(i, group, s, number)) for i, group, s in zip(items, groups, scores)]
        pairs = [(i, pair) for i, pair in found if pair]
        seen = [x for group in scores for x in group if x is not None]
        facts: dict[str, Any] = {
            "score": sum(seen) / max(1, len(seen)), "prompts": len(items), "pairs": len(pairs),
            "abstained": sum(x is None for group in scores for x in group),
            "tokens": sum(len(s.ids) for group in groups for s in group),
            "held": self._watch(policy, held, judge, runtime),
        }  # fmt: skip
        shown = "" if not facts["held"] else f", held-out prompts {mean(facts['held']):.3f}"
        runtime.progress.say(f"  round {number}: judge's mean {facts['score']:.3f}{shown}; {len(pairs)} pairs")
        train, apart = sides(pairs, self.holdout)  # a prompt stands on the same side in every round
        if number == 1 and len(train) < 2:
            raise UserError(
                f"{len(items)} prompts gave {len(pairs)} pairs of answers that the judge tells apart",
                remedy="a higher n, temperature or per_round; or a policy that is sometimes right",
            )
        if train:
            write_jsonl(made / "train.jsonl", train)
            write_jsonl(made / "holdout.jsonl", apart)
        made.mkdir(parents=True, exist_ok=True)
        write_text(made / "judged.json", json.dumps(facts))

    def _watch(self, policy: Path, held: list[Item], judge: Judge, runtime: Runtime) -> list[Score]:
        """Scores of the likeliest answers to the held-out prompts, in order."""
        if not held:
            return []
        groups = answers(policy, held, 1, self.max_new, {"temperature": 0.0}, runtime)
        return [s for (s,) in judged(judge, held, groups)]

    def _train(self, inputs: Inputs, policy: Path, folder: Path, runtime: Runtime) -> Metrics:
        """The preference stage over this round's pairs, in round-N/policy."""
        start = {"reference": (inputs.one("policy"),)} if self.reference == "start" and folder.name != "round-1" else {}
        stage = Preference(
            policy="policy", pairs="pairs", reference="reference" if start else None,
            loss=self.loss.model_dump(), sft=self.sft,
            lora=self.lora, lr=self.lr, epochs=self.epochs, batch_tokens=self.batch_tokens, seed=self.seed,
            micro_tokens=self.micro_tokens, max_tokens=self.max_tokens, too_long="drop",
        )  # fmt: skip
        (folder / "policy").mkdir(exist_ok=True)
        edges = {"policy": (policy,), "pairs": (folder / "pairs",)} | start
        metrics = stage.run(Inputs(edges), folder / "policy", runtime)
        (folder / "policy" / "log.jsonl").rename(folder / "log.jsonl")
        return metrics

    def _finish(self, policy: Path, held: list[Item], judge: Judge, out: Path, runtime: Runtime) -> None:
        """Judge the last policy, lay it into `out`, join the rounds' logs; finished.json is written last."""
        last = self._watch(policy, held, judge, runtime)
        for file in sorted(policy.iterdir()):
            if file.is_file() and file.name not in ("ledger.jsonl", "preflight.json"):
                shutil.copyfile(file, out / file.name)
        entries, metrics = joined(out, self.rounds)
        if last:
            step = entries[-1]["step"] if entries else 0
            entries.append({"step": step, "held_score": mean(last)})
            metrics |= against(read_json(out / "round-1" / "pairs" / "judged.json")["held"], last)
        write_text(out / "log.jsonl", "".join(json.dumps(e) + "\n" for e in entries))
        write_text(out / "finished.json", json.dumps(metrics))

    def _end(self, out: Path) -> Metrics:
        for folder in out.glob("round-*/policy"):
            shutil.rmtree(folder)
        metrics: Metrics = read_json(out / "finished.json")
        return metrics


def answers(
    policy: Path, items: Sequence[Item], n: int, max_new: int, how: dict[str, Any], runtime: Runtime
) -> list[list[Sample]]:
    """n answers of a policy to each item."""
    from posttrain.loading import load_model
    from posttrain.render import load_chat
    from posttrain.sampler import Sampling
    from posttrain.sampler.local import Local

    chat, model = load_chat(policy), load_model(policy, runtime, train=False)
    prompts = [chat.prompt(item.messages) for item in items]
    with runtime.progress.task("sample", total=len(prompts) * n) as tick:
        drawn = Local(model, chat).sample(
            prompts, n, Sampling(max_new=max_new, **how), on_step=lambda done, tokens: tick(done, tokens=tokens)
        )
        return asyncio.run(drawn)


def judged(judge: Judge, items: Sequence[Item], groups: Sequence[Sequence[Sample]]) -> list[list[Score]]:
    """A score for each sample, None where the judge abstained. One that did not end by itself, or is empty, is not
    asked about and has the lowest score of all."""
    flat = [answered(i, s) for i, group in zip(items, groups) for s in group if fit(s)]
    verdicts = asyncio.run(asked("judge", at_once(judge, len(flat)), flat)) if flat else []
    return placed([None if "abstained" in v.detail else v.score for v in verdicts], groups)


def best_and_worst(item: Item, samples: Sequence[Sample], scores: Sequence[Score], number: int) -> Pair | None:
    """The best answer that ended by itself against the worst one, of equals the likelier; None if none is better.

    margin is the difference of their scores.
    """
    known = [Scored(s, x, fit(s)) for s, x in zip(samples, scores) if x is not None]
    two = extremes(known)
    if two is None or two[0].sample.text.strip() == two[1].sample.text.strip():
        return None
    best, worst = two
    return Pair(
        id=f"round{number}-{item.id}", prompt=item.messages, chosen=Message(role="assistant", content=best.sample.text),
        rejected=Message(role="assistant", content=worst.sample.text), margin=best.score - worst.score, source="judge",
        category=item.cluster,
    )  # fmt: skip


def mean(scores: Sequence[Score]) -> float:
    known = [s for s in scores if s is not None]
    return sum(known) / max(1, len(known))


def against(before: Sequence[Score], after: Sequence[Score]) -> Metrics:
    """The judge's scores of the same held-out prompts before and after: means, wins, losses, and the sign test's p."""
    both = [(a, b) for a, b in zip(before, after) if a is not None and b is not None]
    wins, losses = sum(b > a for a, b in both), sum(b < a for a, b in both)
    return {
        "held_score_before": mean(before), "held_score": mean(after), "held_prompts": float(len(both)),
        "held_wins": float(wins), "held_losses": float(losses), "held_p": stats.mcnemar(wins, losses),
    }  # fmt: skip


def joined(out: Path, rounds: int) -> tuple[list[dict[str, Any]], Metrics]:
    """(the rounds' logs as one, steps counted on, with the judge's view at each round's start; metrics)."""
    entries: list[dict[str, Any]] = []
    metrics: Metrics = {"rounds": 0.0, "pairs": 0.0, "tokens": 0.0, "flops": 0.0, "steps": 0.0}
    for number in range(1, rounds + 1):
        folder = out / f"round-{number}"
        if not (folder / "done.json").exists():
            break
        seen, done = read_json(folder / "pairs" / "judged.json"), read_json(folder / "done.json")
        first = int(metrics["steps"])
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        entries.append({"step": first, "round": number, "score": seen["score"]})
        entries[-1] |= {"held_score": mean(seen["held"])} if seen["held"] else {}
        entries += [e | {"step": first + e["step"], "round": number} for e in log]
        for name in ("tokens", "flops", "steps"):
            metrics[name] += done.get(name, 0.0)
        metrics["tokens"] += seen["tokens"]
        metrics["rounds"], metrics["pairs"] = float(number), metrics["pairs"] + seen["pairs"]
        if done.get("skipped_steps"):
            metrics["skipped_steps"] = metrics.get("skipped_steps", 0.0) + done["skipped_steps"]
        metrics[f"round{number}.shared_saving"] = done.get("shared_saving", 0.0)
        metrics[f"round{number}.score"], metrics[f"round{number}.pairs"] = seen["score"], float(seen["pairs"])
    return entries, metrics


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
