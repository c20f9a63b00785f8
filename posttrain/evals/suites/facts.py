"""Facts, and knowing what cannot be known. Item: {"answerable": true, "answers": ["Rome"]}.

accuracy: answerable questions whose first two sentences contain an expected answer. abstained: unanswerable questions
met with "I don't know". wrong: anything asserted that is neither, over all questions.
"""

from typing import TYPE_CHECKING

from posttrain.judge.rules import abstains, mentions, sentences_of

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.rows import Item

METRICS: dict[str, bool | None] = {"accuracy": True, "abstained": True, "wrong": False}
GENERATES = True


def problem(item: "Item") -> str:
    extra = item.model_extra or {}
    answers, answerable = extra.get("answers", []), extra.get("answerable", True)
    if not item.messages or item.messages[-1].role == "assistant":
        return "messages must end before the assistant speaks"
    if not isinstance(answers, list) or not all(isinstance(a, str) and a for a in answers):
        return f"answers must be a list of texts, got {answers!r}"
    return "" if bool(answers) == answerable else "an answerable question needs answers, an unanswerable one has none"


def score(item: "Item", done: "Done") -> "Scores":
    extra = item.model_extra or {}
    opening, silent = " ".join(sentences_of(done.text)[:2]), abstains(done.text)
    if not extra.get("answerable", True):
        return {"abstained": float(silent), "wrong": float(not silent)}
    right = mentions(extra["answers"], opening)
    return {"accuracy": float(right), "wrong": float(not right and not silent)}
