"""What one GPU does with this project: tokens per second, memory, and the share of the matrix rate it reaches.

    python benchmarks/gpu.py --task sft dpo sample grpo --shape 0.6b [--micro-tokens 65536] [--wheels .whl]
    python benchmarks/gpu.py --task sft --shape 8b --train lora     (or --train checkpoint: activations computed again)
    python benchmarks/gpu.py --shape tiny                            a smoke on any machine

Models of the given shapes have random weights, rows are random ids, so nothing is downloaded and nothing learned:
conversations of 256 tokens on average with the loss on the last two thirds; pairs over prompts of 60 to 330 tokens;
prompts of 64 to 128 tokens to sample from. Training is the loop of every training stage (train.py), optimiser
included; the first --skip steps are warm-up. Counted are real tokens, for pairs both sequences with their prompts; DPO
counts the reference pass too. MFU is 6 FLOPs for each parameter and token, whatever is really computed, over the rate
of an 8,192-cubed product in bf16 that is measured first.

Where TRL is installed, its trainers train the same ids in the same process afterwards (--no-trl: they do not), by
default in its packed-less form; `sample` is compared with transformers' `generate`.
--wheels: a folder of wheels for what the machine lacks, installed into a temporary folder for this run alone.
Left out on purpose: data, quality, several GPUs (docs/scale.md).
"""

import argparse
import asyncio
import copy
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
QWEN = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 8192, "tie_word_embeddings": True},
    "0.6b": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "tie_word_embeddings": True},
    "1.7b": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "tie_word_embeddings": False,
           "num_attention_heads": 32},
}  # fmt: skip
PACKAGES = ("torch", "transformers", "triton", "peft", "trl")


def installed(folder: str) -> None:
    """The wheels of a folder, importable from now on."""
    target = tempfile.mkdtemp(prefix="posttrain-wheels-")
    wheels = map(str, sorted(Path(folder).glob("*.whl")))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target, *wheels]
    subprocess.run(pip, check=True)
    sys.path.insert(0, target)


