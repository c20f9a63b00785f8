"""What the page shows, in the order in which it shows it: plain dataclasses that the template only has to print.

Left out on purpose: how they are filled (view.py) and how they look (template.html, style.css).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posttrain.report import collect
from posttrain.report.breakdowns import RedTeam, Table
from posttrain.report.collect import Estimate
from posttrain.report.compare import Change
from posttrain.report.rewards import RewardView
from posttrain.report.samples import Sample


@dataclass(frozen=True)
class Verdict:
    tone: str
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Card:
    label: str
    value: str
    hint: str = ""


@dataclass(frozen=True)
class Head:
    """A column of the tables."""

    label: str
    series: int


@dataclass(frozen=True)
class Shown:
    """A change with how to print it."""

    label: str
    by: float
    share: bool
    tone: str


@dataclass(frozen=True)
class Step:
    """A training stage: what it added to the policy before it and what it cost."""

    name: str
    before: str
    series: int
    seconds: float
    also: str
    tokens: float
    speed: float
    flops: float
    money: str
    peak_gib: float
    changes: Mapping[str, Change]
    better: Sequence[Shown]
    worse: Sequence[Shown]
    same: Sequence[str]


@dataclass(frozen=True)
class Row:
    metric: str
    label: str
    n: int
    estimates: Sequence[Estimate | None]
    change: Change | None
    share: bool
    higher_is_better: bool | None

    @property
    def moved(self) -> float | None:
        """Last value minus first, for metrics that have no items to test."""
        first, last = self.estimates[0], self.estimates[-1]
        return last.value - first.value if first and last else None


@dataclass(frozen=True)
class Suite:
    title: str
    rows: Sequence[Row]
    plots: Sequence[str]
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Curves:
    name: str
    series: int
    note: str
    plots: Sequence[tuple[str, str]]
    alarms: Sequence[str] = ()


@dataclass(frozen=True)
class Box:
    """Counted groups with examples, or a sentence that there is nothing."""

    title: str
    groups: Sequence[collect.Group]
    empty: str
    warn: bool = False


@dataclass(frozen=True)
class DataView:
    name: str
    note: str
    counts: Sequence[tuple[str, int, float]] = ()
    counts_title: str = ""
    facts: Sequence[tuple[str, str]] = ()
    facts_title: str = ""
    boxes: Sequence[Box] = ()
    plots: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class RuleView:
    rule: str
    verdict: str
    n: int | None
    baseline: float | None
    candidate: float | None
    difference: float | None
    low: float | None
    high: float | None
    detectable: float | None
    share: bool
    reason: str


@dataclass(frozen=True)
class GateView:
    name: str
    verdict: str
    what: str
    rules: Sequence[RuleView]
    notes: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class StageLine:
    name: str
    type: str
    fingerprint: str
    seconds: float
    tokens: float
    flops: float
    peak_gib: float
    money: str


@dataclass(frozen=True)
class Page:
    name: str
    when: str
    verdict: Verdict
    cards: Sequence[Card]
    enough: Sequence[str]
    steps: Sequence[Step]
    reports: Sequence[Head]
    suites: Sequence[Suite]
    samples: Sequence[Sample]
    gates: Sequence[GateView]
    trainings: Sequence[Curves]
    rewards: Sequence[RewardView]
    data: Sequence[DataView]
    lineage: str
    skipped: str
    stages: Sequence[StageLine]
    recipe: str
    versions: Sequence[tuple[str, str]]
    red_teams: Sequence[RedTeam] = ()
    first: str = ""
    last: str = ""

    @property
    def contents(self) -> list[tuple[str, str]]:
        """(anchor, title) of the sections that are there."""
        all_of_them = (
            ("enough", "Is SFT enough?", self.steps), ("metrics", "Before and after", self.suites),
            ("answers", "Answers", self.samples), ("gate", "Gate", self.gates),
            ("red-team", "Red team", self.red_teams), ("rewards", "Reward models", self.rewards),
            ("data", "What went in", self.data), ("training", "Training", self.trainings), ("lineage", "Lineage", True),
            ("recipe", "Recipe", True),
        )  # fmt: skip
        return [(anchor, title) for anchor, title, there in all_of_them if there]
