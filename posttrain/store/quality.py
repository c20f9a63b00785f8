"""How far can the votes be trusted? Agreement, gold, reliability, bias: of a project and of each annotator.

The formulas are agreement.py's; here votes become their arrays. Gold items measure people and are left out of
agreement and biases. A ranking counts as its pairs of answers.
Left out on purpose: leaving votes out (feedback/ does), plots, and any mean over different kinds of project.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from math import isfinite
from statistics import median
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, select

from posttrain import agreement, stats
from posttrain.store import events, labels, work
from posttrain.store.assign import open_leases
from posttrain.store.errors import Missing
from posttrain.store.leaks import leaks
from posttrain.store.projects import get
from posttrain.store.rows import Disagreement, Estimate, Kind, PersonQuality, Progress, Quality, TaskItem, Vote
from posttrain.store.schema import events as chain
from posttrain.store.schema import heads, items, members, tasks

DRAWS = 500  # bootstrap draws: a page waits for them
COMMON = 5  # items that two people must share before their kappa is shown
COUPLES = 20

HEAD = select(heads).where(heads.c.project == bindparam("of"), heads.c.project != "")

Labels = list[tuple[str, str, str]]  # (item, person, label)


def progress(conn: Connection, slug: str, now: float) -> Progress:
    head = _head(conn, slug)
    return Progress(
        items=head.plain_items, done=head.done, votes=head.votes, skipped=head.skips, gold_items=head.gold_items,
        open_leases=open_leases(conn, slug, now),
    )  # fmt: skip


def finished(conn: Connection, slug: str) -> tuple[int, int]:
    head = _head(conn, slug)
    return head.plain_items, head.done


def _head(conn: Connection, slug: str) -> Row[Any]:
    head = conn.execute(HEAD, {"of": slug}).one_or_none()
    if head is None:
        raise Missing(f"there is no project {slug!r}")
    return head


def disagreements(conn: Connection, slug: str, limit: int) -> list[Disagreement]:
    """Items with differing votes, the least agreed upon first."""
    kind = get(conn, slug).settings.kind
    voted = and_(tasks.c.project == slug, tasks.c.state == "voted")
    split = (
        select(tasks.c.item)
        .where(voted)
        .group_by(tasks.c.item)
        .having(func.min(tasks.c.label) != func.max(tasks.c.label))
    )
    said: dict[int, list[str]] = defaultdict(list)
    for number, label in conn.execute(select(tasks.c.item, tasks.c.label).where(voted, tasks.c.item.in_(split))):
        said[number].append(label)
    share = {n: labels.concord(kind, x) / len(x) for n, x in said.items()}
    worst = sorted((n for n in said if share[n] < 1), key=lambda n: (share[n], -len(said[n]), n))[:limit]
    return [_disagreement(conn, n, share[n]) for n in worst]


def _disagreement(conn: Connection, number: int, share: float) -> Disagreement:
    item = TaskItem.model_validate_json(conn.scalar(select(items.c.body).where(items.c.number == number)) or "")
    rows = conn.execute(
        select(chain)
        .join(tasks, and_(tasks.c.project == chain.c.project, tasks.c.event == chain.c.number))
        .where(tasks.c.item == number, tasks.c.state == "voted")
        .order_by(chain.c.number)
    )
    votes = tuple(work.vote_of(events.of_row(row)) for row in rows)
    return Disagreement(item=item, votes=votes, agreement=share, leak=leaks(item))


def quality(conn: Connection, slug: str) -> Quality:
    project = get(conn, slug)
    kind, votes = project.settings.kind, work.votes(conn, slug)
    read = dict(conn.execute(select(items.c.id, items.c.body).where(items.c.project == slug, items.c.votes > 0)).all())
    item = {name: TaskItem.model_validate_json(body) for name, body in read.items()}
    skips = dict(conn.execute(select(members.c.person, members.c.skips).where(members.c.project == slug)).all())
    own = [v for v in votes if not v.gold]
    units = said(kind, own)
    many: dict[str, int] = defaultdict(int)
    for v in votes:
        many[v.item] += not v.gold
    decided = [v for v in own if v.choice in ("first", "second")]
    return Quality(
        project=slug, head=project.head, votes=len(votes), annotators=len({v.person for v in votes}),
        multiply_labelled=sum(n > 1 for n in many.values()), **_agreement(kind, units),
        cohen=_couples(kind, votes), gold=_golden(kind, votes, item), first_share=_first(decided),
        longer_share=_longer(decided, item), tie_share=_ties(own) if kind == "pair" else Estimate(value=None),
        people=_people(kind, votes, units, item, skips),
    )  # fmt: skip


def said(kind: Kind, votes: Sequence[Vote]) -> Labels:
    """What agreement compares; texts are not comparable and give nothing."""
    if kind in ("rewrite", "demo"):
        return []
    if kind != "ranking":
        return [(v.item, v.person, labels.label(kind, v)) for v in votes]
    found = []
    for v in votes:
        ranks = v.ranks or ()
        for i, j in combinations(range(len(ranks)), 2):
            verdict = "tie" if ranks[i] == ranks[j] else "first" if ranks[i] < ranks[j] else "second"
            found.append((f"{v.item}\n{i}-{j}", v.person, verdict))
    return found


def _estimate(value: float, low: float, high: float, n: int) -> Estimate:
    def known(x: float) -> float | None:
        return float(x) if n and isfinite(x) else None

    return Estimate(value=known(value), low=known(low), high=known(high), n=n)


def _with_interval(fn: Callable[..., float], *of_N: Any) -> Estimate:
    found = stats.with_interval(fn, *of_N, draws=DRAWS)
    return _estimate(found.value, found.low, found.high, found.n)


def _agreement(kind: Kind, units: Labels) -> dict[str, Estimate]:
    """raw, fleiss, alpha over the units with at least two votes; alpha takes ratings as numbers."""
    found = agreement.with_intervals(units, "interval" if kind == "rating" else "nominal", DRAWS)
    return {name: _estimate(*x) for name, x in found.items() if x.n}


def _couples(kind: Kind, votes: Sequence[Vote]) -> tuple[tuple[str, str, Estimate], ...]:
    """Cohen's kappa of every two people with COMMON items; preferences and ratings weighted by squared distance."""
    if kind not in ("pair", "rating", "thumb", "safety"):
        return ()
    by_person: dict[str, dict[str, Any]] = defaultdict(dict)
    for v in votes:
        if not v.gold:
            by_person[v.person][v.item] = _scale(kind, v)
    found = []
    for a, b in combinations(sorted(by_person), 2):
        common = sorted(by_person[a].keys() & by_person[b].keys())
        if len(common) >= COMMON:
            found.append((len(common), a, b, common))
    top = sorted(found, key=lambda x: (-x[0], x[1], x[2]))[:COUPLES]
    weights: Any = "quadratic" if kind in ("pair", "rating") else None

    def kappa(a_N: Any, b_N: Any) -> float:
        return agreement.cohen_kappa(a_N, b_N, weights)

    return tuple(
        (a, b, _with_interval(kappa, [by_person[a][i] for i in common], [by_person[b][i] for i in common]))
        for _, a, b, common in top
    )


