"""The artefacts of a run, read into plain dataclasses: reports, training logs, data counts, decisions.

A page must come out of half a run and of a gate that failed, so a missing file is an absent section and never an error.
Left out on purpose: numbers that are not in the records (compare.py derives those), and everything about looks.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from posttrain.gates import Decision, Scored
from posttrain.gates import Report as Paired
from posttrain.pipeline import Record
from posttrain.report.lineage import DATA, Node
from posttrain.report.words import shorten

NUMBER = re.compile(r"\b\d+\b")
EXAMPLES = 3  # shown of each reason or warning


@dataclass(frozen=True)
class Estimate:
    """A metric of one report with its 95% interval; low and high are None where the report gives none."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Report:
    """One evaluation: `label` is the name of the policy it is about, which is how people call it."""

    node: Node
    label: str
    policy: str  # folder name of the policy
    estimates: Mapping[str, Estimate]
    paired: Paired
    samples: Mapping[str, Mapping[str, Any]]  # 'suite/id' -> line of samples.jsonl
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # suite -> its entry in summary.json

    def higher_is_better(self, metric: str) -> bool | None:
        return self.paired.better.get(metric, True)


@dataclass(frozen=True)
class Group:
    """Things counted under one reason, with a few of them in full."""

    title: str
    count: int
    examples: Sequence[str] = ()
    note: str = ""
    serious: bool = True


@dataclass(frozen=True)
class Data:
    """What a data stage let through and what it held back."""

    node: Node
    categories: Mapping[str, int]
    sources: Mapping[str, int]
    rows: int
    holdout: int
    ledger: Sequence[Group] = ()
    audit: Sequence[Group] = ()


@dataclass(frozen=True)
class Training:
    """log.jsonl of a training stage, and what pre-flight said."""

    node: Node
    log: Sequence[Mapping[str, Any]]
    preflight: Mapping[str, Any] = field(default_factory=dict)
    ledger: Sequence[Group] = ()
    audit: Sequence[Group] = ()


@dataclass(frozen=True)
class Gate:
    node: Node
    decision: Decision


def nodes_of(folders: Mapping[str, Path]) -> list[Node]:
    """The finished stages of a run in the order of its recipe; folders without a record are left out."""
    return [Node(f, Record.read(f)) for f in folders.values() if (f / "record.json").exists()]


def reports(nodes: Sequence[Node]) -> list[Report]:
    """Reports in the order of the policies they are about, then of the recipe.

    Second runs that only show a gate its noise are left out. A second report about one policy goes by its own name.
    """
    noise = {key for n in nodes for edge, key in n.parents() if n.record.makes == "decision" and edge == "noise"}
    found = [_report(n, nodes) for n in nodes if n.record.makes == "report" and n.key not in noise]
    first = {r.policy: r.node.key for r in reversed(found)}
    named = [r if first[r.policy] == r.node.key else replace(r, label=r.node.name) for r in found]
    order = {n.key: i for i, n in enumerate(nodes)}
    return sorted(named, key=lambda r: (order.get(r.policy, len(order)), order[r.node.key]))


def _report(node: Node, nodes: Sequence[Node]) -> Report:
    summary = read_json(node.folder / "summary.json")
    items = []
    for line in read_lines(node.folder / "items.jsonl"):
        try:
            items.append(Scored.model_validate(line))
        except ValidationError:
            continue
    policy = next((key for edge, key in node.parents() if edge == "policy"), "")
    label = next((n.name for n in nodes if n.key == policy), node.name)
    samples = {f"{s.get('suite', '')}/{s.get('id', '')}": s for s in read_lines(node.folder / "samples.jsonl")}
    paired = Paired(tuple(items), _directions(summary), str(summary.get("judge", "")))
    suites = {k: v for k, v in (summary.get("suites") or {}).items() if isinstance(v, Mapping)}
    return Report(node, label, policy, _estimates(summary, node.record), paired, samples, suites)


def _estimates(summary: Mapping[str, Any], record: Record) -> dict[str, Estimate]:
    """Metrics of summary.json; the bare numbers of the record where there is none."""
    found = {}
    for name, entry in (summary.get("metrics") or {}).items():
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), int | float):
            found[name] = Estimate(entry["value"], entry.get("low"), entry.get("high"), int(entry.get("n") or 0))
    if found:
        return found
    return {k: Estimate(v, None, None, 0) for k, v in record.metrics.items() if "." in k}


