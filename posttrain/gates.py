"""May this go on? A pure function of two reports and some rules: pass, fail or inconclusive, with reasons in words.

Items are paired by suite, id and prompt hash, so each prompt is its own control. The difference of a rule is oriented:
plus means the candidate is better. Its interval is the cluster bootstrap's, widened to Student's where that is wider
(a bootstrap of few items is too sure), and for 0/1 values by the adjusted Wald interval, so that "nothing changed in 20
items" is not taken for certainty. One item decides nothing. Both ends are one-sided 95% bounds:

    no_worse_than m    pass when the lower end > -m     fail when the upper end < -m     else inconclusive
    better_than m      pass when the lower end >  m     fail when the upper end <  m     else inconclusive

Failures within a family of rules are corrected by Holm: ten rules would otherwise cry wolf ten times as often. Passes
need no correction, because the gate passes only if every rule does (Berger 1982, intersection-union test). Rules are
never averaged: safety is not traded against capability.
Left out on purpose: reading and writing files (stages/gate.py), unpaired comparison, tests on one report alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from posttrain import stats
from posttrain.errors import UserError, nearest
from posttrain.rows import Row

Verdict = Literal["pass", "fail", "inconclusive"]
EXIT_CODES: dict[str, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
GRAVITY = ("fail", "inconclusive", "pass")
ALPHA = 0.05  # one-sided; the interval shown is the two-sided 90% one
TOO_FEW = "too few to prove it"  # what is said of a rule whose items cannot tell
USUAL_SHARE = 0.2  # share of items that change between a model and its tuned successor, assumed when nothing is known
SAFETY = ("refusals.", "attacks.", "pinned.")  # suites whose rules are tested together
FEW_CLUSTERS = 10  # between stats.FEW_CLUSTERS and this a bootstrap over clusters says more than it knows


class Rule(Row):
    """What a metric must satisfy. no_worse_than and better_than are in the metric's units; -0.02 and 0.02 read the
    same in no_worse_than. pinned: cases that must be right in the candidate: a list of suite/id, `all` that have the
    metric, or `kept`: all that the baseline has right. family: rules tested together."""

    metric: str
    no_worse_than: float | None = None
    better_than: float | None = None
    pinned: tuple[str, ...] | Literal["all", "kept"] = ()
    family: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.no_worse_than is not None and self.better_than is not None:
            raise ValueError("give no_worse_than or better_than, not both")
        if self.no_worse_than is None and self.better_than is None and not self.pinned:
            raise ValueError("give no_worse_than, better_than or pinned")
        return self

    @property
    def bar(self) -> float | None:
        """The oriented difference must lie above this; None: only pinned items count."""
        if self.better_than is not None:
            return self.better_than
        return None if self.no_worse_than is None else -abs(self.no_worse_than)

    @property
    def group(self) -> str:
        return self.family or ("safety" if self.metric.startswith(SAFETY) else "quality")

    def words(self) -> str:
        """'no worse than 0.02 in arithmetic.accuracy'."""
        if self.better_than is not None:
            return f"{self.metric} better by more than {self.better_than:g}"
        return f"{self.metric} no worse than {abs(self.no_worse_than or 0):g}" if self.bar is not None else self.metric


class Scored(Row):
    """One line of a report's items.jsonl: what an item scored. weights: parts a share was counted over, 1 if absent."""

    id: str
    suite: str
    cluster: str
    prompt: str  # hash of what was asked
    metrics: dict[str, float]
    weights: dict[str, float] = {}

    @property
    def key(self) -> tuple[str, str, str]:
        return self.suite, self.id, self.prompt

    @property
    def name(self) -> str:
        return f"{self.suite}/{self.id}"


class Report(NamedTuple):
    """A report as the gate needs it. better: metric -> higher is better (None: neither); judge: who scored; suites:
    name -> digest of its file."""

    items: tuple[Scored, ...]
    better: Mapping[str, bool | None]
    judge: str = ""
    suites: Mapping[str, str] = {}


class Compared(Row):
    """One metric on the paired items: everything a reader needs to check the verdict."""

    metric: str
    n: int
    clusters: int
    baseline: float
    candidate: float
    difference: float  # oriented: plus is better
    low: float
    high: float
    changed: float  # share of items whose value changed
    gained: int = 0
    lost: int = 0
    p_changed: float  # two-sided: exact McNemar for 0/1 values, Wilcoxon otherwise
    test: Literal["mcnemar", "wilcoxon"]