def made(options: argparse.Namespace) -> Any:
    """A posttrain Model of the shape, made where it will live."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    from posttrain.loading import choose, with_lora
    from posttrain.lora import Lora
    from posttrain.model import Model
    from posttrain.pipeline import Runtime

    device, dtype, said = choose(Runtime(device=options.device, precision=options.precision))
    config = Qwen3Config(max_position_embeddings=32768, **(QWEN | SHAPES[options.shape]))
    torch.manual_seed(0)
    with torch.device(device):
        hf = AutoModelForCausalLM.from_config(config, dtype=dtype)
    hf.requires_grad_(options.train != "lora")
    if options.train == "lora":
        hf = with_lora(hf, Lora(rank=16), True)
    runtime = Runtime(compile=options.compile, checkpointing=options.train == "checkpoint")
    return Model(hf, runtime=runtime, said=said)


# ---- rows ------------------------------------------------------------------------------------------------------------


def ids(rng: random.Random, low: int, high: int, vocabulary: int) -> list[int]:
    return [rng.randrange(8, vocabulary) for _ in range(rng.randint(low, high))]


def conversations(count: int, vocabulary: int) -> list[Any]:
    from posttrain.packing import Branch, Doc

    rng, docs = random.Random(0), []
    for _ in range(count):
        row = ids(rng, 128, 384, vocabulary)
        docs.append(Doc([], [Branch(row, [3 * i >= len(row) for i in range(len(row))])]))
    return docs


def pairs(count: int, vocabulary: int) -> list[Any]:
    from posttrain.packing import Branch, Doc

    rng, docs = random.Random(0), []
    for _ in range(count):
        answers = [ids(rng, 30, 160, vocabulary) for _ in range(2)]
        docs.append(Doc(ids(rng, 60, 330, vocabulary), [Branch(a, [True] * len(a)) for a in answers]))
    return docs


# ---- tasks -----------------------------------------------------------------------------------------------------------


def trained(
    model: Any, docs: list[Any], counts: list[float], loss: Any, options: argparse.Namespace, clock: Any, **more: Any
) -> dict[str, Any]:
    """The loop itself over `docs`; seconds and tokens of every step after the warm-up."""
    from posttrain import adamw, packing, train

    rows = train.Rows([packing.size(d) for d in docs], counts, [str(i) for i in range(len(docs))])
    steps, batches = train.schedule(
        rows, micro_tokens=options.micro_tokens, batch_tokens=options.micro_tokens * options.micros, epochs=1,
        steps=options.steps, seed=0,
    )  # fmt: skip
    model.compile(max(60, steps))
    with tempfile.TemporaryDirectory() as out:
        train.train(
            model, rows, loss, optim=adamw.Optim(1e-6, clip=1.0), steps=steps, batches=more.pop("batches", batches),
            out=Path(out), progress=clock, **more,
        )  # fmt: skip
    pieces = clock.pieces("train")
    return {k: v[options.skip :] for k, v in pieces.items()}


def sft(model: Any, options: argparse.Namespace, clock: Any) -> dict[str, Any]:
    from posttrain import packing
    from posttrain.stages.sft import token_loss

    docs = conversations(enough(options, 256), options.vocabulary)

    def loss(indices: list[int], total: float) -> Any:
        return token_loss(model, packing.build([docs[i] for i in indices], pad_to=options.micro_tokens), "nll", total)

    found = trained(model, docs, [float(sum(d.branches[0].mask)) for d in docs], loss, options, clock)
    return found | {"host_waits": waits(lambda: loss([0, 1], 1.0)[0].backward())}


def dpo(model: Any, options: argparse.Namespace, clock: Any) -> dict[str, Any]:
    import torch

    from posttrain import packing
    from posttrain.objectives import preference
    from posttrain.stages.preference import Given, pair_loss, score
    from posttrain.stages.training import evaluation_packs

    model.compile(60)
    docs = pairs(enough(options, 385), options.vocabulary)
    ref, reference = torch.zeros(len(docs), 2, 2), {"seconds": [], "tokens": []}  # type: ignore[var-annotated]
    with torch.no_grad():
        for indices, pack in evaluation_packs(docs, options.micro_tokens, 0):
            start = time.perf_counter()
            ref[indices] = score(model, pack)  # arrives on the host, so the time is whole
            reference["seconds"].append(time.perf_counter() - start)
            reference["tokens"].append(pack.unshared_tokens)
    given = Given(ref[..., 0], ref[..., 1], torch.zeros(len(docs)), torch.ones(len(docs)), torch.zeros(len(docs)))

    def loss(indices: list[int], total: float) -> Any:
        pack = packing.build([docs[i] for i in indices], pad_to=options.micro_tokens)
        return pair_loss(model, pack, given.at(indices), preference.dpo, total)

    skip = min(2, len(reference["seconds"]) - 1)
    found = trained(model, docs, [1.0] * len(docs), loss, options, clock)
    return found | {"reference": {k: v[skip:] for k, v in reference.items()}}


def enough(options: argparse.Namespace, mean: int) -> int:
    """Rows for all steps, all different."""
    return options.steps * options.micros * options.micro_tokens // mean + 8


def asked(options: argparse.Namespace) -> list[list[int]]:
    rng = random.Random(0)
    return [ids(rng, 64, 128, options.vocabulary) for _ in range(options.prompts)]


def sampler_of(model: Any, options: argparse.Namespace) -> Any:
    from sampler import Ids

    from posttrain.sampler.local import Local

    return Local(model, Ids(), batch=options.prompts * options.group)


def sample(model: Any, options: argparse.Namespace, clock: Any) -> dict[str, Any]:
    """Rounds of all prompts; nobody stops before --new tokens."""
    from posttrain.sampler import Sampling

    prompts, local = asked(options), sampler_of(model, options)
    model.compile(60)
    rounds: dict[str, list[float]] = {"seconds": [], "tokens": []}
    for number in range(options.skip + options.rounds):
        start = time.perf_counter()
        rows = asyncio.run(local.sample(prompts, options.group, Sampling(max_new=options.new, seed=number)))
        rounds["seconds"].append(time.perf_counter() - start)
        rounds["tokens"].append(sum(len(s.ids) for samples in rows for s in samples))
    return {k: v[options.skip :] for k, v in rounds.items()}


def grpo(model: Any, options: argparse.Namespace, clock: Any) -> dict[str, Any]:
    """Rollouts with random rewards, KL to a frozen copy in the loss, one update each; tokens are those drawn."""
    import torch
    from pydantic import TypeAdapter

    from posttrain.model import Model
    from posttrain.rl.algorithms import AnyAlgorithm
    from posttrain.rl.learner import How, Learner
    from posttrain.rl.rollout import Ask, Group
    from posttrain.sampler import Sampling

    frozen = Model(copy.deepcopy(model.hf).requires_grad_(False), runtime=model.runtime)
    prompts, local = asked(options), sampler_of(model, options)

    def collect(number: int) -> Any:
        found = asyncio.run(local.sample(prompts, options.group, Sampling(max_new=options.new, seed=number)))
        rng, groups = random.Random(number), []
        for ids_, samples in zip(prompts, found):
            reward = [rng.random() for _ in samples]
            groups.append(Group(Ask("", (), {}, ids_), list(samples), {"r": reward}, reward))
        return groups, {}

    def reference(pack: Any) -> Any:
        with torch.no_grad():
            return frozen.token_logps(pack)

    algorithm: Any = TypeAdapter(AnyAlgorithm).validate_python(
        {"type": "grpo", "kl": {"where": "loss", "coef": 0.04}}  # TRL's defaults in vs_trl_grpo.py
    )
    how = How(temperature=1.0, max_new=options.new, epochs=1, minibatches=1, micro_tokens=options.micro_tokens)
    learner = Learner(model, reference, None, algorithm, how, collect)
    docs = conversations(options.steps * options.micros + 1, options.vocabulary)
    found = trained(model, docs, [1.0] * len(docs), learner.loss, options, clock, live=learner,
                    batches=learner.batches())  # fmt: skip
    drawn = options.prompts * options.group * options.new
    return {"seconds": found["seconds"], "tokens": [drawn] * len(found["seconds"])}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"sft": sft, "dpo": dpo, "sample": sample, "grpo": grpo}


# ---- the other side --------------------------------------------------------------------------------------------------


def theirs(task: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """TRL (or `generate`) with the same ids; None where it is not installed or does not have the task here."""
    if options.no_trl or task == "grpo":
        return None
    if task == "sample":
        return generated(options)
    try:
        version("trl")
    except PackageNotFoundError:
        return None
    return by_trl(task, options)


def by_trl(task: str, options: argparse.Namespace) -> dict[str, Any]:
    """--trl-batch rows a step without padding-free tricks; rows come as ids, as its trainers take them."""
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl_side import Meter

    from posttrain import bundled

    class Tokenised(trl.DPOTrainer):  # type: ignore[misc, name-defined]
        """Rows are ids already."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    meter, count = Meter(), options.trl_batch * options.steps
    hf = made(options).hf.train()
    hf.set_attn_implementation("sdpa")
    tokenizer = AutoTokenizer.from_pretrained(bundled.model())
    with tempfile.TemporaryDirectory() as folder:
        how: dict[str, Any] = {
            "output_dir": folder, "per_device_train_batch_size": options.trl_batch, "max_steps": options.steps,
            "bf16": str(hf.dtype) == "torch.bfloat16", "gradient_checkpointing": options.train == "checkpoint",
            "save_strategy": "no", "logging_strategy": "no", "report_to": [], "disable_tqdm": True,
            "use_cpu": hf.device.type == "cpu", "max_length": 1024,
        }  # fmt: skip
        shared = {"processing_class": tokenizer, "callbacks": [meter]}
        if task == "sft":
            rows: list[dict[str, Any]] = [
                {"input_ids": b.ids, "labels": [i if w else -100 for i, w in zip(b.ids, b.mask)]}
                for d in conversations(count, options.vocabulary) for b in d.branches
            ]  # fmt: skip
            trainer = trl.SFTTrainer(hf, trl.SFTConfig(**how), train_dataset=Dataset.from_list(rows), **shared)
        else:
            rows = [
                {"prompt_ids": d.prefix, "chosen_ids": d.branches[0].ids, "rejected_ids": d.branches[1].ids}
                for d in pairs(count, options.vocabulary)
            ]
            # from a path it would load its reference itself; with adapters it needs none
            shared["ref_model"] = None if options.train == "lora" else copy.deepcopy(hf)
            trainer = Tokenised(hf, args=trl.DPOConfig(**how), train_dataset=Dataset.from_list(rows), **shared)
        meter.watch(trainer)
        trainer.train()
    return {"seconds": meter.seconds[options.skip :], "tokens": meter.tokens[options.skip :]}


