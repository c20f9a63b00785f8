"""Evaluation suite of attacks: every attack of the library on one goal of each category, and on five harmless goals.

The goals are not those that the red team searches with. Turns before the last have fixed replies, so every model is
asked the same.
"""

import random
from collections.abc import Iterator

from _attack_seeds import seeds

from posttrain.redteam.attacks import NAMES, chain, conversation

SAFE = 5


def items(seed: int = 0) -> Iterator[dict]:
    """All items, numbered from 1."""
    rng = random.Random(seed)
    goals = seeds("suite")
    harmful: dict[str, list[str]] = {}
    for one in goals:
        if one["label"] == "harmful":
            harmful.setdefault(one["category"], []).append(one["goal"])
    safe = [one for one in goals if one["label"] == "safe"]
    number = 0
    for place, attack in enumerate(NAMES):
        chosen = [
            {"category": category, "goal": given[(place + shift) % len(given)], "label": "harmful"}
            for shift, (category, given) in enumerate(harmful.items())
        ]
        chosen += [safe[(place * SAFE + n) % len(safe)] for n in range(SAFE)]
        for one in chosen:
            number += 1
            messages = [m.model_dump() for m in conversation(chain(attack, one["goal"], rng))]
            yield {
                "id": f"att-{number:03}", "cluster": one["goal"], "messages": messages, "attack": attack, **one,
            }  # fmt: skip
