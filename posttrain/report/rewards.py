"""What the page shows of each reward model: accuracy beside "longer is better", calibration, margins, breakdowns.

Read from the reward.json of its stage; a reward model that had nothing held out is named with what it has.
Left out on purpose: training curves, which it shares with every training stage (training.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.report import plots, words
from posttrain.report.collect import Estimate, read_json
from posttrain.report.lineage import Node

MODEL = 1  # colour of its dots
BREAKDOWNS = {
    "by_source": "By source", "by_category": "By category", "by_length": "By length of the longer answer",
    "by_length_ratio": "By which answer is longer", "by_agreement": "By agreement of the members",
}  # fmt: skip
MOST = 12  # rows of a breakdown


@dataclass(frozen=True)
class Line:
    """A row of a breakdown: accuracy of the model, and of "longer is better" where it is known."""

    label: str
    model: Estimate
    longer: float | None


@dataclass(frozen=True)
class RewardView:
    name: str
    lead: str
    facts: Sequence[tuple[str, str]] = ()
    plots: Sequence[tuple[str, str]] = ()
    tables: Sequence[tuple[str, Sequence[Line]]] = field(default_factory=list)


def views(nodes: Sequence[Node]) -> list[RewardView]:
    """One for each reward model of the run."""
    found = [(n, read_json(n.folder / "reward.json")) for n in nodes if n.record.makes == "reward"]
    return [_view(n, told) for n, told in found if told]


def _view(node: Node, told: Mapping[str, Any]) -> RewardView:
    held = told.get("held_out") or {}
    facts = [("members", str(told.get("members", 1))), ("loss", str((told.get("loss") or {}).get("type", "")))]
    facts += [(f"ratings: {k.replace('_', ' ')}", words.plain(v)) for k, v in (told.get("ratings") or {}).items()]
    if not held:
        return RewardView(node.name, "No comparison was held out, so nothing is known of its accuracy.", facts)
    facts += [("comparisons held out", f"{held['comparisons']:,}"), ("prompts", f"{held['prompts']:,}")]
    facts += [("calibration error (ECE)", words.value(held["ece"], True)), ("Brier score", words.plain(held["brier"]))]
    facts += [("log loss, nats", words.plain(held["log_loss"]))]
    tables = [(title, _lines(held[key])) for key, title in BREAKDOWNS.items() if len(held.get(key) or ()) > 1]
    return RewardView(node.name, lead(held), facts, _plots(node, held), tables)


def lead(held: Mapping[str, Any]) -> str:
    """The accuracy in a sentence, with what it must beat and whether it does."""
    a, b, d = held["accuracy"], held["longer_is_better"], held["difference"]
    beats = "more than" if d["low"] > 0 else "less than" if d["high"] < 0 else "not clearly more or less than"
    right, low, high, longer = (words.value(x, True) for x in (a["value"], a["low"], a["high"], b["value"]))
    by, least, most = (words.signed(d[k], True) for k in ("value", "low", "high"))
    return (
        f"{right} of held-out comparisons right ({low} to {high}), {beats} the {longer} of “longer is better” "
        f"(difference {by}, {least} to {most})."
    )


def _lines(found: Mapping[str, Mapping[str, float]]) -> list[Line]:
    return [
        Line(name.replace("_", " "), Estimate(v["value"], v["low"], v["high"], int(v["n"])), v.get("longer"))
        for name, v in list(found.items())[:MOST]
    ]


def _plots(node: Node, held: Mapping[str, Any]) -> list[tuple[str, str]]:
    salt, bins, margins = f"reward{node.record.fingerprint}", held["reliability"], held["margins"]
    dots = [plots.Dot(r["accuracy"], r["low"], r["high"], MODEL) for r in bins]
    diagram = plots.reliability(f"{salt}r", f"{node.name}: reliability", [r["confidence"] for r in bins], dots)
    title = f"{node.name}: score differences"
    histogram = plots.bars(f"{salt}m", title, margins["edges"], margins["counts"], "nats")
    return [("Reliability", diagram), ("Score differences, preferred minus other", histogram)]
