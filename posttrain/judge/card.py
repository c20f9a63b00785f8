"""A judge's card: how far it agrees with people on labelled pairs, and whether it may label training data.

kappa against the people's majority, consistency under a swap of the order, accuracy beside "the longer answer is
better" on the same rows, what could not be read. A judge below a threshold is refused for labelling unless the recipe
says in words why it is used all the same.
Left out on purpose: asking (llm.py), agreement between people (agreement.py).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from posttrain import agreement, stats
from posttrain.errors import UserError
from posttrain.judge.llm import Compared, Comparer, Preferred
from posttrain.rows import Pair, Row, digest, read_jsonl

Label = Literal["first", "second", "tie"]
CODE = {"first": 0, "second": 1, "tie": 2}
DRAWS = 2000  # of the bootstrap of kappa, which is a loop
BAND = 0.05  # P(first is better) within 0.5 +- BAND counts as a tie


class Labelled(Compared):
    """A comparison that people have labelled, one label for each of them."""

    id: str = ""
    labels: tuple[Label, ...] = Field(min_length=1)
    category: str = ""

    @property
    def majority(self) -> Label:
        """The most frequent label; a tie when there is none."""
        return agreement.majority(self.labels) or "tie"  # type: ignore[return-value]


class Thresholds(Row):
    """What a judge must reach to label training data. beats_length: the difference's lower 95% end lies above 0."""

    kappa: float = 0.6
    consistency: float = 0.8
    beats_length: bool = True
    problems: float = 0.05  # share of comparisons without an answer, at most
    items: int = 50  # fewer prove nothing


class Card(Row):
    """kappa, accuracy, longer, gain: [value, low, high]. accuracy: of pairs where people prefer one, a tie counts half.

    primacy: share of decided asks that chose the answer shown first; 0.5 is fair. people: kappa between the labels of
    the first two people, which is about what can be reached. cost: of asking, in the endpoint's money.
    """

    judge: str
    data: str
    n: int
    kappa: tuple[float, float, float]
    people: float | None
    consistency: float
    primacy: float
    accuracy: tuple[float, float, float]
    longer: tuple[float, float, float]
    gain: tuple[float, float, float]
    problems: dict[str, int]
    unread: float
    cost: float = 0.0
    thresholds: Thresholds
    failed: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failed

    def lines(self) -> list[str]:
        """For people."""
        low_high = "{:.3f} [{:.3f}, {:.3f}]".format
        people = "" if self.people is None else f"; two people: {self.people:.3f}"
        counts = ", ".join(f"{k} {v}" for k, v in sorted(self.problems.items())) or "none"
        return [
            f"judge          {self.judge} on {self.n} pairs of {self.data}",
            f"kappa          {low_high(*self.kappa)} with the majority{people}",
            f"consistency    {self.consistency:.3f} under a swap; the answer shown first wins {self.primacy:.3f}",
            f"accuracy       {low_high(*self.accuracy)}; the longer answer {low_high(*self.longer)}",
            f"difference     {low_high(*self.gain)}",
            f"without answer {self.unread:.3f}; problems: {counts}",
            *([f"cost           {self.cost:.4g}"] if self.cost else []),
            f"may label      {'yes' if self.passed else 'no: ' + '; '.join(self.failed)}",
        ]


async def examine(
    judge: Comparer, rows: Sequence[Labelled], *, data: str, thresholds: Thresholds | None = None, cost: Any = None
) -> Card:
    """Ask the judge about labelled rows and write its card. cost: called afterwards for what was spent."""
    if not rows:
        raise UserError("a judge's card needs labelled pairs", where=data)
    said = await judge.compare([Compared(**{k: getattr(r, k) for k in Compared.model_fields}) for r in rows])
    return card(judge.name, rows, said, data=data, thresholds=thresholds or Thresholds(), cost=cost() if cost else 0.0)


def card(
    name: str, rows: Sequence[Labelled], said: Sequence[Preferred], *, data: str, thresholds: Thresholds,
    cost: float = 0.0,
) -> Card:  # fmt: skip
    """The card of what a judge said of labelled rows."""
    majority = [r.majority for r in rows]
    choice = [choice_of(v.p) for v in said]
    truth_N, choice_N = (np.array([CODE[x] for x in xs]) for xs in (majority, choice))
    kappa = stats.with_interval(agreement.cohen_kappa, choice_N, truth_N, draws=DRAWS)
    right, longer = _accuracies(rows, majority, choice)
    gain = stats.bootstrap(right - longer, range(len(right))) if len(right) else np.zeros(1)
    asked = [v for v in said if v.consistent is not None]
    decided = [shown for v in asked for shown in (v.ab, v.ba) if shown is not None and shown != 0.5]
    unread = sum(v.p is None for v in said) / len(said)
    found = Card(
        judge=name, data=data, n=len(rows), kappa=(kappa.value, kappa.low, kappa.high), people=_people(rows),
        consistency=sum(bool(v.consistent) for v in asked) / max(1, len(asked)),
        primacy=sum(shown > 0.5 for shown in decided) / max(1, len(decided)),
        accuracy=_with_interval(right), longer=_with_interval(longer),
        gain=(float((right - longer).mean()) if len(right) else 0.0, *stats.percentiles(gain)),
        problems=dict(Counter(p for v in said for p in v.problems)), unread=unread, cost=cost, thresholds=thresholds,
        failed=(),
    )  # fmt: skip
    return found.model_copy(update={"failed": tuple(failures(found, thresholds))})


