"""Every member of the DPO family on the bundled model: does it learn a toy preference within a minute on a CPU?

    OMP_NUM_THREADS=1 python benchmarks/preference_family.py [--losses dpo kto] [--steps 12] [--out table.json]

The toy: each answer comes in two manners, "Gladly. ..." and "Well, ...". A short SFT teaches both alike; then pairs say
that the first is better. Held-out accuracy is that of implicit rewards on pairs of other prompts; the win share is that
of answers sampled at temperature 1 to other prompts that begin in the better manner, with its 95% interval. All losses
have the same steps, tokens and learning rate and their own default knobs: the table shows that each works, not which
is best. Left out on purpose: tuning, peers.
"""

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from posttrain import bundled, stats
from posttrain.pipeline import Inputs, Runtime
from posttrain.rows import Demo, Item, Message, Pair, read_jsonl, write_jsonl
from posttrain.stages.online import answers
from posttrain.stages.preference import LOSSES, Preference
from posttrain.stages.sft import Sft

BETTER, WORSE = "Gladly. ", "Well, "
HEADERS = (
    "loss",
    "held-out accuracy",
    "win share before",
    "win share after",
    "KL, nats",
    "length",
    "processor seconds",
)


def shipped(count: int, seed: int) -> list[Demo]:
    """Short questions with short answers, out of the demonstrations that ship."""
    demos = list(read_jsonl(bundled.rows("demos"), Demo))
    short = [d for d in demos if len(d.messages) == 2 and len(d.messages[1].content) < 90]
    return random.Random(seed).sample(short, count)


def manner(demo: Demo, which: str) -> Message:
    return Message(role="assistant", content=which + demo.messages[1].content)


def write_toy(home: Path, seed: int) -> list[Item]:
    """sft/ and pairs/ as data stages leave them; returns prompts that are in neither."""
    demos, rng = shipped(900, seed), random.Random(seed)
    taught, compared, held, asked = demos[:500], demos[500:740], demos[740:800], demos[800:]
    write_jsonl(
        home / "sft" / "train.jsonl",
        (Demo(id=d.id, messages=(d.messages[0], manner(d, rng.choice((BETTER, WORSE))))) for d in taught),
    )
    for name, part in (("train.jsonl", compared), ("holdout.jsonl", held)):
        write_jsonl(
            home / "pairs" / name,
            (
                Pair(
                    id=d.id,
                    prompt=d.messages[:1],
                    chosen=manner(d, BETTER),
                    rejected=manner(d, WORSE),
                    margin=1.0,
                    soft=0.9,
                )
                for d in part
            ),
        )
    return [Item(id=d.id, cluster="toy", messages=d.messages[:1]) for d in asked]


def wins(policy: Path, items: list[Item], runtime: Runtime) -> tuple[int, int]:
    """(answers in the better manner, answers)."""
    found = [s.text for group in answers(policy, items, 2, 12, {"temperature": 1.0}, runtime) for s in group]
    return sum(text.startswith(BETTER.strip()) for text in found), len(found)


def share(count: int, n: int) -> str:
    low, high = stats.wilson(count, n)
    return f"{count / n:.2f} [{low:.2f}, {high:.2f}]"


def train(home: Path, start: Path, name: str, options: argparse.Namespace, runtime: Runtime) -> dict[str, Any]:
    out = Path(tempfile.mkdtemp(prefix=name, dir=home))
    stage = Preference(
        policy="p", pairs="q", loss={"type": name}, lr=options.lr, steps=options.steps, batch_tokens=512,
        micro_tokens=512, max_tokens=256, schedule="linear", watch=8,
    )  # fmt: skip
    began = time.process_time()  # others may be at work on the same cores
    metrics = stage.run(Inputs({"policy": (start,), "pairs": (home / "pairs",)}), out, runtime)
    return {"seconds": time.process_time() - began, "policy": out, **metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [fn.__name__ for fn in LOSSES]
    parser.add_argument("--losses", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--lr", type=float, default=3e-5)
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runtime = Runtime(precision=options.precision)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        items = write_toy(home, options.seed)
        start = home / "start"
        start.mkdir()
        sft = Sft(policy="p", data="d", lr=5e-4, batch_tokens=768, micro_tokens=768, max_tokens=256)
        sft.run(Inputs({"policy": (bundled.model(),), "data": (home / "sft",)}), start, runtime)
        before = wins(start, items, runtime)
        rows = []
        print("| " + " | ".join(HEADERS) + " |\n|" + "---|" * len(HEADERS))
        for name in options.losses:
            found = train(home, start, name, options, runtime)
            after = wins(found["policy"], items, runtime)
            length = f"{found['held_length_before']:.0f} -> {found['held_length']:.0f}"
            accuracy = f"{found['held_accuracy_before']:.2f} -> {found['held_accuracy']:.2f}"
            cells = [name, accuracy, share(*before), share(*after), f"{found['held_kl']:.2f}", length]
            print("| " + " | ".join([*cells, f"{found['seconds']:.0f}"]) + " |", flush=True)
            rows.append(
                {"loss": name, "before": before, "after": after} | {k: found[k] for k in found if k != "policy"}
            )
        if options.out:
            options.out.write_text(json.dumps({"rows": rows, "steps": options.steps, "lr": options.lr}, indent=1))


if __name__ == "__main__":
    main()
