"""The model card, written from the records and never by hand, so that it cannot say what did not happen.

Left out on purpose: pictures (the report has them), and praise.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from posttrain.progress import clock
from posttrain.report import collect, compare, lineage, words
from posttrain.report.collect import Estimate, Report
from posttrain.report.lineage import Node
from posttrain.spec import flat

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
ALWAYS = (
    "It repeats mistakes and biases of its data and of the model it was made from; check what it says.",
    "It was tested on the suites below and on nothing else; other uses need tests of their own.",
)


@dataclass(frozen=True)
class About:
    """What the records cannot know: the release's own knobs."""

    name: str
    licence: str
    base_licence: str
    language: str
    intended_use: str
    limits: str


def card(
    about: About,
    nodes: Sequence[Node],
    policy: Path,
    gate: Path | None,
    weights: Mapping[str, str],
    recipe: str,
    price_per_hour: float,
) -> str:
    """Markdown with the hub's YAML front matter. nodes: everything behind the release; weights: file -> SHA-256."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("posttrain", "report"), trim_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"cell": cell, "yaml": json.dumps}  # a JSON string is a YAML string
    reports = collect.reports(nodes)
    chain = models(nodes, policy)
    facts = {
        **_head(about, chain),
        **_evaluation(reports, _report_of(reports, policy)),
        "gate": _gate(nodes, gate, reports),
        "data": [_data(d) for d in collect.data(nodes)],
        "training": [_training(n, before, nodes) for before, n in pairwise(chain)],
        "costs": [_cost(n, price_per_hour) for n in nodes],
        "price": price_per_hour,
        "versions": words.listed([f"{k} {v}" for k, v in chain[-1].record.versions.items()], 12),
        "lineage": [_line(n) for n in nodes],
        "weights": sorted(weights.items()),
        "recipe": recipe.strip(),
    }
    text = environment.get_template("card.md").render(facts)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def cell(text: Any) -> str:
    """Text that cannot break a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def models(nodes: Sequence[Node], policy: Path) -> list[Node]:
    """The chain of policies that ends with the released one, the base first."""
    node = next(n for n in nodes if n.folder.name == policy.name)
    before = lineage.parent_policy(node, nodes)
    return [*models(nodes, before.folder), node] if before else [node]


def _head(about: About, chain: Sequence[Node]) -> dict[str, Any]:
    base = str(chain[0].record.knobs.get("model", chain[0].name))
    hub = base if HUB_ID.fullmatch(base) and not Path(base).exists() else ""
    known = chain[0].record.metrics.get("parameters")
    size = f" with {known / 1e6:,.1f} million parameters" if known else ""
    how = " and then ".join(f"{n.record.type} (`{n.name}`)" for n in chain[1:]) or "a chat template and no training"
    licence = f" The base model's licence: {about.base_licence}." if about.base_licence else ""
    what = f"A language model{size}: `{base}` after {how}.{licence}"
    return {
        "name": about.name, "licence": about.licence, "language": about.language, "base_model": hub, "what": what,
        "intended_use": about.intended_use, "limits": [*([about.limits] if about.limits else []), *ALWAYS],
        "tags": ["posttrain", *dict.fromkeys(n.record.type.replace("_", "-") for n in chain[1:])],
    }  # fmt: skip


# ---- evaluation ------------------------------------------------------------------------------------------------------


def _report_of(reports: Sequence[Report], policy: Path) -> Report | None:
    return next((r for r in reports if r.policy == policy.name), None)


def _evaluation(reports: Sequence[Report], released: Report | None) -> dict[str, Any]:
    """The table before/after, and the released model's own numbers for the hub's model-index."""
    if not reports:
        return {"columns": [], "table": [], "results": {}}
    moved = compare.changes(reports[0], reports[-1]) if len(reports) > 1 else {}
    metrics = dict.fromkeys(m for r in reports for m in r.estimates)
    results: dict[str, list[dict[str, Any]]] = {}
    for metric, e in released.estimates.items() if released else ():
        entry = {"metric": metric.partition(".")[2] or metric, "label": metric, "value": round(e.value, 6)}
        results.setdefault(words.suite(metric), []).append(entry)
    return {
        "columns": [r.label for r in reports],
        "table": [_row(m, reports, moved.get(m)) for m in metrics],
        "results": results,
    }


