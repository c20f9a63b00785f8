"""Preference losses on pairs: pure functions from a pair's log-probabilities to one loss per pair, unreduced.

Shapes: B pairs. Units: nats, summed over the answer's tokens. Notation of the docstrings: c = log pi(chosen) - log
ref(chosen), r the same for rejected, n_w and n_l the answers' tokens, sigma the logistic function.
Left out on purpose: thumbs without pairs (unpaired.py), sampling, batching, logging, means (reduce.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from posttrain.lazy import Lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:  # recipes read these signatures; only a loss that is computed needs torch
    torch, F = Lazy("torch"), Lazy("torch.nn.functional")

Positive = Annotated[float, Field(gt=0)]
Smoothing = Annotated[float, Field(ge=0, lt=0.5)]
Share = Annotated[float, Field(ge=0, le=1)]
LARGEST = 80.0  # exponent that exp() of fp32 still holds


class Pairs(NamedTuple):
    """Everything a preference loss may look at. Reference-free losses ignore the reference, most ignore the rest."""

    chosen_B: Tensor  # log pi(y_w | x)
    rejected_B: Tensor  # log pi(y_l | x)
    ref_chosen_B: Tensor  # log pi_ref(y_w | x)
    ref_rejected_B: Tensor
    chosen_len_B: Tensor  # answer tokens, stop token included
    rejected_len_B: Tensor
    margin_B: Tensor | None = None  # how much better the chosen answer is, on the labellers' scale
    soft_B: Tensor | None = None  # P(the chosen answer is better)
    chosen_tail_B: Tensor | None = None  # the part of c that stems from tokens behind the shorter answer's length
    rejected_tail_B: Tensor | None = None  # the same part of r; one of the two is 0
    weight_B: Tensor | None = None  # how likely the policy is to write this pair itself, no gradient
    step_B: Tensor | None = None  # what STEP's functions say of the whole optimiser step, no gradient


def chosen_reward(p: Pairs) -> Tensor:
    """c: how much likelier than under the reference the chosen answer is, nats [B]."""
    return p.chosen_B - p.ref_chosen_B


def rejected_reward(p: Pairs) -> Tensor:
    """r: the same for the rejected answer, nats [B]."""
    return p.rejected_B - p.ref_rejected_B


def _delta(p: Pairs) -> Tensor:
    return chosen_reward(p) - rejected_reward(p)


def _given(x_B: Tensor | None, what: str) -> Tensor:
    if x_B is None:
        raise ValueError(f"this loss needs {what}")
    return x_B


def _smoothed(z_B: Tensor, e: float | Tensor) -> Tensor:
    """Cross-entropy of sigma(z) against a label that is wrong with probability e."""
    return -(1 - e) * F.logsigmoid(z_B) - e * F.logsigmoid(-z_B)


# losses on delta = c - r


def dpo(p: Pairs, *, beta: Positive = 0.1, label_smoothing: Smoothing = 0.0) -> Tensor:
    """-log sigma(beta (c - r)): eq. 7 of arXiv:2305.18290. label_smoothing: see cdpo."""
    return _smoothed(beta * _delta(p), label_smoothing)


def cdpo(p: Pairs, *, beta: Positive = 0.1, label_smoothing: Smoothing = 0.1) -> Tensor:
    """-(1-e) log sigma(z) - e log sigma(-z), z = beta (c - r): conservative DPO, Mitchell 2023.

    It stops pushing where sigma(z) = 1 - e, the share of right labels.
    """
    return dpo(p, beta=beta, label_smoothing=label_smoothing)


def soft(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """-q log sigma(z) - (1-q) log sigma(-z), q each pair's own P(chosen is better): cdpo with e = 1 - q.

    Votes that are split teach less, and a pair at q = 1/2 pulls the two answers together.
    """
    return _smoothed(beta * _delta(p), 1 - _given(p.soft_B, "soft labels"))


def odpo(p: Pairs, *, beta: Positive = 0.1, scale: Positive = 1.0) -> Tensor:
    """-log sigma(beta (c - r) - scale m): DPO with an offset, m the pair's margin; arXiv:2402.10571."""
    return -F.logsigmoid(beta * _delta(p) - scale * _given(p.margin_B, "margins"))


def robust(p: Pairs, *, beta: Positive = 0.1, label_smoothing: Smoothing = 0.1) -> Tensor:
    """[-(1-e) log sigma(z) + e log sigma(-z)] / (1 - 2e), z = beta (c - r).

    Unbiased when a share e of the labels is flipped: arXiv:2403.00409, eq. 7.
    """
    z_B, e = beta * _delta(p), label_smoothing
    return (-(1 - e) * F.logsigmoid(z_B) + e * F.logsigmoid(-z_B)) / (1 - 2 * e)


