"""Tokens per second and memory of this project's training beside TRL's trainers: same model, same rows, by turns.

    python benchmarks/vs_trl.py [--task sft dpo reward] [--sft FILE] [--dpo FILE] [--reward FILE] [--model FOLDER] ...

Every round runs both sides, each in a process of its own, the first to go changing from round to round, so that a
busy machine slows both; the ratio is what to quote. Files are read by posttrain.formats; rows that are longer than
--max-length on either side's template are left out, batch x steps of the others are drawn by the seed, and both sides
train on exactly those rows, once.

Counted are real tokens, no padding; for pairs prompt and answer of both sequences on both sides. A step is --batch rows
for TRL and as many tokens as that many rows have on average here. The first --skip steps are warm-up on both sides and
not measured. DPO includes the reference: TRL runs it in every step; here it runs once before training, and its time
per token (without its first --skip packs) is added to training's. --compile is this project's; its time is warm-up.

Each run writes benchmarks/results/vs_trl-TASK-DATE.json with every step's time, the versions and the machine.
Left out on purpose: GRPO, multi-GPU, quality (the mean losses are shown as a sign that both sides learn alike).
"""

import argparse
import json
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from posttrain import formats, packing
from posttrain.locate import find
from posttrain.packing import Branch, Doc
from posttrain.render import Chat, load_chat
from posttrain.rows import Demo, Pair, write_jsonl

HERE = Path(__file__).parent
SIDES = ("trl", "posttrain")
PACKAGES = ("posttrain", "torch", "transformers", "trl", "datasets", "accelerate", "peft")


def document(row: Demo | Pair, chat: Chat) -> Doc:
    """The row as this project packs it."""
    if isinstance(row, Demo):
        return Doc([], [Branch(*chat.example(row.messages))])
    prompt, chosen = chat.continuation(row.prompt, row.chosen)
    rejected = chat.continuation(row.prompt, row.rejected)[1]
    return Doc(prompt, [Branch(ids, [True] * len(ids)) for ids in (chosen, rejected)])


def fitting(rows: list[Any], chat: Chat, max_length: int, seed: int) -> Iterator[tuple[Any, int]]:
    """(row, tokens in a pack) of rows whose sequences fit whole on both sides, in random order.

    TRL's template has one more token, the newline behind the last message. Rows with an empty answer are left out.
    """
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    for i in order:
        doc = document(rows[i], chat)
        longest = len(doc.prefix) + max(len(b.ids) for b in doc.branches) + 1
        if longest <= max_length and all(sum(b.mask) > 1 for b in doc.branches):
            yield rows[i], packing.size(doc)


def for_trl(row: Demo | Pair) -> dict[str, Any]:
    """The row as TRL reads it."""

    def plain(messages: Any) -> list[dict[str, str]]:
        return [{"role": m.role, "content": m.content} for m in messages]

    if isinstance(row, Demo):
        return {"messages": plain(row.messages)}
    return {"prompt": plain(row.prompt), "chosen": plain((row.chosen,)), "rejected": plain((row.rejected,))}


