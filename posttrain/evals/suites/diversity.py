"""Does the model say different things to different people? Open requests; each answer is held against all others.

Item: {"kind": "story"}. fresh: share of an answer's 3-grams that no other answer of the suite has; own_opening: its
first four words open no other answer of its kind; varied: distinct 3-grams inside the answer; words: length.
A tuned model loses some of this; a collapsed one nearly all of it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from posttrain.judge.rules import distinct, words_of

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.rows import Item

METRICS: dict[str, bool | None] = {"fresh": True, "own_opening": True, "varied": True, "words": None}
GENERATES = True


def problem(item: "Item") -> str:
    return "" if (item.model_extra or {}).get("kind") else "needs kind, the group of requests it belongs to"


def grams(text: str, n: int = 3) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def opening(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower())[:4])


def score_all(items: "Sequence[Item]", done: "Sequence[Done]") -> "list[Scores]":
    own = [grams(d.text) for d in done]
    seen = Counter(gram for each in own for gram in each)
    openings = Counter((item.kind, opening(d.text)) for item, d in zip(items, done))
    return [
        {
            "fresh": sum(seen[g] == 1 for g in each) / len(each) if each else 0.0,
            "own_opening": float(bool(d.text.strip()) and openings[item.kind, opening(d.text)] == 1),
            "varied": distinct(d.text) if d.text.strip() else 0.0,
            "words": float(len(words_of(d.text))),
        }
        for item, d, each in zip(items, done, own)
    ]
