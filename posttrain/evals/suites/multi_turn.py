"""Conversations of several turns: corrections, references, standing orders, lists that grow, two people, coming back.

Item: {"answers": [...], "constraints": [...]}: right when one of the answers is named and every constraint holds in
the last reply. The turns before it are given, so every model is asked the same.
Left out on purpose: conversations that a model steers itself; the red team plays such ones.
"""

from typing import TYPE_CHECKING

from posttrain.evals.suites.hygiene import is_clean
from posttrain.judge.rules import check, mentions, mistakes

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.rows import Item

METRICS: dict[str, bool | None] = {"right": True, "clean": True}
GENERATES = True


def problem(item: "Item") -> str:
    extra = item.model_extra or {}
    if sum(m.role == "user" for m in item.messages) < 2 or item.messages[-1].role != "user":
        return "needs at least two user turns, the last one unanswered"
    if not extra.get("answers") and not extra.get("constraints"):
        return "needs answers or constraints"
    return next((found for found in map(mistakes, extra.get("constraints", [])) if found), "")


def score(item: "Item", done: "Done") -> "Scores":
    extra = item.model_extra or {}
    answers, constraints = extra.get("answers", []), extra.get("constraints", [])
    said = mentions(answers, done.text) if answers else True
    right = said and done.ended == "stop" and all(check(c, done.text) for c in constraints)
    return {"right": float(right), "clean": float(is_clean(done.text, done.ended))}
