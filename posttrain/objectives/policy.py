"""Policy-gradient losses: pure functions from log-probabilities and advantages to one loss per token, unreduced.

Shapes: N tokens of a micro-batch, sequence after sequence; S sequences. Units: nats. Notation of the docstrings: rho =
pi / pi_old of a token, A its advantage, sg() a value without gradient. Advantages and old log-probs carry no gradient.
Left out on purpose: credit (advantage.py), the mean (reduce.py), sampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from posttrain.lazy import Lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:  # recipes read these signatures; only a loss that is computed needs torch
    torch = Lazy("torch")

MAX_LOG_RATIO = 20.0  # e^20 is 5e8: beyond it a ratio says nothing and its square overflows


class Tokens(NamedTuple):
    """Everything a policy loss may look at."""

    logp_N: Tensor  # log pi of the policy that is trained: the only one with a gradient
    old_N: Tensor  # the same when the rollout was made
    adv_N: Tensor
    sequence_N: Tensor  # int64, 0..sequences-1: which answer a token belongs to
    sequences: int


def ratio(logp_N: Tensor, old_N: Tensor) -> Tensor:
    """pi / pi_old, with a log-ratio of at most MAX_LOG_RATIO either way."""
    return torch.exp((logp_N - old_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))


def reinforce(t: Tokens) -> Tensor:
    """-A log pi: the score function (Williams 1992). Right only where pi is still pi_old."""
    return -t.adv_N * t.logp_N


def clip(t: Tokens, *, low: float = 0.2, high: float = 0.2, cap: float = 0.0) -> Tensor:
    """-min(rho A, clamp(rho, 1 - low, 1 + high) A): PPO, arXiv:1707.06347, eq. 7.

    high > low lets unlikely tokens grow (DAPO, arXiv:2503.14476). cap > 0 bounds rho itself, so that a token with A < 0
    cannot weigh more than cap: dual clip (arXiv:1912.09729) and the two-sided delta (arXiv:2505.07291) are both this.
    """
    return _clipped(ratio(t.logp_N, t.old_N), t.adv_N, low, high, cap)


def _clipped(rho_N: Tensor, adv_N: Tensor, low: float, high: float, cap: float) -> Tensor:
    bounded_N = rho_N.clamp(max=cap) if cap > 0 else rho_N
    return -torch.minimum(bounded_N * adv_N, rho_N.clamp(1 - low, 1 + high) * adv_N)


def gspo(t: Tokens, *, low: float = 3e-4, high: float = 4e-4) -> Tensor:
    """clip with one ratio a sequence, the geometric mean of its tokens': GSPO, arXiv:2507.18071, eq. 5-7.

    The value is the sequence's, the gradient goes through each token's own log-prob, sg(s) pi / sg(pi) (eq. 14), so
    that the mean over a sequence's tokens has the gradient of s itself.
    """
    from posttrain.objectives.reduce import sequence_mean

    log_S = sequence_mean((t.logp_N - t.old_N).detach(), t.sequence_N, t.sequences)
    log_S = log_S.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return _clipped(torch.exp(log_S[t.sequence_N] + t.logp_N - t.logp_N.detach()), t.adv_N, low, high, 0.0)


def sequence_clip(t: Tokens, *, low: float = 0.2, high: float = 0.2) -> Tensor:
    """clip with the ratio of whole sequences, the product of their tokens': RLOO as a bandit, arXiv:2402.14740.

    Every token carries its sequence's loss, so the mean over a sequence's tokens is that loss.
    """
    from posttrain.objectives.reduce import sequence_sum

    log_S = sequence_sum(t.logp_N - t.old_N, t.sequence_N, t.sequences).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return _clipped(torch.exp(log_S)[t.sequence_N], t.adv_N, low, high, 0.0)


def cispo(t: Tokens, *, high: float = 4.0) -> Tensor:
    """-sg(min(rho, 1 + high)) A log pi: the weight is clipped, no token loses its gradient. arXiv:2506.13585, eq. 4."""
    return -ratio(t.logp_N, t.old_N).clamp(max=1 + high).detach() * t.adv_N * t.logp_N


LOSSES = (reinforce, clip, gspo, sequence_clip, cispo)
Level = Literal["token", "mean", "sum"]
LEVELS: dict[str, Level] = {
    gspo.__name__: "mean",
    sequence_clip.__name__: "sum",
}  # what the others' ratio is of: a token


def clipped_share(t: Tokens, low: float, high: float, level: Level = "token") -> Tensor:
    """1 for each token whose ratio is outside the clip range on the side that stops its gradient [N].

    level: the ratio of a token, or of its sequence from the mean or the sum of log-ratios (LEVELS: what a loss clips).
    """
    from posttrain.objectives.reduce import sequence_mean, sequence_sum

    log_N = (t.logp_N - t.old_N).detach()
    if level != "token":
        whole = sequence_mean if level == "mean" else sequence_sum
        log_N = whole(log_N, t.sequence_N, t.sequences)[t.sequence_N]
    rho_N = torch.exp(log_N.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
    return ((rho_N > 1 + high) & (t.adv_N > 0) | (rho_N < 1 - low) & (t.adv_N < 0)).float()


Estimator = Literal["k1", "k2", "k3"]


def kl(logp_N: Tensor, ref_N: Tensor, estimator: Estimator) -> Tensor:
    """Estimates of KL(pi || ref) from tokens that pi drew, nats: joschu.net/blog/kl-approx.html. d = log pi - log ref.

    k1 = d (unbiased, as a reward); k2 = d^2 / 2 (as a loss its gradient is that of the KL, arXiv:2506.09477);
    k3 = e^-d - 1 + d (never negative). Log-ratios are clamped to MAX_LOG_RATIO in k2 and k3.
    """
    d_N = logp_N - ref_N
    if estimator == "k1":
        return d_N
    d_N = d_N.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return d_N.square() / 2 if estimator == "k2" else torch.expm1(-d_N) + d_N


def importance(
    old_N: Tensor,
    behaviour_N: Tensor,
    sequence_N: Tensor,
    sequences: int,
    *,
    level: Literal["token", "sequence"] = "token",
    cap: float = 2.0,
    how: Literal["truncate", "mask"] = "truncate",
) -> Tensor:
    """Weights pi_old / behaviour for tokens that another engine, or older weights, drew. No gradient. [N]

    With older weights pi_old is the policy just before this rollout's updates, where the loss's own ratio starts
    (decoupled objective of asynchronous RL, arXiv:2505.24298). level "sequence": the product over a sequence, the same
    for its tokens. Above `cap` a weight becomes cap ("truncate": Ionides 2008; arXiv:1312.7476, eq. 4) or 0 ("mask":
    nothing is learned from it).
    """
    from posttrain.objectives.reduce import sequence_sum

    log_N = (old_N - behaviour_N).detach()
    if level == "sequence":
        log_N = sequence_sum(log_N, sequence_N, sequences)[sequence_N]
    weight_N = torch.exp(log_N.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
    return weight_N.clamp(max=cap) if how == "truncate" else torch.where(weight_N <= cap, weight_N, 0.0)
