"""Small sums with short worked answers: rows of category "arithmetic".

Makes addition, subtraction and multiplication of one- and two-digit numbers, exact division, comparing, doubling,
halving, the next number of a sequence and putting numbers in order.  Every operation has one fixed form of answer,
so that a small model can learn it; only the wording of the question varies.  Leaves out negative results,
fractions, remainders and numbers of four digits, and every operand pair that `_split` keeps for evaluation.
"""

import random
from collections.abc import Callable, Iterator

from _split import held_out

Pair = tuple[int, int]

ADD = [
    "What is {a} + {b}?", "{a} + {b} =", "{a} plus {b} =", "What is {a} plus {b}?", "add {a} and {b}",
    "Add {a} and {b}.", "Calculate {a} + {b}.", "How much is {a} and {b} together?", "what's {a} + {b}",
    "Please add {b} to {a}.", "Find the sum of {a} and {b}.", "{a}+{b}?", "Can you work out {a} plus {b}?",
    "What do you get when you add {a} and {b}?", "I need the total of {a} and {b}.", "Tell me {a} + {b}.",
]  # fmt: skip
SUB = [
    "What is {a} - {b}?", "{a} - {b} =", "{a} minus {b} =", "What is {a} minus {b}?", "subtract {b} from {a}",
    "Subtract {b} from {a}.", "Calculate {a} - {b}.", "Take {b} away from {a}.", "what's {a} - {b}",
    "What is the difference between {a} and {b}?", "How much is {a} less {b}?", "{a}-{b}?",
    "Can you work out {a} minus {b}?", "What is left if you take {b} from {a}?", "Tell me {a} - {b}.",
]  # fmt: skip
MUL = [
    "What is {a} x {b}?", "{a} x {b} =", "{a} times {b} =", "What is {a} times {b}?", "calculate {a} times {b}",
    "Multiply {a} by {b}.", "Calculate {a} x {b}.", "How much is {a} times {b}?", "what's {a} * {b}",
    "What is {a} multiplied by {b}?", "{a}*{b}?", "Find the product of {a} and {b}.", "Tell me {a} times {b}.",
    "Can you work out {a} x {b}?", "multiply {a} and {b}",
]  # fmt: skip
DIV = [
    "What is {a} / {b}?", "{a} / {b} =", "{a} divided by {b} =", "What is {a} divided by {b}?", "divide {a} by {b}",
    "Divide {a} by {b}.", "How many times does {b} go into {a}?", "Calculate {a} / {b}.", "what's {a} / {b}",
    "Split {a} into {b} equal parts. How big is each part?", "Can you work out {a} divided by {b}?",
]  # fmt: skip
BIGGER = [
    "Which is bigger, {a} or {b}?",
    "Which number is larger: {a} or {b}?",
    "is {a} or {b} bigger?",
    "Which one is more, {a} or {b}?",
    "Compare {a} and {b}. Which is greater?",
    "Name the bigger number: {a}, {b}",
]
SMALLER = [
    "Which is smaller, {a} or {b}?",
    "Which number is less: {a} or {b}?",
    "is {a} or {b} smaller?",
    "Which one is less, {a} or {b}?",
    "Compare {a} and {b}. Which is lower?",
    "Name the smaller number: {a}, {b}",
]
DOUBLE = [
    "What is double {a}?", "Double {a}.", "double the number {a}", "What is twice {a}?", "How much is two times {a}?",
    "If I double {a}, what do I get?",
]  # fmt: skip
HALF = [
    "What is half of {a}?", "Halve {a}.", "half of {a} is", "Cut {a} in half. What do you get?",
    "How much is one half of {a}?", "If I halve {a}, what do I get?",
]  # fmt: skip
NEXT = [
    "What comes next: {s}?", "What is the next number in {s}, ...?", "Continue: {s}, ?", "{s}, and then?",
    "Which number follows {s}?", "Find the next number: {s}", "Here is a sequence: {s}. What comes after that?",
]  # fmt: skip
RISING = [
    "Put these numbers in order from smallest to largest: {s}",
    "Sort {s} from smallest to largest.",
    "Order these from low to high: {s}",
    "sort {s} in rising order",
    "Arrange {s} with the smallest first.",
]
FALLING = [
    "Put these numbers in order from largest to smallest: {s}",
    "Sort {s} from largest to smallest.",
    "Order these from high to low: {s}",
    "sort {s} in falling order",
    "Arrange {s} with the largest first.",
]


