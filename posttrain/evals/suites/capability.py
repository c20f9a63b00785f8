"""What the base could do and tuning must not take away, by log-likelihood, without a chat template.

Items: {"context", "choices", "correct"}: right when the correct continuation has the highest log-likelihood per byte;
or {"text"}: held-out prose. nll is the token mean in nats over all of it, perplexity its exponential.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.rows import Item

METRICS: dict[str, bool | None] = {"choice_accuracy": True, "nll": False}
GENERATES = False


def problem(item: "Item") -> str:
    extra = item.model_extra or {}
    if "text" in extra:
        return "" if isinstance(extra["text"], str) and extra["text"].strip() else "text must not be empty"
    choices, correct = extra.get("choices"), extra.get("correct")
    if not isinstance(extra.get("context"), str) or not isinstance(choices, list) or len(choices) < 2:
        return "needs text, or context with at least two choices"
    if len(set(choices)) < len(choices) or not all(isinstance(c, str) and c for c in choices):
        return "choices must be different texts"
    return (
        "" if isinstance(correct, int) and 0 <= correct < len(choices) else f"correct must be an index, got {correct!r}"
    )


def question(item: "Item") -> tuple[str, tuple[str, ...]]:
    """(context, continuations) whose log-likelihood is wanted; a blank joins them."""
    extra = item.model_extra or {}
    if "text" in extra:
        return "", (extra["text"],)
    return extra["context"], tuple(" " + choice.strip() for choice in extra["choices"])


def score(item: "Item", done: "Done") -> "Scores":
    from posttrain.evals.task import Share

    if "text" in (item.model_extra or {}):
        return {"nll": Share(-done.logps[0], done.counts[0])}
    _, continuations = question(item)
    rates = [logp / len(text.encode()) for logp, text in zip(done.logps, continuations)]
    return {"choice_accuracy": float(max(range(len(rates)), key=rates.__getitem__) == item.correct)}
