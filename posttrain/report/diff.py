"""What differs between two runs, or between two stage folders: knobs, inputs, data, metrics, cost.

Left out on purpose: rows and weights (records hold their digests, which is enough to see that they differ), and any
judgement of whether a difference is more than noise (the gate does that on paired items).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posttrain import remote
from posttrain.errors import UserError
from posttrain.pipeline import Record
from posttrain.progress import clock
from posttrain.spec import flat

What = Literal["stages", "knobs", "inputs", "outside", "metrics", "cost", "versions"]
HEADINGS: dict[What, str] = {
    "stages": "stages",
    "knobs": "knobs",
    "inputs": "inputs",
    "outside": "files and weights read from outside",
    "metrics": "metrics",
    "cost": "cost",
    "versions": "versions",
}
ABSENT = "-"


@dataclass(frozen=True)
class Difference:
    """One line: which stage, what kind of fact, its name, its value on either side (ABSENT where there is none)."""

    what: What
    stage: str
    name: str
    a: str
    b: str
    change: str = ""


def diff(a: Path | str, b: Path | str) -> str:
    """Of folders or URLs, for a terminal: a table for each kind of fact that differs. UserError without records."""
    found = list(differences(*(records(remote.local(x, light=False)) for x in (a, b))))
    if not found:
        return f"no difference between {a} and {b}"
    blocks = [f"a  {a}\nb  {b}"]
    for what, heading in HEADINGS.items():
        rows = [(d.stage, d.name, d.a, d.b, d.change) for d in found if d.what == what]
        if rows:
            blocks.append(f"{heading}\n{_table(rows)}")
    return "\n\n".join(blocks)


def records(folder: Path) -> dict[str, Record]:
    """Records by stage name: of a stage folder itself, or the latest of each stage of a run, in order of start."""
    if (folder / "record.json").exists():
        return {"": Record.read(folder)}
    found = [Record.read(p.parent) for p in folder.glob("*-??????????/record.json")]
    if not found:
        remedy = "give a run folder such as runs/assistant, or a stage folder in it"
        raise UserError("there are no finished stages here", where=str(folder), remedy=remedy)
    return {r.stage: r for r in sorted(found, key=lambda r: r.started)}


def differences(a: Mapping[str, Record], b: Mapping[str, Record]) -> Iterator[Difference]:
    """Differences of stages that both have, and the stages that only one has; stages keep the order of their start."""
    for stage in [*a, *(s for s in b if s not in a)]:
        if stage not in a or stage not in b:
            mine, theirs = (_type(records.get(stage)) for records in (a, b))
            yield Difference("stages", stage, "type", mine, theirs)
        else:
            yield from _of_stage(stage or f"{a[stage].stage} / {b[stage].stage}", a[stage], b[stage])


def _type(record: Record | None) -> str:
    return record.type if record else ABSENT


def _of_stage(stage: str, a: Record, b: Record) -> Iterator[Difference]:
    tables: tuple[tuple[What, dict[str, Any], dict[str, Any]], ...] = (
        ("knobs", flat(a.knobs), flat(b.knobs)),
        ("inputs", _inputs(a), _inputs(b)),
        ("outside", dict(a.identity), dict(b.identity)),
        ("metrics", _metrics(a), _metrics(b)),
        ("cost", _cost(a), _cost(b)),
        ("versions", dict(a.versions), dict(b.versions)),
    )
    for what, mine, theirs in tables:
        for name in [*mine, *(n for n in theirs if n not in mine)]:
            x, y = mine.get(name, ABSENT), theirs.get(name, ABSENT)
            if x != y:
                yield Difference(what, stage, name, _show(name, x), _show(name, y), _change(x, y))


def _inputs(record: Record) -> dict[str, str]:
    """Edge -> 'stage-fingerprint' of what it points at, as the folders are called."""
    return {
        edge: " ".join(f"{s}-{p}" for s, p in zip(record.edges.get(edge, prints), prints))
        for edge, prints in record.inputs.items()
        if prints
    }


def _metrics(record: Record) -> dict[str, Any]:
    rest = {k: v for k, v in record.metrics.items() if k not in ("tokens", "flops")}
    return rest if record.verdict == "pass" else {"verdict": record.verdict, **rest}


def _cost(record: Record) -> dict[str, Any]:
    spent: dict[str, Any] = {k: record.metrics[k] for k in ("tokens", "flops") if k in record.metrics}
    return {"seconds": record.seconds, "peak_gib": record.peak_gib, **spent}


def _show(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if name == "seconds" and value >= 60:
        return clock(value)
    return f"{value:,.0f}" if float(value).is_integer() and 1000 <= abs(value) < 1e12 else f"{value:.4g}"


def _change(a: Any, b: Any) -> str:
    """'+0.031' between numbers, with the share where it says something; '' between anything else."""
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in (a, b)):
        return ""
    share = f" ({100 * (b - a) / abs(a):+.0f}%)" if a else ""
    return f"{b - a:+.4g}{share}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns aligned by blanks; long values are cut in the middle so that a line stays readable."""
    cells = [("stage", "name", "a", "b", "change"), *[tuple(_cut(c) for c in row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(5)]
    return "\n".join("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells)


def _cut(text: str, width: int = 44) -> str:
    text = " ".join(text.split())
    half = (width - 3) // 2
    return text if len(text) <= width else f"{text[:half]}...{text[-half:]}"