def _row(metric: str, reports: Sequence[Report], change: compare.Change | None) -> dict[str, Any]:
    found = [r.estimates.get(metric) for r in reports]
    share = compare.is_share(metric, reports)
    lower = any(r.higher_is_better(metric) is False for r in reports if metric in r.estimates)
    told = words.NONE
    if change:
        ends = f"{words.signed(change.low, share)} to {words.signed(change.high, share)}"
        told = f"{words.signed(change.by, share)}{' *' if change.tone else ''} ({ends})"
    n = max((e.n for e in found if e), default=0)
    return {"metric": metric, "n": n, "lower": lower, "shown": [_value(e, share) for e in found], "change": told}


def _value(e: Estimate | None, share: bool) -> str:
    if e is None or e.low is None:
        return words.value(e.value if e else None, share)
    return f"{words.value(e.value, share)} ({words.value(e.low, share)} – {words.value(e.high, share)})"


def _gate(nodes: Sequence[Node], gate: Path | None, reports: Sequence[Report]) -> dict[str, Any] | None:
    found = next((g for g in collect.gates(nodes) if gate and g.node.folder.name == gate.name), None)
    if found is None:
        return None
    names = [_compared(found.node, edge, nodes, reports) for edge in ("candidate", "baseline")]
    d = found.decision
    rules = [(r.rule.words(), r.verdict, words.why(r)) for r in d.results]
    line = " ".join(words.verdict_lines(d, *names))
    return {"verdict": d.verdict, "title": words.TITLES[d.verdict], "line": line, "rules": rules}


def _compared(gate: Node, edge: str, nodes: Sequence[Node], reports: Sequence[Report]) -> str:
    key = next((k for e, k in gate.parents() if e == edge), "")
    return next((r.label for r in reports if r.node.key == key), f"the {edge}")


# ---- data, training, cost, lineage -----------------------------------------------------------------------------------


def _data(d: collect.Data) -> dict[str, Any]:
    def told(groups: Sequence[collect.Group]) -> str:
        return words.listed([f"{g.title} ({g.count:,})" for g in groups], 8)

    return {
        "name": d.node.name, "kind": d.node.record.makes, "total": f"{d.rows + d.holdout:,}", "rows": f"{d.rows:,}",
        "holdout": f"{d.holdout:,}", "sources": words.listed([f"{s} ({n:,})" for s, n in d.sources.items()]) or "none",
        "path": _paths(d.node.record.knobs.get("path")), "left_out": told(d.ledger), "warnings": told(d.audit),
        "categories": [(name, f"{n:,}") for name, n in d.categories.items()] if len(d.categories) > 1 else [],
    }  # fmt: skip


def _paths(path: Any) -> str:
    """The data stage's `path`: one, or several of them."""
    several = path if isinstance(path, list | tuple) else [path] if path else []
    return ", ".join(f"`{p['path'] if isinstance(p, Mapping) else p}`" for p in several)


def _training(node: Node, before: Node, nodes: Sequence[Node]) -> dict[str, Any]:
    m, by_key = node.record.metrics, {n.key: n for n in nodes}
    data = [by_key[k].name for e, k in node.parents() if k in by_key and e != "policy"]
    parts = [f"{m['steps']:,.0f} optimiser steps" if "steps" in m else "", f"on {words.listed(data)}" if data else ""]
    parts += [f"{words.count(m['tokens'])} tokens" if m.get("tokens") else ""]
    if "held_loss_before" in m and "held_loss" in m:
        parts.append(f"held-out loss {words.plain(m['held_loss_before'])} to {words.plain(m['held_loss'])}")
    if "held_accuracy" in m:
        parts.append(f"{words.value(m['held_accuracy'], True)} of held-out pairs ranked right")
    knobs = [(k, "none" if v is None else v) for k, v in flat(node.record.knobs).items() if k != "type"]
    sentence = ", ".join(p for p in parts if p)
    sentence = sentence[:1].upper() + sentence[1:] + "." if sentence else ""
    return {
        "name": node.name, "type": node.record.type, "before": before.name, "sentence": sentence, "knobs": knobs,
    }  # fmt: skip


def _cost(node: Node, price: float) -> dict[str, str]:
    c = compare.cost([node], price)
    return {
        "name": node.name, "time": clock(c.seconds), "tokens": words.count(c.tokens), "flops": words.flops(c.flops),
        "memory": f"{c.peak_gib:.1f} GiB", "money": words.money(c.money, price),
    }  # fmt: skip


def _line(node: Node) -> dict[str, str]:
    parents = ", ".join(f"{edge}: {key}" for edge, key in node.parents()) or "the world outside"
    return {
        "name": node.name,
        "type": node.record.type,
        "fingerprint": node.record.fingerprint,
        "parents": parents,
    }
