"""Seconds of a GRPO step beside TRL's trainer: same model, prompts, group and lengths, by turns.

    python benchmarks/vs_trl_grpo.py [--prompts FILE] [--model FOLDER] [--rounds 2] [--steps 12] [--skip 3] ...
    python benchmarks/vs_trl_grpo.py --model runs/assistant/sft-... --new 256    # answers that end by themselves

A step is --questions prompts with --group answers of up to --new tokens at temperature 1, a reward, the KL to a frozen
reference, one update. The reward counts the distinct characters of an answer: it costs nothing and always varies.
TRL has its defaults in bf16 (its reference is a second model, its sampler `generate`); every round runs both sides
in processes of their own, the first to go changing. Writes benchmarks/results/vs_trl-grpo-DATE.json.
Left out on purpose: vLLM, several processes, learning (mean rewards are shown as a sign that both do the same).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from posttrain import formats
from posttrain.locate import find
from posttrain.rows import Prompt, write_jsonl

BETA = 0.04


def distinct(items: Any) -> list[float]:
    """This project's reward: distinct characters of each answer."""
    return [float(len(set(item.answer))) for item in items]


def trl_side(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import torch
    import transformers
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl_side import CHATML, Meter, peak_gib

    transformers.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if "<|im_end|>" in tokenizer.get_vocab():
        tokenizer.chat_template, tokenizer.eos_token = CHATML, "<|im_end|>"
    rewards: list[float] = []
    lengths: list[int] = []

    def reward(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        found = [float(len(set(c[0]["content"]))) for c in completions]
        rewards.append(statistics.fmean(found))
        lengths.extend(map(len, completion_ids))
        return found

    meter = Meter()
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    config = trl.GRPOConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=options.questions * options.group,
        num_generations=options.group, max_completion_length=options.new, beta=BETA, max_steps=options.steps,
        learning_rate=1e-6, bf16=True, use_cpu=not torch.cuda.is_available(), gradient_checkpointing=False,
        save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa"),
        reward_funcs=reward, args=config, processing_class=tokenizer, callbacks=[meter],
        train_dataset=Dataset.from_list([{"prompt": row["messages"]} for row in rows]),
    )  # fmt: skip
    trainer.train()
    found = {"reward": statistics.fmean(rewards), "length": statistics.fmean(lengths)}
    return {"seconds": meter.seconds, "peak_gib": peak_gib()} | found


def our_side(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from our_side import Clock

    from posttrain.pipeline import Inputs, Runtime, peak_gib
    from posttrain.stages.rl import Rl

    clock = Clock()
    sys.path.insert(0, str(Path(__file__).parent))
    stage = Rl(
        policy="policy", prompts="prompts", algorithm={"type": "grpo", "kl": {"coef": BETA}},
        rewards={"distinct": {"type": "function", "path": "vs_trl_grpo:distinct"}}, lr=1e-6,
        sampling={"max_new": options.new, "temperature": 1.0}, steps=options.steps,
        prompts_per_step=options.questions, group=options.group,
    )  # fmt: skip
    out = folder / "ours"
    out.mkdir()
    stage.run(Inputs({"policy": (Path(options.model),), "prompts": (folder,)}), out, Runtime(progress=clock))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found = {key: statistics.fmean(e[key] for e in log if key in e) for key in ("reward", "length")}
    return {"seconds": clock.pieces("train")["seconds"], "peak_gib": peak_gib()} | found


def run(side: str, argv: list[str], folder: Path) -> dict[str, Any]:
    out = folder / f"{side}.json"
    with tempfile.TemporaryDirectory(dir=folder) as work:
        (Path(work) / "train.jsonl").write_text((folder / "train.jsonl").read_text())
        command = [sys.executable, __file__, *argv, "--side", side, "--folder", work, "--out", str(out)]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise SystemExit(f"{side} failed (exit {done.returncode}):\n{done.stdout[-4000:]}")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def compare(options: argparse.Namespace, argv: list[str]) -> dict[str, Any]:
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = formats.load(options.prompts, "prompts", bad_rows="skip").rows
        short = [r for r in rows if len(str(r.messages)) < 2000][: options.steps * options.questions]
        write_jsonl(folder / "train.jsonl", [Prompt(messages=r.messages, id=str(n)) for n, r in enumerate(short)])
        for n in range(options.rounds):
            sides = ("trl", "posttrain")[:: 1 if n % 2 == 0 else -1]
            found = {side: run(side, [*argv, "--model", str(find(options.model))], folder) for side in sides}
            per = {s: statistics.median(r["seconds"][options.skip :]) for s, r in found.items()}
            rounds.append({"ratio": per["trl"] / per["posttrain"], **found})
            shown = " | ".join(
                f"{s} {per[s]:.2f} s, {r['length']:.0f} tokens, reward {r['reward']:.1f}, {r['peak_gib']:.2f} GiB"
                for s, r in found.items()
            )
            print(f"  round {n + 1}: {shown} | ratio {rounds[-1]['ratio']:.2f}", flush=True)
    ratios = [r["ratio"] for r in rounds]
    print(f"  grpo: ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    return {"task": "grpo", "median_ratio": statistics.median(ratios), "ratios": ratios, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", default="bundled:prompts", help="in any format that posttrain reads")
    parser.add_argument("--model", default="bundled", help="folder or Hugging Face id")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--skip", type=int, default=3, help="warm-up steps that are not measured, on both sides")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--side", choices=["trl", "posttrain"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        found = (trl_side if options.side == "trl" else our_side)(options, options.folder)
        options.out.write_text(json.dumps(found))
        return
    started = time.perf_counter()
    result = compare(options, sys.argv[1:])
    from vs_trl import keep

    print(f"  written: {keep(result, options.results).name} ({time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    main()
