"""One vote, whatever its kind: is it complete, what does it say in item order, does it agree with others, is it right?

Pure functions over plain values; the kinds are those of rows.Kind.
Left out on purpose: statistics over many items (agreement.py).
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from posttrain.errors import UserError
from posttrain.rows import canonical
from posttrain.store.rows import ANSWERS, Answer, Kind, TaskItem, Vote

FIELD = {"pair": "choice", "ranking": "ranks", "rating": "rating", "thumb": "thumb", "rewrite": "text", "demo": "text",
         "safety": "safety"}  # fmt: skip
PLACES = ("first", "second")
BESIDE = {"flags", "safety", "reason", "seconds"}  # may come with every kind that shows answers
MAY = {"pair": {"choice", "strength", "text", "which"}, "rewrite": {"text", "which"}}


def check(kind: Kind, item: TaskItem, answer: Answer, presented: Sequence[int]) -> None:
    """UserError naming the field when the answer does not fit the task."""
    shown = len(item.answers)
    said = answer.model_dump(exclude_defaults=True)
    if said.get(FIELD[kind]) is None:
        raise _bad(FIELD[kind], f"a {kind} task needs {FIELD[kind]}")
    allowed = MAY.get(kind, {FIELD[kind]}) | (BESIDE if shown else {"reason", "seconds"})
    for field in said:
        if field not in allowed:
            raise _bad(field, f"a {kind} task has no {field}")
    if answer.strength is not None and answer.choice not in ("a", "b"):
        raise _bad("strength", "only a preferred answer has a strength")
    _check_ranks(answer, shown)
    _check_safety(answer, shown)
    _check_text(kind, item, answer, presented)


def _bad(field: str, what: str) -> UserError:
    return UserError(what, where=f"answer.{field}")


def _check_ranks(answer: Answer, shown: int) -> None:
    if answer.ranks is not None and (len(answer.ranks) != shown or min(answer.ranks) < 0):
        raise _bad("ranks", f"expected {shown} ranks from 0 up, one per answer, got {list(answer.ranks)}")


def _check_safety(answer: Answer, shown: int) -> None:
    if answer.safety is not None and len(_bins(answer.safety)) != shown:
        raise _bad("safety", f"expected {shown} bins, one per answer")


def _check_text(kind: Kind, item: TaskItem, answer: Answer, presented: Sequence[int]) -> None:
    if answer.text is None:
        if answer.which is not None:
            raise _bad("which", "says which answer was rewritten, but there is no text")
        return
    if not answer.text.strip():
        raise _bad("text", "the text is empty")
    if kind == "demo":
        return
    place = _place(answer, len(item.answers))
    if answer.text.strip() == item.answers[presented[place]].text.strip():
        raise _bad("text", "the text is the same as before; change it, or skip the task")


def _place(answer: Answer, shown: int) -> int:
    """Which place, in presented order, was rewritten."""
    if shown > 1 and answer.which is None:
        raise _bad("which", "say which answer the text rewrites: a or b")
    if answer.which == "b" and shown < 2:
        raise _bad("which", "there is one answer: a")
    return 1 if answer.which == "b" else 0


def _bins(safety: Any) -> tuple[str, ...]:
    return (safety,) if isinstance(safety, str) else tuple(safety)


def to_item_order(answer: Answer, presented: Sequence[int]) -> dict[str, Any]:
    """The fields of a Vote that an answer fills, defaults left out; presented[i]: item index shown at place i."""
    body: dict[str, Any] = answer.model_dump(mode="json", exclude_defaults=True)
    if answer.choice in ("a", "b"):
        body["choice"] = PLACES[presented["ab".index(answer.choice)]]
    if answer.ranks is not None:
        levels = sorted(set(answer.ranks))
        body["ranks"] = _back([levels.index(r) for r in answer.ranks], presented)
    if answer.safety is not None:
        body["safety"] = _back(_bins(answer.safety), presented)
    if answer.text is not None and presented:
        body["which"] = PLACES[presented[_place(answer, len(presented))]]
    return body


def _back(shown: Sequence[Any], presented: Sequence[int]) -> list[Any]:
    """Values in presented order -> item order."""
    back: list[Any] = [None] * len(presented)
    for place, value in zip(presented, shown, strict=True):
        back[place] = value
    return back


def label(kind: Kind, vote: Vote | dict[str, Any]) -> str:
    """What is compared between people, as text: the main field alone, without strength, flags or reason."""
    said = vote[FIELD[kind]] if isinstance(vote, dict) else getattr(vote, FIELD[kind])
    return canonical(list(said) if isinstance(said, tuple) else said)


def concord(kind: Kind, labels: Sequence[str]) -> int:
    """Size of the largest group of votes that agree: equal; ratings: within one point; texts never differ."""
    if kind in ("rewrite", "demo") or not labels:
        return len(labels)
    if kind == "rating":
        count = Counter(int(x) for x in labels)
        return max(n + count[value + 1] for value, n in count.items())
    return max(Counter(labels).values())


def wanted(kind: Kind, labels: Sequence[str], per_item: int, most: int | None) -> int:
    """How many votes an item needs in all, given those it has: until `per_item` agree, or `most` voted."""
    if most is None:
        return per_item
    return min(most, len(labels) + per_item - min(per_item, concord(kind, labels)))


def right(kind: Kind, gold: dict[str, Any], vote: Vote | dict[str, Any]) -> bool:
    """Does a vote on a gold item say what gold says? Ratings may be one point off; ties in gold ranks are free."""
    said = json.loads(label(kind, vote))
    true = gold[FIELD[kind]]
    if kind == "rating":
        return bool(abs(said - true) <= 1)
    if kind == "ranking":
        above = [(i, j) for i in range(len(true)) for j in range(len(true)) if true[i] < true[j]]
        return all(said[i] < said[j] for i, j in above)
    return bool(said == true)


def check_item(kind: Kind, item: TaskItem) -> None:
    """UserError naming the field when an item cannot be labelled as this kind."""
    low, high = ANSWERS[kind]
    n, where = len(item.answers), f"item {item.id!r}, answers"
    if not low <= n <= high:
        span = str(low) if low == high else f"{low} to {high}"
        raise UserError(f"expected {span} answer{'s' * (span != '1')} for kind {kind}, got {n}", where=where)
    texts = [c.text.strip() for c in item.answers]
    if "" in texts:
        raise UserError(f"answer {texts.index('') + 1} is empty", where=where)
    if kind in ("pair", "ranking") and len(set(texts)) < n:
        twice = next(i for i, t in enumerate(texts) if t in texts[:i])
        same = f"answers {texts.index(texts[twice]) + 1} and {twice + 1} are equal: there is nothing to compare"
        raise UserError(same, where=where)
    if item.gold is not None:
        _check_gold(kind, item)


def _check_gold(kind: Kind, item: TaskItem) -> None:
    gold, n, where = item.gold or {}, len(item.answers), f"item {item.id!r}, gold"
    field = FIELD[kind]
    expected = {
        "choice": '"first", "second", "tie" or "both_bad"', "ranks": f"{n} ranks from 0 up, the best first 0",
        "rating": "a number from 1 to 7", "thumb": "true or false", "safety": f"{n} of safe, borderline, unsafe",
    }.get(field)  # fmt: skip
    if expected is None:
        raise UserError(f"a {kind} has no right answer", where=where, remedy="leave gold out")
    value = gold.get(field)
    fits = {
        "choice": value in ("first", "second", "tie", "both_bad"),
        "ranks": _whole_numbers(value, n) and min(value or ()) == 0,
        "rating": isinstance(value, int) and 1 <= value <= 7,
        "thumb": isinstance(value, bool),
        "safety": isinstance(value, list) and len(value) == n and set(value) <= {"safe", "borderline", "unsafe"},
    }[field]
    if set(gold) != {field} or not fits:
        raise UserError(f'expected {{"{field}": ...}} with {expected}, got {gold}', where=where)


def _whole_numbers(value: Any, n: int) -> bool:
    return isinstance(value, list) and len(value) == n and all(type(x) is int and x >= 0 for x in value)
