"""This project's side of vs_trl.py: the SFT, preference or reward stage over some rows once, timed from outside.

    python benchmarks/our_side.py sft --model FOLDER --rows FOLDER --out result.json --batch-tokens 1536

The stage itself runs (stages/sft.py, preference.py, reward.py), from pre-flight to the saved model. The times come from
the progress it reports after every optimiser step and every pack of the reference pass, the tokens from the packs that
are built: real ones, for pairs both full sequences (`unshared_tokens`), although shared prompts are computed once.
Left out on purpose: recipes, held-out rows.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from posttrain import packing
from posttrain.loading import choose
from posttrain.pipeline import Inputs, Runtime, peak_gib
from posttrain.progress import Progress, Tick
from posttrain.stages.preference import Preference
from posttrain.stages.reward import Reward
from posttrain.stages.sft import Sft


class Clock(Progress):
    """Shows nothing; keeps, by title, when each piece of work ended and how many tokens had been built by then."""

    def __init__(self) -> None:
        super().__init__("silent")
        self.marks: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.built = 0

    def watch(self) -> None:
        """Count the tokens of every pack that a stage builds."""
        inner = packing.build

        def build(*docs: Any, **how: Any) -> packing.Pack:
            pack = inner(*docs, **how)
            self.built += pack.unshared_tokens
            return pack

        packing.build = build

    def mark(self, title: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks[title].append((time.perf_counter(), self.built))

    @contextmanager
    def task(self, title: str, total: float | None = None, done: float = 0) -> Iterator[Tick]:
        if total:  # there is a reference pass over held-out rows too, of which there are none
            self.mark(title)
        yield Marking(title, total, done, self)

    def pieces(self, title: str) -> dict[str, list[float]]:
        """Seconds and tokens of each piece of work of that title."""
        pairs = list(pairwise(self.marks[title]))
        return {"seconds": [round(b[0] - a[0], 4) for a, b in pairs], "tokens": [b[1] - a[1] for a, b in pairs]}


class Marking(Tick):
    def __init__(self, title: str, total: float | None, done: float, clock: Clock):
        super().__init__(title, total, done)
        self.clock = clock

    def show(self) -> None:
        self.clock.mark(self.title)


def stage_of(options: argparse.Namespace) -> Sft | Preference | Reward:
    """TRL's settings: linear schedule without warm-up, gradients clipped at 1. One micro-batch is one step."""
    how: dict[str, Any] = {
        "policy": "policy", "lr": options.lr, "batch_tokens": options.batch_tokens, "seed": options.seed,
        "micro_tokens": options.micro_tokens or options.batch_tokens, "max_tokens": options.max_tokens,
        "schedule": "linear", "warmup": 0.0,
    }  # fmt: skip
    if options.task == "sft":
        return Sft(data="rows", **how)
    return (
        Preference(pairs="rows", loss={"type": "dpo"}, **how) if options.task == "dpo" else Reward(pairs="rows", **how)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["sft", "dpo", "reward"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="folder with train.jsonl: this project's own rows")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch-tokens", type=int, required=True, help="tokens of an optimiser step")
    parser.add_argument("--micro-tokens", type=int, default=0, help="0: as many as batch-tokens")
    parser.add_argument("--max-tokens", type=int, default=2048, help="longest row; a pair counts its prompt once")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument("--compile", choices=["auto", "on", "off"], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    clock = Clock()
    clock.watch()
    runtime = Runtime(precision=options.precision, compile=options.compile, progress=clock)
    edge = "data" if options.task == "sft" else "pairs"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POSTTRAIN_CACHE"] = f"{folder}/cache"  # an earlier run's reference pass must not be found there
        inputs = Inputs({"policy": (options.model,), edge: (options.rows,)})
        metrics = stage_of(options).run(inputs, Path(folder), runtime)
        log = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    gpu = torch.cuda.is_available()
    result: dict[str, Any] = {
        **clock.pieces("train"), "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if gpu else peak_gib(),
        "loss": sum(e["loss"] for e in log) / len(log), "precision": choose(runtime)[2], "steps": metrics["steps"],
    }  # fmt: skip
    if options.task == "dpo":
        result["reference"] = clock.pieces("reference")
    options.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