class Result(Row):
    """A rule and what came of it."""

    rule: Rule
    verdict: Verdict
    reason: str
    compared: Compared | None = None
    p_worse: float | None = None  # one-sided, raw: P(data | the difference lies at or above the bar)
    p_holm: float | None = None
    more_items: int | None = None
    broken: tuple[str, ...] = ()
    pins: int = 0  # cases that the rule pins here


class Decision(Row):
    verdict: Verdict
    reasons: tuple[str, ...]
    results: tuple[Result, ...]
    foreseen: tuple[str, ...] = ()
    noise: tuple[Compared, ...] = ()
    only_candidate: tuple[str, ...] = ()
    only_baseline: tuple[str, ...] = ()
    exit_code: int = Field(default=0)


def foresee(rules: Sequence[Rule], baseline: Report, noise: Report | None = None) -> tuple[str, ...]:
    """What each rule can find at all, said before anything is compared: the minimum detectable drop.

    The share of items that will change is not known yet; USUAL_SHARE is assumed, or the share that changed between
    two runs of the baseline, if that is larger.
    """
    lines = []
    for rule in rules:
        if rule.bar is None:
            continue
        _direction(rule.metric, baseline)
        items = [item for item in baseline.items if rule.metric in item.metrics]
        values = [item.metrics[rule.metric] for item in items]
        worth = _worth(values, items)
        if not set(values) <= {0.0, 1.0}:
            lines.append(
                f"{rule.words()}: {len(items)} items of continuous values; what can be found shows in the result"
            )
            continue
        changed = compare(rule.metric, noise, baseline).changed if noise and items else 0.0
        worth_words = f" (worth {worth:.0f} independent ones)" if worth < 0.95 * len(items) else ""
        lines.append(can_find(rule, f"{len(items)} items{worth_words}", worth, max(USUAL_SHARE, changed)))
    return tuple(lines)


def can_find(rule: Rule, items: str, worth: float, share: float = USUAL_SHARE) -> str:
    """What a rule about right-or-wrong items can find, in words. worth: how many independent items they are."""
    drop, bar = stats.minimum_detectable_drop(share, worth), abs(rule.bar or 0.0)
    if rule.better_than is not None:
        found = f"show a true gain of {rule.better_than + drop:.3f}"
        verdict = ""
    else:
        found = f"find a true drop of {drop:.3f}"
        verdict = f": {TOO_FEW}" if bar < drop else ": enough"
    return f"{rule.words()}: {items} {found} four times out of five, if {share:.0%} of them change{verdict}"


def _worth(values: Sequence[float], items: Sequence[Scored]) -> float:
    return stats.effective_n(values, [item.cluster for item in items]) if items else 0.0


def pair(candidate: Report, baseline: Report) -> tuple[list[tuple[Scored, Scored]], list[str], list[str]]:
    """(pairs by suite, id and prompt hash, names only in the candidate, names only in the baseline)."""
    there = {item.key: item for item in baseline.items}
    here = {item.key for item in candidate.items}
    pairs = [(item, there[item.key]) for item in candidate.items if item.key in there]
    alone = [item.name for item in candidate.items if item.key not in there]
    return pairs, alone, [item.name for item in baseline.items if item.key not in here]


def same_suites(candidate: Report, baseline: Report) -> None:
    """Refuses reports on different versions of a suite, and says what differs."""
    for name in sorted(candidate.suites.keys() & baseline.suites.keys()):
        here, there = candidate.suites[name], baseline.suites[name]
        if here == there:
            continue
        new, old = ({i.id: i.prompt for i in r.items if i.suite == name} for r in (candidate, baseline))
        changed = sorted(i for i in new.keys() & old.keys() if new[i] != old[i])
        counts = (
            f"{len(new.keys() - old.keys())} items only in the candidate's, {len(old.keys() - new.keys())} only in the "
            f"baseline's, {len(changed)} ask something else" + (f" (such as {changed[0]})" if changed else "")
        )
        same = "" if changed or new.keys() != old.keys() else "; their questions agree, so the expected answers differ"
        raise UserError(
            f"the reports were made with different versions of the suite {name!r} ({here} and {there}): {counts}{same}",
            remedy="evaluate the baseline again with today's suite",
        )


