"""Supervised losses: one value per target token from that token's log-probability, unreduced.

Shapes: N target tokens. Units: nats. Left out on purpose: distillation, which needs a teacher's distribution.
"""

from torch import Tensor


def nll(logp_N: Tensor) -> Tensor:
    """Negative log-likelihood, -log p: the maximum-likelihood objective."""
    return -logp_N


def dft(logp_N: Tensor) -> Tensor:
    """Dynamic fine-tuning, -sg(p) log p: rare tokens pull less (arXiv:2508.05629, eq. 9)."""
    return -logp_N * logp_N.detach().exp()


LOSSES = (nll, dft)
