"""Does reinforcement learning make the bundled model better at problems it has not seen, whatever the seed?

    python benchmarks/rl_seeds.py                                     # SFT first, then five seeds each of GRPO and PPO
    python benchmarks/rl_seeds.py --policy runs/assistant/sft-...     # with a policy that is there already
    python benchmarks/rl_seeds.py --seeds 0 --algorithm grpo --set rl.steps=10
    python benchmarks/rl_seeds.py --suite sums_below_100 --set problems.path=bundled:additions rl.sampling.max_new=56 \
        "problems.decontaminate=[arithmetic,compare,sums_below_100]" rl.steps=24 rl.eval_every=8

The knobs are those of recipes/grpo.yaml; PPO is the same recipe with what PPO below says. Every run starts from the
same policy and is asked the problems of the suite (300 of `compare`) before and after: once greedily (the way of a
released model) and once at temperature 1 (the policy that was trained). Printed and written to benchmarks/results: each
run with McNemar's p and a 95% interval of the paired difference, mean and spread over seeds, seconds of the training.
A run has diverged when its stage raised (a gradient or a loss that is not finite) or when it ended below the policy it
began with. Runs are artefacts of --out, so a second call continues where the first one was stopped.
Left out on purpose: choosing the knobs, which was done on the prompts that the recipe holds out, not on the suite.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from posttrain import gates, pipeline, recipe
from posttrain.errors import UserError
from posttrain.locate import model_folder
from posttrain.pipeline import Record, Stage
from posttrain.progress import Progress
from posttrain.stages.base import Base
from posttrain.stages.evaluate import Evaluate
from posttrain.stages.gate import read_report
from posttrain.stages.rl import Rl

HERE = Path(__file__).parent
PPO = {  # without the bonus for entropy all groups are flat after ten rollouts, and half of them wrong
    "rl.algorithm": "{type: ppo, entropy: 0.02, critic: {separate: false}, kl: {where: none, watch: false}}",
    "rl.steps": "24",
}
WAYS = {"greedy": 0.0, "sampled": 1.0}  # name of an evaluation -> temperature


def main() -> None:
    given = arguments()
    clock_path, clock = given.out / "clock.json", {}
    if clock_path.exists():
        clock = json.loads(clock_path.read_text())
    runs: list[dict[str, Any]] = []
    for algorithm in given.algorithm:
        for seed in given.seeds:
            runs.append(one(given, algorithm, seed, clock))
            clock_path.write_text(json.dumps(clock))
            print(told(runs[-1]), flush=True)
    summary = {a: summed([r for r in runs if r["algorithm"] == a]) for a in given.algorithm}
    for algorithm, facts in summary.items():
        print(f"{algorithm}: " + json.dumps(facts))
    path = HERE / "results" / f"rl_seeds-{datetime.now(UTC):%Y%m%d}.json"
    (given.write or path).write_text(
        json.dumps({"suite": given.suite, "overrides": given.set, "summary": summary, "runs": runs}, indent=1)
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/rl_seeds"))
    parser.add_argument("--policy", default="", help="an SFT model; trained by the recipe when not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--algorithm", nargs="+", default=["grpo", "ppo"], choices=["grpo", "ppo"])
    parser.add_argument("--suite", default="compare", help="a suite with the metric `accuracy`")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the recipe, as in rl.lr=1e-4")
    parser.add_argument("--write", type=Path, help="the result's file; benchmarks/results/rl_seeds-DATE.json")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def stages(given: argparse.Namespace, algorithm: str, seed: int) -> dict[str, Stage]:
    """The recipe up to one RL run, evaluated in both ways before and after."""
    changed = [f"{k}={v}" for k, v in PPO.items()] if algorithm == "ppo" else []
    found = recipe.load("grpo", [*changed, f"rl.seed={seed}", *given.set])
    named, run = found.stages, f"{algorithm}_{seed}"
    if given.policy:
        made: dict[str, Stage] = {"sft": Base(model=str(model_folder(given.policy).resolve()))}
    else:
        made = {name: named[name] for name in ("base", "demos", "sft")}
    assert isinstance(named["rl"], Rl)
    made |= {"problems": named["problems"], run: named["rl"]}
    for way, temperature in WAYS.items():
        for when, policy in (("before", "sft"), (run, run)):
            how = {"suites": (given.suite,), "max_new": named["rl"].sampling.max_new, "temperature": temperature}
            made[f"{when}_{way}"] = Evaluate(policy=policy, **how)
    return made


def one(given: argparse.Namespace, algorithm: str, seed: int, clock: dict[str, float]) -> dict[str, Any]:
    """Train and evaluate; figures of a run. clock: processor seconds of stages by fingerprint, kept between calls."""
    found = stages(given, algorithm, seed)
    steps, begun = {s.name: s for s in pipeline.plan(found, given.out)}, [time.process_time()]

    def after(name: str, folder: Path) -> None:
        now = time.process_time()
        if steps[name].state != "done":
            clock[folder.name] = round(clock.get(folder.name, 0.0) + now - begun[0], 1)
        begun[0] = now

    run = f"{algorithm}_{seed}"
    facts: dict[str, Any] = {"algorithm": algorithm, "seed": seed}
    try:
        folders = pipeline.run(found, given.out, recipe.load("grpo").start(Progress("silent")), after=after).folders
    except UserError as error:
        return facts | {"diverged": str(error)}
    record = Record.read(folders[run])
    facts |= {"seconds": record.seconds, "processor_seconds": clock.get(folders[run].name, 0.0)}
    for way in WAYS:
        facts[way] = gates.compare(
            f"{given.suite}.accuracy", read_report(folders[f"{run}_{way}"]), read_report(folders[f"before_{way}"])
        ).model_dump(include={"n", "baseline", "candidate", "difference", "low", "high", "gained", "lost", "p_changed"})
    log = [json.loads(line) for line in (folders[run] / "log.jsonl").read_text().splitlines()]
    facts["held"] = [[e["step"], round(e["held_reward"], 4)] for e in log if "held_reward" in e]
    facts["fired"] = sorted({name for e in log for name in e.get("fired", [])})
    return facts | {"diverged": "" if facts["sampled"]["difference"] >= 0 else "below the policy it began with"}


def told(run: Mapping[str, Any]) -> str:
    """One line for a run."""
    if "greedy" not in run:
        return f"{run['algorithm']} {run['seed']}: {run['diverged']}"
    ways = ", ".join(f"{way} {changed(run[way])}" for way in WAYS)
    clocks = f"{run['seconds']:.0f} s, {run['processor_seconds']:.0f} s of processor"
    return f"{run['algorithm']} {run['seed']}: {ways}; {clocks}; fired: {', '.join(run['fired']) or 'nothing'}"


def changed(c: Mapping[str, Any]) -> str:
    gap = f"{c['difference']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]"
    return f"{c['baseline']:.3f} -> {c['candidate']:.3f} ({gap}, p {c['p_changed']:.2g})"


def summed(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, spread over seeds and the worst p-value of one algorithm."""
    facts: dict[str, Any] = {"runs": len(runs), "diverged": sum(bool(r["diverged"]) for r in runs)}
    fine = [r for r in runs if "greedy" in r]
    for way in WAYS if fine else ():
        after = [r[way]["candidate"] for r in fine]
        facts[way] = {
            "before": round(fine[0][way]["baseline"], 4), "after": round(statistics.fmean(after), 4),
            "std": round(statistics.stdev(after), 4) if len(after) > 1 else 0.0, "least": min(after),
            "most": max(after), "worst_p": max(r[way]["p_changed"] for r in fine),
        }  # fmt: skip
    clocks = [r["processor_seconds"] for r in fine]
    return facts | ({"processor_seconds": round(statistics.fmean(clocks)), "most": max(clocks)} if clocks else {})


if __name__ == "__main__":
    main()
