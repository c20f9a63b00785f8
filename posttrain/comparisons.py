"""Pairs, rankings and ratings as one thing: answers to a prompt with what is known about their order.

A group is what a reward model sees at once: a prompt and its answers, packed with the prompt shared. All comparisons
that a ranking implies stand in one group, each with weight 1 / C(K, 2), so that a prompt with nine answers counts as
much as one with two (InstructGPT, arXiv:2203.02155, eq. 1). Ties are comparisons whose order is an even bet.
Left out on purpose: tokens, scores; joining pairs that share a prompt (each is its own group).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from posttrain.rows import Message, Messages, Pair, Ranking, Rating


class Comparison(NamedTuple):
    """Answer `better` was preferred to answer `worse` (numbers in the group). soft: P(that is right), 0.5 for a tie."""

    better: int
    worse: int
    soft: float = 1.0
    margin: float = 0.0
    weight: float = 1.0


@dataclass(frozen=True)
class Group:
    """ranks: 0 is best, () when only comparisons are known. values: ratings on [-1, 1], () when there are none."""

    id: str
    prompt: Messages
    answers: tuple[Message, ...]
    comparisons: tuple[Comparison, ...]
    ranks: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    source: str = ""
    category: str = ""


def from_pair(pair: Pair) -> Group:
    """Two answers, the chosen one first, with the pair's own margin and probability."""
    soft, margin = (1.0 if pair.soft is None else pair.soft), pair.margin or 0.0
    right = Comparison(0, 1, soft, margin) if soft >= 0.5 else Comparison(1, 0, 1 - soft, -margin)
    answers, ranks = (pair.chosen, pair.rejected), (right.better, right.worse) if soft != 0.5 else (0, 0)
    return Group(pair.id, pair.prompt, answers, (right,), ranks, (), pair.source, pair.category)


def from_ranking(ranking: Ranking) -> Group:
    """Answers sorted best first, every two of them compared."""
    order = sorted(range(len(ranking.ranks)), key=lambda n: ranking.ranks[n])
    ranks = tuple(ranking.ranks[n] for n in order)
    answers = tuple(ranking.answers[n] for n in order)
    category = str(ranking.meta.get("category", ""))
    return Group(ranking.id, ranking.prompt, answers, all_pairs(ranks), ranks, (), ranking.source, category)


def all_pairs(ranks: Sequence[float]) -> tuple[Comparison, ...]:
    """Every two answers of one prompt, weight 1 / C(K, 2); ranks ascend from the best. A tie has soft 0.5."""
    found = list(combinations(range(len(ranks)), 2))
    return tuple(Comparison(i, j, 0.5 if ranks[i] == ranks[j] else 1.0, 0.0, 1.0 / len(found)) for i, j in found)


def from_ratings(ratings: Iterable[Rating]) -> list[Group]:
    """One group a prompt, best answer first; values on [-1, 1]. Several ratings of one answer are averaged."""
    prompts: dict[Messages, dict[Message, list[float]]] = {}
    first: dict[Messages, Rating] = {}
    for r in ratings:
        low, high = r.scale
        value = 2 * (r.value - low) / (high - low) - 1 if high > low else 0.0
        first.setdefault(r.prompt, r)
        prompts.setdefault(r.prompt, {}).setdefault(r.answer, []).append(value)
    groups = []
    for prompt, answers in prompts.items():
        means = sorted(((sum(v) / len(v), a) for a, v in answers.items()), key=lambda x: -x[0])
        values, row = tuple(v for v, _ in means), first[prompt]
        groups.append(
            Group(row.id, prompt, tuple(a for _, a in means), all_pairs([-v for v in values]), (), values, row.source)
        )
    return groups


def longer(group: Group, c: Comparison) -> float:
    """1 when the preferred answer is the longer one in characters, 0 when it is the shorter one, 0.5 when alike."""
    a, b = (len(group.answers[n].content) for n in (c.better, c.worse))
    return 0.5 + 0.5 * ((a > b) - (a < b))