def hinge(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """max(0, 1 - beta (c - r)): SLiC-HF and RSO, arXiv:2309.06657."""
    return torch.relu(1 - beta * _delta(p))


def exo(p: Pairs, *, beta: Positive = 0.1, label_smoothing: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3) -> Tensor:
    """KL(Bernoulli(sigma(z)) || Bernoulli(1 - e)), z = beta (c - r): the reverse of dpo's KL, so it seeks the mode.

    EXO on pairs, arXiv:2402.00856, eq. 16.
    """
    z_B, e = beta * _delta(p), label_smoothing
    right_B = torch.sigmoid(z_B) * (F.logsigmoid(z_B) - math.log1p(-e))
    return right_B + torch.sigmoid(-z_B) * (F.logsigmoid(-z_B) - math.log(e))


def discopop(p: Pairs, *, beta: Positive = 0.1, tau: Positive = 0.2) -> Tensor:
    """(1 - s) (-log sigma(z)) + s e^-z, s = sigma(z / tau), z = beta (c - r): arXiv:2406.08414, eq. 5.

    A blend that was found by search. The paper's tau is 0.05, with which the gradient lowers z between -0.118 and
    0.072, where training begins; from tau 0.11 on it raises z everywhere, hence the default.
    """
    z_B = beta * _delta(p)
    s_B = torch.sigmoid(z_B / tau)
    return -F.logsigmoid(z_B) * (1 - s_B) + torch.exp((-z_B).clamp(max=LARGEST)) * s_B


def f_dpo(
    p: Pairs, *, beta: Positive = 0.1, divergence: Literal["forward_kl", "js", "alpha"] = "js", alpha: Share = 0.5
) -> Tensor:
    """-log sigma(beta (s(c) - s(r))), s = f' of the f-divergence that binds to the reference: arXiv:2309.16240.

    forward_kl: 1 - e^-x.  js: log 2 + log sigma(x).  alpha: (e^((alpha-1) x) - 1) / (alpha - 1), from forward KL
    (alpha 0) to reverse KL (alpha 1), where s(x) = x, which is dpo.
    """
    c_B, r_B = (_score(x_B, divergence, alpha) for x_B in (chosen_reward(p), rejected_reward(p)))
    return -F.logsigmoid(beta * (c_B - r_B))


def _score(x_B: Tensor, divergence: str, alpha: float) -> Tensor:
    if divergence == "js":
        return math.log(2) + F.logsigmoid(x_B)
    a = -1.0 if divergence == "forward_kl" else alpha - 1
    return torch.expm1((a * x_B).clamp(max=LARGEST)) / a if a else x_B


def wpo(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """-w log sigma(beta (c - r)), w = w_chosen w_rejected: pairs that the policy might write itself count more.

    log w of an answer is its tokens' mean of log pi(y_t) - log sum_v pi(v)^2, so text of average likelihood under the
    policy has weight 1 (the paper's aligned weights): arXiv:2406.11827, eq. 2.
    """
    return -F.logsigmoid(beta * _delta(p)) * _given(p.weight_B, "the policy's own weights of pairs")


# lengths


def ipo(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """(c / n_w - r / n_l - 1 / (2 beta))^2: eq. 17 of arXiv:2310.12036, log-ratios per token."""
    return (_mean_delta(p) - 1 / (2 * beta)) ** 2


def norm_dpo(p: Pairs, *, beta: Positive = 2.0) -> Tensor:
    """-log sigma(beta (c / n_w - r / n_l)): length-normalised DPO, arXiv:2411.15124. beta is per token."""
    return -F.logsigmoid(beta * _mean_delta(p))


def _mean_delta(p: Pairs) -> Tensor:
    return chosen_reward(p) / p.chosen_len_B - rejected_reward(p) / p.rejected_len_B


def ld_dpo(p: Pairs, *, beta: Positive = 0.1, alpha: Share = 0.5) -> Tensor:
    """dpo in which tokens behind the shorter answer's length count alpha: arXiv:2409.06411.

    alpha 1 is dpo; alpha 0 compares equal lengths.
    """
    tail_B = _given(p.chosen_tail_B, "tails") - _given(p.rejected_tail_B, "tails")
    return -F.logsigmoid(beta * (_delta(p) - (1 - alpha) * tail_B))


# losses that pull on c and r each by itself


def apo_zero(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """1 - sigma(beta c) + sigma(beta r): chosen up and rejected down, each by itself, arXiv:2408.06266, eq. 7."""
    return 1 - torch.sigmoid(beta * chosen_reward(p)) + torch.sigmoid(beta * rejected_reward(p))


def apo_down(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """sigma(beta c) + 1 - sigma(beta (c - r)): both down, rejected further, arXiv:2408.06266, eq. 8.

    For pairs whose chosen answer is worse than what the policy writes by itself.
    """
    return torch.sigmoid(beta * chosen_reward(p)) + 1 - torch.sigmoid(beta * _delta(p))


def sppo(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """(c - 1/(2 beta))^2 + (r + 1/(2 beta))^2: SPPO, arXiv:2405.00675, eq. 4.7, with P(w beats l) = 1."""
    return (chosen_reward(p) - 0.5 / beta) ** 2 + (rejected_reward(p) + 0.5 / beta) ** 2


def nca(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """-log sigma(beta c) - (log sigma(-beta c) + log sigma(-beta r)) / 2: NCA on pairs, arXiv:2402.05369.

    The second term keeps c from falling together with r.
    """
    c_B, r_B = beta * chosen_reward(p), beta * rejected_reward(p)
    return -F.logsigmoid(c_B) - 0.5 * F.logsigmoid(-c_B) - 0.5 * F.logsigmoid(-r_B)


def bco_pair(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """-log sigma(beta c) - log sigma(-beta r): a classifier of good against bad answers, threshold 0."""
    return -F.logsigmoid(beta * chosen_reward(p)) - F.logsigmoid(-beta * rejected_reward(p))


def bco(p: Pairs, *, beta: Positive = 0.1) -> Tensor:
    """-log sigma(beta (c - d)) - log sigma(-beta (r - d)), d = (mean c + mean r) / 2: arXiv:2404.04656.

    The paper follows d by a moving average; here it is that of the optimiser step (`middle`), which is exact.
    """
    d_B = _given(p.step_B, "the middle of the step's rewards")
    return -F.logsigmoid(beta * (chosen_reward(p) - d_B)) - F.logsigmoid(-beta * (rejected_reward(p) - d_B))


def aot(p: Pairs, *, beta: Positive = 0.1, label_smoothing: Smoothing = 0.0) -> Tensor:
    """-log sigma(beta (u_(k) - v_(k))), u = log pi(w) - log pi(l) and v = the reference's, both sorted.

    Alignment by optimal transport, arXiv:2406.05882: it asks that margins as a whole exceed the reference's, not
    each one its own. Sorted over the whole optimiser step (`same_rank`), so micro-batches change nothing.
    """
    z_B = beta * (p.chosen_B - p.rejected_B - _given(p.step_B, "the step's sorted references"))
    return _smoothed(z_B, label_smoothing)


# what some losses need to know of the whole optimiser step, from all its pairs -> step_B


def middle(p: Pairs) -> Tensor:
    """Half way between the mean reward of chosen and of rejected answers, nats, the same for every pair [B]."""
    return (0.5 * (chosen_reward(p).mean() + rejected_reward(p).mean())).expand(len(p.chosen_B))


def same_rank(p: Pairs) -> Tensor:
    """The reference log-ratio with the rank that a pair's own log-ratio has [B]."""
    order_B = torch.argsort(p.chosen_B - p.rejected_B, stable=True)
    sorted_B = torch.sort(p.ref_chosen_B - p.ref_rejected_B).values
    return torch.empty_like(sorted_B).index_copy(0, order_B, sorted_B)


# without a reference


def simpo(p: Pairs, *, beta: Positive = 2.0, gamma: float = 1.0) -> Tensor:
    """-log sigma(beta (log pi(w) / n_w - log pi(l) / n_l) - gamma): no reference, arXiv:2405.14734, eq. 6."""
    z_B = beta * (p.chosen_B / p.chosen_len_B - p.rejected_B / p.rejected_len_B)
    return -F.logsigmoid(z_B - gamma)


def cpo(p: Pairs, *, beta: Positive = 0.1, alpha: float = 1.0) -> Tensor:
    """-log sigma(beta (log pi(w) - log pi(l))) - alpha log pi(w) / n_w: dpo with a uniform reference, and the chosen
    answer's NLL in its place. arXiv:2401.08417, eq. 3."""
    return -F.logsigmoid(beta * (p.chosen_B - p.rejected_B)) - alpha * p.chosen_B / p.chosen_len_B


def orpo(p: Pairs, *, weight: Positive = 0.1) -> Tensor:
    """-w - weight log sigma(log odds(w) - log odds(l)), odds = P / (1 - P), P = e^w, w = log pi(w) / n_w.

    SFT on the chosen answer and an odds ratio, no reference: arXiv:2403.07691, eq. 4 and 7. The SFT term covers the
    answer only.
    """
    w_B, l_B = p.chosen_B / p.chosen_len_B, p.rejected_B / p.rejected_len_B
    log_odds_B = (w_B - l_B) - (_log1mexp(w_B) - _log1mexp(l_B))
    return -w_B - weight * F.logsigmoid(log_odds_B)


def _log1mexp(x_B: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, accurate at both ends (Maechler 2012); x above -1e-6 counts as -1e-6."""
    x_B = x_B.clamp(max=-1e-6)
    near_B = x_B > -math.log(2)  # both branches must be finite, or the gradient of `where` is not
    small_B = torch.where(near_B, x_B, torch.full_like(x_B, -1.0))
    large_B = torch.where(near_B, torch.full_like(x_B, -1.0), x_B)
    return torch.where(near_B, torch.log(-torch.expm1(small_B)), torch.log1p(-torch.exp(large_B)))


LOSSES = (
    dpo, cdpo, soft, odpo, robust, hinge, ipo, norm_dpo, ld_dpo, exo, discopop, f_dpo, wpo,
    apo_zero, apo_down, sppo, nca, bco_pair, bco, aot, simpo, cpo, orpo,
)  # fmt: skip
REFERENCE_FREE = (simpo, cpo, orpo)
STEP = {bco: middle, aot: same_rank}
WEIGHTED = (wpo,)
