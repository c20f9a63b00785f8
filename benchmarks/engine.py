"""Tokens per second of one SFT step (forward and backward, no optimiser), eager and compiled, on synthetic documents.

    python benchmarks/engine.py --model FOLDER [--tokens 4096] [--steps 5] [--precision auto] [--no-compile]

Packs are the same for every variant and variants take turns, so that a busy machine slows them alike. `cpu s` is
processor time over all threads: on a shared machine it says more than wall time.
Left out on purpose: data loading, the optimiser, other libraries (they have benchmarks of their own).
"""

import argparse
import random
import resource
import statistics
import time
from collections.abc import Callable

import torch

from posttrain.loading import load_model
from posttrain.model import Model
from posttrain.packing import Branch, Doc, Pack, build, plan, size
from posttrain.pipeline import Runtime
from posttrain.progress import Progress


def documents(count: int, vocabulary: int, pairs: bool, seed: int = 0) -> list[Doc]:
    """Conversations of 60-330 random tokens with the loss on the last two thirds, or pairs over prompts of 60-330."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [rng.randrange(vocabulary) for _ in range(rng.randint(low, high))]

    def branch(low: int, high: int, loss_from: float) -> Branch:
        found = ids(low, high)
        return Branch(found, [i >= loss_from * len(found) for i in range(len(found))])

    if pairs:
        return [Doc(ids(60, 330), [branch(30, 160, 0.0) for _ in range(2)]) for _ in range(count)]
    return [Doc([], [branch(60, 330, 1 / 3)]) for _ in range(count)]


def packs(docs: list[Doc], tokens: int, share: bool) -> list[Pack]:
    sizes = [size(d) if share else len(d.prefix) * len(d.branches) + size(d) - len(d.prefix) for d in docs]
    return [build([docs[i] for i in indices], pad_to=tokens, share=share) for indices in plan(sizes, tokens, seed=0)]


def sft(model: Model, pack: Pack) -> torch.Tensor:
    n = len(pack.at_N)
    return model.nll(pack, torch.full((n,), 1 / n))[0]


def dpo(model: Model, pack: Pack) -> torch.Tensor:
    """The same tensors as DPO with cached reference log-probs of zero."""
    logp_B = torch.zeros(pack.branches).index_add(0, pack.branch_N, model.token_logps(pack))
    return -torch.nn.functional.logsigmoid(0.1 * (logp_B[::2] - logp_B[1::2])).mean()


def step(model: Model, pack: Pack, loss: Callable[[Model, Pack], torch.Tensor]) -> tuple[float, float]:
    """(wall seconds, processor seconds) of forward and backward."""
    wall, cpu = time.perf_counter(), time.process_time()
    loss(model, pack).backward()
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    for p in model.parameters():
        p.grad = None
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()

    runtime = Runtime(precision=args.precision, compile="on", progress=Progress("lines"))
    model = load_model(args.model, runtime, train=True)
    vocabulary = model.base.config.get_text_config().vocab_size
    chats = documents(args.steps * args.tokens // 150, vocabulary, False)
    pairs = documents(args.steps * args.tokens // 250, vocabulary, True)
    kinds = {
        "sft": (sft, packs(chats, args.tokens, True)),
        "dpo, prompt shared": (dpo, packs(pairs, args.tokens, True)),
        "dpo, not shared": (dpo, packs(pairs, args.tokens, False)),
    }
    print(
        f"{args.model}: {model.said}, {model.flops_per_token / 6e6:.1f}M parameters, {torch.get_num_threads()} threads"
    )
    eager, compiled = [], []
    if not args.no_compile:
        start = time.perf_counter()
        model.compile()
        print(f"compiled in {time.perf_counter() - start:.1f} s")
        compiled = model._compiled
    variants = {"eager": eager} | ({"compiled": compiled} if compiled else {})
    for name, (loss, batch) in kinds.items():
        times: dict[str, list[tuple[float, float]]] = {v: [] for v in variants}
        for i in range(args.steps + 1):
            for variant, layers in variants.items():
                model._compiled = layers
                pack = batch[i % len(batch)]
                wall, cpu = step(model, pack, loss)
                if i:  # the first step warms up
                    times[variant].append((pack.unshared_tokens / wall, pack.unshared_tokens / cpu))
        for variant, found in times.items():
            wall, cpu = (statistics.median(x) for x in zip(*found, strict=True))
            flops = wall * model.flops_per_token / 1e9
            print(f"{name:20} {variant:9} {wall:8,.0f} tok/s  {cpu:8,.0f} tok/cpu s  {flops:7,.0f} GFLOP/s", flush=True)
    print(
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB; tokens are counted unshared"
    )


if __name__ == "__main__":
    main()
