"""Problems on two numbers for reinforcement learning: prompts with their right answer, and suites on other operands.

Which of two numbers is bigger or smaller, and sums below 100: a model that has seen such answers in its SFT gives a
third to a half of them right when it is sampled from, and four fifths in eight tries, so there is something to be
learned from the result alone. No pair of operands, in either order, is both a prompt and an item of a suite; no
prompt is a question of arithmetic.py or drills.py; items ask what `_split` keeps for evaluation. Leaves out worked
answers, one-digit tables (twenty pairs each are kept, too few), and sums that end in 0.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import arithmetic
import drills
import suite_arithmetic
from _split import held_out

Pair = tuple[int, int]


def numbers() -> list[Pair]:
    """Two different numbers below 100, the smaller one first."""
    return [(a, b) for a in range(3, 100) for b in range(a + 1, 100)]


def below_100() -> list[Pair]:
    """Two two-digit numbers whose sum has two digits, and ones to carry or to write down."""
    return [(a, b) for a in range(10, 50) for b in range(a, 100 - a) if (a + b) % 10]


# op of the split, pairs, wordings of prompts and of items, answer, prompts, items
Kind = tuple[str, Callable[[], list[Pair]], list[str], list[str], Callable[[Pair], int], int, int]
COMPARE: list[Kind] = [
    ("bigger", numbers, arithmetic.BIGGER, suite_arithmetic.BIGGER, max, 1100, 150),
    ("smaller", numbers, arithmetic.SMALLER, suite_arithmetic.SMALLER, min, 1100, 150),
]
ADD: list[Kind] = [("add", below_100, arithmetic.ADD, suite_arithmetic.ADD, sum, 800, 200)]


def kept(op: str, a: int, b: int) -> bool:
    """Whether evaluation may ask for this pair, in this order or the other."""
    return held_out(op, a, b) or held_out(op, b, a)


def comparisons(seed: int = 0) -> Iterator[dict]:
    """Prompts: which of two numbers is bigger, or smaller?"""
    return _prompts(COMPARE, seed)


def sums(seed: int = 0) -> Iterator[dict]:
    """Prompts: what is the sum?"""
    return _prompts(ADD, seed)


def _prompts(kinds: list[Kind], seed: int) -> Iterator[dict]:
    asked = {row["prompt"] for module in (arithmetic, drills) for row in module.rows(seed)}
    for op, pairs, wordings, _, answer, count, _ in kinds:
        rng = random.Random(f"{op} to solve {seed}")
        found = [pair for pair in pairs() if not kept(op, *pair)]
        made = 0
        for a, b in shuffled(found, rng):
            prompt = rng.choice(wordings).format(a=a, b=b)
            if made < count and prompt not in asked:
                made += 1
                yield {"id": f"{op}-{made:04}", **_item(op, prompt, answer((a, b)))}


def _items(kinds: list[Kind], seed: int) -> Iterator[dict]:
    """A suite, in the wordings of the arithmetic suite; the order of operands that is held out is the one asked."""
    for op, pairs, _, wordings, answer, _, count in kinds:
        rng = random.Random(f"{op} suite {seed}")
        found = shuffled([pair for pair in pairs() if kept(op, *pair)], rng)
        for number, (a, b) in enumerate(found[:count], 1):
            a, b = (a, b) if held_out(op, a, b) else (b, a)
            question = rng.choice(wordings).format(a=a, b=b)
            yield {"id": f"{op}-{number:03}", **_item(op, question, answer((a, b)))}


def shuffled(pairs: list[Pair], rng: random.Random) -> list[Pair]:
    """In any order, each pair in one of its two."""
    rng.shuffle(pairs)
    return [(a, b) if rng.random() < 0.5 else (b, a) for a, b in pairs]


def _item(cluster: str, prompt: str, answer: int) -> dict:
    return {"cluster": cluster, "messages": [{"role": "user", "content": prompt}], "answer": str(answer)}


@dataclass(frozen=True)
class Suite:
    """What write_suites asks of a maker."""

    kinds: list[Kind]

    def items(self, seed: int = 0) -> Iterator[dict]:
        return _items(self.kinds, seed)


COMPARISONS, SUMS = Suite(COMPARE), Suite(ADD)