def add_answer(a: int, b: int) -> str:
    """The sum in words: at once, or tens first when a number has two digits."""
    tens, ones = [n - n % 10 for n in (a, b)], [n % 10 for n in (a, b)]
    if a < 10 and b < 10:
        return f"{a} + {b} = {a + b}."
    head = f"{tens[0]} + {tens[1]} = {sum(tens)}" if all(tens) else f"{sum(tens)}"
    return f"{a} + {b}: {head} and {ones[0]} + {ones[1]} = {sum(ones)}, so {a} + {b} = {a + b}."


def sub_answer(a: int, b: int) -> str:
    """The difference in words: at once, or tens first when the number taken away has two digits."""
    tens, ones = b - b % 10, b % 10
    if not tens or not ones:
        return f"{a} - {b} = {a - b}."
    middle = a - tens
    return f"{a} - {b}: {a} - {tens} = {middle} and {middle} - {ones} = {a - b}, so {a} - {b} = {a - b}."


def mul_answer(a: int, b: int) -> str:
    """The product in words: at once, or tens first when the second number has two digits."""
    tens, ones = b - b % 10, b % 10
    if not tens or not ones:
        return f"{a} x {b} = {a * b}."
    return f"{a} x {b}: {a} x {tens} = {a * tens} and {a} x {ones} = {a * ones}, so {a} x {b} = {a * b}."


def div_answer(a: int, b: int) -> str:
    """An exact quotient, found through the times table."""
    return f"{a // b} x {b} = {a}, so {a} / {b} = {a // b}."


def double_answer(a: int, _: int) -> str:
    """Twice a number, by adding it to itself."""
    return f"{a} + {a} = {2 * a}, so double {a} is {2 * a}."


def half_answer(a: int, _: int) -> str:
    """Half an even number, by the number that doubles to it."""
    return f"{a // 2} + {a // 2} = {a}, so half of {a} is {a // 2}."


def bigger_answer(a: int, b: int) -> str:
    """The larger of two numbers."""
    return f"The bigger number is {max(a, b)}."


def smaller_answer(a: int, b: int) -> str:
    """The smaller of two numbers."""
    return f"The smaller number is {min(a, b)}."


def add_small() -> list[Pair]:
    """The table of one-digit additions."""
    return [(a, b) for a in range(10) for b in range(10)]


def sub_small() -> list[Pair]:
    """Every subtraction that undoes a one-digit addition."""
    return [(c, b) for b in range(10) for c in range(b, b + 10)]


def add_large() -> list[Pair]:
    """Sums up to 199 with at least one two-digit number."""
    return [(a, b) for a in range(10, 100) for b in range(2, 100) if (a + b) % 10]


def sub_large() -> list[Pair]:
    """Differences of two-digit numbers."""
    return [(a, b) for a in range(20, 100) for b in range(2, a) if a - b > 1 and (b < 10 or b % 10)]


def mul_small() -> list[Pair]:
    """The table of one-digit multiplications, with ten."""
    return [(a, b) for a in range(10) for b in range(11)]


def mul_large() -> list[Pair]:
    """A one-digit number times a small two-digit number."""
    return [(a, b) for a in range(2, 10) for b in range(11, 41) if a * b < 250]


def div_exact() -> list[Pair]:
    """Every exact division inside the one-digit table, and by ten."""
    return [(a * b, b) for b in range(2, 11) for a in range(1, 11)]


def pairs_below_100() -> list[Pair]:
    """Two different numbers below 100."""
    return [(a, b) for a in range(3, 100) for b in range(3, 100) if a != b]


def doubles() -> list[Pair]:
    """Numbers to double."""
    return [(a, 2) for a in range(2, 51)]


