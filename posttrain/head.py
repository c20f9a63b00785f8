"""Hidden states -> log-probabilities of the targets, in chunks, without ever holding the logits of a pack.

logits = transform(h W^T + b), transform: scale -> soft cap -> / temperature, log-softmax in fp32 (or fp64).
`token_logps` recomputes the logits in the backward and takes any gradient of log-probs and entropy (DPO, RL).
`nll` makes the gradient in the forward, one product of logits fewer (SFT, where the weights are known beforehand).

On a CPU a chunk fits the cache and PyTorch's in-place operators do the rest; on a GPU a chunk is as large as memory
allows and everything between the products is one or two kernels made by torch.compile (`_stats`, `_slopes`).

Shapes: N targets, D hidden size, V vocabulary, C targets of a chunk.
Left out on purpose: sampling, losses (objectives/), heads that are not one linear layer.
"""

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK_BYTES = 16 << 20  # logits in the wide dtype that exist at one time: about a last-level cache
BLOCK_BYTES = 96 << 20  # their gradients, kept together for one large product per weight gradient
FUSED_FROM = 1024  # rows of a chunk
SHARE = 64  # on a GPU: logits of a chunk take up this part of its memory


class Head(NamedTuple):
    """The last layer of a model and what it does to its logits."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None


class _How(NamedTuple):
    scale: float
    softcap: float | None
    temperature: float


def wide(dtype: torch.dtype) -> torch.dtype:
    """The precision of log-softmax: fp32, or fp64 for a model in fp64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _chunk_rows(h_ND: Tensor, vocabulary: int) -> int:
    if h_ND.device.type == "cuda":
        total = torch.cuda.get_device_properties(h_ND.device).total_memory
        return max(128, total // SHARE // (h_ND.element_size() * vocabulary) // 128 * 128)
    return max(128, min(512, CHUNK_BYTES // (4 * vocabulary) // 32 * 32))


def _logits(h_CD: Tensor, w_VD: Tensor, b_V: Tensor | None, how: _How) -> Tensor:
    """Logits [C, V] in the wide dtype after scale, soft cap and temperature. The caller owns them."""
    z = torch.nn.functional.linear(h_CD, w_VD, b_V).to(wide(h_CD.dtype))
    if how.scale != 1.0:
        z.mul_(how.scale)
    if how.softcap is not None:
        z.div_(how.softcap).tanh_().mul_(how.softcap)
    return z.div_(how.temperature) if how.temperature != 1.0 else z


# --- GPU -------------------------------------------------------------------------------------------------------------


def _fuses(h_ND: Tensor) -> bool:
    return h_ND.device.type == "cuda"


def _fused(work: Callable[..., Any], rows: int) -> Callable[..., Any]:
    """The function compiled into few kernels; as it stands where there is no Triton, or too little work for a wait."""
    return _compiled(work) if rows >= FUSED_FROM and importlib.util.find_spec("triton") else work


@cache
def _compiled(work: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(work)


def _transformed(raw_CV: Tensor, how: _How) -> Tensor:
    """What `_logits` does behind the product, out of place."""
    z = raw_CV.to(wide(raw_CV.dtype)) * how.scale
    if how.softcap is not None:
        z = torch.tanh(z / how.softcap) * how.softcap
    return z / how.temperature


def _stats(raw_CV: Tensor, target_C: Tensor, how: _How, want_entropy: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(log-denominators, log-probs of the targets, entropies or nothing) [C] each."""
    z = _transformed(raw_CV, how)
    lse_C = torch.logsumexp(z, -1)
    logp_C = z.gather(1, target_C[:, None])[:, 0] - lse_C
    entropy_C = lse_C - (torch.exp(z - lse_C[:, None]) * z).sum(-1) if want_entropy else lse_C[:0]
    return lse_C, logp_C, entropy_C


def _slopes(
    raw_CV: Tensor, target_C: Tensor, lse_C: Tensor, g_C: Tensor, how: _How, entropy_C: Tensor | None, ge_C: Tensor
) -> Tensor:
    """Gradient for the raw logits [C, V]: g (onehot - p) - ge p (log p + entropy), through scale, cap, temperature."""
    z = _transformed(raw_CV, how)
    logp = z - lse_C[:, None]
    at_target = torch.arange(z.shape[1], device=z.device) == target_C[:, None]
    pull = g_C[:, None] if entropy_C is None else g_C[:, None] + ge_C[:, None] * (logp + entropy_C[:, None])
    d = torch.where(at_target, g_C[:, None], 0.0) - torch.exp(logp) * pull
    if how.softcap is not None:
        d = d * (1 - (z * (how.temperature / how.softcap)).square())
    return (d * (how.scale / how.temperature)).to(raw_CV.dtype)


# ---------------------------------------------------------------------------------------------------------------------


def scores(h_ND: Tensor, head: Head) -> Tensor:
    """Logits [N, V] in the wide dtype: for a few rows, where the likeliest tokens are asked for."""
    return _logits(h_ND, head.weight_VD, head.bias_V, _How(head.scale, head.softcap, 1.0))


def _slope(z_CV: Tensor, how: _How) -> Tensor | float:
    """d transformed / d raw logits, given the transformed ones: d (c tanh(x / c)) / dx = 1 - tanh^2."""
    factor = how.scale / how.temperature
    if how.softcap is None:
        return factor
    return (1 - (z_CV * (how.temperature / how.softcap)).square_()).mul_(factor)


def _pull_back(
    h_ND: Tensor, w_VD: Tensor, make: Callable[[slice], Tensor], *, weight: bool, bias: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """make(slice) is the gradient for the raw logits of some targets [C, V]; returns those for h, W and b.

    Sums over targets are fp32 or wider between blocks.
    """
    n, v = len(h_ND), len(w_VD)
    chunk = _chunk_rows(h_ND, v)
    rows = chunk if _fuses(h_ND) else max(chunk, BLOCK_BYTES // (v * h_ND.element_size()) // chunk * chunk)
    dh = torch.empty_like(h_ND)
    dw = torch.zeros_like(w_VD, dtype=wide(w_VD.dtype)) if weight else None
    db = torch.zeros(v, dtype=wide(w_VD.dtype), device=w_VD.device) if bias else None
    for i in range(0, n, rows):
        block = slice(i, min(i + rows, n))
        if _fuses(h_ND):
            d_BV = make(block)
        else:
            d_BV = h_ND.new_empty(block.stop - i, v)
            for j in range(i, block.stop, chunk):
                c = slice(j, min(j + chunk, block.stop))
                d_BV[c.start - i : c.stop - i] = make(c)
        torch.mm(d_BV, w_VD, out=dh[block])
        if dw is not None:
            if dw.dtype == d_BV.dtype:
                dw.addmm_(d_BV.t(), h_ND[block])
            else:
                dw += d_BV.t() @ h_ND[block]
        if db is not None:
            db += d_BV.sum(0, dtype=db.dtype)
    return dh, None if dw is None else dw.to(w_VD.dtype), None if db is None else db.to(w_VD.dtype)


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h_ND: Tensor, w_VD: Tensor, b_V: Tensor | None, target_N: Tensor, how: _How, want_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        n, chunk = len(h_ND), _chunk_rows(h_ND, len(w_VD))
        logp_N = h_ND.new_empty(n, dtype=wide(h_ND.dtype))
        lse_N, entropy_N = torch.empty_like(logp_N), torch.empty_like(logp_N if want_entropy else logp_N[:0])
        for i in range(0, n, chunk):
            c = slice(i, i + chunk)
            if _fuses(h_ND):
                raw_CV = torch.nn.functional.linear(h_ND[c], w_VD, b_V)
                lse_N[c], logp_N[c], entropy = _fused(_stats, len(raw_CV))(raw_CV, target_N[c], how, want_entropy)
                entropy_N[c] = entropy
                continue
            z = _logits(h_ND[c], w_VD, b_V, how)
            lse = torch.logsumexp(z, -1)
            lse_N[c], logp_N[c] = lse, z.gather(1, target_N[c, None])[:, 0] - lse
            if want_entropy:
                entropy_N[c] = lse - torch.exp(z - lse[:, None]).mul_(z).sum(-1)
        ctx.save_for_backward(h_ND, w_VD, b_V, target_N, lse_N, entropy_N)
        ctx.how = how
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, g_N: Tensor, ge_N: Tensor) -> tuple[Any, ...]:
        """d logp = onehot - p;  d entropy = -p (log p + entropy)."""
        h_ND, w_VD, b_V, target_N, lse_N, entropy_N = ctx.saved_tensors

        def make(c: slice) -> Tensor:
            if _fuses(h_ND):
                raw_CV = torch.nn.functional.linear(h_ND[c], w_VD, b_V)
                entropy_C = entropy_N[c] if len(entropy_N) else None
                return _fused(_slopes, len(raw_CV))(raw_CV, target_N[c], lse_N[c], g_N[c], ctx.how, entropy_C, ge_N[c])  # type: ignore[no-any-return]
            z = _logits(h_ND[c], w_VD, b_V, ctx.how)
            slope = _slope(z, ctx.how)
            logp = z.sub_(lse_N[c, None])
            if len(entropy_N):
                d = logp.exp().mul_((logp + entropy_N[c, None]).mul_(ge_N[c, None]).add_(g_N[c, None])).neg_()
            else:
                d = logp.exp_().mul_(-g_N[c, None])
            d.scatter_add_(1, target_N[c, None], g_N[c, None])
            return d if isinstance(slope, float) and slope == 1.0 else d.mul_(slope)

        needs = ctx.needs_input_grad
        return (*_pull_back(h_ND, w_VD, make, weight=needs[1], bias=needs[2]), None, None, None)


def token_logps(
    h_ND: Tensor, head: Head, target_N: Tensor, *, temperature: float = 1.0, entropy: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """log p(target) in nats, fp32 [N], differentiable in h, weight and bias; with entropy: (logp_N, entropy_N)."""
    how = _How(head.scale, head.softcap, temperature)
    logp_N, entropy_N = _TokenLogps.apply(h_ND, head.weight_VD, head.bias_V, target_N, how, entropy)
    return (logp_N, entropy_N) if entropy else logp_N


@torch.no_grad()
def log_collisions(h_ND: Tensor, head: Head) -> Tensor:
    """log sum_v p(v)^2 [N], nats: the mean likelihood that a distribution gives its own draws. No gradient."""
    how, chunk, found = _How(head.scale, head.softcap, 1.0), _chunk_rows(h_ND, len(head.weight_VD)), []
    for i in range(0, len(h_ND), chunk):
        z = _logits(h_ND[i : i + chunk], head.weight_VD, head.bias_V, how)
        lse = torch.logsumexp(z, -1)
        found.append(torch.logsumexp(z.mul_(2), -1) - 2 * lse)
    return torch.cat(found) if found else h_ND.new_zeros(0, dtype=wide(h_ND.dtype))


class _Nll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h_ND: Tensor, w_VD: Tensor, b_V: Tensor | None, target_N: Tensor, weight_N: Tensor, how: _How
    ) -> tuple[Tensor, Tensor]:
        logp_N = h_ND.new_empty(len(h_ND), dtype=wide(h_ND.dtype))
        weight_N = weight_N.to(logp_N.dtype)

        def make(c: slice) -> Tensor:
            """weight (p - onehot), the log-probs on the way."""
            if _fuses(h_ND):
                raw_CV = torch.nn.functional.linear(h_ND[c], w_VD, b_V)
                lse_C, logp_N[c], _ = _fused(_stats, len(raw_CV))(raw_CV, target_N[c], how, False)
                return _fused(_slopes, len(raw_CV))(raw_CV, target_N[c], lse_C, -weight_N[c], how, None, lse_C)  # type: ignore[no-any-return]
            z, weight, target = _logits(h_ND[c], w_VD, b_V, how), weight_N[c, None], target_N[c, None]
            slope, at_target, top = _slope(z, how), z.gather(1, target), z.amax(-1, keepdim=True)
            total = z.sub_(top).exp_().sum(-1, keepdim=True)
            logp_N[c] = (at_target - top - total.log())[:, 0]
            d = z.mul_(weight / total).scatter_add_(1, target, -weight)
            return d if isinstance(slope, float) and slope == 1.0 else d.mul_(slope)

        needs = ctx.needs_input_grad
        ctx.save_for_backward(*_pull_back(h_ND, w_VD, make, weight=needs[1], bias=needs[2]))
        ctx.mark_non_differentiable(logp_N)
        return -(logp_N * weight_N).sum(), logp_N

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Any, ...]:
        plain = g.device.type == "cpu" and float(g) == 1.0  # a GPU multiplies sooner than it answers
        grads = (x if x is None or plain else x * g.to(x.dtype) for x in ctx.saved_tensors)
        return (*grads, None, None, None)


def nll(h_ND: Tensor, head: Head, target_N: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
    """(sum_n weight_n * -log p(target_n), log p(target_n) detached). The gradient is made in the forward."""
    how = _How(head.scale, head.softcap, 1.0)
    if torch.is_grad_enabled() and (h_ND.requires_grad or head.weight_VD.requires_grad):
        loss, logp_N = _Nll.apply(h_ND, head.weight_VD, head.bias_V, target_N, weight_N, how)
        return loss, logp_N
    logp_N, _ = _TokenLogps.apply(h_ND, head.weight_VD, head.bias_V, target_N, how, False)
    return -(logp_N * weight_N).sum(), logp_N
