"""The critic's loss, and how much of the returns it explains. One value per token, unreduced.

Shapes: N tokens. Left out on purpose: the critic itself (rl/critic.py), returns (advantage.py).
"""

import torch
from torch import Tensor


def clipped(value_N: Tensor, old_N: Tensor, return_N: Tensor, *, clip: float = 0.2) -> Tensor:
    """0.5 max((V - R)^2, (clamp(V, V_old - clip, V_old + clip) - R)^2): PPO's value loss; clip 0: 0.5 (V - R)^2."""
    plain_N = (value_N - return_N).square()
    if not clip:
        return 0.5 * plain_N
    near_N = old_N + (value_N - old_N).clamp(-clip, clip)
    return 0.5 * torch.maximum(plain_N, (near_N - return_N).square())


def explained_variance(value_N: Tensor, return_N: Tensor) -> float:
    """1 - var(R - V) / var(R): 1 is a perfect critic, 0 a constant one; 0 too where the returns do not vary."""
    total = float(return_N.double().var(correction=0)) if len(return_N) else 0.0
    return 1 - float((return_N - value_N).double().var(correction=0)) / total if total > 1e-12 else 0.0
