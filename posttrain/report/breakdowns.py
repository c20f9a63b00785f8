"""What stands behind a suite's numbers: attacks by kind and category, groups of people, accuracy over the share that is
answered; and what a red team's search found.

Read from the tables that suites put into summary.json, and from a red team's attacks.json. A table that has another
shape is left out.
Left out on purpose: the suites' metrics themselves (view.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.report import compare, plots, words
from posttrain.report.collect import Estimate, Report, read_json
from posttrain.report.lineage import Node

FIELDS = ("attack", "category", "axis")  # tables of suites: attacks, bias
CURVE = "curve"


@dataclass(frozen=True)
class Table:
    """Rows of estimates under `heads`; share: in per cent. n: how many items, of the first estimate that is there."""

    title: str
    heads: Sequence[str]
    lines: Sequence[tuple[str, Sequence[Estimate | None]]]
    share: bool

    def n(self, line: tuple[str, Sequence[Estimate | None]]) -> int:
        return next((e.n for e in line[1] if e), 0)


@dataclass(frozen=True)
class RedTeam:
    """A search for attacks: what worked, beside harmless requests under the same attacks that were not answered."""

    name: str
    lead: str
    tables: Sequence[Table]


def tables(suite: str, reports: Sequence[Report]) -> list[Table]:
    """One for each field and metric of a suite's tables, a column for each report that has it."""
    found = []
    for field in FIELDS:
        cells = [(r, given) for r in reports if isinstance(given := r.tables.get(suite, {}).get(field), Mapping)]
        metrics = dict.fromkeys(m for _, t in cells for row in t.values() for m in row)
        keys = dict.fromkeys(key for _, t in cells for key in t)
        for metric in metrics:
            lines = [(_plain(k), [_estimate(t.get(k, {}).get(metric)) for _, t in cells]) for k in keys]
            shown = [line for line in lines if any(line[1])]
            share = compare.is_share(f"{suite}.{metric}", reports)
            title = f"{_plain(suite)}: {_plain(metric)}, by {field}"
            found.append(Table(title, [r.label for r, _ in cells], shown, share))
    return found


def curves(suite: str, reports: Sequence[Report], colors: Mapping[str, int], salt: str) -> Iterator[str]:
    """Accuracy of what is answered over the share of questions answered, the most confident first."""
    lines = []
    for r in reports:
        points = r.tables.get(suite, {}).get(CURVE)
        if points and all(isinstance(p, list) and len(p) == 2 for p in points):
            x, y = zip(*points)
            lines.append(plots.Line(r.label, x, y, colors.get(r.policy, len(colors)), dots=True))
    if lines:
        title = f"{_plain(suite)}: accuracy of what is answered"
        yield plots.curves(salt, title, lines, unit="right", over="share answered, the surest first")


def red_teams(nodes: Sequence[Node]) -> list[RedTeam]:
    """Every search of a run, in its order."""
    found = []
    for node in nodes:
        told = read_json(node.folder / "attacks.json")
        if isinstance(told.get("attack"), Mapping):
            found.append(RedTeam(node.name, _lead(node), list(_searched(told))))
    return found


def _lead(node: Node) -> str:
    m = node.record.metrics
    success, over = (words.value(m.get(k), True) for k in ("success", "over_refusal"))
    return (
        f"{success} of {m.get('tries', 0):,.0f} tries worked; of {m.get('harmless_tries', 0):,.0f} harmless requests "
        f"under the same attacks {over} were not answered. A search goes where it works, so these are upper views; the "
        "suite asks every attack equally often."
    )


def _searched(told: Mapping[str, Any]) -> Iterator[Table]:
    over = told.get("over_refusal")
    for field in ("attack", "category", "round"):
        worked, refused = told.get(field) or {}, (over.get(field) if isinstance(over, Mapping) else None) or {}
        heads = ["worked", "harmless, not answered"] if refused else ["worked"]
        lines = [(_plain(k), [_counted(t.get(k)) for t in (worked, refused)[: len(heads)]]) for k in worked]
        yield Table(f"by {field}", heads, lines, True)


def _counted(row: Any) -> Estimate | None:
    if not isinstance(row, Mapping) or not {"share", "low", "high", "n"} <= row.keys():
        return None
    return Estimate(row["share"], row["low"], row["high"], int(row["n"]))


def _estimate(cell: Any) -> Estimate | None:
    """[value, low, high, n] of a suite's table."""
    if not isinstance(cell, list) or len(cell) != 4:
        return None
    return Estimate(cell[0], cell[1], cell[2], int(cell[3]))


def _plain(name: str) -> str:
    return str(name).replace("_", " ").replace("+", " + ")
