"""Functions that recipes of the tests name as rewards."""

import time


def letters(items):
    return [float(len(item.answer)) for item in items]


async def later(items):
    return [1.0 for _ in items]


def too_few(items):
    return [1.0]


def not_a_number(items):
    return [float("nan")] * len(items)


def breaks(items):
    raise ZeroDivisionError("division by zero")


def abstains(items):
    return [None] * len(items)


def halves(items):
    """Every other answer gets 4, the others no score at all."""
    return [4.0 if n % 2 else None for n in range(len(items))]


def half_are_easy(items):
    """Rows n = 0 to 3 are right whatever is said, the others where the answer begins with some letters."""
    return [1.0 if item.truth["n"] < 4 else float(item.answer[:1] in "abcdefghijklm ") for item in items]


def hangs(items):
    while True:
        time.sleep(0.01)


SAID: list[float] = []  # what `told` gives at its next calls, the last one for ever


def told(items):
    score = SAID.pop(0) if len(SAID) > 1 else SAID[0]
    return [score] * len(items)


def by_step(items):
    """Half a point for the first word, half as much for the whole."""
    return [[(len(item.answer.split(" ")[0]), 0.5), (len(item.answer), 0.25)] for item in items]