def prepare(task: str, source: str, chat: Chat, options: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Write the same rows for both sides. Returns their number, the longest and the tokens of a batch."""
    rows = formats.load(source, "demos" if task == "sft" else "pairs", bad_rows="skip").rows
    packs = options.packing and task == "sft"
    kept: list[Any] = []
    sizes: list[int] = []
    for row, tokens in fitting(rows, chat, options.max_length, options.seed):
        kept.append(row)
        sizes.append(tokens)
        if (sum(sizes) / options.max_length if packs else len(kept)) >= options.steps * options.batch:
            break
    if len(kept) < (options.skip + 2) * options.batch:
        raise SystemExit(f"{source}: {len(kept)} rows are too few for {options.skip} + 2 steps of {options.batch}")
    write_jsonl(folder / "ours" / "train.jsonl", kept)
    (folder / "trl.jsonl").write_text("".join(json.dumps(for_trl(r), ensure_ascii=False) + "\n" for r in kept))
    mean = sum(sizes) / len(sizes)
    step = options.max_length * options.batch if packs else mean * options.batch
    return {"rows": len(kept), "longest": max(sizes), "batch_tokens": max(max(sizes), round(step / 32) * 32)}


def command(side: str, task: str, found: dict[str, int], options: argparse.Namespace, folder: Path) -> list[str]:
    shared = ["--model", str(find(options.model)), "--out", str(folder / "result.json"), "--lr", str(options.lr)]
    shared += ["--seed", str(options.seed)]
    if side == "trl":
        more = ["--rows", folder / "trl.jsonl", "--batch", options.batch, "--max-length", options.max_length]
        more += ["--dtype", options.trl_dtype, *(["--packing"] if options.packing and task == "sft" else [])]
    else:
        more = ["--rows", folder / "ours", "--batch-tokens", found["batch_tokens"], "--max-tokens", found["longest"]]
        more += ["--micro-tokens", min(found["batch_tokens"], max(4096, found["longest"]))]
        more += ["--precision", options.precision, "--compile", options.compile]
    script = HERE / ("trl_side.py" if side == "trl" else "our_side.py")
    return [sys.executable, str(script), task, *shared, *map(str, more)]


def run(side: str, task: str, found: dict[str, int], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One side in a process of its own; its result with the rate after warm-up."""
    out = folder / "result.json"
    out.unlink(missing_ok=True)
    started = time.perf_counter()
    done = subprocess.run(
        command(side, task, found, options, folder), env=os.environ | {"HF_HUB_OFFLINE": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode or not out.exists():
        raise SystemExit(f"{side} failed (exit {done.returncode}):\n{done.stdout[-4000:]}")
    result: dict[str, Any] = json.loads(out.read_text())
    pace = 1 / rate(result, options.skip)
    if "reference" in result:
        pace += 1 / rate(result["reference"], options.skip)
    return {"tokens_per_second": 1 / pace, "process_seconds": time.perf_counter() - started} | result


def rate(pieces: dict[str, Any], skip: int) -> float:
    """Tokens per second of what comes after the warm-up."""
    skip = min(skip, len(pieces["seconds"]) // 2)
    return float(sum(pieces["tokens"][skip:]) / sum(pieces["seconds"][skip:]))


def compare(task: str, source: str, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of one task, printed as they end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = prepare(task, source, load_chat(find(options.model)), options, folder)
        print(f"{task}: {found['rows']} rows of {shown(source)}, {found['batch_tokens']} tokens in a packed step")
        rounds: list[dict[str, Any]] = []
        for n in range(options.rounds):
            results = {side: run(side, task, found, options, folder) for side in SIDES[:: 1 if n % 2 == 0 else -1]}
            ratio = results["posttrain"]["tokens_per_second"] / results["trl"]["tokens_per_second"]
            rounds.append({"ratio": ratio, **results})
            print(f"  round {n + 1}: {' | '.join(line(s, results[s]) for s in SIDES)} | ratio {ratio:.2f}", flush=True)
    ratios = [r["ratio"] for r in rounds]
    summary: dict[str, Any] = {"median_ratio": statistics.median(ratios), "ratios": ratios}
    for side in SIDES:
        summary[f"{side}_tokens_per_second"] = statistics.median(r[side]["tokens_per_second"] for r in rounds)
        summary[f"{side}_peak_gib"] = max(r[side]["peak_gib"] for r in rounds)
    print(
        f"  {task}: ratio {summary['median_ratio']:.2f} ({min(ratios):.2f}-{max(ratios):.2f}), "
        f"peak memory {summary['trl_peak_gib']:.2f} GiB TRL, {summary['posttrain_peak_gib']:.2f} GiB here",
        flush=True,
    )
    return {"task": task, "data": shown(source), "model": shown(options.model), **found, **summary, "rounds": rounds}


def line(side: str, r: dict[str, Any]) -> str:
    speed, steps = r["tokens_per_second"], len(r["seconds"])
    return f"{side} {speed:,.0f} tok/s, {steps} steps, loss {r['loss']:.3f}, {r['peak_gib']:.2f} GiB"


def shown(argument: str) -> str:
    """A path without the part that means nothing on another machine."""
    path = Path(argument)
    return "/".join(path.parts[-2:]) if path.is_absolute() else argument


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), platform.processor())
    found = {"cpu": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    found["vectors"] = torch.backends.cpu.get_cpu_capability()
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def keep(result: dict[str, Any], folder: Path) -> Path:
    """Write the result with where, when and how it came about."""
    now = time.gmtime()
    record = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", now), "machine": machine(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "command": shlex.join(["python", "benchmarks/vs_trl.py", *map(shown, sys.argv[1:])]), **result,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"vs_trl-{result['task']}-{time.strftime('%Y%m%d-%H%M%S', now)}.json"
    fields = (f" {json.dumps(k)}: {json.dumps(v)}" for k, v in record.items())  # one line each: lists stay short
    path.write_text("{\n" + ",\n".join(fields) + "\n}\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=["sft", "dpo", "reward"], default=["sft", "dpo"])
    parser.add_argument("--sft", default="bundled:demos", help="conversations, in any format that posttrain reads")
    parser.add_argument("--dpo", default="bundled:pairs", help="preference pairs, likewise")
    parser.add_argument("--reward", default="bundled:pairs", help="preference pairs, likewise")
    parser.add_argument("--model", default="bundled", help="folder or Hugging Face id")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="steps of TRL, warm-up included")
    parser.add_argument("--skip", type=int, default=5, help="warm-up steps that are not measured, on both sides")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--trl-dtype", choices=["bf16", "fp32"], default="bf16", help="TRL's own default is bf16")
    parser.add_argument("--packing", action="store_true", help="TRL's SFT packs rows to max-length; steps grow on both")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="of this project")
    parser.add_argument("--compile", choices=["auto", "on", "off"], default="auto", help="of this project")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    for task in options.task:
        result = compare(task, getattr(options, task), options)
        print(f"  written: {shown(str(keep(result, options.results).resolve()))}")


if __name__ == "__main__":
    main()