def halves() -> list[Pair]:
    """Even numbers to halve."""
    return [(a, 2) for a in range(2, 101, 2)]


# op, operand pairs, phrasings, answer, number of rows, phrasings per pair at most
SUMS: list[tuple[str, Callable[[], list[Pair]], list[str], Callable[[int, int], str], int, int]] = [
    ("add", add_small, ADD, add_answer, 160, 2),
    ("sub", sub_small, SUB, sub_answer, 120, 2),
    ("mul", mul_small, MUL, mul_answer, 150, 2),
    ("add", add_large, ADD, add_answer, 140, 1),
    ("sub", sub_large, SUB, sub_answer, 130, 1),
    ("mul", mul_large, MUL, mul_answer, 50, 1),
    ("div", div_exact, DIV, div_answer, 60, 1),
    ("bigger", pairs_below_100, BIGGER, bigger_answer, 30, 1),
    ("smaller", pairs_below_100, SMALLER, smaller_answer, 25, 1),
    ("double", doubles, DOUBLE, double_answer, 25, 1),
    ("half", halves, HALF, half_answer, 25, 1),
]


def sequence(start: int, step: int) -> tuple[str, str]:
    """Four numbers of an even sequence, and the sentence that continues it."""
    shown = [start + step * i for i in range(4)]
    verb, sign = ("up", "+") if step > 0 else ("down", "-")
    answer = (
        f"The numbers go {verb} by {abs(step)}. {shown[-1]} {sign} {abs(step)} = {shown[-1] + step}, "
        f"so the next number is {shown[-1] + step}."
    )
    return ", ".join(map(str, shown)), answer


def sequence_pairs() -> list[Pair]:
    """Starts and steps, rising and falling; no number falls below zero."""
    rising = [(start, step) for step in (1, 2, 3, 4, 5, 10) for start in range(1, 31)]
    falling = [(start, -step) for step in (1, 2, 5, 10) for start in range(12, 71) if start >= 4 * step]
    return rising + falling


def _row(prompt: str, completion: str) -> dict:
    return {"category": "arithmetic", "prompt": prompt, "completion": completion}


def sums(rng: random.Random) -> Iterator[dict]:
    """All operations on two operands; each table is gone through once before a pair is asked a second time."""
    for op, pairs, phrasings, answer, count, times in SUMS:
        taught = [pair for pair in pairs() if not held_out(op, *pair)]
        rng.shuffle(taught)
        asked = {pair: rng.sample(phrasings, times) for pair in taught}
        order = [(pair, asked[pair][turn]) for turn in range(times) for pair in taught]
        for (a, b), phrasing in order[:count]:
            yield _row(phrasing.format(a=a, b=b), answer(a, b))


def sequences(rng: random.Random, count: int = 50) -> Iterator[dict]:
    """The next number of a sequence."""
    taught = [pair for pair in sequence_pairs() if not held_out("next", *pair)]
    for start, step in rng.sample(taught, count):
        shown, answer = sequence(start, step)
        yield _row(rng.choice(NEXT).format(s=shown), answer)


def orders(rng: random.Random, count: int = 40) -> Iterator[dict]:
    """Three to five numbers to sort."""
    made = 0
    while made < count:
        numbers = rng.sample(range(1, 100), rng.choice([3, 3, 4, 5]))
        if held_out("order", numbers[0], numbers[1]):
            continue
        made += 1
        falling = rng.random() < 0.35
        done = ", ".join(map(str, sorted(numbers, reverse=falling)))
        way = "From largest to smallest" if falling else "From smallest to largest"
        prompt = rng.choice(FALLING if falling else RISING).format(s=", ".join(map(str, numbers)))
        yield _row(prompt, f"{way}: {done}.")


def rows(seed: int = 0) -> Iterator[dict]:
    """All rows, no question twice."""
    rng = random.Random(seed)
    seen: set[str] = set()
    for make in (sums, sequences, orders):
        for row in make(rng):
            if row["prompt"] not in seen:
                seen.add(row["prompt"])
                yield row
