"""Votes to rows: filters, conflicts, held-out share, and a ledger in which every vote that reached no row stands.

The order of the filters: gold items, unreliable people, the cap per person, then item by item too few votes, too
little agreement, a conflict. A row's meta names its votes, item, project and snapshot, so it can be traced back.
Left out on purpose: near-duplicates and leaks of evaluation items (stages/data.py has them, for files).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

from posttrain.agreement import dawid_skene
from posttrain.dataset.clean import held_out
from posttrain.dataset.text import plain
from posttrain.errors import UserError
from posttrain.feedback.said import Contest, by_item, comparisons, gold_marks, labels
from posttrain.rows import Demo, Message, Messages, Pair, Ranking, Rating, Row, Thumb
from posttrain.store.rows import TaskItem, Vote

RowsKind = Literal["pairs", "rankings", "ratings", "thumbs", "demos"]
ROWS: dict[RowsKind, type[Row]] = {
    "pairs": Pair, "rankings": Ranking, "ratings": Rating, "thumbs": Thumb, "demos": Demo,
}  # fmt: skip
USUAL: dict[str, RowsKind] = {
    "pair": "pairs", "ranking": "rankings", "rating": "ratings", "thumb": "thumbs", "rewrite": "demos", "demo": "demos",
}  # fmt: skip
SPREAD = 1  # points of the 1 to 7 scale by which ratings of one answer may differ before they contradict each other


class Filters(BaseModel):
    """What is taken. conflicts: what an item becomes whose votes differ.

    majority: the side with more votes, a tie counting half for each; even items are left out.
    soft: every item, with P(chosen is better) = (wins + ties / 2 + 1) / (votes + 2) as its soft label, even ones too;
      for rankings and thumbs, which have no soft label, one row a vote.
    drop: only items on which nobody contradicts anybody.
    reliability: how `min_reliability` is measured: by Dawid and Skene's estimated accuracy, or as the share of gold
    items right; a person with fewer than `min_marks` votes or gold items is not judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conflicts: Literal["majority", "soft", "drop"] = "majority"
    min_votes: int = Field(default=1, ge=1)  # votes that an item needs
    min_agreement: float = Field(default=0.0, ge=0, le=1)  # share of an item's votes that say the same
    reliability: Literal["dawid_skene", "gold"] = "dawid_skene"
    min_reliability: float = Field(default=0.0, ge=0, le=1)
    min_marks: int = Field(default=5, ge=1)
    per_person: int | None = Field(default=None, ge=1)  # votes taken of one person, drawn by hash


class Dropped(Row):
    """What was left out, and why: a vote, or an item with all its votes."""

    where: str
    reason: str
    item: str = ""
    votes: tuple[str, ...] = ()
    text: str = ""


class Made(NamedTuple):
    """Rows of one kind, split by request; ledger: what was left out. Every vote is in a row or in the ledger."""

    train: list[Any]
    holdout: list[Any]
    ledger: list[Dropped]


class Source(NamedTuple):
    """What a row is made from; settled: the votes that count."""

    item: TaskItem
    votes: Sequence[Vote]
    how: Filters
    project: str
    snapshot: str

    def name(self, more: object = "") -> str:
        return "/".join(str(x) for x in (self.project, self.item.id, more) if x not in ("", None))

    def meta(self, votes: Iterable[Vote]) -> dict[str, Any]:
        own = list(votes)
        flags = Counter(f for v in own for f in v.flags)
        meta = {"votes": [v.id for v in own], "item": self.item.id, "project": self.project, "snapshot": self.snapshot}
        return meta | ({"flags": dict(flags)} if flags else {})


class Unsettled(Exception):
    """An item that makes no row, and why; the loop over the items writes it down."""


def rows_kind(kind: str) -> RowsKind:
    """What a project of this kind usually makes. UserError for safety labels, which are a report and no rows."""
    if kind not in USUAL:
        raise UserError(f"votes of kind {kind!r} make no training rows", remedy="they are in the snapshot's report")
    return USUAL[kind]


