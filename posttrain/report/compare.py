"""What changed between two evaluations of the same items, metric by metric, with a paired test.

The comparison itself is the gate's (gates.compare); here it is turned around so that plus means the number went up,
and corrected for the number of metrics looked at. Left out on purpose: decisions (gates.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from posttrain import stats
from posttrain.errors import UserError
from posttrain.gates import Compared, compare, pair
from posttrain.gates import Report as Paired
from posttrain.report.collect import Report
from posttrain.report.lineage import Node, past

Tone = Literal["up", "down", ""]
ALPHA = 0.05


@dataclass(frozen=True)
class Change:
    """A metric's change in its own units, plus is a larger number; low, high: 90%. tone: up is better, down worse."""

    metric: str
    by: float
    low: float
    high: float
    n: int
    p: float  # two-sided, Holm-corrected over the metrics compared together
    tone: Tone
    gained: int
    lost: int

    @property
    def why(self) -> str:
        return f"p {self.p:.2g} after Holm; {self.gained} items better, {self.lost} worse, of {self.n}"

    @property
    def mark(self) -> str:
        return "●" if self.tone else ""


def changes(before: Report, after: Report) -> dict[str, Change]:
    """Every metric that both reports have item by item, in the order of the later report."""
    pairs = [(m, c) for m in after.estimates if (c := _compared(m, before, after))]
    corrected = stats.holm([c.p_changed for _, c in pairs])
    return {m: _change(m, c, p, after.higher_is_better(m)) for (m, c), p in zip(pairs, corrected)}


def _compared(metric: str, before: Report, after: Report) -> Compared | None:
    """The gate's comparison, for metrics without a better direction too; None without items in common."""
    new, old = (Paired(r.paired.items, {metric: r.higher_is_better(metric) is not False}) for r in (after, before))
    try:
        return compare(metric, new, old)
    except UserError:
        return None


def _change(metric: str, c: Compared, p: float, better: bool | None) -> Change:
    low, high = (c.low, c.high) if better is not False else (-c.high, -c.low)
    clear = p < ALPHA and (c.low > 0 or c.high < 0) and better is not None
    tone: Tone = "" if not clear else "up" if c.difference > 0 else "down"
    return Change(metric, c.candidate - c.baseline, low, high, c.n, p, tone, c.gained, c.lost)


@dataclass(frozen=True)
class Cost:
    """What a set of stages cost together; money in the currency of the rate."""

    seconds: float
    tokens: float
    flops: float
    peak_gib: float
    money: float


def cost(nodes: Sequence[Node], price_per_hour: float) -> Cost:
    seconds = sum(n.record.seconds for n in nodes)
    return Cost(
        seconds=seconds,
        tokens=sum(n.record.metrics.get("tokens", 0.0) for n in nodes),
        flops=sum(n.record.metrics.get("flops", 0.0) for n in nodes),
        peak_gib=max((n.record.peak_gib for n in nodes), default=0.0),
        money=seconds / 3600 * price_per_hour,
    )


def added_by(policy: Node, before: Node | None, nodes: Sequence[Node]) -> list[Node]:
    """The stages that exist only because of `policy`: its past without the past of the policy it was trained from.

    Evaluations are not among them, unless training used them; data made for it (sampled pairs) are.
    """
    had = past(before, nodes) if before else set()
    mine = past(policy, nodes) - had
    return [n for n in nodes if n.key in mine]


def lost_items(metric: str, before: Report, after: Report) -> list[tuple[str, float, float]]:
    """(suite/id, value before, value after) of the items that got worse in a metric, the largest loss first."""
    sign = -1 if after.higher_is_better(metric) is False else 1
    pairs, _, _ = pair(after.paired, before.paired)
    shared = [(a, b) for a, b in pairs if metric in a.metrics and metric in b.metrics]
    both = [(a.name, b.metrics[metric], a.metrics[metric]) for a, b in shared]
    return sorted((x for x in both if sign * (x[2] - x[1]) < 0), key=lambda x: (sign * (x[2] - x[1]), x[0]))


def is_share(metric: str, reports: Sequence[Report]) -> bool:
    """Whether a metric is printed in per cent: all its values and intervals lie between 0 and 1, item by item too."""
    known = [r.estimates[metric] for r in reports if metric in r.estimates]
    ends = [x for e in known for x in (e.value, e.low, e.high) if x is not None]
    counted = [i.metrics[metric] for r in reports[:1] for i in r.paired.items if metric in i.metrics]
    return bool(ends) and all(0 <= x <= 1 for x in [*ends, *counted])
