"""Preference losses: pure functions from a pair's log-probabilities to one loss per pair, unreduced.

Shapes: B pairs. Units: nats, summed over the answer's tokens. Notation of the docstrings: c = log pi(chosen) - log
ref(chosen), r the same for rejected, sigma the logistic function. Left out on purpose: sampling, batching, logging.
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


class Pairs(NamedTuple):
    """Everything a preference loss may look at. Reference-free losses ignore the two reference fields."""

    chosen_B: Tensor  # log pi(y_w | x)
    rejected_B: Tensor  # log pi(y_l | x)
    ref_chosen_B: Tensor  # log pi_ref(y_w | x)
    ref_rejected_B: Tensor
    chosen_len_B: Tensor  # answer tokens, stop token included
    rejected_len_B: Tensor


def chosen_reward(p: Pairs) -> Tensor:
    """c: how much likelier than under the reference the chosen answer is, nats [B]."""
    return p.chosen_B - p.ref_chosen_B


def rejected_reward(p: Pairs) -> Tensor:
    """r: the same for the rejected answer, nats [B]."""
    return p.rejected_B - p.ref_rejected_B


def _delta(p: Pairs) -> Tensor:
    return chosen_reward(p) - rejected_reward(p)


def dpo(p: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    """-log sigma(beta (c - r)): eq. 7 of arXiv:2305.18290.

    label_smoothing e > 0 is conservative DPO, -(1-e) log sigma(beta (c - r)) - e log sigma(-beta (c - r)).
    """
    z_B = beta * _delta(p)
    return -(1 - label_smoothing) * F.logsigmoid(z_B) - label_smoothing * F.logsigmoid(-z_B)


def robust(p: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.1) -> Tensor:
    """[-(1-e) log sigma(z) + e log sigma(-z)] / (1 - 2e), z = beta (c - r).

    Unbiased when a share e of the labels is flipped: arXiv:2403.00409, eq. 7.
    """
    z_B, e = beta * _delta(p), label_smoothing
    return (-(1 - e) * F.logsigmoid(z_B) + e * F.logsigmoid(-z_B)) / (1 - 2 * e)


def hinge(p: Pairs, *, beta: float = 0.1) -> Tensor:
    """max(0, 1 - beta (c - r)): SLiC-HF and RSO, arXiv:2309.06657."""
    return torch.relu(1 - beta * _delta(p))


def ipo(p: Pairs, *, beta: float = 0.1) -> Tensor:
    """(c / n_w - r / n_l - 1 / (2 beta))^2: eq. 17 of arXiv:2310.12036, log-ratios per token."""
    w_B = chosen_reward(p) / p.chosen_len_B
    l_B = rejected_reward(p) / p.rejected_len_B
    return (w_B - l_B - 1 / (2 * beta)) ** 2


def simpo(p: Pairs, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """-log sigma(beta (log pi(w) / n_w - log pi(l) / n_l) - gamma): no reference, arXiv:2405.14734, eq. 6."""
    z_B = beta * (p.chosen_B / p.chosen_len_B - p.rejected_B / p.rejected_len_B)
    return -F.logsigmoid(z_B - gamma)


def apo_zero(p: Pairs, *, beta: float = 0.1) -> Tensor:
    """1 - sigma(beta c) + sigma(beta r): chosen up and rejected down, each by itself, arXiv:2408.06266."""
    return 1 - torch.sigmoid(beta * chosen_reward(p)) + torch.sigmoid(beta * rejected_reward(p))


LOSSES = (dpo, robust, hinge, ipo, simpo, apo_zero)
REFERENCE_FREE = (simpo,)
