"""What a run's page says of votes: who voted, how far they agree, what biased them, whether the chain holds.

Read from report.json of a feedback stage. Left out on purpose: recomputing anything (feedback/report.py), plots.
"""

from collections.abc import Mapping
from typing import Any

from posttrain.report import collect, words
from posttrain.report.lineage import Node

NAMES = {"preference": "which answer", "rating": "ratings", "thumb": "thumbs", "safety": "safety"}


def facts(node: Node) -> list[tuple[str, str]]:
    """(what, value) of a feedback stage, [] for any other."""
    if node.record.type != "feedback":
        return []
    report = collect.read_json(node.folder / "report.json")
    snapshot = collect.read_json(node.folder / "snapshot.json")
    found = [
        ("snapshot", f"{snapshot.get('digest', '')} of {snapshot.get('project', '')}"),
        ("chain", f"{snapshot.get('events', 0):,} events, head {str(snapshot.get('head_hash', ''))[:12]}"),
    ]
    for sort, told in (report.get("agreement") or {}).items():
        found.append((f"alpha, {NAMES.get(sort, sort)}", interval(told.get("alpha"))))
        found.append((f"two votes agree, {NAMES.get(sort, sort)}", interval(told.get("raw"), share=True)))
    for key, name in (("position_bias", "the answer shown first won"), ("length_bias", "the longer answer won")):
        if report.get(key):
            found.append((name, interval(report[key], share=True)))
    found += coverage(report.get("coverage") or {})
    seconds = (report.get("seconds") or {}).get("median")
    return found + ([("seconds a vote, median", f"{seconds:.0f}")] if seconds else [])


def coverage(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How many items have votes, how many each, and which categories lack some."""
    if not told.get("items"):
        return []
    many = ", ".join(f"{n} on {count:,}" for n, count in (told.get("votes_per_item") or {}).items())
    found = [("items with votes", f"{told['with_votes']:,} of {told['items']:,}"), ("votes an item", many)]
    short = [f"{name} {seen:,} of {n:,}" for name, (seen, n) in (told.get("by_category") or {}).items() if seen < n]
    return found + ([("categories not covered whole", words.listed(short, 8))] if short else [])


def interval(told: Mapping[str, Any] | None, *, share: bool = False) -> str:
    """'0.71 (0.64 to 0.78)', a dash where nothing can be told."""
    if not told or told.get("value") is None:
        return words.NONE
    value, low, high = (words.value(told.get(k), share) for k in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
