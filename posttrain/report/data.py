"""What the page shows of the rows that went in: counts, ledgers, audits, and what pre-flight said before training.

Left out on purpose: reading them (collect.py), votes (votes.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.report import collect, plots, votes, words
from posttrain.report.lineage import Node
from posttrain.report.page import Box, DataView

MAX_CATEGORIES = 30


def views(nodes: Sequence[Node]) -> list[DataView]:
    """One for each data stage, then one for each training stage of which pre-flight had something to say."""
    return [*(data_view(d) for d in collect.data(nodes)), *preflights(nodes)]


def data_view(d: collect.Data) -> DataView:
    total = max(d.categories.values(), default=1)
    facts = [("rows for training", f"{d.rows:,}"), ("held out", f"{d.holdout:,}")]
    facts += [(f"from {source}", f"{n:,}") for source, n in d.sources.items()]
    facts += [*decontamination(d), *votes.facts(d.node), *numbers(d.node.record.metrics)]
    boxes = [Box("Ledger: rows left out", d.ledger, "No row was left out.")]
    if d.audit or (d.node.folder / "audit.json").exists():
        boxes.append(Box("Audit: rows that may do harm", d.audit, "The audit found nothing to warn of.", warn=True))
    return DataView(
        name=d.node.name, note=f"{d.rows + d.holdout:,} {d.node.record.makes}",
        counts=_top(d.categories, total), counts_title="Rows by category",
        facts=facts, facts_title="Counts", boxes=boxes, plots=gain(d.node),
    )  # fmt: skip


def gain(node: Node) -> list[tuple[str, str]]:
    """What more samples of a prompt would be worth: the expected best score of k answers, over k."""
    best = collect.read_json(node.folder / "gain.json").get("best_of") or {}
    if len(best) < 2:
        return []
    line = plots.Line("best of k", [float(k) for k in best], list(best.values()), dots=True, noisy=False)
    title = "Expected best score of k answers"
    return [(title, plots.curves(f"gain{node.record.fingerprint}", f"{node.name}: {title}", [line], over="k"))]


def decontamination(d: collect.Data) -> list[tuple[str, str]]:
    """Which suites the rows were checked against, and how many rows held one of their items."""
    suites = d.node.record.knobs.get("decontaminate") or ()
    if not suites:
        return []
    held = sum(g.count for g in d.ledger if "evaluation item" in g.title)
    return [("checked against", words.listed([str(s) for s in suites], 12)), ("held an evaluation item", f"{held:,}")]


def _top(counts: Mapping[str, int], total: int) -> list[tuple[str, int, float]]:
    """(name, count, share of the largest) of the largest categories, and the rest in one line."""
    shown = list(counts.items())[:MAX_CATEGORIES]
    rest = sum(counts.values()) - sum(n for _, n in shown)
    named = [(name.replace("_", " "), n) for name, n in shown]
    if rest:
        named.append((f"{len(counts) - len(shown)} more", rest))
    return [(name, n, min(1.0, n / total)) for name, n in named]


def numbers(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Counts and facts of a record as text, the ones with fixed meanings elsewhere left out."""
    known = {"tokens", "flops", "seconds", "rows", "train", "holdout", "held_out"}
    return [(k.replace("_", " ").replace(".", ": "), fact(v)) for k, v in facts.items() if k not in known]


def fact(x: Any) -> str:
    if isinstance(x, bool):
        return "yes" if x else "no"
    if isinstance(x, int | float):
        return f"{x:,.0f}" if float(x).is_integer() else words.plain(x)
    if isinstance(x, list | tuple):
        return words.listed([fact(v) for v in x], 8) or "none"
    return ", ".join(f"{k} {fact(v)}" for k, v in x.items()) if isinstance(x, Mapping) else str(x)


def preflights(nodes: Sequence[Node]) -> list[DataView]:
    """What pre-flight said before each training stage."""
    found = []
    for t in collect.trainings(nodes):
        if t.preflight or t.ledger or collect.left_out(t):
            box = Box("Ledger: rows dropped or cut", t.ledger, "No row was dropped or cut.")
            facts = [(k.replace("_", " "), fact(v)) for k, v in t.preflight.items() if k != "warnings"]
            warnings = [*(t.preflight.get("warnings") or ()), *collect.left_out(t)]
            told = Box("Warnings", [collect.Group(str(w), 1) for w in warnings], "", warn=True)
            boxes = [told, box] if warnings else [box]
            if t.audit:
                boxes.append(Box("Audit: rows that may do harm", t.audit, "", warn=True))
            found.append(DataView(t.node.name, "pre-flight", facts=facts, facts_title="Facts", boxes=boxes))
    return found
