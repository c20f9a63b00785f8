"""How often the gate is wrong: false alarms, false passes and power at stated sizes, by simulation.

    python benchmarks/gate_power.py [--draws 400] [--seed 0] [--rows 0 5]

A baseline answers N items, right with probability 0.7. The candidate answers the same items; a share of them changes,
and its true rate differs by a stated amount. Every draw goes through gates.decide as reports do. Three questions:

    no_worse_than 0.05, 1 rule    how often each verdict comes, by true difference and N
    the same with clusters of 5   items that come in groups which are right or wrong together
    6 rules at once               how often any rule fails when nothing is worse (Holm keeps it near 5%)

Every row of the tables has random numbers of its own, so `--rows` makes the same rows as the whole run does.
Left out on purpose: continuous metrics (their interval is the same bootstrap), and models.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from posttrain import stats
from posttrain.gates import Report, Rule, Scored, decide

RATE, CHANGED, MARGIN = 0.7, 0.2, 0.05
SIZES = (100, 250, 500, 1000)
DIFFERENCES = (0.05, 0.0, -0.05, -0.10, -0.15)


def pairs(
    rng: np.random.Generator, n: int, difference: float, changed: float = CHANGED
) -> tuple[np.ndarray, np.ndarray]:
    """(baseline, candidate) 0/1 values of n items whose true rates differ so, `changed` of them changing.

    gained + lost = changed and gained - lost = difference give both chances.
    """
    changed = max(changed, abs(difference))
    gain, lose = (changed + difference) / 2, (changed - difference) / 2
    old = rng.random(n) < RATE
    flips = np.where(old, rng.random(n) < lose / RATE, rng.random(n) < gain / (1 - RATE))
    return old.astype(float), np.where(flips, ~old, old).astype(float)


def report(values: dict[str, np.ndarray], size: int) -> Report:
    """One report of several metrics on the same items; `size` neighbours are one cluster."""
    n = len(next(iter(values.values())))
    rows = [{m: float(v[i]) for m, v in values.items()} for i in range(n)]
    items = tuple(
        Scored(id=str(i), suite="s", cluster=str(i // size), prompt="", metrics=row) for i, row in enumerate(rows)
    )
    return Report(items, dict.fromkeys(values, True), "rules")


def verdicts(
    rng: np.random.Generator, n: int, difference: float, draws: int, *, rules: int = 1, size: int = 1
) -> Counter:
    """How often each verdict came."""
    names = [f"m{k}.x" for k in range(rules)]
    asked = [Rule(metric=m, no_worse_than=MARGIN, family="one") for m in names]
    found: Counter[str] = Counter()
    for _ in range(draws):
        drawn = {m: pairs(rng, n // size, difference) for m in names}
        old, new = ({m: np.repeat(d[k], size) for m, d in drawn.items()} for k in (0, 1))
        found[decide(report(new, size), report(old, size), asked).verdict] += 1
    return found


def row(found: Counter, draws: int) -> str:
    cells = []
    for name in ("pass", "inconclusive", "fail"):
        low, high = stats.wilson(found[name], draws)
        cells.append(f"{found[name] / draws:.3f} [{low:.3f}, {high:.3f}]")
    return " | ".join(cells)


def rows(sizes: Sequence[int], draws: int) -> list[tuple[str, int, float, dict[str, int]]]:
    """(heading of the table, n, true difference, how) of every row, in order. how: draws, rules, size of clusters."""
    one = f"One rule, no worse than {MARGIN}, {CHANGED:.0%} of items change, {draws} draws a row"
    groups = "The same, items in groups of five that are right or wrong together"
    fewer = max(50, draws // 4)
    six = f"Six rules at once, the worst verdict counts, {fewer} draws a row"
    found = [(one, n, d, {"draws": draws}) for n in sizes for d in DIFFERENCES]
    found += [(groups, 500, d, {"draws": draws, "size": 5}) for d in (0.0, -MARGIN, -0.15)]
    return found + [(six, 250, d, {"draws": fewer, "rules": 6}) for d in (0.0, -MARGIN)]


def lines(seed: int, draws: int, sizes: Sequence[int], part: slice) -> Iterator[str]:
    told = ""
    for number, (heading, n, difference, how) in list(enumerate(rows(sizes, draws)))[part]:
        if heading != told:
            yield f"\n{heading}\n\n| n | true difference | pass | inconclusive | fail |\n|---:|---:|---:|---:|---:|"
            told = heading
        found = verdicts(np.random.default_rng([seed, number]), n, difference, **how)
        yield f"| {n:,} | {difference:+.2f} | {row(found, how['draws'])} |"
    yield "\nSmallest true drop found four times out of five (gates.foresee), 20% of items changing:"
    yield ", ".join(f"{n:,} items {stats.minimum_detectable_drop(CHANGED, n):.3f}" for n in sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rows", type=int, nargs=2, default=(None, None), help="only these rows, from and up to")
    given = parser.parse_args()
    start = time.perf_counter()
    for line in lines(given.seed, given.draws, given.sizes, slice(*given.rows)):
        print(line, flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
