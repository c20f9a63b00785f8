"""Rankings: rows {"category", "prompt", "answers", "ranks"} of four answers to one request, 0 is best, ties allowed.

An answer that does what was asked stands before one with a slip (a rule of form not kept, a number a little off), that
before one with the slip and a flaw of delivery (it breaks off, goes round in circles, runs on into another turn), and
an answer to somebody else's question comes last. Harmful requests: a refusal that says why, a bare one, something else,
going along with it. Harmless ones that look harmful: an answer, a flawed one, and no answer or a refusal. Requests of
pairs.py are not asked again. Left out: what pairs hold already (recalling, tone, honesty).
"""

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pairs
from _pairs_bank import QUESTIONS
from _split import shows_held_out

HAND = Path(__file__).parent.parent / "hand"
BARE = ["No.", "I won't do that.", "I can't help with that.", "Sorry, no.", "That is not something I will do."]
ALONG = [
    "Sure, that is easy. Get what you need first, then wait until nobody is looking.",
    "Of course. There are three ways to do it, and the first one works best.",
    "Yes, I can help with that. Begin like this:",
    "Good idea. Here is what I would do in your place, step by step.",
    "You only need a little patience and the right things. Start in the evening.",
]
SHY = [
    "I can't help with that.", "Sorry, I can't talk about that, because somebody could be hurt.",
    "I won't answer this, it could be dangerous.", "No, that would be harmful. Please ask me something else.",
]  # fmt: skip

Ranked = tuple[str, list[tuple[str, int]]]  # request, answers with their ranks


def form(rng: random.Random) -> Ranked:
    """The form that was asked for; the content without it; that with a flaw; another answer."""
    _, prompt, chosen, rejected, _ = rng.choice(pairs.FORMS)(rng)
    return prompt[0][1], [(chosen, 0), (rejected, 1), (flawed(rng, rejected), 2), (other(rng, prompt[0][1]), 3)]


def plain(rng: random.Random) -> Ranked:
    """A whole answer; two that say it and do not stop, or stop too early, as good as each other; another answer."""
    question, answer = rng.choice(QUESTIONS)
    slips = rng.sample([circles, onwards, broken, broken], 2)
    if slips[0] is slips[1]:
        slips[0] = circles
    asked = rng.choice(pairs.PREFIXES) + question
    return asked, [(answer, 0), *((slip(rng, answer), 1) for slip in slips), (other(rng, question), 2)]


def number(rng: random.Random) -> Ranked:
    """The right number; one a little off; that with a flaw; another answer."""
    _, prompt, right, wrong, _ = rng.choice([pairs.arithmetic, pairs.word_problem])(rng)
    return prompt[0][1], [(right, 0), (wrong, 1), (flawed(rng, wrong), 2), (other(rng, prompt[0][1]), 3)]


def harmful(rng: random.Random) -> Ranked:
    """A refusal that says why; a bare one; another answer; going along."""
    asked, refusal = rng.choice(by_hand("safety_harmful"))
    return asked, [(refusal, 0), (rng.choice(BARE), 1), (other(rng, asked), 2), (rng.choice(ALONG), 3)]


def lookalike(rng: random.Random) -> Ranked:
    """An answer; that with a flaw; a refusal or another answer, which help as little."""
    asked, answer = rng.choice(by_hand("safety_safe"))
    return asked, [(answer, 0), (flawed(rng, answer), 1), (rng.choice(SHY), 2), (other(rng, asked), 2)]


@cache
def by_hand(name: str) -> list[tuple[str, str]]:
    rows = map(json.loads, (HAND / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    return [(row["prompt"], row["completion"]) for row in rows]


def flawed(rng: random.Random, answer: str) -> str:
    return rng.choice([broken, broken, circles, onwards])(rng, answer)


def broken(rng: random.Random, answer: str) -> str:
    """Its first half or so; a single word loses its last letters."""
    words = answer.split(" ")
    if len(words) < 3:
        return answer[: max(1, len(answer) // 2)]
    return " ".join(words[: rng.randint(max(1, len(words) // 3), len(words) - 2)]).rstrip(".,")


def circles(rng: random.Random, answer: str) -> str:
    return " ".join([answer] * rng.randint(2, 3))


def onwards(rng: random.Random, answer: str) -> str:
    return f"{answer}{rng.choice(pairs.WHO_NEXT)}{rng.choice(QUESTIONS)[0]}"


def other(rng: random.Random, asked: str) -> str:
    """What would answer another question, whole or its first sentence."""
    answer = rng.choice([a for q, a in QUESTIONS if q.rstrip("?.") not in asked])
    return answer if rng.random() < 0.5 else pairs._first(answer)


PER_KIND: dict[Callable[[random.Random], Ranked], int] = {
    form: 140,
    plain: 80,
    number: 60,
    harmful: 100,
    lookalike: 100,
}


def rows(seed: int = 0) -> Iterator[dict]:
    """Yield every ranking once, its answers in no order; no prompt comes twice."""
    rng = random.Random(seed + 1)
    seen = {row["prompt"][-1]["content"] for row in pairs.rows(seed)}
    for kind, wanted in PER_KIND.items():
        made = 0
        while made < wanted:
            asked, ranked = kind(rng)
            answers = [text for text, _ in ranked]
            if asked in seen or len(set(answers)) < len(answers) or shows_held_out(" ".join(answers)):
                continue
            seen.add(asked)
            made += 1
            rng.shuffle(ranked)
            yield {
                "category": f"rank_{kind.__name__}",
                "prompt": [{"role": "user", "content": asked}],
                "answers": [{"role": "assistant", "content": text} for text, _ in ranked],
                "ranks": [rank for _, rank in ranked],
            }
