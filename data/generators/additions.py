"""Two-digit additions for reinforcement learning: prompts with their right answer, and a suite on other operands.

A small model that has seen such sums worked out gets a quarter to a third of them right when it is sampled from, most
of them in eight tries: something is there to be learned from the result alone. No pair of operands, in either order, is
both a prompt and an item of the suite; no prompt is a question of arithmetic.py or drills.py; items ask what `_split`
keeps for evaluation. Leaves out worked answers, other operations, and sums that end in 0.
"""

import random
from collections.abc import Iterator

import arithmetic
import drills
from _split import held_out
from suite_arithmetic import ADD

PROMPTS, ITEMS = 2200, 400


def pairs(rng: random.Random) -> list[tuple[int, int]]:
    """All pairs of two-digit numbers, in one of their two orders, shuffled."""
    found = [(a, b) for a in range(10, 100) for b in range(a, 100) if (a + b) % 10]
    rng.shuffle(found)
    return [(a, b) if rng.random() < 0.5 else (b, a) for a, b in found]


def kept(a: int, b: int) -> bool:
    """Whether evaluation may ask for this pair, in this order or the other."""
    return held_out("add", a, b) or held_out("add", b, a)


def rows(seed: int = 0) -> Iterator[dict]:
    """The prompts."""
    rng = random.Random(f"additions {seed}")
    asked = {row["prompt"] for module in (arithmetic, drills) for row in module.rows(seed)}
    made = 0
    for a, b in pairs(rng):
        prompt = rng.choice(arithmetic.ADD).format(a=a, b=b)
        if made < PROMPTS and not kept(a, b) and prompt not in asked:
            made += 1
            yield {"id": f"addition-{made:04}", **_item(a, b, prompt)}


def items(seed: int = 0) -> Iterator[dict]:
    """The suite, in the wordings of the arithmetic suite; the order of operands that is held out is the one asked."""
    rng = random.Random(f"additions suite {seed}")
    found = [(a, b) if held_out("add", a, b) else (b, a) for a, b in pairs(rng) if kept(a, b)]
    for number, (a, b) in enumerate(found[:ITEMS], 1):
        yield {"id": f"add-{number:03}", **_item(a, b, rng.choice(ADD).format(a=a, b=b))}


def _item(a: int, b: int, prompt: str) -> dict:
    cluster = "carry" if a % 10 + b % 10 > 9 else "no carry"
    return {"cluster": cluster, "messages": [{"role": "user", "content": prompt}], "answer": str(a + b)}