def generated(options: argparse.Namespace) -> dict[str, Any]:
    """transformers' `generate` with a static cache, compiled where there is a GPU: its best here."""
    import torch

    hf = made(options).hf
    hf.set_attn_implementation("sdpa")
    hf.generation_config.eos_token_id = None
    longest = min(map(len, asked(options)))
    prompts = torch.tensor([p[:longest] for p in asked(options)], device=hf.device)
    more = {"cache_implementation": "static"} if hf.device.type == "cuda" else {}
    rounds: dict[str, list[float]] = {"seconds": [], "tokens": []}
    for _ in range(options.skip + options.rounds):
        start = time.perf_counter()
        out = hf.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=0, top_p=1.0, pad_token_id=0,
            num_return_sequences=options.group, max_new_tokens=options.new, **more,
        )  # fmt: skip
        rounds["tokens"].append(float(out[:, longest:].numel()))
        rounds["seconds"].append(time.perf_counter() - start)
    return {k: v[options.skip :] for k, v in rounds.items()}


# ---- measuring -------------------------------------------------------------------------------------------------------


def peak_rate(size: int) -> float:
    """TFLOP/s of a bf16 product of random square matrices: the median of ten after three."""
    import torch

    gpu = torch.cuda.is_available()
    a, b = (torch.randn(size, size, device="cuda" if gpu else "cpu").bfloat16() for _ in range(2))
    seconds = []
    for _ in range(13):
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[3:]) / 1e12


