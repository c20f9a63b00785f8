"""From the collected artefacts of a run to what its page shows.

Left out on purpose: reading files (collect.py), tests (compare.py), drawing (plots.py), HTML (template.html).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from posttrain.pipeline import Outcome
from posttrain.progress import clock
from posttrain.report import breakdowns, collect, compare, data, lineage, plots, rewards, training, words
from posttrain.report.collect import Report
from posttrain.report.compare import Change
from posttrain.report.lineage import Node
from posttrain.report.page import Card, GateView, Head, Page, Row, RuleView, Shown, StageLine, Step, Suite, Verdict
from posttrain.report.samples import choose
from posttrain.rows import digest

MAX_NAMED = 200  # regressions named for one metric


@dataclass(frozen=True)
class Run:
    """Everything collected, and the colours that policies keep throughout the page."""

    nodes: Sequence[Node]
    reports: Sequence[Report]
    gates: Sequence[collect.Gate]
    price: float
    series: Mapping[str, int] = field(default_factory=dict)  # policy's folder name -> number of its colour

    def color(self, report: Report) -> int:
        return self.series.get(report.policy, len(self.series))


def page(name: str, recipe: str, nodes: Sequence[Node], outcome: Outcome | None, price_per_hour: float) -> Page:
    """Everything the template prints, from the finished stages of a run."""
    series = {n.key: i for i, n in enumerate(lineage.policies(nodes))}
    run = Run(nodes, collect.reports(nodes), collect.gates(nodes), price_per_hour, series)
    steps = training_steps(run)
    suites = suite_tables(run)
    latest = max((n.record.started for n in nodes), default=0.0)
    return Page(
        name=name,
        when=datetime.fromtimestamp(latest, UTC).strftime("%-d %B %Y, %H:%M UTC") if nodes else "nothing finished",
        verdict=verdict(run, outcome),
        cards=cards(run, suites),
        enough=enough(steps),
        steps=steps,
        reports=[Head(r.label, run.color(r)) for r in run.reports],
        suites=suites,
        samples=choose(run.reports, run.series),
        gates=[gate_view(run, g) for g in run.gates],
        trainings=[training.curves(t, series.get(t.node.key, 0)) for t in collect.trainings(nodes)],
        rewards=rewards.views(nodes),
        data=data.views(nodes),
        lineage=lineage.draw(nodes),
        skipped=", ".join(f"{s} (gate {g} did not pass)" for s, g in outcome.skipped.items()) if outcome else "",
        stages=[_stage_line(n, price_per_hour) for n in nodes],
        recipe=recipe.strip(),
        versions=versions(nodes),
        red_teams=breakdowns.red_teams(nodes),
        first=run.reports[0].label if run.reports else "",
        last=run.reports[-1].label if run.reports else "",
    )


# ---- verdict and cards -----------------------------------------------------------------------------------------------


def verdict(run: Run, outcome: Outcome | None) -> Verdict:
    """The worst gate speaks for the run, the last of those that are alike."""
    if not run.gates:
        return Verdict("", words.TITLES[""], ["Nothing decided whether the model may be released."])
    order = {"fail": 0, "inconclusive": 1, "pass": 2}
    worst = min(reversed(run.gates), key=lambda g: order[g.decision.verdict])
    lines = words.verdict_lines(worst.decision, *_compared_names(run, worst.node))
    if outcome and outcome.skipped:
        lines.append(f"Not run because of it: {words.listed(list(outcome.skipped))}.")
    title = words.TITLES[worst.decision.verdict]
    if worst.decision.verdict == "pass" and len(run.gates) > 1:
        title = f"All {len(run.gates)} gates passed"
    return Verdict(worst.decision.verdict, title, lines)


def _side(run: Run, node: Node, edge: str) -> Report | None:
    key = next((k for e, k in node.parents() if e == edge), None)
    return next((r for r in run.reports if r.node.key == key), None)


def _compared_names(run: Run, node: Node) -> tuple[str, str]:
    candidate, baseline = (_side(run, node, edge) for edge in ("candidate", "baseline"))
    return (candidate.label if candidate else "the candidate"), (baseline.label if baseline else "the baseline")


def cards(run: Run, suites: Sequence[Suite]) -> list[Card]:
    """The gated metrics first, then what it all cost."""
    spent = compare.cost(run.nodes, run.price)
    trained = compare.cost([t.node for t in collect.trainings(run.nodes)], run.price)
    found = [_metric_card(row) for row in _main_rows(run, suites)[:6]]
    found.append(Card("whole run", clock(spent.seconds), f"{clock(trained.seconds)} of it training"))
    if trained.tokens:
        found.append(Card("tokens trained on", words.count(trained.tokens), words.flops(trained.flops)))
    found.append(Card("peak memory", f"{spent.peak_gib:.1f} GiB", words.listed(_machines(run.nodes))))
    if run.price:
        found.append(Card("cost", words.money(spent.money, run.price), f"at {run.price:g} an hour"))
    return found


def _machines(nodes: Sequence[Node]) -> list[str]:
    return list(dict.fromkeys(n.record.versions.get("machine", "") for n in nodes if n.record.versions.get("machine")))


def _main_rows(run: Run, suites: Sequence[Suite]) -> list[Row]:
    """Rows that a gate has a rule about, those it does not pass first; without a gate the first of each suite."""
    held = {r.rule.metric: r.verdict == "pass" for g in run.gates for r in g.decision.results}
    rows = [row for s in suites for row in s.rows if row.metric in held] or [s.rows[0] for s in suites]
    return sorted((row for row in rows if any(row.estimates)), key=lambda row: held.get(row.metric, True))


def _metric_card(row: Row) -> Card:
    known = [e for e in row.estimates if e]
    label = f"{words.suite(row.metric)}: {row.label}"
    if len(known) < 2:
        return Card(label, words.value(known[0].value, row.share))
    hint = "" if row.change is None else f"{words.signed(row.change.by, row.share)}, " + (
        {"up": "clearly better", "down": "clearly worse", "": "no clear change"}[row.change.tone]
    )  # fmt: skip
    return Card(label, f"{_short(known[0].value, row.share)} → {_short(known[-1].value, row.share)}", hint)


def _short(x: float, share: bool) -> str:
    return f"{100 * x:.0f}%" if share else f"{x:.2f}" if 0.01 <= abs(x) < 10 else words.plain(x)


# ---- is SFT enough? --------------------------------------------------------------------------------------------------


def training_steps(run: Run) -> list[Step]:
    """One for each policy that was trained from another."""
    found = []
    for node in lineage.policies(run.nodes):
        before = lineage.parent_policy(node, run.nodes)
        if before is not None:
            found.append(_step(run, node, before))
    return found


def _step(run: Run, node: Node, before: Node) -> Step:
    made = compare.added_by(node, before, run.nodes)
    spent = compare.cost(made, run.price)
    own = node.record
    new, old = (next((r for r in run.reports if r.policy == n.key), None) for n in (node, before))
    changes = compare.changes(old, new) if new and old else {}
    shown = [
        Shown(f"{words.suite(m)}: {words.label(m)}", c.by, compare.is_share(m, run.reports), c.tone)
        for m, c in changes.items()
    ]
    others = [n.name for n in made if n.key != node.key and n.record.seconds >= 1]
    return Step(
        name=node.name, before=before.name, series=run.series[node.key], seconds=spent.seconds,
        also=f"with {words.listed(others)}" if others else "",
        tokens=spent.tokens, speed=own.metrics.get("tokens", 0.0) / own.seconds if own.seconds else 0.0,
        flops=spent.flops, money=words.money(spent.money, run.price), peak_gib=spent.peak_gib, changes=changes,
        better=[s for s in shown if s.tone == "up"], worse=[s for s in shown if s.tone == "down"],
        same=[s.label for s in shown if not s.tone],
    )  # fmt: skip


def enough(steps: Sequence[Step]) -> list[str]:
    """The answer in words: what each stage added, and whether the last one was worth it."""
    lines = []
    measured = [s for s in steps if s.changes]
    for s in measured:
        told = f"{s.name} made {words.many(len(s.better), 'metric')} clearly better"
        told += (
            f" and {len(s.worse)} worse ({words.listed([w.label for w in s.worse])})" if s.worse else " and none worse"
        )
        lines.append(f"{told}, in {clock(s.seconds)}.")
    if len(measured) < 2:
        return lines
    last = measured[-1]
    if not last.better:
        lines.append(f"By these numbers {last.before} is enough: {last.name} added no clear improvement.")
    else:
        names = words.listed([f"{b.label} ({words.signed(b.by, b.share)})" for b in last.better])
        lines.append(f"{last.before} alone is not enough if these matter, which {last.name} improved further: {names}.")
    return lines


# ---- tables ----------------------------------------------------------------------------------------------------------


def suite_tables(run: Run) -> list[Suite]:
    """Every metric of every report, suite by suite, with a dot plot of the shares and one of each other quantity."""
    if not run.reports:
        return []
    metrics = list(dict.fromkeys(m for r in run.reports for m in r.estimates))
    moved = compare.changes(run.reports[0], run.reports[-1]) if len(run.reports) > 1 else {}
    rows: dict[str, list[Row]] = {}
    for metric in metrics:
        rows.setdefault(metric.partition(".")[0], []).append(_row(run, metric, moved.get(metric)))
    return [_suite(run, name, found) for name, found in rows.items()]


def _suite(run: Run, name: str, rows: Sequence[Row]) -> Suite:
    title = words.suite(f"{name}.")
    drawn = _dot_plots(run, title, rows)
    drawn += breakdowns.curves(name, run.reports, run.series, f"curve{hash_of(name)}")
    return Suite(title, rows, drawn, breakdowns.tables(name, run.reports))


def _row(run: Run, metric: str, change: Change | None) -> Row:
    estimates = [r.estimates.get(metric) for r in run.reports]
    better = next((r.higher_is_better(metric) for r in run.reports if metric in r.estimates), True)
    n = max((e.n for e in estimates if e), default=0)
    return Row(metric, words.label(metric), n, estimates, change, compare.is_share(metric, run.reports), better)


def _dot_plots(run: Run, title: str, rows: Sequence[Row]) -> list[str]:
    """One plot for the shares, on the axis 0 to 100%; one for each metric in units of its own."""
    groups = [[r for r in rows if r.share], *([r] for r in rows if not r.share and r.higher_is_better is not None)]
    drawn = []
    for i, group in enumerate(g for g in groups if g):
        lines = [plots.DotRow(row.label, _dots(run, row)) for row in group]
        salt = f"dots{hash_of(title)}x{i}"
        drawn.append(plots.forest(salt, f"{title}: values with 95% intervals", lines, {}, share=group[0].share))
    return drawn


def hash_of(text: str) -> int:
    """A small number that is the same in every process (Python's hash() is not)."""
    return int(digest(text)[:8], 16)


def _dots(run: Run, row: Row) -> list[plots.Dot]:
    pairs = [(r, e) for r, e in zip(run.reports, row.estimates) if e]
    return [
        plots.Dot(e.value, e.value if e.low is None else e.low, e.value if e.high is None else e.high, run.color(r))
        for r, e in pairs
    ]


# ---- gates -----------------------------------------------------------------------------------------------------------


def gate_view(run: Run, gate: collect.Gate) -> GateView:
    d = gate.decision
    candidate, baseline = _compared_names(run, gate.node)
    what = (
        f"{candidate} against {baseline}, paired item by item. Plus is better for the candidate. The interval is the "
        "one the rule is decided by: both ends are one-sided 95% bounds."
    )
    notes: list[tuple[str, Sequence[str]]] = []
    if d.foreseen:
        notes.append(("What the rules can find at all, said before comparing", d.foreseen))
    if d.noise:
        notes.append(("Noise floor: the baseline against a second run of itself", [_noise(run, c) for c in d.noise]))
    for side, names in ((candidate, d.only_candidate), (baseline, d.only_baseline)):
        if names:
            notes.append((f"{words.many(len(names), 'item')} only in {side}, not compared", names[:MAX_NAMED]))
    if not d.only_candidate and not d.only_baseline:
        notes.append(("Unmatched items: none, every item of either report was paired with the other", ()))
    notes += regressions(run, gate)
    return GateView(gate.node.name, d.verdict, what, [_rule_view(run, r) for r in d.results], notes)


def _noise(run: Run, c: Any) -> str:
    share = compare.is_share(c.metric, run.reports)
    ends = f"[{words.signed(c.low, share)}, {words.signed(c.high, share)}]"
    return f"{c.metric}: {words.signed(c.difference, share)} {ends}, {c.changed:.1%} of {c.n} items changed"


def _rule_view(run: Run, result: Any) -> RuleView:
    from posttrain import stats

    c, share = result.compared, compare.is_share(result.rule.metric, run.reports)
    seen = stats.minimum_detectable_drop(c.changed, c.n) if c and c.test == "mcnemar" else None
    return RuleView(
        rule=result.rule.words(), verdict=result.verdict, n=c and c.n, baseline=c and c.baseline,
        candidate=c and c.candidate, difference=c and c.difference, low=c and c.low, high=c and c.high,
        detectable=seen, share=share, reason=words.why(result),
    )  # fmt: skip


def regressions(run: Run, gate: collect.Gate) -> list[tuple[str, list[str]]]:
    """For each rule's metric the items that the baseline did better, by name."""
    candidate, baseline = (_side(run, gate.node, edge) for edge in ("candidate", "baseline"))
    if candidate is None or baseline is None:
        return []
    found = []
    for metric in dict.fromkeys(r.rule.metric for r in gate.decision.results):
        lost = compare.lost_items(metric, baseline, candidate)
        if lost:
            share = compare.is_share(metric, run.reports)
            told = [f"{n}: {words.value(a, share)} → {words.value(b, share)}" for n, a, b in lost[:MAX_NAMED]]
            found.append((f"{metric}: {words.many(len(lost), 'item')} got worse", told))
    return found


# ---- the rest --------------------------------------------------------------------------------------------------------


def _stage_line(n: Node, price: float) -> StageLine:
    c = compare.cost([n], price)
    money = words.money(c.money, price)
    return StageLine(n.name, n.record.type, n.record.fingerprint, c.seconds, c.tokens, c.flops, c.peak_gib, money)


def versions(nodes: Sequence[Node]) -> list[tuple[str, str]]:
    """Versions that computed the artefacts; several when a run was continued after an upgrade."""
    found: dict[str, dict[str, None]] = {}
    for n in nodes:
        for what, version in n.record.versions.items():
            found.setdefault(what, {})[version] = None
    return [(what, ", ".join(seen)) for what, seen in found.items()]