def _directions(summary: Mapping[str, Any]) -> dict[str, bool | None]:
    entries = (summary.get("metrics") or {}).items()
    return {name: e.get("higher_is_better", True) for name, e in entries if isinstance(e, Mapping)}


def trainings(nodes: Sequence[Node]) -> list[Training]:
    return [
        Training(
            n,
            read_lines(n.folder / "log.jsonl"),
            read_json(n.folder / "preflight.json"),
            ledger(n.folder),
            audit(read_json(n.folder / "audit.json")),
        )
        for n in nodes
        if n.record.makes in ("policy", "reward") and (n.folder / "log.jsonl").exists()
    ]


def left_out(t: Training) -> list[str]:
    """Steps that were not learned from, with the rows that did it."""
    return [
        f"step {e.get('step')} was left out, its {e['not_finite']} was not finite: {', '.join(map(str, e['rows']))}"
        for e in t.log
        if isinstance(e.get("rows"), list) and "not_finite" in e
    ]


def data(nodes: Sequence[Node]) -> list[Data]:
    return [_data(n) for n in nodes if n.record.makes in DATA]


def _data(node: Node) -> Data:
    train = read_lines(node.folder / "train.jsonl")
    holdout = read_lines(node.folder / "holdout.jsonl")
    rows = [*train, *holdout]
    return Data(
        node=node,
        categories=dict(Counter(str(r.get("category") or "(none)") for r in rows).most_common()),
        sources=dict(Counter(str(r.get("source") or "import") for r in rows).most_common()),
        rows=len(train),
        holdout=len(holdout),
        ledger=ledger(node.folder),
        audit=audit(read_json(node.folder / "audit.json")),
    )


def ledger(folder: Path) -> list[Group]:
    """ledger.jsonl by reason, most frequent first. Numbers and particulars after a colon make no new reason."""
    groups: dict[str, list[str]] = {}
    for entry in read_lines(folder / "ledger.jsonl"):
        reason = NUMBER.sub("n", str(entry.get("reason") or "left out").split(":")[0].strip())
        groups.setdefault(reason, []).append(_told(entry))
    return sorted((Group(r, len(e), e[:EXAMPLES]) for r, e in groups.items()), key=lambda g: -g.count)


def audit(found: Mapping[str, Any]) -> list[Group]:
    """audit.json: its warnings with counts and examples, the serious ones first."""
    warnings = found.get("warnings", found)
    entries = warnings.items() if isinstance(warnings, Mapping) else ((w.get("kind", ""), w) for w in warnings)
    groups = []
    for name, entry in entries:
        if isinstance(entry, Mapping) and (count := entry.get("count")):
            examples = [_told(e) for e in list(entry.get("examples") or ())[:EXAMPLES]]
            note, serious = str(entry.get("says", "")), bool(entry.get("serious", True))
            groups.append(Group(str(name).replace("_", " "), int(count), examples, note, serious))
    return sorted(groups, key=lambda g: (not g.serious, -g.count))


def _told(entry: Any) -> str:
    """A ledger line or an example as text a person can read."""
    if not isinstance(entry, Mapping):
        return shorten(str(entry), 400)
    parts = [
        f"{k}: {shorten(_plain(v), 240)}" for k, v in entry.items() if k != "digest" and v not in (None, "", [], {})
    ]
    return "\n".join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(m, Mapping) and "content" in m for m in value):
        return " / ".join(f"{m.get('role', '')}: {m['content']}" for m in value)
    return json.dumps(value, ensure_ascii=False)


def gates(nodes: Sequence[Node]) -> list[Gate]:
    found = []
    for node in nodes:
        if node.record.makes == "decision":
            try:
                found.append(Gate(node, Decision.model_validate(read_json(node.folder / "decision.json"))))
            except ValidationError:
                found.append(Gate(node, Decision(verdict=node.record.verdict, reasons=(), results=())))
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} when the file is missing or is something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {"warnings": value} if isinstance(value, list) else {}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file, [] when it is missing; lines that are none are passed over."""
    found = []
    for line in _text_lines(path):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _text_lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
