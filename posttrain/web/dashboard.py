"""The quality page's contents: cards, plots, tables, from the store's numbers. Kept for each head of the chain.

A number without an interval, or with too few votes behind it, is shown as a dash rather than guessed. Left out on
purpose: the statistics (agreement.py) and how the page looks (templates/quality.html).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from posttrain.store import Estimate, Member, PersonQuality, Project, Quality, Store
from posttrain.web import plots, words

KEPT = 32  # dashboards in memory
SKIPS = 6  # reasons shown
T = TypeVar("T")
DASH = "–"


@dataclass(frozen=True)
class Card:
    label: str
    value: str
    hint: str = ""


@dataclass(frozen=True)
class Plot:
    title: str
    svg: str
    note: str


@dataclass(frozen=True)
class Line:
    name: str
    value: str
    interval: str
    says: str


@dataclass(frozen=True)
class Dashboard:
    lead: str
    cards: Sequence[Card]
    plots: Sequence[Plot]
    agreement: Sequence[Line]
    people_heads: Sequence[tuple[str, bool]]
    people: Sequence[Sequence[str]]
    record: Sequence[tuple[str, str]]


class Dashboards:
    """Dashboards by (project, head hash, who may see names): one vote makes a new head, so nothing goes stale."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, Dashboard] = OrderedDict()
        self._quality: OrderedDict[Any, Quality] = OrderedDict()
        self._lock = threading.Lock()  # one thread works a dashboard out, the others wait for it

    def quality(self, store: Store, project: Project) -> Quality:
        with self._lock:
            return _kept(self._quality, (project.slug, project.head), lambda: store.quality(project.slug))

    def of(self, store: Store, project: Project, *, names: bool) -> Dashboard:
        quality = self.quality(store, project)
        members = store.members(project.slug)
        key = (project.slug, project.head, names, tuple((m.person.name, m.role) for m in members) if names else ())
        with self._lock:
            return _kept(self._kept, key, lambda: build(store, project, quality, members if names else []))


def _kept(kept: OrderedDict[Any, T], key: Any, make: Callable[[], T]) -> T:
    if key not in kept:
        kept[key] = make()
        if len(kept) > KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


def build(store: Store, project: Project, quality: Quality, members: Sequence[Member]) -> Dashboard:
    progress = store.progress(project.slug)
    names = {m.person.id: m.person.name for m in members if m.person.name}
    share = progress.done / progress.items if progress.items else 0.0
    cards = [
        Card("Items done", f"{progress.done:,} of {progress.items:,}", f"{share:.0%}"),
        Card("Votes", f"{progress.votes:,}", f"{progress.skipped:,} skipped, {progress.open_leases:,} being judged"),
        Card("People", f"{quality.annotators:,}", f"{quality.multiply_labelled:,} items judged by two or more"),
        Card("Raw agreement", number(quality.raw), "two votes on one item"),
        Card("Gold right", number(quality.gold), f"{quality.gold.n:,} answers to gold items"),
    ]
    return Dashboard(
        f"{words.DOES[project.settings.kind]}. Intervals are 95%, drawn over items.", cards, _plots(quality, names),
        _agreement(quality, names), HEADS, [_person(p, names) for p in by_name(quality, names)],
        (("events in the chain end with", project.head or "nothing yet"),
         ("labels per item", _labels(project)), ("what comes first", project.settings.order),
         ("why items were skipped", _skips(store, project))),
    )  # fmt: skip


def _skips(store: Store, project: Project) -> str:
    found = store.skip_reasons(project.slug)
    more = f" and {len(found) - SKIPS} other reasons" if len(found) > SKIPS else ""
    return ", ".join(f"{reason} ({n:,})" for reason, n in found[:SKIPS]) + more or DASH


def _labels(project: Project) -> str:
    s = project.settings
    return f"{s.labels_per_item}" + (f", up to {s.max_labels} where people disagree" if s.max_labels else "")


def number(estimate: Estimate) -> str:
    return DASH if estimate.value is None else f"{estimate.value:.2f}"


def counted(estimate: Estimate) -> str:
    """A person's number with how many answers are behind it: few of them prove little."""
    return DASH if estimate.value is None else f"{estimate.value:.2f} ({estimate.n:,})"


