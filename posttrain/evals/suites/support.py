"""A domain's own suite, for recipes/domain.yaml: the rules of a made-up support desk.

Item: {"answers": ["30", "thirty"]}. accuracy: the first two sentences hold one of the answers; friendly: nothing
unkind, no promise and no broken-off end.
"""

from typing import TYPE_CHECKING

from posttrain.evals.suites.facts import problem
from posttrain.judge.principles import Draft, promises, unkind
from posttrain.judge.rules import mentions, sentences_of

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.rows import Item

__all__ = ["GENERATES", "METRICS", "problem", "score"]

METRICS: dict[str, bool | None] = {"accuracy": True, "friendly": True}
GENERATES = True


def score(item: "Item", done: "Done") -> "Scores":
    draft = Draft(prompt=item.messages, answer=done.text)
    friendly = done.ended == "stop" and bool(done.text.strip()) and not unkind(draft) and not promises(draft)
    return {
        "accuracy": float(mentions(item.answers, " ".join(sentences_of(done.text)[:2]))),
        "friendly": float(friendly),
    }
