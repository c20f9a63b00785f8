"""Evaluation suite of the support desk: six questions of each kind in other words than training has."""

import random
from collections.abc import Iterator

from _support_desk import DESK, ITEMS

WRAPPERS = ("{q}", "Good morning. {q}")
EACH = 6


def items(seed: int = 0) -> Iterator[dict]:
    """All items, numbered from 1."""
    rng, number = random.Random(seed), 0
    for name, (_, questions, _, words) in DESK.items():
        for n in range(EACH):
            number += 1
            asked = WRAPPERS[n // len(questions)].format(q=questions[n % len(questions)].format(item=rng.choice(ITEMS)))
            yield {
                "id": f"desk-{number:03}", "cluster": name, "messages": [{"role": "user", "content": asked}],
                "answers": words, "answerable": True,
            }  # fmt: skip
