"""Hidden states -> log-probabilities of the targets, in chunks, without ever holding the logits of a pack.

logits = transform(h W^T + b), transform: scale -> soft cap -> / temperature, log-softmax in fp32 (or fp64).
`token_logps` recomputes the logits in the backward and takes any gradient of log-probs and entropy (DPO, RL).
`nll` makes the gradient in the forward, one product of logits fewer (SFT, where the weights are known beforehand).

Shapes: N targets, D hidden size, V vocabulary.
Left out on purpose: sampling, losses (objectives/), heads that are not one linear layer.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK = 512  # targets whose logits exist at one time


class Head(NamedTuple):
    """The last layer of a model and what it does to its logits."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None


def wide(dtype: torch.dtype) -> torch.dtype:
    """The precision of log-softmax: fp32, or fp64 for a model in fp64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _logits(h_ND: Tensor, w_VD: Tensor, b_V: Tensor | None, scale: float, softcap: float | None, t: float) -> Tensor:
    """Raw logits -> [N, V] in the wide dtype after scale, soft cap and temperature."""
    z = torch.nn.functional.linear(h_ND, w_VD, b_V).to(wide(h_ND.dtype))
    if scale != 1.0:
        z = z * scale
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    return z / t if t != 1.0 else z


def _slope(z_NV: Tensor, d_NV: Tensor, scale: float, softcap: float | None, t: float) -> Tensor:
    """Gradient for transformed logits z -> gradient for raw logits. d tanh(x) = 1 - tanh(x)^2."""
    if softcap is not None:
        d_NV = d_NV * (1 - (z_NV * (t / softcap)) ** 2)
    return d_NV * (scale / t) if scale != t else d_NV


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h_ND: Tensor, w_VD: Tensor, b_V: Tensor | None, target_N: Tensor,
        scale: float, softcap: float | None, t: float, want_entropy: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        n = len(h_ND)
        logp_N = h_ND.new_empty(n, dtype=wide(h_ND.dtype))
        lse_N, entropy_N = torch.empty_like(logp_N), torch.empty_like(logp_N if want_entropy else logp_N[:0])
        for i in range(0, n, CHUNK):
            c = slice(i, i + CHUNK)
            z = _logits(h_ND[c], w_VD, b_V, scale, softcap, t)
            lse_N[c] = lse = torch.logsumexp(z, -1)
            logp_N[c] = z.gather(1, target_N[c, None])[:, 0] - lse
            if want_entropy:
                entropy_N[c] = lse - (torch.exp(z - lse[:, None]) * z).sum(-1)
        ctx.save_for_backward(h_ND, w_VD, b_V, target_N, lse_N, entropy_N)
        ctx.how = (scale, softcap, t)
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, g_N: Tensor, ge_N: Tensor) -> tuple[Any, ...]:
        """d logp = onehot - p;  d entropy = -p (log p + entropy)."""
        h_ND, w_VD, b_V, target_N, lse_N, entropy_N = ctx.saved_tensors
        scale, softcap, t = ctx.how
        dh = torch.empty_like(h_ND)
        dw = torch.zeros_like(w_VD, dtype=wide(w_VD.dtype))
        db = None if b_V is None else torch.zeros_like(b_V, dtype=wide(b_V.dtype))
        for i in range(0, len(h_ND), CHUNK):
            c = slice(i, i + CHUNK)
            z = _logits(h_ND[c], w_VD, b_V, scale, softcap, t)
            logp = z - lse_N[c, None]
            p = torch.exp(logp)
            d = -p * g_N[c, None]
            if len(entropy_N):
                d = d - p * (logp + entropy_N[c, None]) * ge_N[c, None]
            d.scatter_add_(1, target_N[c, None], g_N[c, None])
            d = _slope(z, d, scale, softcap, t).to(h_ND.dtype)
            dh[c] = d @ w_VD
            dw += d.t() @ h_ND[c]
            if db is not None:
                db += d.sum(0)
        return dh, dw.to(w_VD.dtype), None if db is None else db.to(b_V.dtype), None, None, None, None, None


def token_logps(
    h_ND: Tensor, head: Head, target_N: Tensor, *, temperature: float = 1.0, entropy: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """log p(target) in nats, fp32 [N], differentiable in h, weight and bias; with entropy: (logp_N, entropy_N)."""
    w, b, scale, softcap = head
    logp_N, entropy_N = _TokenLogps.apply(h_ND, w, b, target_N, scale, softcap, temperature, entropy)
    return (logp_N, entropy_N) if entropy else logp_N


class _Nll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h_ND: Tensor, w_VD: Tensor, b_V: Tensor | None, target_N: Tensor, weight_N: Tensor,
        scale: float, softcap: float | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        n = len(h_ND)
        logp_N = h_ND.new_empty(n, dtype=wide(h_ND.dtype))
        needs_w = ctx.needs_input_grad[1]
        dh = torch.empty_like(h_ND)
        dw = torch.zeros_like(w_VD, dtype=wide(w_VD.dtype)) if needs_w else None
        db = torch.zeros_like(b_V, dtype=wide(b_V.dtype)) if b_V is not None else None
        for i in range(0, n, CHUNK):
            c = slice(i, i + CHUNK)
            z = _logits(h_ND[c], w_VD, b_V, scale, softcap, 1.0)
            lse = torch.logsumexp(z, -1, keepdim=True)
            logp_N[c] = (z.gather(1, target_N[c, None]) - lse)[:, 0]
            w = weight_N[c, None].to(z.dtype)
            d = torch.exp(z - lse) * w
            d.scatter_add_(1, target_N[c, None], -w)
            d = _slope(z, d, scale, softcap, 1.0).to(h_ND.dtype)
            dh[c] = d @ w_VD
            if dw is not None:
                dw += d.t() @ h_ND[c]
            if db is not None:
                db += d.sum(0)
        ctx.save_for_backward(dh, None if dw is None else dw.to(w_VD.dtype), None if db is None else db.to(b_V.dtype))
        ctx.mark_non_differentiable(logp_N)
        return -(logp_N * weight_N).sum(), logp_N

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Any, ...]:
        dh, dw, db = (None if x is None else x * g.to(x.dtype) for x in ctx.saved_tensors)
        return dh, dw, db, None, None, None, None


def nll(h_ND: Tensor, head: Head, target_N: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
    """(sum_n weight_n * -log p(target_n), log p(target_n) detached). The gradient is made in the forward."""
    w, b, scale, softcap = head
    if not torch.is_grad_enabled():
        logp_N = token_logps(h_ND, head, target_N)
        return -(logp_N * weight_N).sum(), logp_N
    return _Nll.apply(h_ND, w, b, target_N, weight_N, scale, softcap)