def to_rows(
    rows: RowsKind,
    items: Sequence[TaskItem],
    votes: Sequence[Vote],
    *,
    filters: Filters | None = None,
    holdout: float = 0.0,
    seed: int = 0,
    project: str = "",
    snapshot: str = "",
) -> Made:
    """Training rows of one kind out of a snapshot's votes (undone ones are not among them).

    holdout: share of the requests held out, by hash, so an item stays on its side as votes come in. UserError when no
    vote is of a kind that makes such rows.
    """
    how = filters or Filters()
    _fitting(rows, votes, project)
    ledger: list[Dropped] = []
    kept = _votes(items, votes, how, seed, ledger)
    made: list[tuple[str, Row]] = []
    for item, own in by_item(items, kept).values():
        source = Source(item, own, how, project, snapshot)
        try:
            made += [(_request(item.prompt), row) for row in MAKERS[rows](source)]
        except Unsettled as why:
            ledger.append(_dropped(item, own, str(why)))
    ledger += _unaccounted(made, kept, ledger)
    out_of = held_out([request for request, _ in made], holdout, seed)
    train = [row for (_, row), held in zip(made, out_of) if not held]
    return Made(train, [row for (_, row), held in zip(made, out_of) if held], ledger)


def _request(prompt: Messages) -> str:
    """Rows that begin with the same request stay on one side of the split, as for rows from files."""
    return plain(next((m.content for m in prompt if m.role == "user"), ""))


def _fitting(rows: RowsKind, votes: Sequence[Vote], project: str) -> None:
    if not votes:
        raise UserError("there are no votes yet", where=project, remedy="label some items first: posttrain label")
    if not any(v.kind in TAKES[rows] or (rows in ("pairs", "demos") and v.text) for v in votes):
        kinds = sorted({v.kind for v in votes})
        fit = sorted({r for r in get_args(RowsKind) for k in kinds if k in TAKES[r]})
        raise UserError(
            f"votes of kind {', '.join(kinds)} make no {rows}", where=project,
            remedy=f"rows: {' or '.join(fit)}" if fit else "the report has what they say",
        )  # fmt: skip


def _dropped(item: TaskItem, votes: Sequence[Vote], reason: str) -> Dropped:
    asked = next((m.content for m in reversed(item.prompt) if m.role == "user"), "")
    return Dropped(
        where=f"item {item.id}", reason=reason, item=item.id, votes=tuple(v.id for v in votes), text=asked[:120]
    )


def _unaccounted(made: list[tuple[str, Row]], kept: Sequence[Vote], ledger: list[Dropped]) -> list[Dropped]:
    """Votes that no row names and no line of the ledger tells of: they said nothing that makes such a row."""
    told = {v for _, row in made for v in getattr(row, "meta", {}).get("votes", ())}
    told |= {v for line in ledger for v in line.votes}
    return [_vote_dropped(v, f"says nothing for such a row: {v.kind}") for v in kept if v.id not in told]


def _vote_dropped(vote: Vote, reason: str) -> Dropped:
    return Dropped(where=f"vote {vote.event}", reason=reason, item=vote.item, votes=(vote.id,))


# ---- which votes count -----------------------------------------------------------------------------------------------


def _votes(
    items: Sequence[TaskItem], votes: Sequence[Vote], how: Filters, seed: int, ledger: list[Dropped]
) -> list[Vote]:
    """The votes that pass the filters on votes and people; the others are written down."""
    known = {item.id: item for item in items}
    unreliable = unreliable_people(items, votes, how)
    capped = _over_cap([v for v in votes if not _is_gold(v, known) and v.person not in unreliable], how, seed)

    def reason(vote: Vote) -> str:
        if vote.item not in known:
            return "item is not in the snapshot"
        if _is_gold(vote, known):
            return "gold item: measures people, trains nothing"
        if vote.person in unreliable:
            return f"unreliable person: {vote.person} at {unreliable[vote.person]:.2f}"
        return f"over the cap of {how.per_person} votes a person" if vote.id in capped else ""

    reasons = {vote.id: reason(vote) for vote in votes}
    ledger += [_vote_dropped(v, reasons[v.id]) for v in votes if reasons[v.id]]
    return [v for v in votes if not reasons[v.id]]


def _is_gold(vote: Vote, items: dict[str, TaskItem]) -> bool:
    return vote.gold or bool(items[vote.item].gold if vote.item in items else None)


