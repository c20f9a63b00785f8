"""Numbers for word problems, shared by the training rows and the evaluation suite.

Each draw returns the numbers of one problem by name, with the answer under "n".  The numbers are small, results are
positive and divisions are exact unless the problem is about what is left over.
"""

import random

Numbers = dict[str, int]


def add(rng: random.Random) -> Numbers:
    """n = a + b."""
    a, b = rng.randint(3, 30), rng.randint(2, 15)
    return {"a": a, "b": b, "n": a + b}


def sub(rng: random.Random) -> Numbers:
    """n = a - b."""
    n, b = rng.randint(2, 20), rng.randint(2, 15)
    return {"a": n + b, "b": b, "n": n}


def mul(rng: random.Random) -> Numbers:
    """n = a x b."""
    a, b = rng.randint(2, 9), rng.randint(2, 10)
    return {"a": a, "b": b, "n": a * b}


def div(rng: random.Random) -> Numbers:
    """n = a / b."""
    n, b = rng.randint(2, 10), rng.randint(2, 8)
    return {"a": n * b, "b": b, "n": n}


def left_over(rng: random.Random) -> Numbers:
    """a = b x q + n."""
    b, q = rng.randint(3, 8), rng.randint(2, 6)
    n = rng.randint(1, b - 1)
    return {"a": b * q + n, "b": b, "q": q, "m": b * q, "n": n}


def add_sub(rng: random.Random) -> Numbers:
    """m = a + b, n = m - c."""
    a, b = rng.randint(4, 20), rng.randint(2, 12)
    c = rng.randint(2, min(12, a + b - 1))
    return {"a": a, "b": b, "m": a + b, "c": c, "n": a + b - c}


def sub_sub(rng: random.Random) -> Numbers:
    """m = a - b, n = m - c."""
    b, c, n = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 15)
    return {"a": b + c + n, "b": b, "m": c + n, "c": c, "n": n}


def mul_add(rng: random.Random) -> Numbers:
    """m = a x b, n = m + c."""
    a, b, c = rng.randint(2, 6), rng.randint(2, 9), rng.randint(2, 9)
    return {"a": a, "b": b, "m": a * b, "c": c, "n": a * b + c}


def mul_sub(rng: random.Random) -> Numbers:
    """m = a x b, n = m - c."""
    a, b = rng.randint(2, 6), rng.randint(3, 9)
    c = rng.randint(2, a * b - 1) if a * b < 14 else rng.randint(2, 12)
    return {"a": a, "b": b, "m": a * b, "c": c, "n": a * b - c}


def change(rng: random.Random) -> Numbers:
    """m = a x b is paid with the note c; n = c - m."""
    a, b = rng.randint(2, 6), rng.randint(2, 7)
    c = next(note for note in (10, 20, 50) if note > a * b)
    return {"a": a, "b": b, "m": a * b, "c": c, "n": c - a * b}


def add_div(rng: random.Random) -> Numbers:
    """m = a + b, n = m / c."""
    c, n = rng.randint(2, 5), rng.randint(2, 8)
    a = rng.randint(1, c * n - 1)
    return {"a": a, "b": c * n - a, "m": c * n, "c": c, "n": n}


def pair_sum(rng: random.Random) -> Numbers:
    """m = a + b, n = a + m: one thing, and another with b more."""
    a, b = rng.randint(3, 15), rng.randint(2, 9)
    return {"a": a, "b": b, "m": a + b, "n": 2 * a + b}


def clock(rng: random.Random) -> Numbers:
    """n = a + b hours on the clock, within one half of the day."""
    a = rng.randint(1, 9)
    b = rng.randint(2, 11 - a)
    return {"a": a, "b": b, "n": a + b}


def minutes(rng: random.Random) -> Numbers:
    """n = a + b minutes, in steps of five."""
    a, b = 5 * rng.randint(2, 9), 5 * rng.randint(1, 8)
    return {"a": a, "b": b, "n": a + b}
