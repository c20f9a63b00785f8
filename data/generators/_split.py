"""The line between arithmetic used for training and arithmetic kept for evaluation.

One fifth of all operand pairs of every operation is held out: training never asks for them, evaluation asks for
nothing else.  The order of the operands counts, so 3 + 8 may be held out while 8 + 3 is taught.  What is split is
the question: a held-out one-digit pair can still appear as a step inside a longer training sum.
"""

import re
import zlib
from collections.abc import Iterator

PARTS = 5
_SIGNS = {"+": "add", "-": "sub", "x": "mul", "/": "div"}
_EQUATION = re.compile(r"(\d+) ([-+x/]) (\d+) = ")


def held_out(op: str, a: int, b: int) -> bool:
    """Whether the operand pair belongs to evaluation only."""
    return zlib.crc32(f"{op} {a} {b}".encode()) % PARTS == 0


def equations(text: str) -> Iterator[tuple[str, int, int]]:
    """Every `a + b = ...` written out in the text, as (op, a, b)."""
    for left, sign, right in _EQUATION.findall(text):
        yield _SIGNS[sign], int(left), int(right)


def shows_held_out(text: str) -> bool:
    """Whether the text works out an operand pair that is kept for evaluation."""
    return any(held_out(*equation) for equation in equations(text))