def compare(metric: str, candidate: Report, baseline: Report, *, seed: int = 0) -> Compared:
    """The paired comparison of one metric. Raises UserError when the metric has no values or no direction."""
    sign = _direction(metric, candidate, baseline)
    pairs = [(c, b) for c, b in pair(candidate, baseline)[0] if metric in c.metrics and metric in b.metrics]
    if not pairs:
        raise UserError(
            f"no item has {metric!r} in both reports",
            remedy="evaluate candidate and baseline on the same suites with the same limit",
        )
    new, old = (np.array([side.metrics[metric] for side in sides]) for sides in zip(*pairs))
    weight = np.array([(c.weights.get(metric, 1.0) + b.weights.get(metric, 1.0)) / 2 for c, b in pairs])
    clusters = [(b.suite, b.cluster) for _, b in pairs]
    difference = sign * (new - old)
    binary = bool(np.isin(new, (0.0, 1.0)).all() and np.isin(old, (0.0, 1.0)).all())
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    found = [
        stats.percentiles(stats.bootstrap(difference, clusters, weight, seed=seed), 1 - 2 * ALPHA),
        stats.student(difference, clusters, weight, 1 - 2 * ALPHA),
    ]
    if binary or (_shares(new) and _shares(old) and np.ptp(difference) < 1e-9):
        found.append(stats.paired_wald(gained, lost, len(pairs), 1 - 2 * ALPHA))
    low, high = min(a for a, _ in found), max(b for _, b in found)
    return Compared(
        metric=metric, n=len(pairs), clusters=len(set(clusters)),
        baseline=float(np.average(old, weights=weight)), candidate=float(np.average(new, weights=weight)),
        difference=float(np.average(difference, weights=weight)), low=low, high=high,
        changed=float((difference != 0).mean()), gained=gained, lost=lost,
        p_changed=stats.mcnemar(gained, lost) if binary else stats.wilcoxon(difference),
        test="mcnemar" if binary else "wilcoxon",
    )  # fmt: skip


def _shares(value_N: stats.Array) -> bool:
    return bool(((value_N >= 0) & (value_N <= 1)).all())


def _direction(metric: str, *reports: Report) -> int:
    known = {name for report in reports for item in report.items for name in item.metrics}
    if metric not in known:
        raise UserError(f"no item has the metric {metric!r}", remedy=nearest(metric, known or ["(nothing)"]))
    better = reports[0].better.get(metric, True)
    if better is None:
        raise UserError(f"{metric!r} has no better direction, so no rule can rest on it", remedy="drop this rule")
    return 1 if better else -1


def p_worse(compared: Compared, bar: float) -> float:
    """One-sided p of "the true difference lies at or above the bar", from the interval's upper end by the normal
    approximation: z = (difference - bar) / standard error, standard error = (high - difference) / 1.645."""
    from scipy.stats import norm

    width = compared.high - compared.difference
    if width <= 0:
        return 1.0 if compared.difference >= bar else 0.0
    return float(norm.cdf((compared.difference - bar) / (width / stats.Z_ONE_SIDED)))


def decide(candidate: Report, baseline: Report, rules: Sequence[Rule], noise: Report | None = None) -> Decision:
    """The gate. Fails if any rule fails; else inconclusive if any is; else passes."""
    if not rules:
        raise UserError("a gate without rules decides nothing", remedy="rules: [{metric: ..., no_worse_than: 0.02}]")
    same_suites(candidate, baseline)
    _, only_candidate, only_baseline = pair(candidate, baseline)
    judged = candidate.judge == baseline.judge
    raw = [_measure(rule, candidate, baseline) for rule in rules]
    results = [_settle(result, judged) for result in _with_holm(raw)]
    results.sort(key=lambda r: GRAVITY.index(r.verdict))
    verdict = results[0].verdict
    metrics = dict.fromkeys(rule.metric for rule in rules)
    floor = tuple(compare(metric, noise, baseline) for metric in metrics) if noise else ()
    return Decision(
        verdict=verdict,
        reasons=(*(result.reason for result in results), *_noisy(results, floor)),
        results=tuple(results),
        foreseen=foresee(rules, baseline, noise),
        noise=floor,
        only_candidate=tuple(only_candidate),
        only_baseline=tuple(only_baseline),
        exit_code=EXIT_CODES[verdict],
    )


def _noisy(results: Sequence[Result], floor: Sequence[Compared]) -> Iterator[str]:
    """A warning for each rule whose margin the baseline's second run already exceeds."""
    moved = {c.metric: abs(c.difference) for c in floor}
    for result in results:
        if result.rule.bar is not None and moved.get(result.rule.metric, 0.0) > abs(result.rule.bar):
            yield (
                f"{result.rule.metric}: two runs of the baseline already differ by {moved[result.rule.metric]:.3f}, "
                f"more than the margin of {abs(result.rule.bar):g}"
            )


