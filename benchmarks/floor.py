"""What the machine allows: the matrix products of each kind of work on the bundled model, and nothing but them.

    python benchmarks/floor.py [--pairs FILE] [--sft FILE] [--tokens 2048]

Every weight's products (forward, gradient of the input, gradient of the weight) are timed in their own shapes at the
size of a pack, in bf16, median of nine; the output layer has only the rows that are read. Their sum is the least that
a step can take; attention, softmax, norms, the optimiser and Python come on top. For pairs the prompt counts once, and
both full sequences are what is counted as tokens, as in vs_trl.py. Sampling: 32 rows, 96 tokens of prompt, 64 steps.
Left out on purpose: fewer products by other mathematics (lower precision, skipped rows).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from posttrain import formats
from posttrain.locate import model_folder
from posttrain.render import load_chat


def seconds(run: Callable[[], Tensor]) -> float:
    found = []
    for _ in range(11):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return statistics.median(found[2:])


def shapes(config: Any) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """(in, out) of the weights of all layers, and of the output layer."""
    d, ff, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    kv, layers = config.num_key_value_heads, config.num_hidden_layers
    head = getattr(config, "head_dim", None) or d // heads
    each = [(d, heads * head), (d, kv * head), (d, kv * head), (heads * head, d), (d, ff), (d, ff), (ff, d)]
    return each * layers, (d, config.vocab_size)


def products(sizes: list[tuple[int, int]], rows: int, backward: bool) -> float:
    """Seconds of x W (and of dy W', dy' x) over weights, each shape timed once."""
    known: dict[tuple[int, int], float] = {}
    for width, out in set(sizes):
        x, w, dy = (torch.randn(shape).bfloat16() for shape in ((rows, width), (out, width), (rows, out)))
        known[width, out] = seconds(lambda: torch.nn.functional.linear(x, w))  # noqa: B023
        if backward:
            known[width, out] += seconds(lambda: dy @ w) + seconds(lambda: dy.t() @ x)  # noqa: B023
    return sum(known[size] for size in sizes)


def read_share(path: str, folder: str) -> float:
    """Share of the tokens of conversations that are trained on."""
    chat, read, all_ = load_chat(folder), 0, 0
    for row in formats.load(path, "demos", bad_rows="skip").rows[:200]:
        ids, trained = chat.example(row.messages)
        read, all_ = read + sum(trained), all_ + len(ids)
    return read / all_


def pair_shares(path: str, folder: str) -> tuple[float, float]:
    """(tokens that are computed, tokens that are read) for each token of both full sequences."""
    chat, computed, read, counted = load_chat(folder), 0, 0, 0
    for row in formats.load(path, "pairs", bad_rows="skip").rows[:200]:
        answers = [chat.continuation(row.prompt, m) for m in (row.chosen, row.rejected)]
        prompt, own = len(answers[0][0]), sum(len(ids) for _, ids in answers)
        counted, computed, read = counted + 2 * prompt + own, computed + prompt + own, read + own
    return computed / counted, read / counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--sft", default="bundled:demos")
    parser.add_argument("--pairs", default="bundled:pairs")
    parser.add_argument("--tokens", type=int, default=2048)
    given = parser.parse_args()
    folder, rows = str(model_folder(given.model)), given.tokens
    layers, head = shapes(AutoConfig.from_pretrained(folder))
    flops = 6 * rows * sum(a * b for a, b in layers)
    body, body_only = products(layers, rows, True), products(layers, rows, False)
    print(f"products of the layers, forward and backward: {flops / body / 1e9:,.0f} GFLOP/s")

    share = read_share(given.sft, folder)
    whole = body + products([head], int(share * rows), True)
    print(f"SFT: {rows / whole:,.0f} tokens/s ({share:.0%} of the tokens are read)")
    computed, read = pair_shares(given.pairs, folder)
    own = int(rows * read / computed)
    trained = body + products([head], own, True)
    reference = body_only + products([head], own, False)
    print(f"DPO: {rows / computed / (trained + reference):,.0f} tokens/s; reward model: {rows / computed / body:,.0f} "
          f"({computed:.0%} of the tokens are computed, {read:.0%} read)")  # fmt: skip
    step = products(layers, 32, False) + products([head], 32, False)
    prompt = products(layers, 32 * 96, False)
    print(f"sampling 32 x 64 behind 96 tokens each: {32 * 64 / (64 * step + prompt):,.0f} tokens/s "
          f"(prompt {prompt:.2f} s, a step {1e3 * step:.1f} ms)")  # fmt: skip
    for new, shown in ((64, "64 tokens"), (22, "22 tokens on average")):
        answers = 32 * new
        learned = (
            (body + body_only) * answers / rows + products([head], answers, True) + products([head], answers, False)
        )
        print(f"GRPO, 4 prompts x 8 answers of {shown}: {learned + new * step:.2f} s a step")


if __name__ == "__main__":
    main()
