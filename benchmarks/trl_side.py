"""TRL's side of vs_trl.py: its SFT, DPO or reward trainer over some rows once, with time and tokens of every step.

    python benchmarks/trl_side.py sft --model FOLDER --rows rows.jsonl --out result.json [--dtype fp32] [--packing]

Rows are JSON lines: {"messages": [...]} for sft, {"prompt": [...], "chosen": [...], "rejected": [...]} for the others,
each a list of {"role", "content"}. Settings that cost time are off (gradient checkpointing, logging, saving); the rest
is TRL's default: AdamW with fp32 weights, linear schedule, sdpa, a reference model beside the policy for dpo.
Tokens are those under the attention mask: no padding, for pairs both sequences with their prompts.
Left out on purpose: GRPO, Liger kernels, several processes.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

# ChatML as assistant_only_loss needs it: what stands between the marks is trained, stop token included
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Meter(TrainerCallback):
    """Seconds and real tokens of every optimiser step, and its loss."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[torch.Tensor] = []
        self.seen, self.last = 0, 0.0

    def watch(self, trainer: Any) -> None:
        """Count in compute_loss, where a batch is really used: the data loader fetches one batch ahead."""
        inner = trainer.compute_loss

        def compute_loss(model: Any, inputs: dict[str, Any], **more: Any) -> Any:
            mask = inputs.get("attention_mask")  # packed batches have none, and no padding either
            self.seen += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
            loss = inner(model, inputs, **more)
            self.losses.append(loss.detach())
            return loss

        trainer.compute_loss = compute_loss

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.last = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.append(round(now - self.last, 4))
        self.tokens.append(self.seen)
        self.last, self.seen = now, 0


def arguments(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder, "per_device_train_batch_size": options.batch, "num_train_epochs": 1,
        "learning_rate": options.lr, "max_length": options.max_length, "bf16": options.dtype == "bf16",
        "use_cpu": not torch.cuda.is_available(), "gradient_checkpointing": False, "seed": options.seed,
        "save_strategy": "no", "logging_strategy": "no", "report_to": [], "disable_tqdm": True,
    }  # fmt: skip


def trainer_of(options: argparse.Namespace, folder: str, meter: Meter) -> Any:
    import trl
    from datasets import Dataset

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if "<|im_end|>" in tokenizer.get_vocab():
        tokenizer.chat_template, tokenizer.eos_token = CHATML, "<|im_end|>"
    kind = AutoModelForSequenceClassification if options.task == "reward" else AutoModelForCausalLM
    more = {"num_labels": 1} if options.task == "reward" else {}
    model = kind.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa", **more)
    with options.rows.open(encoding="utf-8") as f:
        data = Dataset.from_list([json.loads(line) for line in f])
    shared = {"train_dataset": data, "processing_class": tokenizer, "callbacks": [meter]}
    how = arguments(options, folder)
    if options.task == "sft":
        return trl.SFTTrainer(model, trl.SFTConfig(**how, packing=options.packing, assistant_only_loss=True), **shared)
    if options.task == "reward":
        return trl.RewardTrainer(model, args=trl.RewardConfig(**how), **shared)
    return trl.DPOTrainer(model, args=trl.DPOConfig(**how), **shared)


def peak_gib() -> float:
    """Most memory used so far, GiB: of the GPU where there is one, else of this process."""
    import resource

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["sft", "dpo", "reward"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8, help="rows (pairs) of an optimiser step")
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16", help="bf16: autocast over fp32 weights")
    parser.add_argument("--packing", action="store_true", help="sft: rows joined to max-length")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(options, folder, meter)
        meter.watch(trainer)
        trainer.train()
    result = {
        "seconds": meter.seconds, "tokens": meter.tokens, "peak_gib": peak_gib(),
        "loss": float(torch.stack(meter.losses).mean()), "precision": options.dtype,
    }  # fmt: skip
    options.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