def _scale(kind: Kind, v: Vote) -> Any:
    """A preference as a number from -4 (second, significantly) to 4; other kinds as their label."""
    if kind == "pair":
        side = {"first": 1, "second": -1}.get(v.choice or "", 0)
        return side * (v.strength or 1)
    return v.rating if kind == "rating" else labels.label(kind, v)


def _golden(kind: Kind, votes: Sequence[Vote], item: dict[str, TaskItem]) -> Estimate:
    of_gold = [(v, item[v.item].gold) for v in votes if v.gold]
    right = sum(labels.right(kind, gold, v) for v, gold in of_gold if gold)
    if not of_gold:
        return Estimate(value=None)
    share = agreement.beta_interval(right, len(of_gold))
    return _estimate(share.share, share.low, share.high, share.n)


def _first(decided: Sequence[Vote]) -> Estimate:
    """How often the answer shown first was preferred."""
    ahead = sum(["first", "second"][v.presented[0]] == v.choice for v in decided if v.presented)
    bias = agreement.position_bias(ahead, len(decided))
    return _estimate(bias.share, bias.low, bias.high, bias.n)


def _longer(decided: Sequence[Vote], item: dict[str, TaskItem]) -> Estimate:
    """How often the longer answer, in characters, was preferred."""
    won = [int(v.choice == "second") for v in decided]
    length = [[len(c.text) for c in item[v.item].answers] for v in decided]
    bias = agreement.length_bias([x[w] for x, w in zip(length, won)], [x[1 - w] for x, w in zip(length, won)])
    return _estimate(bias.share, bias.low, bias.high, bias.n)


def _ties(votes: Sequence[Vote]) -> Estimate:
    from posttrain.stats import wilson

    ties, n = sum(v.choice in ("tie", "both_bad") for v in votes), len(votes)
    return _estimate(ties / n, *wilson(ties, n), n) if n else Estimate(value=None)


def _people(
    kind: Kind, votes: Sequence[Vote], units: Labels, item: dict[str, TaskItem], skips: dict[str, int]
) -> tuple[PersonQuality, ...]:
    by_person: dict[str, list[Vote]] = defaultdict(list)
    for v in votes:
        by_person[v.person].append(v)
    peers = agreement.leave_one_out(units)
    accuracy = agreement.dawid_skene(units).accuracy if len({p for _, p, _ in units}) > 1 else {}
    found = []
    for person in sorted(by_person.keys() | {p for p, n in skips.items() if n}):
        mine = by_person.get(person, [])
        seconds = [v.seconds for v in mine if v.seconds]
        other = peers.get(person)
        decided = [v for v in mine if v.choice in ("first", "second")]
        found.append(
            PersonQuality(
                person=person, votes=len(mine), skips=skips.get(person, 0),
                seconds=median(seconds) if seconds else None, gold=_golden(kind, mine, item),
                peers=_estimate(other.share, other.low, other.high, other.n) if other else Estimate(value=None),
                accuracy=accuracy.get(person), first_share=_first(decided),
            )
        )  # fmt: skip
    return tuple(found)
