"""What the tests of the feedback store share: a clock to set, people, items, and the recount of all counters."""

import itertools
import json
import signal
import subprocess
import sys
from collections import Counter

from sqlalchemy import select

from posttrain.rows import Message
from posttrain.store import SYSTEM, Answer, Candidate, Person, ProjectSettings, Store, TaskItem, cast, labels, schema

names = itertools.count()


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, at: float = 1_800_000_000.0):
        self.at = at

    def __call__(self) -> float:
        return self.at


def item(n, *, answers=2, models=("model-x", "model-y"), gold=None, **more) -> TaskItem:
    models = itertools.cycle(models)
    shown = tuple(Candidate(text=f"answer {k} to {n}", model=next(models)) for k in range(answers))
    return TaskItem(
        id=str(n), prompt=(Message(role="user", content=f"question {n}"),), answers=shown, gold=gold, **more
    )


def project(store: Store, items=10, slug="p", by=SYSTEM, **settings) -> str:
    """A project of pairs without gold, unless told otherwise; `items`: a number or a list."""
    settings = {"kind": "pair", "title": "Which is better?", "gold_share": 0.0} | settings
    store.create_project(by, slug, ProjectSettings(**settings))
    store.add_items(by, slug, [item(n) for n in range(items)] if isinstance(items, int) else items)
    return slug


def person(store: Store, role="annotator", slug="p", name=None, invited_as="") -> Person:
    link = store.invite(SYSTEM, project=None if role == "admin" else slug, role=role, name=invited_as)
    return store.accept(link, name or f"Person {next(names)}", "correct horse")


def vote(store: Store, who: Person, choice="a", slug="p"):
    """Answers the person's next task; None when there is none. Returns the event."""
    task = store.next_task(who, slug)
    return task and store.submit(who, task.id, Answer(choice=choice))


def rows(store: Store, table):
    return store.db.read(lambda conn: conn.execute(select(table)).all())


def recount(store: Store, slug: str = "p") -> None:
    """Every counter, recounted from the events and the tasks alone, is what the tables say."""
    valid = store.votes(slug)
    settings = store.project(slug).settings
    items = [r for r in rows(store, schema.items) if r.project == slug]
    tasks = [r for r in rows(store, schema.tasks) if r.project == slug]
    head = next(r for r in rows(store, schema.heads) if r.project == slug)
    by_item = Counter(v.item for v in valid)
    leased = Counter(t.item for t in tasks if t.state == "leased")
    said = {i.id: [labels.label(settings.kind, v) for v in valid if v.item == i.id] for i in items}
    for i in items:
        need = labels.wanted(settings.kind, said[i.id], settings.labels_per_item, settings.max_labels)
        assert (i.votes, i.leases) == (by_item[i.id], leased[i.number])
        assert i.gold or (i.wanted, i.open) == (need, by_item[i.id] + leased[i.number] < need)
    skips = _skips(store, slug)
    regular = [i for i in items if not i.gold]
    assert (head.votes, head.skips) == (len(valid), sum(skips.values()))
    assert (head.plain_items, head.gold_items) == (len(regular), len(items) - len(regular))
    assert head.done == sum(i.votes >= i.wanted for i in regular)
    voted = Counter(v.person for v in valid)
    for m in rows(store, schema.members):
        assert m.project != slug or (m.votes, m.skips) == (voted[m.person], skips[m.person])
    _duels(store, slug, valid)


def _skips(store, slug) -> Counter:
    events = store.events(slug, limit=100_000)
    undone = {e.body["event"] for e in events if e.kind == "undo"}
    return Counter(e.person for e in events if e.kind == "skip" and e.number not in undone)


def _duels(store, slug, valid) -> None:
    body = {i.id: i for i in store.items(slug)}
    wins: Counter = Counter()
    for v in valid:
        if not v.gold and v.kind in ("pair", "ranking"):
            for (a, b), (a_wins, b_wins) in cast.wins(body[v.item], v.model_dump(mode="json")).items():
                wins[a, b] += a_wins
                wins[b, a] += b_wins
    for d in rows(store, schema.duels):
        assert d.project != slug or (d.a_wins, d.b_wins) == (wins[d.a, d.b], wins[d.b, d.a])


def seen(task) -> str:
    """Everything that leaves the store for an annotator."""
    return json.dumps(task.model_dump(mode="json"))


VOTER = """
import sys
from posttrain.store import Answer, Store
store = Store.open(sys.argv[1])
who = next(p for p in store.people() if p.id == sys.argv[2])
while task := store.next_task(who, "p"):
    store.peek_task(who, "p")
    print(store.submit(who, task.id, Answer(choice="a")).hash, flush=True)
"""


def killed_while_voting(url: str, who: Person, after: int) -> list[str]:
    """Hashes of the votes that a process had acknowledged when SIGKILL hit it in the midst of the next ones."""
    command = [sys.executable, "-c", VOTER, url, who.id]
    acknowledged = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            acknowledged.append(line.strip())
            if len(acknowledged) == after:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    return acknowledged


def survives_a_kill(store: Store, url: str) -> None:
    """Whatever a killed process was told is there, nothing is half there, and others go on."""
    project(store, 2000, labels_per_item=2)
    for who, after in ((person(store), 7), (person(store), 40)):
        acknowledged = killed_while_voting(url, who, after)
        mine = [v.id for v in store.votes("p") if v.person == who.id]
        assert set(acknowledged) <= set(mine) and len(mine) >= after
        assert store.verify().ok
        assert vote(store, who) is not None
    recount(store)
