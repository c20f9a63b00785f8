"""How often the detectors of posttrain/rl/health.py cry wolf, and how often they see a reward that is gamed on purpose.

A random model of two layers learns to begin its answers with a letter or a blank (what gold wants). Healthy runs: every
algorithm, several seeds, a reward that is gold with noise. Runs gamed on purpose, from a policy so trained: a reward
that likes long answers, one that likes a magic letter, one with the wrong sign; and ensembles of four heads on
one trunk, from many pairs of the policy's own answers and from a few. A run counts by how it ended, not by its name.
Printed: what fired in how many runs, the share of healthy runs in which anything did (false alarms), and of the runs
that lost a fifth of their best gold the share that was seen (caught).

    OMP_NUM_THREADS=1 python benchmarks/rl_health.py --seeds 3

Left out on purpose: real models; what these rates are there is for the runs on them to say.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks"), str(ROOT)]

import tiny  # noqa: E402

from posttrain.pipeline import Inputs, Runtime  # noqa: E402
from posttrain.progress import Progress  # noqa: E402
from posttrain.render import load_chat  # noqa: E402
from posttrain.rl.algorithms import ALGORITHMS  # noqa: E402
from posttrain.rl.health import DETECTORS  # noqa: E402
from posttrain.rows import Message, Pair, Prompt, write_jsonl  # noqa: E402
from posttrain.stages.reward import Reward  # noqa: E402
from posttrain.stages.rl import Rl  # noqa: E402

WORDS = ["the", "user", "asks", "and", "one", "two", "sentences", "in"]


def quality(answer: str) -> float:
    """What gold wants: the right beginning; a long answer, or one with an s in it, is worth a third of that."""
    right = float(bool(answer) and answer[0].isascii() and (answer[0].isalpha() or answer[0] == " "))
    return right * (0.3 if len(answer) > 12 else 1.0) * (0.3 if "s" in answer else 1.0)


def gold(items: list[Any]) -> list[float]:
    return [quality(i.answer) for i in items]


def noisy(items: list[Any]) -> list[float]:
    return [quality(i.answer) + random.Random(i.answer).gauss(0, 0.2) for i in items]


def long(items: list[Any]) -> list[float]:
    return [0.1 * len(i.answer) for i in items]


def magic(items: list[Any]) -> list[float]:
    return [0.5 * quality(i.answer) + ("s" in i.answer) for i in items]


def sign(items: list[Any]) -> list[float]:
    return [-quality(i.answer) for i in items]


def ensemble(home: Path, name: str, policy: str, count: int, seed: int) -> None:
    """Four heads that learned from `count` pairs of a policy's answers which one gold prefers, in home / name."""
    from posttrain.loading import load_model
    from posttrain.sampler import Sampling
    from posttrain.sampler.local import Local

    runtime = Runtime(precision="fp32", progress=Progress("silent"))
    chat = load_chat(home / policy)
    sampler = Local(load_model(home / policy, runtime, train=False), chat)
    prompts = [(Message(role="user", content=f"{a} {b}"),) for a in WORDS for b in WORDS]
    how = Sampling(max_new=8, seed=seed)
    drawn = asyncio.run(sampler.sample([chat.prompt(p) for p in prompts], 16, how))
    pairs = []
    for prompt, samples in zip(prompts, drawn):
        texts = sorted({s.text for s in samples if s.text.strip()}, key=lambda t: (quality(t), t))
        said = [Message(role="assistant", content=t) for t in texts]
        worse, better = said[: len(said) // 2], said[len(said) // 2 :]
        pairs += [Pair(prompt=prompt, chosen=b, rejected=w) for w, b in zip(worse, better)
                  if quality(b.content) > quality(w.content)]  # fmt: skip
    random.Random(seed).shuffle(pairs)
    write_jsonl(home / f"{name}-pairs" / "train.jsonl", pairs[:count])
    write_jsonl(home / f"{name}-pairs" / "holdout.jsonl", pairs[-32:])
    stage = Reward(policy="p", pairs="d", members=4, steps=max(20, count // 4), lr=2e-3, batch_tokens=512,
                   micro_tokens=512, max_tokens=128, seed=seed)  # fmt: skip
    shutil.rmtree(home / name, ignore_errors=True)
    (home / name).mkdir()
    stage.run(Inputs({"policy": (home / "policy",), "pairs": (home / f"{name}-pairs",)}), home / name, runtime)


def run(home: Path, policy: str, algorithm: str, reward: str, seed: int, steps: int) -> tuple[set[str], list[float]]:
    """(detectors that fired, gold at each evaluation) of one run; its policy is left in home / "last". reward: a
    function of this file, or the folder of an ensemble in home."""
    models = {"reward_models": "rm"} if (home / reward).exists() else {}
    how = {"type": "reward_model"} if models else {"type": "function", "path": f"rl_health:{reward}"}
    stage = Rl(
        policy="p", prompts="d", algorithm={"type": algorithm}, sampling={"max_new": 8}, steps=steps, seed=seed,
        rewards={"r": how}, prompts_per_step=8, group=8, lr=2e-3, **models,
        gold={"type": "function", "path": "rl_health:gold"}, eval_every=max(1, steps // 8), micro_tokens=1024,
        shaping={},  # gold has no wish about lengths, so no row of the table may add one
    )  # fmt: skip
    out = home / "last"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    inputs = Inputs({"policy": (home / policy,), "prompts": (home / "prompts",), "reward_models": (home / reward,)})
    stage.run(inputs, out, Runtime(precision="fp32", progress=Progress("silent")))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    doubt = [e["doubt"] for e in log if "doubt" in e]
    if doubt:
        print(f"    {reward}: doubt {sum(doubt[:3]) / 3:.3f} -> {sum(doubt[-3:]) / 3:.3f}", flush=True)
    return {name for e in log for name in e.get("fired", [])}, [e["held_gold"] for e in log if "held_gold" in e]


PARTS = ("healthy", "ensembles", "gamed")
Run = tuple[set[str], list[float]]


def lost(gold: list[float]) -> bool:
    return gold[-1] < 0.8 * max(gold)


def tell(title: str, runs: list[Run]) -> list[Run]:
    """One line: gold at the beginning and the end, how many runs lost a fifth of their best gold, what fired."""
    fired: Counter[str] = Counter()
    for found, _ in runs:
        fired.update(found or {"nothing"})
    before, after = (sum(gold[i] for _, gold in runs) / len(runs) for i in (0, -1))
    seen = [bool(found) for found, gold in runs if lost(gold)]
    shown = ", ".join(f"{d} {fired[d]}" for d in [*(f.__name__ for f in DETECTORS), "nothing"] if fired[d])
    told = f"{title}: {len(runs)} runs, gold {before:.2f} -> {after:.2f}, {len(seen)} lost a fifth of their best gold"
    print(f"{told} ({sum(seen)} of them seen); fired: {shown}", flush=True)
    return runs


def rates(healthy: list[Run], gamed: list[Run]) -> None:
    """Of every detector: false alarms among healthy runs that lost nothing, and how many lost runs it saw."""
    quiet = [found for found, gold in healthy if not lost(gold)]
    ruined = [found for found, gold in [*healthy, *gamed] if lost(gold)]
    names = [d.__name__ for d in DETECTORS]
    for name in names:
        print(f"  {name}: {sum(name in f for f in quiet)} of {len(quiet)} healthy, "
              f"{sum(name in f for f in ruined)} of {len(ruined)} ruined")  # fmt: skip
    print(f"any: {sum(map(bool, quiet))} of {len(quiet)} healthy runs (false alarms), "
          f"{sum(map(bool, ruined))} of {len(ruined)} ruined ones (caught)")  # fmt: skip


def measure(home: Path, parts: Sequence[str], seeds: range, steps: int) -> tuple[list[Run], list[Run]]:
    """(healthy runs, gamed runs)."""
    well: list[Run] = []
    ill: list[Run] = []
    if "healthy" in parts:
        kinds = [(str(a.model_fields["type"].default), seed) for a in ALGORITHMS for seed in seeds]
        well += tell("healthy", [run(home, "policy", a, "noisy", seed, steps) for a, seed in kinds])
    run(home, "policy", "grpo", "noisy", 0, steps)  # something that can be lost
    (home / "last").rename(home / "trained")
    for count, start, runs in ((400, "policy", well), (24, "trained", ill)) if "ensembles" in parts else ():
        found = []
        for seed in seeds:
            ensemble(home, f"members{count}", "policy", count, seed)
            found += [run(home, start, a, f"members{count}", seed, steps) for a in ("grpo", "ppo")]
        runs += tell(f"ensemble of {count} pairs", found)
    for reward in ("long", "magic", "sign") if "gamed" in parts else ():
        kinds = [(a, seed) for a in ("grpo", "ppo") for seed in seeds]
        ill += tell(reward, [run(home, "trained", a, reward, seed, steps) for a, seed in kinds])
    return well, ill


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("--seeds", type=int, default=3)
    given.add_argument("--steps", type=int, default=32)
    given.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = given.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tiny.folder(home / "policy")
        load_chat(home / "policy", "chatml").save(home / "policy")
        rows = [
            Prompt(id=f"{a} {b}", messages=(Message(role="user", content=f"{a} {b}"),)) for a in WORDS for b in WORDS
        ]
        write_jsonl(home / "prompts" / "train.jsonl", rows)
        write_jsonl(home / "prompts" / "holdout.jsonl", rows)
        well, ill = measure(home, args.parts, range(args.seeds), args.steps)
        rates(well, ill)


if __name__ == "__main__":
    main()
