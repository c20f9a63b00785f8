"""A step whose loss or gradient is not a number: which rows did it, what is told, when to give up.

`runtime.not_finite` is `stop` (one message with the rows) or `skip`: such a step leaves weights and optimiser moments
as they are, the schedule goes on, and the log entry says so. It is no part of an artefact's identity: an artefact is
the one that `stop` would have made, or `stop` would have made none and its record counts the steps left out.
Left out on purpose: mending (loss scales, values clamped), rows that are dropped for good.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from posttrain.errors import UserError

IN_A_ROW = 5  # steps left out one after the other before training ends all the same
NAMED = 5  # rows
KEY = "not_finite"  # of a log entry: what was not; beside it `rows`


def guilty(rows: Sequence[int], bad: Callable[[Sequence[int]], bool]) -> Iterator[int]:
    """Rows that are bad by themselves, by halving; all rows of a group that is bad only as a whole."""
    if not bad(rows):
        return
    if len(rows) == 1:
        yield rows[0]
        return
    middle, found = len(rows) // 2, False
    for half in (rows[:middle], rows[middle:]):
        for row in guilty(half, bad):
            found = True
            yield row
    if not found:
        yield from rows


def entry(
    what: str, micro: Sequence[Sequence[int]], names: Sequence[str], bad: Callable[[Sequence[int]], bool]
) -> dict[str, Any]:
    """What the log says of such a step. Costs a pass over its micro-batches, and a few more over the guilty rows."""
    found = list(islice((row for indices in micro for row in guilty(indices, bad)), NAMED + 1))
    found = found or [row for indices in micro for row in indices][: NAMED + 1]  # only the sum of all was not finite
    more = ["..."] if len(found) > NAMED else []
    return {KEY: what, "rows": [names[i] for i in found[:NAMED]] + more}


def check(
    step: int, entry: Mapping[str, Any], log: Sequence[Mapping[str, Any]], how: str, say: Callable[[str], None]
) -> None:
    """Nothing for a step that is finite; else UserError, or one line for people. log: of the steps before."""
    if KEY not in entry:
        return
    last = [e for e in log if e["step"]][1 - IN_A_ROW :]
    many = len(last) == IN_A_ROW - 1 and all(KEY in e for e in last)
    rows = ", ".join(entry["rows"])
    if how == "skip" and not many:
        return say(f"  step {step} is left out: {entry[KEY]} not finite; rows: {rows}")
    raise UserError(
        (f"{IN_A_ROW} steps one after the other were left out: " if how == "skip" else "")
        + f"the {entry[KEY]} is not finite (NaN or infinite); rows of this step: {rows}",
        remedy="lower lr, or look at those rows with `posttrain show`; the last checkpoint is kept"
        + ("" if how == "skip" else "; runtime.not_finite=skip leaves such steps out"),
    )


def left_out(log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """A metric for the record; nothing where every step was learned from."""
    steps = sum(KEY in e for e in log)
    return {"skipped_steps": float(steps)} if steps else {}