def unreliable_people(items: Sequence[TaskItem], votes: Sequence[Vote], how: Filters) -> dict[str, float]:
    """Person -> reliability, of those below the threshold."""
    if how.min_reliability == 0:
        return {}
    if how.reliability == "gold":
        marks = gold_marks({i.id: i for i in items}, votes)
        accuracy = {p: fmean(m) for p, m in marks.items() if len(m) >= how.min_marks}
    else:
        told = labels(items, votes)
        seen = Counter(person for _, person, _ in told)
        accuracy = {p: a for p, a in dawid_skene(told).accuracy.items() if seen[p] >= how.min_marks}
    return {p: a for p, a in accuracy.items() if a < how.min_reliability}


def _over_cap(votes: Sequence[Vote], how: Filters, seed: int) -> set[str]:
    """Ids of votes beyond the cap, each person's votes being taken in the order of a hash."""
    if how.per_person is None:
        return set()
    by_person: dict[str, list[Vote]] = defaultdict(list)
    for vote in sorted(votes, key=lambda v: blake2b(f"{seed}\n{v.id}".encode(), digest_size=8).digest()):
        by_person[vote.person].append(vote)
    return {v.id for own in by_person.values() for v in own[how.per_person :]}


# ---- items to rows ---------------------------------------------------------------------------------------------------


def _settled(said: Sequence[float], how: Filters) -> float:
    """Share of the votes for the first answer (ties half). Unsettled when filters or the conflict rule refuse."""
    if len(said) < how.min_votes:
        raise Unsettled(f"too few votes: {len(said)} of {how.min_votes}")
    share = max(Counter(said).values()) / len(said)
    if share < how.min_agreement:
        raise Unsettled(f"too little agreement: {share:.2f}")
    if how.conflicts == "drop" and {0.0, 1.0} <= set(said):
        raise Unsettled("conflict: votes for both answers")
    mean = fmean(said)
    if mean == 0.5 and how.conflicts != "soft":
        raise Unsettled("tie: as many votes for either answer")
    return mean


def pairs(source: Source) -> list[Row]:
    """Pairs of an item's comparisons, and one for each rewritten answer: the new text against the old."""
    made: list[Row] = [row for vote in source.votes for row in _rewritten_pair(source, vote)]
    found = comparisons(source.item, source.votes)
    problems = []
    for comparison in found:
        try:
            made.append(_pair(source, comparison))
        except Unsettled as why:
            problems.append(str(why))
    if problems and not made:
        raise Unsettled(problems[0])
    return made


def _pair(source: Source, told: Contest) -> Pair:
    mean = _settled([s.first for s in told.said], source.how)
    first = mean >= 0.5
    better, worse = (told.first, told.second) if first else (told.second, told.first)
    texts = [source.item.answers[n].text for n in (better, worse)]
    if texts[0].strip() == texts[1].strip():
        raise Unsettled("twice the same answer")
    if not texts[0].strip():
        raise Unsettled("empty answer")
    margins = [m for s in told.said if (m := s.margin) is not None]
    whole = len(margins) == len(told.said) and any(s.strength for s in told.said)
    wins = (mean if first else 1 - mean) * len(told.said)  # ties are half a win
    two = len(source.item.answers) == 2
    people = {s.vote.person for s in told.said}
    return Pair(
        id=source.name() if two else source.name(f"{better}>{worse}"),
        prompt=source.item.prompt, chosen=_answer(texts[0]), rejected=_answer(texts[1]),
        margin=max(0.0, fmean(margins) * (1 if first else -1)) if whole else None,
        soft=(wins + 1) / (len(told.said) + 2) if source.how.conflicts == "soft" else None,
        source="human", annotator=people.pop() if len(people) == 1 else None,
        reason="; ".join(r for s in told.said if (r := s.vote.reason.strip()))[:1000],
        category=source.item.category, meta=source.meta(s.vote for s in told.said),
    )  # fmt: skip


def _answer(text: str) -> Message:
    return Message(role="assistant", content=text)


def _old(source: Source, vote: Vote) -> str:
    """The answer that a vote rewrote, '' when there was none."""
    answers = source.item.answers
    return answers[1 if vote.which == "second" else 0].text if answers and vote.kind != "demo" else ""


def _rewritten_pair(source: Source, vote: Vote) -> list[Row]:
    old, new = _old(source, vote).strip(), (vote.text or "").strip()
    if not old or not new or old == new:
        return []
    return [
        Pair(
            id=source.name(f"rewrite-{vote.event}"), prompt=source.item.prompt, chosen=_answer(new),
            rejected=_answer(_old(source, vote)), source="human", annotator=vote.person, reason=vote.reason,
            category=source.item.category, meta=source.meta([vote]),
        )
    ]  # fmt: skip


