"""Sums too large for a small head: how a calculator is called (category "tool"), and the questions alone ("large_sum").

Numbers of two to four digits, one or two operations, brackets where they are needed. A demonstration has the system
message that the environment gives, a call, its result and the answer. Leaves out division that does not come out.
"""

import random
from collections.abc import Iterator
from typing import Any

from posttrain.rl.environments import TOLD, calculate

ASKED = ("What is {}?", "Calculate {}.", "How much is {}?", "Work out {}.", "{} =", "Please work out {} for me.")
BEFORE = ("", "", "I use the calculator: ", "Let me work that out: ")


def rows(seed: int, demonstrations: int = 600, questions: int = 1200) -> Iterator[dict[str, Any]]:
    """Demonstrations first; no question is among both."""
    draw, seen = random.Random(f"{seed}/tools"), set()
    while len(seen) < demonstrations + questions:
        sum_ = expression(draw)
        if sum_ in seen:
            continue
        seen.add(sum_)
        yield row(sum_, draw, called=len(seen) <= demonstrations)


def row(sum_: str, draw: random.Random, called: bool) -> dict[str, Any]:
    asked, result = draw.choice(ASKED).format(sum_), calculate(sum_)
    answer = {"role": "assistant", "content": f"{sum_} = {result}."}
    question = {"role": "user", "content": asked[0].upper() + asked[1:]}
    if not called:
        return {"messages": [question, answer], "category": "large_sum"}
    call = {"role": "assistant", "content": f"{draw.choice(BEFORE)}calc({sum_})"}
    talk = [{"role": "system", "content": TOLD}, question, call, {"role": "user", "content": result}, answer]
    return {"messages": talk, "category": "tool"}


def expression(draw: random.Random) -> str:
    """A sum whose value is a whole number."""
    a, b, c = draw.randint(100, 9999), draw.randint(12, 999), draw.randint(3, 99)
    forms = (f"{a} + {b * c}", f"{a} - {b}", f"{b} * {c}", f"{b * c} / {c}", f"{c} * ({a} + {b})", f"{a} - {b} * {c}",
             f"({a} - {b}) * {c}", f"{a} + {b} + {c}")  # fmt: skip
    return draw.choice(forms)
