"""Losses on single answers with a thumb up or down: one value per answer from its log-probability, unreduced.

Shapes: B answers. Units: nats, summed over the answer's tokens. g = log pi(y) - log ref(y).
Left out on purpose: pairs (preference.py), sampling, batching, logging, means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from posttrain.lazy import Lazy
from posttrain.objectives.preference import Positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")


class Thumbs(NamedTuple):
    """Everything a loss on thumbs may look at."""

    logp_B: Tensor  # log pi(y | x)
    ref_B: Tensor  # log pi_ref(y | x)
    up_B: Tensor  # bool
    z: Tensor  # KL(pi || ref), estimated over the whole optimiser step, no gradient; scalar


def reward(p: Thumbs) -> Tensor:
    """g: how much likelier than under the reference the answer is, nats [B]."""
    return p.logp_B - p.ref_B


def drift(logp_M: Tensor, ref_M: Tensor) -> Tensor:
    """z = max(0, mean of log pi(y') - log ref(y')) over answers y' to other prompts: arXiv:2402.01306.

    M: every row of the optimiser step, one mismatched answer each.
    """
    return (logp_M - ref_M).mean().clamp(min=0).detach()


def kto(p: Thumbs, *, beta: Positive = 0.1, desirable: Positive = 1.0, undesirable: Positive = 1.0) -> Tensor:
    """w_D (1 - sigma(beta (g - z))) for a thumb up, w_U (1 - sigma(beta (z - g))) for one down.

    arXiv:2402.01306, eq. 7: gains and losses as prospect theory sees them. Weights: w_D n_up should be 1 to 4/3
    of w_U n_down.
    """
    x_B = beta * (reward(p) - p.z)
    return torch.where(p.up_B, desirable * torch.sigmoid(-x_B), undesirable * torch.sigmoid(x_B))


def apo_zero_unpaired(
    p: Thumbs, *, beta: Positive = 0.1, desirable: Positive = 1.0, undesirable: Positive = 1.0
) -> Tensor:
    """w_D (1 - sigma(beta g)) for a thumb up, w_U sigma(beta g) for one down: apo_zero, arXiv:2408.06266, eq. 7."""
    x_B = beta * reward(p)
    return torch.where(p.up_B, desirable * torch.sigmoid(-x_B), undesirable * torch.sigmoid(x_B))


LOSSES = (kto, apo_zero_unpaired)
MISMATCHED = (kto,)