def waits(work: Callable[[], None]) -> int | None:
    """How often the host waits for the GPU in it, as PyTorch counts; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        work()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in found)


def rate(pieces: dict[str, Any]) -> float:
    return float(sum(pieces["tokens"]) / sum(pieces["seconds"]))


def peak_gib() -> float:
    from trl_side import peak_gib as gib

    return gib()


def forget() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measured(task: str, options: argparse.Namespace, peak: float) -> dict[str, Any]:
    """One task on both sides, printed."""
    from our_side import Clock

    forget()
    clock = Clock()
    clock.watch()
    start = time.perf_counter()
    model = made(options)
    options.vocabulary = model.base.config.vocab_size
    flops = model.flops_per_token
    pieces = TASKS[task](model, options, clock)
    pace = 1 / rate(pieces) + (1 / rate(pieces["reference"]) if "reference" in pieces else 0.0)
    parameters = sum(p.numel() for p in model.base.parameters())
    looked_up = 0 if model.base.config.tie_word_embeddings else model.base.get_input_embeddings().weight.numel()
    found: dict[str, Any] = {
        "task": task, "tokens_per_second": 1 / pace, "peak_gib": peak_gib(), "said": model.said,
        "compiled": bool(model.compiled_layers), "parameters": parameters,
        "seconds_in_all": time.perf_counter() - start,
    }  # fmt: skip
    if task in ("sft", "dpo"):
        found |= {"mfu": 6 * (parameters - looked_up) / pace / 1e12 / peak, "flops_really": flops}
    found |= pieces
    del model
    forget()
    other = theirs(task, options)
    if other:
        found |= {"other": other, "other_tokens_per_second": rate(other), "ratio": rate(other) ** -1 / pace}
    print(line(found, options), flush=True)
    return found


def line(found: dict[str, Any], options: argparse.Namespace) -> str:
    parts = [f"{found['task']:6} {options.shape} {options.train}: {found['tokens_per_second']:,.0f} tokens/s"]
    parts += [f"MFU {found['mfu']:.1%}"] if "mfu" in found else []
    parts += [f"{found['peak_gib']:.1f} GiB", "compiled" if found["compiled"] else "eager"]
    if found["task"] == "grpo":
        parts.append(f"{statistics.median(found['seconds']):.2f} s a step")
    if found.get("host_waits") is not None:
        parts.append(f"{found['host_waits']} host waits in a micro-batch")
    if "ratio" in found:
        parts.append(f"other side {found['other_tokens_per_second']:,.0f}: ratio {found['ratio']:.2f}")
    return " | ".join(parts)


def machine() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine()}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {"gpu": card.name, "gpu_gib": card.total_memory / 2**30, "cuda": torch.version.cuda}
    return found


def versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--shape", choices=list(SHAPES), default="0.6b")
    parser.add_argument("--train", choices=["full", "lora", "checkpoint"], default="full")
    parser.add_argument("--micro-tokens", type=int, default=0, help="0: 32,768, and 1,024 for the tiny shape")
    parser.add_argument("--micros", type=int, default=1, help="micro-batches of an optimiser step")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--skip", type=int, default=4, help="steps and rounds of warm-up")
    parser.add_argument("--prompts", type=int, default=64, help="sample and grpo")
    parser.add_argument("--group", type=int, default=1, help="answers to each prompt; 64 = 8 x 8 for grpo")
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument("--compile", choices=["auto", "on", "off"], default="auto")
    parser.add_argument("--trl-batch", type=int, default=32, help="rows (pairs) of a step of TRL's")
    parser.add_argument("--no-trl", action="store_true")
    parser.add_argument("--wheels", help="folder of wheels that this machine lacks")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.wheels:
        installed(options.wheels)
    tiny = options.shape == "tiny"
    options.micro_tokens = options.micro_tokens or (1024 if tiny else 32768)
    peak = peak_rate(512 if tiny else 8192)
    print(f"bf16 products: {peak:,.1f} TFLOP/s", flush=True)
    how = {k: v for k, v in vars(options).items() if k not in ("results", "wheels")}
    record = {"machine": machine(), "versions": dict(versions()), "options": how, "peak_tflops": peak, "tasks": []}
    for task in options.task:
        record["tasks"].append(measured(task, options, peak))
    options.results.mkdir(parents=True, exist_ok=True)
    now = time.gmtime()
    record["date"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    path = options.results / f"gpu-{options.shape}-{options.train}-{time.strftime('%Y%m%d-%H%M%S', now)}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
