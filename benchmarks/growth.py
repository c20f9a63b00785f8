"""How the cost of supervised fine-tuning grows: with the length of rows, the size of the model, the number of rows.

    python benchmarks/growth.py [--precision auto] [--rounds 3]     # a quarter of an hour on two cores
    python benchmarks/growth.py --plot benchmarks/results/growth-DATE.json docs/growth.svg

Lengths: the bundled model, rows all of one length, 4,096 tokens a pack. Sizes: random Llamas of the bundled shape,
rows of 256 tokens, 2,048 tokens a pack. Each point is a process of its own that makes whole training steps (forward,
backward, AdamW) and reports tokens a second without the first step, and its peak memory; points take turns over the
rounds. Rows: big_data.py's stages on data that stays on the disk. Random tokens: cost does not depend on what they say.
Left out on purpose: compiling, whose warm-up is a matter of the run's length, and GPUs (gpu.py).
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from big_data import measure
from our_side import Clock
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain import adamw, bundled, packing, train
from posttrain.loading import choose, keep_memory
from posttrain.model import Model
from posttrain.pipeline import Runtime, peak_gib
from posttrain.stages.sft import token_loss

HERE = Path(__file__).parent
LENGTHS = (64, 256, 1024, 4096)
SHAPES = {"5M": (256, 4), "28M": (512, 8), "115M": (1024, 9)}  # hidden size and layers
ROWS = (1_000, 10_000, 100_000)
STEPS = 3


def point(precision: str, width: int, layers: int, length: int, pack: int) -> dict[str, float]:
    """Tokens a second and peak GiB of training steps of one pack each, in this process."""
    runtime = Runtime(precision=precision, compile="off")
    keep_memory()
    config = LlamaConfig.from_pretrained(bundled.model())
    config.update({"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": width * 11 // 4,
                   "num_attention_heads": width // 64, "num_key_value_heads": width // 128,
                   "max_position_embeddings": 4096})  # fmt: skip
    model = Model(LlamaForCausalLM(config).to(choose(runtime)[1]), runtime=runtime)
    model.hf.requires_grad_(True)
    g = torch.Generator().manual_seed(0)
    docs = [
        packing.Doc([], [packing.Branch(torch.randint(5, 4000, (length,), generator=g).tolist(), [True] * length)])
        for _ in range(STEPS * pack // length)
    ]
    rows = train.Rows([length] * len(docs), [float(length - 1)] * len(docs), [""] * len(docs))

    def loss(indices: list[int], total: float) -> Any:
        return token_loss(model, packing.build([docs[i] for i in indices], pad_to=pack), "nll", total)

    clock = Clock()
    clock.watch()
    with tempfile.TemporaryDirectory() as out:
        steps, batches = train.schedule(rows, micro_tokens=pack, batch_tokens=pack, epochs=1, steps=STEPS, seed=0)
        train.train(model, rows, loss, optim=adamw.Optim(1e-4), steps=steps, batches=batches, out=Path(out),
                    progress=clock)  # fmt: skip
    seconds = clock.pieces("train")["seconds"][1:]
    parameters = sum(p.numel() for p in model.parameters())
    return {"tokens_per_s": pack / statistics.median(seconds), "gib": peak_gib(), "parameters": parameters}


def apart(*how: Any) -> dict[str, float]:
    """point(*how) in a process of its own, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(point, how)


def middle(found: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of the rounds, and the speeds they are medians of."""
    return {k: statistics.median(f[k] for f in found) for k in found[0]} | {
        "all_tokens_per_s": [round(f["tokens_per_s"]) for f in found]
    }


def training(precision: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Axis -> label -> middle of the rounds; all points take turns."""
    work = {("length", str(n)): (*SHAPES["28M"], n, 4096) for n in LENGTHS}
    work |= {("size", name): (*shape, 256, 2048) for name, shape in SHAPES.items()}
    found: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in work}
    for n in range(rounds):
        for key, how in work.items():
            found[key].append(apart(precision, *how))
            print(f"round {n + 1}, {' '.join(key)}: {json.dumps(found[key][-1])}", flush=True)
    return {axis: {label: middle(f) for (a, label), f in found.items() if a == axis} for axis in ("length", "size")}


def data() -> dict[str, Any]:
    """Rows -> seconds and MiB of own memory of the stage `demos` and of everything before the first training step."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POSTTRAIN_CACHE"] = f"{folder}/cache"
        for rows in ROWS:
            stages = measure(rows, "mapped", "exact", Path(folder))
            found[str(rows)] = {f"{k} {w}": v for k in ("demos", "sft") for w, v in zip(("s", "MiB"), stages[k])}
    return found


def plot(result: dict[str, Any], path: Path) -> None:
    """Three panels: what grows is on the x-axis, speed (or seconds) on the left, memory on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    length, size, rows = result["length"], result["size"], result["rows"]
    sizes = [f["parameters"] / 1e6 for f in size.values()]
    panels = [
        ("tokens in a row", list(map(int, length)), [f["tokens_per_s"] for f in length.values()],
         [f["gib"] for f in length.values()], "tokens/s", "GiB at most"),
        ("million parameters", sizes, [f["tokens_per_s"] for f in size.values()],
         [f["gib"] for f in size.values()], "tokens/s", "GiB at most"),
        ("rows of data", list(map(int, rows)), [f["demos s"] + f["sft s"] for f in rows.values()],
         [max(f["demos MiB"], f["sft MiB"]) / 1024 for f in rows.values()], "s until training begins", "GiB at most"),
    ]  # fmt: skip
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, (name, x, left, right, told, memory) in zip(axes, panels):
        axis.loglog(x, left, "o-", color="#1f6fb2", label=told)
        axis.set(xlabel=name, xticks=x, xticklabels=[f"{v:,.0f}" for v in x], ylim=(min(left) / 3, max(left) * 3))
        axis.minorticks_off()
        axis.set_ylabel(told, color="#1f6fb2")
        other = axis.twinx()
        other.plot(x, right, "s--", color="#b2561f")
        other.set(ylim=(0, max(right) * 1.4))
        other.set_ylabel(memory, color="#b2561f")
    figure.suptitle(f"{result['machine']}, {result['precision']}, {result['date']}", fontsize=9)
    figure.savefig(path)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--plot", nargs=2, type=Path, metavar=("RESULT", "PICTURE"), help="draw an earlier result")
    given = words.parse_args()
    if given.plot:
        return plot(json.loads(given.plot[0].read_text()), given.plot[1])
    now = datetime.now(UTC)
    result = {
        "date": f"{now:%Y-%m-%d}", "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "precision": choose(Runtime(precision=given.precision))[2], "torch": torch.__version__,
        **training(given.precision, given.rounds), "rows": data(),
    }  # fmt: skip
    path = HERE / "results" / f"growth-{now:%Y%m%d}.json"
    path.write_text(json.dumps(result, indent=1))
    plot(result, HERE.parent / "docs" / "growth.svg")
    print(path)


if __name__ == "__main__":
    main()