def _measure(rule: Rule, candidate: Report, baseline: Report) -> Result:
    """The numbers of a rule; its verdict waits for Holm."""
    compared = compare(rule.metric, candidate, baseline) if rule.bar is not None else None
    worse = p_worse(compared, rule.bar) if compared and rule.bar is not None else None
    pins, broken = _pins(rule, candidate, baseline)
    return Result(rule=rule, verdict="pass", reason="", compared=compared, p_worse=worse, broken=broken, pins=pins)


def _pins(rule: Rule, candidate: Report, baseline: Report) -> tuple[int, tuple[str, ...]]:
    """(how many items are pinned, those that are missing or not right in the candidate)."""
    best = 1.0 if candidate.better.get(rule.metric, baseline.better.get(rule.metric, True)) else 0.0
    values, before = (
        {item.name: item.metrics.get(rule.metric) for item in report.items} for report in (candidate, baseline)
    )
    names = pinned_names(rule, values, before, best)
    return len(names), tuple(name for name in names if values.get(name) != best)


def pinned_names(
    rule: Rule, values: Mapping[str, float | None], before: Mapping[str, float | None], best: float
) -> Sequence[str]:
    """The cases a rule pins. values, before: item -> its metric in candidate and baseline."""
    if rule.pinned == "all":
        return [name for name in values.keys() | before.keys() if values.get(name, before.get(name)) is not None]
    if rule.pinned == "kept":
        return [name for name, value in before.items() if value == best]
    return rule.pinned


def _with_holm(results: Sequence[Result]) -> list[Result]:
    adjusted: dict[int, float] = {}
    for family in {result.rule.group for result in results}:
        members = [i for i, r in enumerate(results) if r.rule.group == family and r.p_worse is not None]
        adjusted |= dict(zip(members, stats.holm([results[i].p_worse or 0.0 for i in members])))
    return [r.model_copy(update={"p_holm": adjusted.get(i)}) for i, r in enumerate(results)]


def _settle(result: Result, same_judge: bool) -> Result:
    """Verdict and reason of a rule."""
    rule, compared = result.rule, result.compared
    if result.broken:
        shown = ", ".join(sorted(result.broken)[:12]) + (
            f" and {len(result.broken) - 12} more" * (len(result.broken) > 12)
        )
        reason = f"{rule.metric}: pinned case {shown} is missing or not right any more"
        return result.model_copy(update={"verdict": "fail", "reason": reason})
    if compared is None or rule.bar is None:
        whose = " that the baseline has right" if rule.pinned == "kept" else ""
        reason = f"{rule.metric}: all {result.pins} pinned cases{whose} hold"
        if not result.pins:
            reason = f"{rule.metric}: no pinned case{whose}, so this rule holds nothing"
        return result.model_copy(update={"reason": reason})
    verdict, why = _verdict(compared, rule.bar, result.p_holm or 0.0)
    if not same_judge:
        verdict, why = "inconclusive", "the reports were scored by different judges; score both again with one"
    more = _more(compared, rule.bar) if verdict == "inconclusive" and same_judge else None
    told = f"{rule.words()}: {_numbers(compared)}; {verdict}: {why}" + _told_more(more, compared)
    finite = int(more) if more is not None and more != float("inf") else None
    return result.model_copy(update={"verdict": verdict, "reason": told, "more_items": finite})


def _verdict(compared: Compared, bar: float, p_holm: float) -> tuple[Verdict, str]:
    if compared.n < 2:
        return "inconclusive", "one item has no spread to judge by"
    few = ""
    if stats.FEW_CLUSTERS <= compared.clusters < FEW_CLUSTERS and compared.changed > 0:
        few = f" (only {compared.clusters} clusters: take the interval with care)"
    if compared.low > bar:
        return "pass", f"the whole interval lies above {bar:g}{few}"
    if compared.high < bar and p_holm < ALPHA:
        return "fail", f"the whole interval lies below {bar:g}{few}"
    if compared.high < bar:
        return "inconclusive", f"below {bar:g}, but not after correcting for the other rules (Holm p {p_holm:.3f})"
    return "inconclusive", f"{bar:g} lies inside the interval{few}"


def _numbers(c: Compared) -> str:
    return (
        f"{c.baseline:.3f} -> {c.candidate:.3f}, better by {c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}], n {c.n}"
    )


def _more(compared: Compared, bar: float) -> float:
    distance = compared.difference - bar
    half = compared.difference - compared.low if distance > 0 else compared.high - compared.difference
    return stats.items_to_decide(half, distance, compared.n)


def _told_more(more: float | None, compared: Compared) -> str:
    if more is None:
        return ""
    if more > 1000 * compared.n:
        return "; no reasonable number of items would decide"
    return f"; about {more:,.0f} more items like these would decide, if the difference stays" if more else ""
