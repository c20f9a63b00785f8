"""Votes as labels: what a person said of two answers of an item, in item order, whatever the task was.

A pair is one comparison, a ranking of K answers is K (K - 1) / 2 of them. Left out on purpose: what to make of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from posttrain.agreement import Labels
from posttrain.store.labels import FIELD, right
from posttrain.store.rows import TaskItem, Vote

SAYS = {"first": 1.0, "second": 0.0, "tie": 0.5, "both_bad": 0.5}


class Said(NamedTuple):
    """first: 1 when the first answer was preferred, 0 when the second, 0.5 for a tie. strength: 4 to 1, if told."""

    vote: Vote
    first: float
    strength: int | None

    @property
    def margin(self) -> float | None:
        """Signed, on Llama 2's scale for the first answer: significantly 3, better 2, slightly 1, negligibly 0."""
        if self.first == 0.5:
            return 0.0
        return None if self.strength is None else (self.strength - 1) * (1.0 if self.first else -1.0)


class Contest(NamedTuple):
    """Everything said of two answers (indices in item order) of an item."""

    item: TaskItem
    first: int
    second: int
    said: Sequence[Said]


def by_item(items: Iterable[TaskItem], votes: Iterable[Vote]) -> dict[str, tuple[TaskItem, list[Vote]]]:
    """Items that have votes, in the order of the items; votes in the order of their events."""
    found: dict[str, list[Vote]] = defaultdict(list)
    for vote in sorted(votes, key=lambda v: v.event):
        found[vote.item].append(vote)
    return {item.id: (item, found[item.id]) for item in items if item.id in found}


def comparisons(item: TaskItem, votes: Sequence[Vote]) -> list[Contest]:
    """The comparisons that an item's votes make; votes of other kinds make none."""
    said: dict[tuple[int, int], list[Said]] = defaultdict(list)
    for vote in votes:
        if vote.choice is not None:
            said[0, 1].append(Said(vote, SAYS[vote.choice], vote.strength))
        if vote.ranks is not None:
            for i, j in combinations(range(len(vote.ranks)), 2):
                gap = vote.ranks[j] - vote.ranks[i]
                said[i, j].append(Said(vote, 0.5 if not gap else float(gap > 0), None))
    return [Contest(item, i, j, told) for (i, j), told in sorted(said.items())]


def preferences(items: Sequence[TaskItem], votes: Sequence[Vote]) -> Labels:
    """(comparison, person, 'first' | 'second' | 'tie') of every vote that compares; 'both bad' is a tie."""
    word = {1.0: "first", 0.0: "second", 0.5: "tie"}
    return [
        (f"{c.item.id}\n{c.first}:{c.second}", s.vote.person, word[s.first])
        for item, own in by_item(items, votes).values()
        for c in comparisons(item, own)
        for s in c.said
    ]


def plain_labels(votes: Iterable[Vote], field: str) -> Labels:
    """(item, person, label) of the votes that say something in `field`: rating, thumb, or safety answer by answer."""
    found = []
    for vote in votes:
        value = getattr(vote, field)
        if isinstance(value, tuple):
            found += [(f"{vote.item}\n{n}", vote.person, one) for n, one in enumerate(value)]
        elif value is not None:
            found.append((vote.item, vote.person, value))
    return found


def labels(items: Sequence[TaskItem], votes: Sequence[Vote]) -> Labels:
    """The labels by which people can be held against each other, of the first sort that the votes have."""
    found = preferences(items, votes)
    for field in ("rating", "thumb", "safety"):
        found = found or plain_labels(votes, field)
    return found


def gold_marks(items: Mapping[str, TaskItem], votes: Iterable[Vote]) -> dict[str, list[bool]]:
    """Person -> right or wrong on each gold item."""
    found: dict[str, list[bool]] = defaultdict(list)
    for vote in votes:
        item = items.get(vote.item)
        if item and item.gold and FIELD[vote.kind] in item.gold:
            found[vote.person].append(right(vote.kind, item.gold, vote))
    return dict(found)
