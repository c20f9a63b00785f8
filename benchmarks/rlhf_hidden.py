"""RLHF against a hidden truth: people rank answers, a reward model learns from the rankings, PPO learns from the model.

    python benchmarks/rlhf_hidden.py --out /tmp/rlhf --model runs/assistant/sft-...   # a quarter of an hour of one core
    python benchmarks/rlhf_hidden.py --out /tmp/rlhf                                  # trains a short SFT first

Simulated people rank four answers of the SFT model to each of some hundred questions by the hidden rule of
simulated_votes.py, with noise (Plackett-Luce: each place is drawn from a softmax of what is left). A reward model is
trained on the rankings, PPO on the reward model. A second PPO run is meant to over-optimise: no price of KL, ten times
the learning rate; the hidden rule watches both as their gold judge, and in the second the detector `reward_hacking`
stops the run and takes the weights back to the best evaluation. All models then answer questions that nobody ranked and
that no run was watched on; the hidden rule scores them, paired by question. Two recipes are run, so each has its
report.html, with the curve of reward and gold over KL.
Left out on purpose: the labelling server (simulated_votes.py goes through it), several seeds.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path[:0] = [str(Path(__file__).parent)]
from simulated_votes import answers, prompts, score, stages  # noqa: E402

from posttrain import stats  # noqa: E402
from posttrain.judge.base import Answered  # noqa: E402
from posttrain.rows import Message, Prompt, Ranking, write_jsonl  # noqa: E402

HERE = Path(__file__).parent
NOISE = 0.35  # temperature of the people's choices, in units of the hidden score
SIZES = {"demos": 1500, "prompts": 400, "held": 150, "answers": 4, "samples": 3, "steps": 30}
RUNS = ("ppo", "over")


def gold(items: Sequence[Answered]) -> list[float]:
    """The hidden rule as a judge that nothing is learned from."""
    return [score(i.answer) for i in items]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="", help="an SFT model; trained here when not given")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the recipe, as in ppo.lr=1e-4")
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    run(given, "sft", stages(given))
    rank(given)
    for name in RUNS:
        run(given, name, recipe(given, name), *[s for s in given.set if s.startswith((f"{name}.", "judge."))])
    result = judge(given)
    (given.out / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


def run(given: argparse.Namespace, name: str, recipe: dict[str, Any], *overrides: str) -> None:
    """All recipes share one run directory, so what they have in common is made once; each report has its own copy."""
    path, runs = given.out / f"{name}.yaml", given.out / "runs"
    path.write_text(yaml.safe_dump({"name": "hidden", "stages": recipe}, sort_keys=False))
    command = [sys.executable, "-m", "posttrain", "run", str(path), "--runs", str(runs), *overrides]
    path_of_gold = {"PYTHONPATH": f"{HERE}:{HERE.parent}"}
    subprocess.run(command, check=True, env={**os.environ, **path_of_gold})
    if (report := runs / "hidden" / "report.html").exists():
        (given.out / f"{name}.html").write_text(report.read_text())


def folder(given: argparse.Namespace, stage: str) -> Path:
    """The newest artefact of a stage."""
    return max((given.out / "runs" / "hidden").glob(f"{stage}-??????????"), key=lambda p: p.stat().st_mtime)


# ---- people ----------------------------------------------------------------------------------------------------------


def rank(given: argparse.Namespace) -> None:
    """rankings.jsonl and questions.jsonl; both are left alone where they are."""
    asked, _ = prompts(given)
    write_jsonl(given.out / "questions.jsonl", [Prompt(id=f"q{n}", messages=p.messages) for n, p in enumerate(asked)])
    if (given.out / "rankings.jsonl").exists():
        return
    draw, rows = random.Random(0), []
    for n, (prompt, found) in enumerate(zip(asked, answers(folder(given, "sft"), asked, given.answers, seed=1))):
        texts = list(dict.fromkeys(t for t in found if t))
        if len(texts) > 1:
            said = [Message(role="assistant", content=t) for t in texts]
            rows.append(Ranking(id=f"q{n}", prompt=prompt.messages, answers=said, ranks=opinion(texts, draw)))
    write_jsonl(given.out / "rankings.jsonl", rows)
    print(f"{len(rows)} rankings of {sum(len(r.answers) for r in rows)} answers")


def opinion(texts: Sequence[str], draw: random.Random) -> tuple[int, ...]:
    """Ranks by the hidden score plus Gumbel noise: Plackett-Luce with strengths exp(score / NOISE)."""
    liked = [score(t) - NOISE * np.log(-np.log(draw.random())) for t in texts]
    order = sorted(range(len(texts)), key=lambda i: -liked[i])
    return tuple(order.index(i) for i in range(len(texts)))


# ---- learning --------------------------------------------------------------------------------------------------------


def recipe(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """From the rankings to a reward model, and one PPO run against it."""
    here = str(given.out.resolve())
    rl = {
        "type": "rl", "policy": "sft", "prompts": "questions", "reward_models": "judge",
        "algorithm": {"type": "ppo", "critic": {"separate": False}, "kl": {"coef": 0.05}},
        "rewards": {"liked": {"type": "reward_model"}}, "gold": {"type": "function", "path": "rlhf_hidden:gold"},
        "sampling": {"max_new": 64}, "shaping": {"penalty": 1.0, "normalise": True},
        "prompts_per_step": 32, "group": 4, "minibatches": 2, "lr": 5e-5, "steps": given.steps, "eval_every": 5,
    }  # fmt: skip
    if name == "over":
        algorithm = {"type": "ppo", "critic": {"separate": False}, "kl": {"coef": 0.0}}
        rl |= {"algorithm": algorithm, "lr": 5e-4, "health": {"reward_hacking": "stop"}}
    return stages(given) | {
        "rankings": {"type": "rankings", "path": f"{here}/rankings.jsonl", "holdout": 0.2, "dedupe": "off"},
        "judge": {"type": "reward", "policy": "sft", "rankings": "rankings", "loss": {"type": "plackett_luce"},
                  "members": 4, "lr": 1e-4, "epochs": 2, "batch_tokens": 2048, "micro_tokens": 2048},
        "questions": {"type": "prompts", "path": f"{here}/questions.jsonl", "holdout": 0.3, "dedupe": "off"},
        name: rl,
    }  # fmt: skip


# ---- what came of it -------------------------------------------------------------------------------------------------


def judge(given: argparse.Namespace) -> dict[str, Any]:
    """The hidden rule on answers to questions that nobody ranked: several samples each, paired by question."""
    _, asked = prompts(given)
    mean = {}
    for name in ("sft", *RUNS):
        found = answers(folder(given, name), asked, given.samples, seed=2)
        mean[name] = np.array([np.mean([score(t) for t in group]) for group in found])
    result: dict[str, Any] = {"questions": len(asked), "reward_model": accuracy(given)}
    for name in RUNS:
        gap = stats.interval(mean[name] - mean["sft"], list(range(len(asked))))
        result[name] = {
            "before": float(mean["sft"].mean()), "after": float(mean[name].mean()), "gap": gap.value,
            "low": gap.low, "high": gap.high, "p_wilcoxon": stats.wilcoxon(mean[name] - mean["sft"]),
        } | curve(given, name)  # fmt: skip
    return result


def accuracy(given: argparse.Namespace) -> dict[str, float]:
    told = json.loads((folder(given, "judge") / "reward.json").read_text())["held_out"]
    return {"comparisons": told["comparisons"], **told["accuracy"]}


def curve(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """Of each evaluation: step, KL to the beginning in nats an answer, reward, gold; and what the detectors said."""
    log = [json.loads(line) for line in (folder(given, name) / "log.jsonl").read_text().splitlines()]
    held = [[e["step"], *(round(e[f"held_{k}"], 3) for k in ("kl", "reward", "gold"))] for e in log if "held_gold" in e]
    fired: dict[str, int] = {}
    for e in log:
        for detector in e.get("fired", []):
            fired.setdefault(detector, e["step"])
    return {"steps": log[-1]["step"], "step_kl_reward_gold": held, "fired_first_at_step": fired}


if __name__ == "__main__":
    main()
