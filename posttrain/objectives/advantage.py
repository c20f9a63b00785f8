"""Credit: from rewards to advantages, how much better than expected each token was. Pure functions on padded tensors.

These tensors hold one number a token and never meet a model, so here, and only here, sequences are padded: row s holds
sequence s from its first token on, mask_ST says which places are real. Every credit returns (advantage_ST, return_ST);
the return is what a critic should have said. All sums are over the whole rollout, before it is cut into micro-batches.

Shapes: S sequences, T longest of them. Left out on purpose: policies, losses (objectives/policy.py), judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from posttrain.lazy import Lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:  # recipes read these signatures; only an advantage that is computed needs torch
    torch = Lazy("torch")


class Outcome(NamedTuple):
    """A rollout as credit sees it. The score of an answer stands at its last token; penalties may stand anywhere."""

    reward_ST: Tensor
    mask_ST: Tensor  # bool
    group_S: Tensor  # int64: samples of one prompt share a number
    value_ST: Tensor | None = None  # what the critic expected before each token


def gae(o: Outcome, *, gamma: float = 1.0, lam: float = 0.95, whiten: bool = True) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation, arXiv:1506.02438, eq. 16; return_t = A_t + V_t, before whitening.

    delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lam A_{t+1};  V is 0 behind the last token.
    """
    assert o.value_ST is not None, "gae needs a critic"
    value_ST = torch.where(o.mask_ST, o.value_ST, 0.0)
    adv_ST, next_S, ahead_S = torch.zeros_like(value_ST), value_ST.new_zeros(len(value_ST)), None
    for t in reversed(range(value_ST.shape[1])):
        here_S = o.mask_ST[:, t]
        ahead_S = torch.zeros_like(next_S) if ahead_S is None else ahead_S
        delta_S = o.reward_ST[:, t] + gamma * ahead_S - value_ST[:, t]
        next_S = torch.where(here_S, delta_S + gamma * lam * next_S, 0.0)
        adv_ST[:, t], ahead_S = next_S, value_ST[:, t]
    return (whitened(adv_ST, o.mask_ST) if whiten else adv_ST), adv_ST + value_ST


def group(o: Outcome, *, std: bool = True, eps: float = 1e-4) -> tuple[Tensor, Tensor]:
    """(R - mean of the group) / (std of the group + eps), the same for every token: GRPO, arXiv:2402.03300, eq. 21.

    std with n - 1. std False: centred only, which does not favour groups that are nearly all right or all wrong (Dr.
    GRPO, arXiv:2503.20783). A group of one, or without spread, has advantage 0.
    """
    score_S = _scores(o)
    mean_S, std_S, _ = _of_groups(score_S, o.group_S)
    centred_S = score_S - mean_S
    return _spread((centred_S / (std_S + eps) if std else centred_S).to(score_S), o), to_go(o)


def leave_one_out(o: Outcome) -> tuple[Tensor, Tensor]:
    """R minus the mean of the OTHER samples of its group: RLOO, arXiv:2402.14740, eq. 9. A group of one: 0."""
    score_S = _scores(o)
    mean_S, _, n_S = _of_groups(score_S, o.group_S)
    return _spread(((score_S - mean_S) * n_S / (n_S - 1).clamp(min=1)).to(score_S), o), to_go(o)


def returns(o: Outcome, *, gamma: float = 1.0, whiten: bool = True) -> tuple[Tensor, Tensor]:
    """Discounted sum of the rewards from each token on, whitened over the whole rollout: REINFORCE++,
    arXiv:2501.03262."""
    return_ST = to_go(o, gamma)
    return (whitened(return_ST, o.mask_ST) if whiten else return_ST), return_ST


CREDITS = (gae, group, leave_one_out, returns)


def to_go(o: Outcome, gamma: float = 1.0) -> Tensor:
    """Discounted sum of the rewards from each token to the end of its sequence [S, T]; 0 outside the mask."""
    total_S = o.reward_ST.new_zeros(len(o.reward_ST))
    return_ST = torch.zeros_like(o.reward_ST)
    for t in reversed(range(o.reward_ST.shape[1])):
        total_S = torch.where(o.mask_ST[:, t], o.reward_ST[:, t] + gamma * total_S, 0.0)
        return_ST[:, t] = total_S
    return return_ST


def whitened(x_ST: Tensor, mask_ST: Tensor, *, shift: bool = True) -> Tensor:
    """Mean 0 and variance 1 (n - 1) over all real tokens; 0 elsewhere. shift False keeps the mean."""
    x_N = x_ST[mask_ST]
    if len(x_N) < 2:
        return torch.where(mask_ST, x_ST - x_ST if shift else x_ST, 0.0)
    scaled_ST = (x_ST - x_N.mean()) * torch.rsqrt(x_N.var() + 1e-8)
    return torch.where(mask_ST, scaled_ST if shift else scaled_ST + x_N.mean(), 0.0)


def _scores(o: Outcome) -> Tensor:
    return torch.where(o.mask_ST, o.reward_ST, 0.0).sum(-1)


def _spread(score_S: Tensor, o: Outcome) -> Tensor:
    return torch.where(o.mask_ST, score_S[:, None], 0.0)


def _of_groups(score_S: Tensor, group_S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, std with n - 1, size) of each sequence's group, [S] each, fp64: the mean of equal scores is that score,
    so that their rounding is not taken for a difference. The std of a group of one is 0."""
    score_S = score_S.double()
    _, number_S = torch.unique(group_S, return_inverse=True)
    n_G = torch.bincount(number_S).to(score_S.dtype)
    mean_G = torch.zeros_like(n_G).index_add(0, number_S, score_S) / n_G
    square_S = (score_S - mean_G[number_S]) ** 2
    var_G = torch.zeros_like(n_G).index_add(0, number_S, square_S) / (n_G - 1).clamp(min=1)
    return mean_G[number_S], var_G.sqrt()[number_S], n_G[number_S]
