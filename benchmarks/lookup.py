"""What speculative decoding by prompt lookup could gain at most, from answers of a model and the cost of its steps.

    python benchmarks/lookup.py --model runs/assistant/sft-... [--prompts bundled:prompts bundled:additions]

Prompt lookup (Saxena 2023) guesses that what followed the last words earlier in the text follows again. The answers of
a model, greedy and at temperature 1, are drawn once; with seeds per position a guess is taken exactly when it equals
the token drawn, so tokens a step are counted, not modelled. Checking k guesses of B rows costs at least a step of
B x (k + 1) rows, which is timed. Gain: tokens a step x cost of a plain step / cost of a checking step.
Left out on purpose: a decoder that does it. That is for the day on which this prints more than 1.2.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from posttrain import formats
from posttrain.loading import load_model
from posttrain.locate import model_folder
from posttrain.pipeline import Runtime
from posttrain.progress import Progress
from posttrain.render import load_chat
from posttrain.sampler import Sampling
from posttrain.sampler.local import Local

NEW = 64


def guess(ids: Sequence[int], count: int, longest: int = 3) -> list[int]:
    """What followed the last `longest` (or fewer) tokens where they stood last before; [] if they never did."""
    for n in range(min(longest, len(ids) - 1), 0, -1):
        tail = list(ids[-n:])
        for start in range(len(ids) - n - 1, -1, -1):
            if list(ids[start : start + n]) == tail:
                return list(ids[start + n : start + n + count])
    return []


def steps(prompt: Sequence[int], answer: Sequence[int], count: int) -> int:
    """Steps that draw an answer when right guesses come for nothing."""
    done, taken = 0, 0
    while done < len(answer):
        guessed = guess([*prompt, *answer[:done]], count)
        right = next((i for i, (a, b) in enumerate(zip(guessed, answer[done:])) if a != b), len(guessed))
        done, taken = done + 1 + right, taken + 1
    return taken


def cost(sampler: Local, rows: int) -> float:
    """Seconds of a step of so many rows, median of five."""
    prompt, how, found = [5] * 16, Sampling(max_new=NEW, temperature=1.0, seed=0), []
    for _ in range(6):
        began, turns = time.perf_counter(), 0
        for _ in sampler.turns([prompt] * rows, 1, how):
            turns += 1
        found.append((time.perf_counter() - began) / max(turns, 1))
    return statistics.median(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--prompts", nargs="+", default=["bundled:prompts", "bundled:additions"])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--guesses", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    folder = model_folder(given.model)
    model, chat = load_model(Path(folder), Runtime(progress=Progress("silent")), train=False), load_chat(Path(folder))
    sampler = Local(model, chat, batch=max(given.rows) * (max(given.guesses) + 1))
    costs = {(b, k): cost(sampler, b * (k + 1)) for b in given.rows for k in (0, *given.guesses)}
    for b in given.rows:
        print(f"rows {b}: a step {1e3 * costs[b, 0]:.1f} ms; checking " +
              ", ".join(f"{k} guesses {1e3 * costs[b, k]:.1f}" for k in given.guesses))  # fmt: skip
    for path in given.prompts:
        asked = [chat.prompt(r.messages) for r in formats.load(path, "prompts").rows[:100]]
        for temperature in (0.0, 1.0):
            how = Sampling(max_new=NEW, temperature=temperature, seed=0)
            drawn = [s[0] for s in asyncio.run(sampler.sample(asked, 1, how))]
            tokens = sum(len(s.ids) for s in drawn)
            for k in given.guesses:
                per = tokens / sum(steps(p, s.ids, k) for p, s in zip(asked, drawn))
                gains = ", ".join(f"{b} rows {per * costs[b, 0] / costs[b, k]:.2f}" for b in given.rows)
                print(f"{path}, temperature {temperature:g}, {k} guesses: {per:.2f} tokens a step; gain: {gains}")


if __name__ == "__main__":
    main()
