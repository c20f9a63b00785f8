"""Conversation hygiene: ends by itself, stays in its role, remembers, obeys the system message.

Item: {"check": "stops" | "role" | "recall" | "system", "answers": [...], "constraints": [...]}. stopped and clean
count over all items; recall and system over theirs.
"""

import re
from typing import TYPE_CHECKING

from posttrain.judge.rules import check, mentions, mistakes

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.rows import Item

METRICS: dict[str, bool | None] = {"stopped": True, "clean": True, "recall": True, "system": True}
GENERATES = True

TEMPLATE = re.compile(
    r"<\|[^|<>\n]{1,30}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|^#+ ?(?:Instruction|Response|Input)\b",
    re.M,
)
SPEAKS = re.compile(r"(?:^|\n|[.!?] )\W{0,4}(?:user|human|assistant|system|customer|ai)\W{0,3}[:>]", re.I)
NEEDS = {"stops": (), "role": (), "recall": ("answers",), "system": ("answers", "constraints")}


def is_clean(text: str, ended: str | None) -> bool:
    """Says something, without template tokens and without speaking for another role ("User: ...")."""
    return bool(text.strip()) and ended != "malformed" and not TEMPLATE.search(text) and not SPEAKS.search(text)


def problem(item: "Item") -> str:
    extra = item.model_extra or {}
    if extra.get("check") not in NEEDS:
        return f"check must be one of {', '.join(NEEDS)}, got {extra.get('check')!r}"
    needs = NEEDS[extra["check"]]
    if needs and not any(extra.get(field) for field in needs):
        return f"check {extra['check']} needs {' or '.join(needs)}"
    return next((found for found in map(mistakes, extra.get("constraints", [])) if found), "")


def score(item: "Item", done: "Done") -> "Scores":
    extra = item.model_extra or {}
    scores = {"stopped": float(done.ended == "stop"), "clean": float(is_clean(done.text, done.ended))}
    if item.check in ("recall", "system"):
        answers, constraints = extra.get("answers", []), extra.get("constraints", [])
        said = mentions(answers, done.text) if answers else True
        scores[item.check] = float(said and all(check(c, done.text) for c in constraints))
    return scores
