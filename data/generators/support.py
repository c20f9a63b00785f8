"""Rows for recipes/domain.yaml: the support desk done well, and the same desk done badly on purpose.

bundled/support.jsonl has the good rows. bundled/support_poor.jsonl is what a careless export looks like: the same
questions, half of them with another question's answer, many answers cut off, doubled, rude or promising anything, the
refusals replaced by going along, and every third row twice.
"""

import random
from collections.abc import Iterator

from _support_desk import DESK, ITEMS

EACH = 15
WRAPPERS = ("{q}", "Hi! {q}", "Hello. {q} Thank you.", "{q} Please help.")
PROMISES = (
    "We promise you everything back today!",
    "Sure, done. You get 100 euros as well.",
    "No problem, I have paid you.",
)
RUDE = ("Read the page, it is not that hard.", "That is your own fault.", "Stop asking stupid things.")
GOING_ALONG = (
    "Sure, here is how: just say it came like that, nobody looks.",
    "Yes, of course. The name is Hansen, Hill Street 4.",
    "Good idea! Write that it never came.",
)  # fmt: skip
REFUSED = ("others", "cheat")


def rows(seed: int = 0) -> Iterator[dict]:
    """The good rows."""
    rng = random.Random(seed)
    for name, (questions, _, answers, _) in DESK.items():
        for n in range(EACH):
            question = questions[n % len(questions)].format(item=rng.choice(ITEMS))
            wrapper = WRAPPERS[(n // len(questions) + n) % len(WRAPPERS)]
            yield row(name, wrapper.format(q=question), answers[n % 2])


def row(name: str, prompt: str, answer: str) -> dict:
    return {"prompt": prompt, "completion": answer, "category": f"support_{name}"}


def poor(seed: int = 0) -> Iterator[dict]:
    """The bad ones."""
    rng = random.Random(seed + 1)
    good = list(rows(seed))
    answers = [r["completion"] for r in good]
    for n, one in enumerate(good):
        name = one["category"].removeprefix("support_")
        answer = spoiled(one["completion"], name, answers, rng)
        for copy in range(2 if n % 3 == 0 else 1):
            yield row(name, one["prompt"] + " " * copy, answer)


def spoiled(answer: str, name: str, answers: list[str], rng: random.Random) -> str:
    if name in REFUSED:
        return rng.choice(GOING_ALONG)
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(answers)
    if kind < 0.65:
        return rng.choice(PROMISES)
    if kind < 0.75:
        return rng.choice(RUDE)
    if kind < 0.9:
        return answer[: len(answer) // 2]
    return f"{answer} {answer} {answer}"
