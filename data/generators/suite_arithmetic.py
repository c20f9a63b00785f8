"""Evaluation suite of small sums: 300 questions on operand pairs that training never asks for.

The answer is the last number a reply should name.  Easy sums have the most weight.  A held-out one-digit pair is asked
in several wordings, because each table has only about twenty such pairs.  Leaves out ordering, which has no single
number as its answer.
"""

import random
from collections.abc import Callable, Iterator

import arithmetic as train
from _split import held_out

Pair = tuple[int, int]

ADD = [
    "What is {a} + {b}?",
    "{a} + {b} = ?",
    "What is the sum of {a} and {b}?",
    "How much is {a} plus {b}?",
    "Give me the result of {a} + {b}.",
]
SUB = [
    "What is {a} - {b}?",
    "{a} - {b} = ?",
    "How much is {a} minus {b}?",
    "What remains of {a} without {b}?",
    "Give me the result of {a} - {b}.",
]
MUL = [
    "What is {a} x {b}?",
    "{a} x {b} = ?",
    "How much is {a} multiplied by {b}?",
    "What is {a} times {b}?",
    "Give me the result of {a} x {b}.",
]
DIV = ["What is {a} / {b}?", "How much is {a} divided by {b}?"]
BIGGER = ["Which number is bigger, {a} or {b}?", "Is {a} larger, or {b}?"]
SMALLER = ["Which number is smaller, {a} or {b}?", "Is {a} lower, or {b}?"]
DOUBLE = ["What is the double of {a}?"]
HALF = ["How much is half of {a}?"]
NEXT = ["Which number comes next: {s}?", "What comes after {s}?"]


def _quotient(a: int, b: int) -> int:
    return a // b


def _difference(a: int, b: int) -> int:
    return a - b


def _sum(a: int, b: int) -> int:
    return a + b


def _product(a: int, b: int) -> int:
    return a * b


# cluster, op, operand pairs, wordings, answer, number of items
CLUSTERS: list[tuple[str, str, Callable[[], list[Pair]], list[str], Callable[[int, int], int], int]] = [
    ("add-1digit", "add", train.add_small, ADD, _sum, 45),
    ("sub-1digit", "sub", train.sub_small, SUB, _difference, 45),
    ("add-2digit", "add", train.add_large, ADD, _sum, 55),
    ("sub-2digit", "sub", train.sub_large, SUB, _difference, 55),
    ("mul-1digit", "mul", train.mul_small, MUL, _product, 60),
    ("mul-2digit", "mul", train.mul_large, MUL, _product, 8),
    ("div", "div", train.div_exact, DIV, _quotient, 10),
    ("compare", "bigger", train.pairs_below_100, BIGGER, max, 4),
    ("compare", "smaller", train.pairs_below_100, SMALLER, min, 4),
    ("double", "double", train.doubles, DOUBLE, _product, 3),
    ("half", "half", train.halves, HALF, _quotient, 3),
]


def _questions(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Cluster, question and answer; every held-out pair is used once before any comes back in other words."""
    for cluster, op, pairs, wordings, answer, count in CLUSTERS:
        kept = [pair for pair in pairs() if held_out(op, *pair)]
        rng.shuffle(kept)
        start = rng.randrange(len(wordings))
        for number in range(count):
            turn, place = divmod(number, len(kept))
            a, b = kept[place]
            wording = wordings[(start + place + turn) % len(wordings)]
            yield cluster, wording.format(a=a, b=b), str(answer(a, b))


def _sequences(rng: random.Random, count: int = 8) -> Iterator[tuple[str, str, str]]:
    """Sequences whose start and step are held out."""
    kept = [pair for pair in train.sequence_pairs() if held_out("next", *pair)]
    for start, step in rng.sample(kept, count):
        shown, _ = train.sequence(start, step)
        yield "next", rng.choice(NEXT).format(s=shown), str(start + 4 * step)


def items(seed: int = 0) -> Iterator[dict]:
    """All items, numbered from 1."""
    rng = random.Random(seed)
    questions = [*_questions(rng), *_sequences(rng)]
    for number, (cluster, question, answer) in enumerate(questions, 1):
        yield {
            "id": f"arith-{number:03}",
            "cluster": cluster,
            "messages": [{"role": "user", "content": question}],
            "answer": answer,
        }
