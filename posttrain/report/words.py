"""Numbers and facts as people read them: percentages, counts, costs, verdicts in sentences.

Left out on purpose: HTML, and languages other than English.
"""

import math
from collections.abc import Sequence

from posttrain.gates import Decision, Result

NONE = "–"
TITLES = {
    "pass": "The gate passed",
    "fail": "The gate failed",
    "inconclusive": "The gate could not decide",
    "": "No gate in this recipe",
}


def value(x: float | None, share: bool) -> str:
    """'87.5%' for a share, '18.42' for anything else."""
    if x is None or not math.isfinite(x):
        return NONE
    return f"{100 * x:.1f}%" if share else plain(x)


def signed(x: float | None, share: bool) -> str:
    """'+4.0' percentage points for a share, '+0.31' for anything else; the minus is a real one."""
    if x is None or not math.isfinite(x):
        return NONE
    text = f"{100 * x:+.1f}" if share else f"{'+' if x >= 0 else '-'}{plain(abs(x))}"
    return text.replace("-", "−") + (" pp" if share else "")


def plain(x: float) -> str:
    if x and abs(x) < 0.001:
        return f"{x:.1e}"
    return f"{x:.3f}" if abs(x) < 10 else f"{x:,.2f}" if abs(x) < 100 else f"{x:,.0f}"


def count(x: float | None) -> str:
    """'1.24 M' of things."""
    if not x:
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:.3g} {letter}"
    return f"{x:.0f}"


def flops(x: float | None) -> str:
    """'3.1e14' as '310 TFLOP'."""
    if not x:
        return NONE
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if x >= size:
            return f"{x / size:.3g} {letter}FLOP"
    return f"{x:.3g} FLOP"


def money(amount: float, price_per_hour: float) -> str:
    """In the currency of the rate; a dash when no rate was given."""
    if not price_per_hour:
        return NONE
    return f"{amount:.2f}" if amount >= 0.1 or not amount else f"{amount:.4f}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """'a, b and c', with what does not fit counted."""
    shown = list(names[:most]) + ([f"{len(names) - most} more"] if len(names) > most else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def many(n: int, thing: str) -> str:
    """'1 rule', '3 rules'."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def label(metric: str) -> str:
    """'refusals.harmful_refused' -> 'harmful refused'."""
    return metric.partition(".")[2].replace("_", " ").replace(".", " · ") or metric.replace("_", " ")


def suite(metric: str) -> str:
    name = metric.partition(".")[0]
    return "every answer" if name == "all" else name.replace("_", " ")


def verdict_lines(decision: Decision, candidate: str, baseline: str) -> list[str]:
    """The gate's verdict in words: what was compared, then the rules that stand in the way."""
    open_rules = [r for r in decision.results if r.verdict != "pass"]
    n = many(len(decision.results), "rule")
    if decision.verdict == "pass":
        return [f"{candidate} was compared with {baseline}, item by item: all of {n} hold."]
    failed = [r for r in open_rules if r.verdict == "fail"]
    unsure = [r for r in open_rules if r.verdict == "inconclusive"]
    parts = [f"{len(failed)} broken" if failed else "", f"{len(unsure)} undecided" if unsure else ""]
    told = " and ".join(p for p in parts if p) or "no reasons given"
    head = f"{candidate} was compared with {baseline}, item by item: of {n}, {told}."
    return [head, *(_open_rule(r) for r in [*failed, *unsure][:4])]


def _open_rule(result: Result) -> str:
    """A rule that does not hold, with what was measured."""
    c = result.compared
    if c is None or result.broken:
        return f"{result.rule.metric}: {why(result)}."
    share = all(0 <= x <= 1 for x in (c.baseline, c.candidate))
    went = f"{result.rule.metric} went from {value(c.baseline, share)} to {value(c.candidate, share)}"
    asked = result.rule.words().removeprefix(result.rule.metric).strip()
    return f"{went}; the rule asks for {asked}: {why(result)}."


def why(result: Result) -> str:
    """A rule's reason without the numbers that stand beside it in the table."""
    told = result.reason.removeprefix(f"{result.rule.words()}: ").removeprefix(f"{result.rule.metric}: ")
    head, _, tail = told.partition("; ")
    return tail.removeprefix(f"{result.verdict}: ") if tail and "->" in head else told


def one_line(text: str, width: int) -> str:
    """Blanks and line breaks made one blank, cut at a word."""
    return shorten(" ".join(text.split()), width)


def shorten(text: str, width: int) -> str:
    """Cut at a blank, with an ellipsis."""
    return text if len(text) <= width else text[:width].rsplit(" ", 1)[0].rstrip() + " …"
