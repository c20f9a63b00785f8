"""Votes for tests, by hand or through a real store: items of two answers, people, what each said of what."""

from posttrain.rows import Message
from posttrain.store.rows import Candidate, TaskItem, Vote


def item(name="q1", answers=("good answer", "bad"), asks="Which is it?", **more):
    prompt = (Message(role="user", content=asks),)
    return TaskItem(id=name, prompt=prompt, answers=tuple(Candidate(text=a) for a in answers), **more)


def votes(*said, kind="pair"):
    """said: (item, person, field, value, other fields); events are numbered from 1, hashes are their numbers."""
    found = []
    for n, (name, person, field, value, *more) in enumerate(said, 1):
        facts = {"event": n, "id": f"{n:064x}", "project": "p", "at": float(n), "kind": kind, "item": name}
        found.append(Vote.model_validate(facts | {"person": person, field: value} | (more[0] if more else {})))
    return found


def choices(name, *said, start=0):
    """Votes on one pair, one person each: 'first', or ('first', strength)."""
    pairs = [x if isinstance(x, tuple) else (x, None) for x in said]
    found = votes(*((name, f"u{n}", "choice", c, {"strength": s}) for n, (c, s) in enumerate(pairs, 1)))
    moved = ({"event": v.event + start, "id": f"{v.event + start:064x}"} for v in found)
    return [v.model_copy(update=change) for v, change in zip(found, moved)]
