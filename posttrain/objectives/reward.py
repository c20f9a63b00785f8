"""Reward-model losses: pure functions from scores to one loss per comparison, ranking or rating, unreduced.

Shapes: C comparisons, A answers, G prompts with a ranking each. Scores are in nats of log-odds: the difference of two
is log P(first is better) - log P(second is better). sigma is the logistic function.
Left out on purpose: models, batching, the weight 1 / C(K, 2) of a ranking's comparisons (comparisons.py), logging.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from posttrain.lazy import Lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:  # recipes read these signatures; only a loss that is computed needs torch
    torch, F = Lazy("torch"), Lazy("torch.nn.functional")


class Compared(NamedTuple):
    """Scores of two answers to one prompt, and what was said about them."""

    better_C: Tensor  # score of the answer that was preferred
    worse_C: Tensor
    soft_C: Tensor  # P(the preferred one is better): 1 when that is certain, 0.5 for a tie
    margin_C: Tensor  # how much better, 0 when nobody said


class Ranked(NamedTuple):
    """Scores of the answers to G prompts, with each answer's rank: 0 is best, equal numbers are ties."""

    score_A: Tensor
    rank_A: Tensor
    prompt_A: Tensor  # which prompt, 0..prompts-1
    prompts: int


class Rated(NamedTuple):
    """Scores of answers, and the ratings they should have: the scale's ends are -1 and 1."""

    score_A: Tensor
    value_A: Tensor


def _cross_entropy(z_C: Tensor, q_C: Tensor) -> Tensor:
    """-q log sigma(z) - (1 - q) log sigma(-z)."""
    return -q_C * F.logsigmoid(z_C) - (1 - q_C) * F.logsigmoid(-z_C)


def _centred(p: Compared, centre: float) -> Tensor | float:
    return centre * (p.better_C + p.worse_C) ** 2 if centre else 0.0


def bradley_terry(p: Compared, *, margin: bool = True, centre: float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """-q log sigma(z) - (1-q) log sigma(-z) + k (r_w + r_l)^2, z = r_w - r_l - m: Bradley & Terry 1952.

    q = 1: arXiv:1909.08593, eq. 1. margin m (0 where a row has none, or with margin: false): Llama 2, arXiv:2307.09288,
    eq. 2. centre k keeps scores around 0, which comparisons leave open: arXiv:2312.09244. Rows may carry q, the
    probability that their order is right; label_smoothing e mixes in the opposite order: q (1-e) + (1-q) e.
    """
    z_C = p.better_C - p.worse_C - (p.margin_C if margin else 0.0)
    q_C = p.soft_C * (1 - label_smoothing) + (1 - p.soft_C) * label_smoothing
    return _cross_entropy(z_C, q_C) + _centred(p, centre)


def robust(p: Compared, *, margin: bool = True, centre: float = 0.0, label_smoothing: float = 0.1) -> Tensor:
    """[(1-e) l(q) - e l(1-q)] / (1-2e), l(q) the loss of bradley_terry: what l is without flips, in expectation.

    Unbiased when a share e of the orders is flipped: Natarajan et al. 2013, lemma 1; for preferences arXiv:2403.00409.
    As l is linear in q this is l((q - e) / (1 - 2e)). It has no lower bound, so many epochs on few rows diverge.
    """
    z_C, e = p.better_C - p.worse_C - (p.margin_C if margin else 0.0), label_smoothing
    return _cross_entropy(z_C, (p.soft_C - e) / (1 - 2 * e)) + _centred(p, centre)


def plackett_luce(p: Ranked, *, centre: float = 0.0) -> Tensor:
    """-sum_i [r_i - log sum_{j not better than i} exp r_j] over a ranking: one value per prompt.

    Luce 1959, Plackett 1975. Ties as Breslow 1974: all of one rank are chosen from the same set, which draws them
    together. Two answers without a tie give bradley_terry. centre k: + k (mean score of the prompt)^2.
    """
    same_AA = p.prompt_A[:, None] == p.prompt_A[None]
    left_AA = same_AA & (p.rank_A[None] >= p.rank_A[:, None])  # j is still there when i is chosen
    chosen_from_A = p.score_A[None].expand_as(left_AA).masked_fill(~left_AA, -torch.inf).logsumexp(1)
    zeros_G = p.score_A.new_zeros(p.prompts)
    loss_G = zeros_G.index_add(0, p.prompt_A, chosen_from_A - p.score_A)
    if centre:
        mean_G = zeros_G.index_add(0, p.prompt_A, p.score_A) / torch.bincount(p.prompt_A, minlength=p.prompts)
        loss_G = loss_G + centre * mean_G**2
    return loss_G


def regression(p: Rated) -> Tensor:
    """(r - v)^2, v the rating on [-1, 1]: regression reward models, HelpSteer2 (arXiv:2406.08673)."""
    return (p.score_A - p.value_A) ** 2


PAIRWISE, LISTWISE, POINTWISE = (bradley_terry, robust), (plackett_luce,), (regression,)
LOSSES = (*PAIRWISE, *LISTWISE, *POINTWISE)
