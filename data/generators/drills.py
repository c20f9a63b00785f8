"""More small sums in the words and forms of arithmetic.py: rows of category "arithmetic", the file `sums`.

A few hundred sums are enough to learn how an answer looks, not to get it right; tables are learned by repetition.
These are short rows, so four thousand of them cost as much as a thousand conversations. Leaves out what
arithmetic.py leaves out, every question it already asks, and every operand pair that `_split` keeps for evaluation.
"""

import random
from collections.abc import Callable, Iterator

import arithmetic
from _split import held_out

Pair = tuple[int, int]

# op, operand pairs, phrasings, answer, number of rows
DRILLS: list[tuple[str, Callable[[], list[Pair]], list[str], Callable[[int, int], str], int]] = [
    ("add", arithmetic.add_small, arithmetic.ADD, arithmetic.add_answer, 750),
    ("sub", arithmetic.sub_small, arithmetic.SUB, arithmetic.sub_answer, 700),
    ("mul", arithmetic.mul_small, arithmetic.MUL, arithmetic.mul_answer, 750),
    ("add", arithmetic.add_large, arithmetic.ADD, arithmetic.add_answer, 750),
    ("sub", arithmetic.sub_large, arithmetic.SUB, arithmetic.sub_answer, 700),
    ("div", arithmetic.div_exact, arithmetic.DIV, arithmetic.div_answer, 250),
    ("bigger", arithmetic.pairs_below_100, arithmetic.BIGGER, arithmetic.bigger_answer, 60),
    ("smaller", arithmetic.pairs_below_100, arithmetic.SMALLER, arithmetic.smaller_answer, 60),
    ("double", arithmetic.doubles, arithmetic.DOUBLE, arithmetic.double_answer, 60),
    ("half", arithmetic.halves, arithmetic.HALF, arithmetic.half_answer, 60),
]


def rows(seed: int = 0) -> Iterator[dict]:
    """All rows, no question twice, none that arithmetic.py asks; a table is gone through once before any repeats."""
    rng = random.Random(f"drills {seed}")
    seen = {row["prompt"] for row in arithmetic.rows(seed)}
    for op, pairs, phrasings, answer, count in DRILLS:
        taught = [pair for pair in pairs() if not held_out(op, *pair)]
        rng.shuffle(taught)
        order = [(pair, phrasings[(i + turn) % len(phrasings)]) for turn in range(len(phrasings))
                 for i, pair in enumerate(taught)]  # fmt: skip
        made = 0
        for (a, b), phrasing in order:
            prompt = phrasing.format(a=a, b=b)
            if made < count and prompt not in seen:
                seen.add(prompt)
                made += 1
                yield {"category": "arithmetic", "prompt": prompt, "completion": answer(a, b)}
    for start, step in _sequences(rng, 150):
        shown, completion = arithmetic.sequence(start, step)
        prompt = rng.choice(arithmetic.NEXT).format(s=shown)
        if prompt not in seen:
            seen.add(prompt)
            yield {"category": "arithmetic", "prompt": prompt, "completion": completion}


def _sequences(rng: random.Random, count: int) -> list[Pair]:
    return rng.sample([pair for pair in arithmetic.sequence_pairs() if not held_out("next", *pair)], count)
