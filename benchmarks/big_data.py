"""Data larger than memory: a data stage and SFT over more and more synthetic conversations; peak memory, seconds.

    python benchmarks/big_data.py --rows 10000 100000 1000000 [--how mapped memory] [--folder DIR]

Each stage is a process of its own (`posttrain run --only`). Peaks are sampled from /proc every 50 ms: `own` is
anonymous memory, which must exist; `with files` adds pages of mapped files, which the system takes back when it needs
them. `sft` is SFT of one step, so what comes before the first step (reading, tokenising, planning, loading a tiny
model) is nearly all of it; `again` is the same with the tokens in the cache. Left out on purpose: what a model costs.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """
runtime: {{device: cpu, precision: fp32, compile: "off", rows: {how}}}
stages:
  base: {{type: base_model, model: "bundled:tiny"}}
  demos: {{type: demos, path: {path}, holdout: {holdout}, dedupe: {dedupe}}}
  sft: {{type: sft, policy: base, data: demos, steps: 1, batch_tokens: 4096, micro_tokens: 2048, lr: 1.0e-3}}
  again: {{type: sft, policy: base, data: demos, steps: 1, batch_tokens: 4096, micro_tokens: 2048, lr: 2.0e-3}}
"""
WORDS = [a + b for a in ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro") for b in ("lk", "nd", "rt", "sh", "mp")]


def conversations(path: Path, rows: int) -> None:
    """Two turns a row, 30 to 90 words, no two alike."""
    rng = random.Random(0)
    with path.open("w") as f:
        for n in range(rows):
            said = [" ".join(rng.choices(WORDS, k=rng.randint(6, 24))) for _ in range(4)]
            said[0] += f" number {n}"
            turns = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(said)]
            f.write(json.dumps({"messages": turns}) + "\n")


def watched(command: list[str]) -> tuple[float, float, float]:
    """(seconds, peak of own memory in MiB, peak with mapped files in MiB) of a process without its children."""
    start, own, whole = time.monotonic(), 0.0, 0.0
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        try:
            status = dict(x.split(":", 1) for x in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            mib = {k: int(status[k].split()[0]) / 1024 for k in ("RssAnon", "VmRSS") if k in status}
            own, whole = max(own, mib.get("RssAnon", 0)), max(whole, mib.get("VmRSS", 0))
        except OSError:
            pass
        time.sleep(0.05)
    if process.returncode:
        sys.exit(process.stderr.read() if process.stderr else "failed")
    return time.monotonic() - start, own, whole


def measure(rows: int, how: str, dedupe: str, folder: Path) -> dict[str, tuple[float, float, float]]:
    """By stage, what `watched` says of it; one line of it is printed."""
    data, recipe = folder / f"rows-{rows}.jsonl", folder / f"{how}-{rows}.yaml"
    if not data.exists():
        conversations(data, rows)
    recipe.write_text(RECIPE.format(how=how, path=data, holdout=64 / rows, dedupe=dedupe))
    told, found = [f"{rows:>9,}", f"{how:>7}", f"{data.stat().st_size >> 20:>6} MiB"], {}
    for stage in ("base", "demos", "sft", "again"):
        command = [sys.executable, "-m", "posttrain", "run", str(recipe), "--runs", str(folder), "--only", stage]
        seconds, own, whole = found[stage] = watched(command)
        if stage != "base":
            told.append(f"{stage} {seconds:6.0f} s {own:6.0f} own {whole:6.0f} with files")
    print(" | ".join(told), flush=True)
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    words.add_argument("--how", nargs="+", default=["mapped"])
    words.add_argument("--dedupe", default="exact")
    words.add_argument("--folder", type=Path)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        os.environ["POSTTRAIN_CACHE"] = str(folder / "cache")
        for rows in given.rows:
            for how in given.how:
                measure(rows, how, given.dedupe, folder)


if __name__ == "__main__":
    main()