def failures(card: Card, wanted: Thresholds) -> list[str]:
    """Why a judge may not label; [] when it may. A kappa that is not a number (one label only) fails."""
    reasons = {
        f"{card.n} labelled pairs are fewer than {wanted.items}": card.n < wanted.items,
        f"kappa {card.kappa[0]:.2f} is below {wanted.kappa:g}": not card.kappa[0] >= wanted.kappa,
        f"consistency {card.consistency:.2f} is below {wanted.consistency:g}": card.consistency < wanted.consistency,
        "it is not shown to be better than 'the longer answer is better'": wanted.beats_length and card.gain[1] <= 0,
        f"{card.unread:.0%} of the pairs got no answer": card.unread > wanted.problems,
    }
    return [reason for reason, failed in reasons.items() if failed]


def may_label(card: Card, anyway: str = "") -> None:
    """Raises UserError when a judge that failed its card is to label training data. anyway: the recipe's reason."""
    if not card.passed and not anyway.strip():
        raise UserError(
            f"this judge may not label training data: {'; '.join(card.failed)}", where=card.judge,
            remedy="another judge, or `anyway: <why its labels are used all the same>`",
        )  # fmt: skip


def choice_of(p: float | None) -> Label:
    """What a probability says in words. A judge that said nothing said 'tie': it did not find the better one."""
    if p is None or abs(p - 0.5) <= BAND:
        return "tie"
    return "first" if p > 0.5 else "second"


def _accuracies(
    rows: Sequence[Labelled], majority: Sequence[Label], choice: Sequence[Label]
) -> tuple[stats.Array, stats.Array]:
    """(judge, longer answer) on rows where people prefer one: 1 right, 0.5 tie, 0 wrong."""

    def worth(said: Label, truth: Label) -> float:
        return 0.5 if said == "tie" else float(said == truth)

    decided = [(r, m, c) for r, m, c in zip(rows, majority, choice) if m != "tie"]
    right = np.array([worth(c, m) for _, m, c in decided])
    longer = np.array([worth(_longer(r), m) for r, m, _ in decided])
    return right, longer


def _longer(row: Compared) -> Label:
    a, b = len(row.first), len(row.second)
    return "tie" if a == b else "first" if a > b else "second"


def _with_interval(value_N: stats.Array) -> tuple[float, float, float]:
    if not len(value_N):
        return 0.0, 0.0, 1.0
    return float(value_N.mean()), *stats.percentiles(stats.bootstrap(value_N, range(len(value_N))))


def _people(rows: Sequence[Labelled]) -> float | None:
    """Cohen's kappa of the first two labels, where every row has two."""
    if any(len(r.labels) < 2 for r in rows):
        return None
    return agreement.cohen_kappa([r.labels[0] for r in rows], [r.labels[1] for r in rows])


def read_labelled(path: Path) -> list[Labelled]:
    """Labelled comparisons, or pairs (chosen, rejected), whose order is drawn by hash so that neither side is known."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise UserError("no labelled pairs", where=str(path))
    if '"labels"' in lines[0]:
        return list(read_jsonl(path, Labelled))
    return [from_pair(pair) for pair in read_jsonl(path, Pair)]


def from_pair(pair: Pair) -> Labelled:
    """A pair as a labelled comparison; soft labels of one half are ties. meta.reference: a right answer, for judges."""
    label: Label = "first" if pair.soft is None or pair.soft > 0.5 else "tie" if pair.soft == 0.5 else "second"
    a, b = pair.chosen.content, pair.rejected.content
    if int(digest([pair.id, a, b]), 16) % 2:
        a, b = b, a
        label = {"first": "second", "second": "first", "tie": "tie"}[label]  # type: ignore[assignment]
    truth = {"reference": pair.meta["reference"]} if pair.meta.get("reference") else {}
    return Labelled(
        id=pair.id, prompt=pair.prompt, first=a, second=b, truth=truth, labels=(label,), category=pair.category
    )  # fmt: skip