def interval(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return DASH
    return f"{estimate.low:.2f} to {estimate.high:.2f}"


def _agreement(quality: Quality, names: dict[str, str]) -> list[Line]:
    rows = [
        ("Raw agreement", quality.raw, "share of pairs of votes on one item that are equal"),
        ("Fleiss' kappa", quality.fleiss, "beyond chance, many people; " + level(quality.fleiss)),
        ("Krippendorff's alpha", quality.alpha, "beyond chance, gaps allowed; " + level(quality.alpha)),
    ]
    rows += [
        (f"Cohen's kappa, {names.get(a, a)} and {names.get(b, b)}", e, f"{e.n:,} items in common")
        for a, b, e in quality.cohen[:20]
    ]
    rows += [
        ("First place preferred", quality.first_share, "0.50 would be no position bias"),
        ("Longer answer preferred", quality.longer_share, "much above 0.50: length may stand in for quality"),
        ("Ties and both bad", quality.tie_share, "share of votes without a preference"),
    ]
    return [Line(name, number(e), interval(e), says) for name, e, says in rows if e.value is not None]


def level(estimate: Estimate) -> str:
    """In words, the usual reading (Krippendorff 2004): reliable from 0.8, tentative from 0.667."""
    if estimate.value is None:
        return "too few votes"
    if estimate.value >= 0.8:
        return "reliable"
    return "for tentative conclusions" if estimate.value >= 0.667 else "too low to build on: clear up the instructions"


HEADS = (
    ("who", False), ("votes", True), ("skipped", True), ("median time", True), ("gold right", True),
    ("agrees with the others", True), ("reliability", True), ("first place preferred", True),
)  # fmt: skip


def _person(p: PersonQuality, names: dict[str, str]) -> list[str]:
    time = DASH if p.seconds is None else f"{p.seconds:.0f} s"
    return [
        names.get(p.person, p.person), f"{p.votes:,}", f"{p.skips:,}", time,
        counted(p.gold), counted(p.peers), DASH if p.accuracy is None else f"{p.accuracy:.2f}", counted(p.first_share),
    ]  # fmt: skip


def _plots(quality: Quality, names: dict[str, str]) -> list[Plot]:
    measures = (
        ("Raw agreement", quality.raw),
        ("Fleiss' kappa", quality.fleiss),
        ("Krippendorff's alpha", quality.alpha),
    )
    found = [
        _dots("Agreement", measures, "Dashed: 0.8, from where agreement counts as reliable.", mark=0.8),
        _dots("Agreement of each person with the others", _each(quality, names, "peers"),
              "With the majority of the others (leave-one-out). Orange: clearly below.", mark=quality.raw.value),
        _dots("Gold items right", _each(quality, names, "gold"), "Items whose answer is known, mixed in unseen."),
        _dots("First place preferred", _each(quality, names, "first_share"),
              "Order is drawn anew for each person, so 0.5 is no position bias.", mark=0.5),
    ]  # fmt: skip
    votes = [(names.get(p.person, p.person), float(p.votes)) for p in by_name(quality, names)[:20]]
    if votes:
        found.append(Plot("Votes", plots.bars("Votes of each person", votes), "Undone votes are not counted."))
    return [p for p in found if p is not None]


def by_name(quality: Quality, names: dict[str, str]) -> list[PersonQuality]:
    return sorted(quality.people, key=lambda p: names.get(p.person, p.person).casefold())


def _each(quality: Quality, names: dict[str, str], field: str) -> list[tuple[str, Estimate]]:
    return [(names.get(p.person, p.person), getattr(p, field)) for p in by_name(quality, names)[:20]]


def _dots(title: str, rows: Sequence[tuple[str, Estimate]], note: str, *, mark: float | None = None) -> Plot | None:
    """None when no row has a value."""
    there = [(label, e) for label, e in rows if e.value is not None]
    if not there:
        return None
    found = []
    for label, e in there:
        value = e.value or 0.0
        low, high = (value if e.low is None else e.low), (value if e.high is None else e.high)
        off = mark is not None and (high < mark or (mark == 0.5 and low > mark))
        found.append(plots.Dot(label, value, low, high, off))
    floor = min(0.0, *(d.low for d in found))
    return Plot(
        title, plots.dots(title, found, low=-1.0 if floor < -0.25 else -0.25 if floor < 0 else 0.0, mark=mark), note
    )