def demos(source: Source) -> list[Row]:
    """What people wrote: one demonstration for each text. A rewrite that changed nothing is left out."""
    written = [v for v in source.votes if (v.text or "").strip() and v.text != _old(source, v)]
    if not written:
        raise Unsettled("nothing was written")
    return [
        Demo(
            id=source.name(v.event), messages=(*source.item.prompt, _answer((v.text or "").strip())),
            category=source.item.category, source="human", meta=source.meta([v]) | {"person": v.person},
        )
        for v in written
    ]  # fmt: skip


def rankings(source: Source) -> list[Row]:
    """The order of the mean ranks; or, with soft labels asked for, one row a vote."""
    votes = [v for v in source.votes if v.ranks is not None]
    told = comparisons(source.item, votes)
    if not told:
        return []
    if len(votes) < source.how.min_votes:
        raise Unsettled(f"too few votes: {len(votes)} of {source.how.min_votes}")
    share = fmean(max(Counter(s.first for s in c.said).values()) / len(c.said) for c in told)
    if share < source.how.min_agreement:
        raise Unsettled(f"too little agreement: {share:.2f}")
    if source.how.conflicts == "drop" and any({0.0, 1.0} <= {s.first for s in c.said} for c in told):
        raise Unsettled("conflict: two answers are ranked both ways")
    if source.how.conflicts == "soft":
        return [_ranking(source, [v], v.ranks or (), v.event) for v in votes]
    mean = [fmean(r) for r in zip(*(v.ranks or () for v in votes))]
    order = sorted(set(mean))
    return [_ranking(source, votes, tuple(order.index(m) for m in mean), "")]


def _ranking(source: Source, votes: Sequence[Vote], ranks: tuple[int, ...], name: object) -> Ranking:
    if len(set(ranks)) < 2:
        raise Unsettled("tie: all answers rank the same")
    return Ranking(
        id=source.name(name), prompt=source.item.prompt, answers=tuple(_answer(a.text) for a in source.item.answers),
        ranks=ranks, source="human", annotator=votes[0].person if len(votes) == 1 else None, meta=source.meta(votes),
    )  # fmt: skip


def ratings(source: Source) -> list[Row]:
    """The mean of an item's ratings."""
    votes = [v for v in source.votes if v.rating is not None]
    if not votes:
        return []
    values = [float(v.rating or 0) for v in votes]
    if len(votes) < source.how.min_votes:
        raise Unsettled(f"too few votes: {len(votes)} of {source.how.min_votes}")
    share = max(Counter(values).values()) / len(values)
    if share < source.how.min_agreement:
        raise Unsettled(f"too little agreement: {share:.2f}")
    if source.how.conflicts == "drop" and max(values) - min(values) > SPREAD:
        raise Unsettled(f"conflict: ratings from {min(values):g} to {max(values):g}")
    return [
        Rating(
            id=source.name(), prompt=source.item.prompt, answer=_answer(source.item.answers[0].text),
            value=fmean(values), source="human", annotator=votes[0].person if len(votes) == 1 else None,
            meta=source.meta(votes),
        )
    ]  # fmt: skip


def thumbs(source: Source) -> list[Row]:
    """The side with more thumbs; or, with soft labels asked for, one row a vote."""
    votes = [v for v in source.votes if v.thumb is not None]
    if not votes:
        return []
    mean = _settled([float(bool(v.thumb)) for v in votes], source.how)
    messages = (*source.item.prompt, _answer(source.item.answers[0].text))
    each = source.how.conflicts == "soft"
    groups = [([v], bool(v.thumb), v.event) for v in votes] if each else [(votes, mean > 0.5, "")]
    return [
        Thumb(id=source.name(name), messages=messages, label=up, source="human", meta=source.meta(own))
        for own, up, name in groups
    ]


MAKERS: dict[RowsKind, Callable[[Source], list[Row]]] = {
    "pairs": pairs, "rankings": rankings, "ratings": ratings, "thumbs": thumbs, "demos": demos,
}  # fmt: skip
TAKES: dict[RowsKind, tuple[str, ...]] = {
    "pairs": ("pair", "ranking", "rewrite"), "rankings": ("ranking",), "ratings": ("rating",), "thumbs": ("thumb",),
    "demos": ("demo", "rewrite"),
}  # fmt: skip
