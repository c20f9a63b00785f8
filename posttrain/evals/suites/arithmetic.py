"""Sums with one number as the answer: right when the reply's last number is it. Item: {"answer": "12"}.

Left out on purpose: marks for the way to the answer.
"""

from typing import TYPE_CHECKING

from posttrain.judge.rules import last_number, solves

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.rows import Item

METRICS: dict[str, bool | None] = {"accuracy": True}
GENERATES = True


def problem(item: "Item") -> str:
    answer = (item.model_extra or {}).get("answer")
    if not isinstance(answer, str) or last_number(answer) is None:
        return f"answer must be a number in quotes, got {answer!r}"
    return ""


def score(item: "Item", done: "Done") -> "Scores":
    return {"accuracy": float(solves(item.answer, done.text))}
