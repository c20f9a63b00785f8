"""Tokens per second of the local sampler beside transformers' `generate`: same model, prompts, lengths, machine.

    python benchmarks/sampler.py [--model FOLDER] [--dtype float32|bfloat16] [--rounds 3] [--work fixed grouped ragged]

The two sides take turns, so that a busy machine slows both; the ratio is what to quote. Without a folder the model has
the bundled one's shape and random weights. Kinds of work, all at temperature 1, `generate` with its own cache:

fixed    one sample of each of 1, 8, 32, 64 prompts, 64 tokens each, nobody stops: nothing to gain but the step itself.
grouped  8 samples of each of 4 (8) prompts, 64 tokens each: the prompt is read once here, once per sample there.
ragged   64 prompts of 16 to 160 tokens; answers end by themselves after 32 tokens on average, at most 128. `generate`
         gets batches of 32 and runs each until its longest answer ends; tokens up to the stop token are counted.

--continuous: beside both, transformers' continuous batching (`generate_batch`, paged attention), once each.

Left out on purpose: time to load, and servers.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from posttrain.rows import Message
from posttrain.sampler import Sampling
from posttrain.sampler.local import Local

STOPS_OF_8192 = 256  # so many ids end an answer in `ragged`: one draw in 32 for a model that knows nothing


class Ids:
    """A chat without a tokenizer: the benchmark is about ids."""

    lead = tail = ""

    def __init__(self, stop_ids: tuple[int, ...] = ()):
        self.stop_ids, self.pad_id = stop_ids, 0

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))

    def parse(self, ids: list[int]) -> tuple[Message, str]:
        return Message(role="assistant", content=""), "length"


def load(folder: str | None, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    if folder:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    config = LlamaConfig(
        vocab_size=8192, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, head_dim=64, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(dtype).eval()


def theirs(hf: Any, prompts: list[list[int]], n: int, max_new: int, stops: list[int]) -> int:
    """Tokens drawn by `generate`, left-padded batches of at most 32 x n prompts."""
    drawn, size = 0, len(prompts) if not stops else 32
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        longest = max(map(len, batch))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in batch])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch])
        out: Tensor = hf.generate(
            ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=n,
            max_new_tokens=max_new, eos_token_id=stops or None, pad_token_id=0,
        )  # fmt: skip
        drawn += sum(length(row, stops) for row in out[:, longest:].tolist())
    return drawn


def continuous(hf: Any, prompts: list[list[int]], n: int, max_new: int, stops: list[int]) -> int:
    """Tokens drawn by `generate_batch`, which takes what fits into its pages and lets prompts enter as others leave."""
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    # its own choice of pages is nine tenths of the free memory, which takes a minute to fill with zeros on a CPU
    pages = ContinuousBatchingConfig(page_size=256, num_blocks=2 * n * len(prompts), max_batch_tokens=4096)
    how = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=max_new, eos_token_id=stops or -1,
        pad_token_id=0,
    )  # fmt: skip
    found = hf.generate_batch(
        [p for p in prompts for _ in range(n)], generation_config=how, continuous_batching_config=pages,
        progress_bar=False,
    )  # fmt: skip
    return sum(len(one.generated_tokens) for one in found.values())


def length(row: list[int], stops: list[int]) -> int:
    return next((k + 1 for k, i in enumerate(row) if i in stops), len(row))


def ours(sampler: Local, prompts: list[list[int]], n: int, max_new: int) -> int:
    rows = asyncio.run(sampler.sample(prompts, n, Sampling(max_new=max_new)))
    return sum(len(s.ids) for samples in rows for s in samples)


def workloads(kinds: list[str], vocabulary: int) -> dict[str, tuple[list[list[int]], int, int, list[int], int]]:
    """name -> (prompts, samples of each, max_new, stop ids, slots)."""
    g = torch.Generator().manual_seed(0)

    def draw(lengths: list[int]) -> list[list[int]]:
        return [torch.randint(1, vocabulary, (k,), generator=g).tolist() for k in lengths]

    stops = torch.randperm(vocabulary, generator=g)[: STOPS_OF_8192 * vocabulary // 8192].tolist()
    lengths = torch.randint(16, 161, (64,), generator=g).tolist()
    every = {
        "fixed 1 x 64": (draw([96]), 1, 64, [], 1),
        "fixed 8 x 64": (draw([96] * 8), 1, 64, [], 8),
        "fixed 32 x 64": (draw([96] * 32), 1, 64, [], 32),
        "fixed 64 x 64": (draw([96] * 64), 1, 64, [], 64),
        "grouped 4 x 8 x 64": (draw([96] * 4), 8, 64, [], 32),
        "grouped 8 x 8 x 64": (draw([96] * 8), 8, 64, [], 64),
        "ragged 64": (draw(lengths), 1, 128, stops, 32),
    }
    return {name: work for name, work in every.items() if name.split()[0] in kinds}


def clocked(run: Callable[[], int], clock: Callable[[], float]) -> tuple[float, int]:
    start = clock()
    tokens = run()
    return clock() - start, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs="+", default=["fixed", "grouped", "ragged"])
    parser.add_argument("--continuous", action="store_true", help="beside generate_batch too, once")
    parser.add_argument("--busy", action="store_true", help="count processor time on one thread, not time on the wall")
    options = parser.parse_args()
    clock = time.process_time if options.busy else time.perf_counter
    if options.busy:
        torch.set_num_threads(1)
    hf = load(options.model, getattr(torch, options.dtype))
    for name, (prompts, n, max_new, stops, slots) in workloads(options.work, hf.config.vocab_size).items():
        hf.generation_config.eos_token_id = None
        sampler = Local(hf, Ids(tuple(stops)), batch=slots)
        warm = [p[:16] for p in prompts[:2]]
        theirs(hf, warm, n, 4, stops), ours(sampler, warm, n, 4)
        speeds: dict[str, list[float]] = {"generate": [], "local": []}
        for _ in range(options.rounds):
            for side, run in (
                ("generate", lambda: theirs(hf, prompts, n, max_new, stops)),  # noqa: B023
                ("local", lambda: ours(sampler, prompts, n, max_new)),  # noqa: B023
            ):
                seconds, tokens = clocked(run, clock)
                speeds[side].append(tokens / seconds)
        ratios = [b / a for a, b in zip(*speeds.values())]
        shown = " | ".join(f"{k} {statistics.median(v):,.0f}" for k, v in speeds.items())
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"{name:20} tokens/s: {shown} | ratio {statistics.median(ratios):.2f} ({spread})", flush=True)
        if options.continuous:
            seconds, tokens = clocked(lambda: continuous(hf, prompts, n, max_new, stops), clock)  # noqa: B023
            rate, own = tokens / seconds, statistics.median(speeds["local"])
            print(f"{'':20} generate_batch {rate:,.0f} | ratio {own / rate:.2f}", flush=True)


if __name__ == "__main__":
    main()
