"""Packed causal attention with prefix sharing, as an attention implementation of transformers named "posttrain".

Every Hugging Face decoder that goes through transformers' attention interface can use it: the layout of the pack
travels in the model's keyword arguments (`model(..., layout=pack.layout)`). Without a layout the call is an ordinary
one (generation with a cache, say) and goes to transformers' sdpa, or to `dense` where a model caps its scores.

Back ends: `packed` (CPU: one operator that torch.compile does not look into; C code where the machine has a compiler
(kernels/), else PyTorch's forward with a backward of our own, since PyTorch's is 3-4 times slower than batched
products), `varlen` (CUDA), and `dense`, which is slow and obviously right. Sliding windows and soft caps are exact in
`packed` and `dense`.

Shapes: T tokens, H query heads, K key/value heads, G = H / K, D head size, S segments, R query rows of a block (live
ones first), J keys of a block.
Left out on purpose: padding masks, cross attention, attention dropout, attention sinks.
"""

import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn

from posttrain import kernels
from posttrain.packing import Gathered, Layout, Segment

NAME = "posttrain"
BLOCK = 128  # query rows handled at once: skips most of the half of the score matrix that causality hides
# PyTorch 2.11 has no such argument, and its kernel shares key heads among query heads unasked
GROUPED = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
ALIGN = 32  # oneDNN makes new kernels for every new shape, so bf16 blocks come in multiples of this


def visible(layout: Layout, tokens: int, window: int | None = None) -> Tensor:
    """The dense mask, bool [T, T]: query i sees key j. window: a query sees itself and the window - 1 tokens before."""
    mask_TT = torch.zeros(tokens, tokens, dtype=torch.bool)
    for s in layout.segments():
        key_J = torch.cat([torch.arange(s.p0, s.p1), torch.arange(s.q0, s.q1)])
        distance = torch.arange(s.q1 - s.q0)[:, None] + (s.p1 - s.p0) - torch.arange(len(key_J))
        sees = distance >= 0 if window is None else (distance >= 0) & (distance < window)
        mask_TT[s.q0 : s.q1, key_J] = sees
    return mask_TT


def dense(
    q_BHTD: Tensor, k_BKJD: Tensor, v_BKJD: Tensor, sees: Tensor, *, scale: float, softcap: float | None = None
) -> Tensor:
    """Attention by its definition, softmax in fp32 or wider: slow, obviously right, the oracle of the tests.

    sees: bool, broadcasts to [B, H, T, J]. softcap c: scores become c tanh(scores / c) (Gemma 2, arXiv:2408.00118).
    Rows that see nothing give zero. Returns [B, H, T, D].
    """
    groups = q_BHTD.shape[1] // k_BKJD.shape[1]
    k, v = (x.repeat_interleave(groups, 1) for x in (k_BKJD, v_BKJD))
    score = (q_BHTD @ k.transpose(-1, -2)) * scale
    score = score.float() if score.dtype in (torch.bfloat16, torch.float16) else score
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    score = score.masked_fill(~sees, torch.finfo(score.dtype).min)
    p = torch.softmax(score, -1).masked_fill(~sees, 0.0)
    return p.to(v.dtype) @ v


# --- CPU -------------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """Some query rows of a segment with the keys that they see. Own keys are [k0, k1), prefix keys are [p0, p1)."""

    a: int  # rows a..b-1 are live, rows b..a+rows-1 only fill up the shape
    b: int
    rows: int
    p0: int
    p1: int
    prefix: int  # live prefix keys; p1 - p0 - prefix more fill up the shape
    k0: int
    k1: int
    far: int  # distance from query row 0 to own key 0
    far_prefix: int  # distance from query row 0 to prefix key 0


def _blocks(s: Segment, tokens: int, window: int, align: int) -> Iterator[Block]:
    """Cut a segment into blocks of about BLOCK rows. window 0: none."""
    n, prefix = s.q1 - s.q0, s.p1 - s.p0
    count = max(1, round(n / BLOCK))
    cuts = [s.q0 + i * n // count for i in range(count + 1)]
    for a, b in pairwise(cuts):
        rows = min(-(-(b - a) // align) * align, tokens - a)
        k0 = s.q0 if not window else max(s.q0, a - window + 1)
        hidden = 0 if not window else min(prefix, max(0, a - s.q0 + prefix - window + 1))  # prefix keys out of sight
        p0, live = s.p0 + hidden, prefix - hidden
        wide = min(-(-live // align) * align, tokens - p0)
        yield Block(a, b, rows, p0, p0 + wide, live, k0, a + rows, a - k0, a - s.q0 + live)


def _hidden(x: Block, window: int) -> Tensor | None:
    """bool [R, J]: key j is hidden from row r; None when nothing is."""
    row_R1 = torch.arange(x.rows)[:, None]
    own_J = row_R1 + x.far - torch.arange(x.k1 - x.k0)  # distances from query to key
    pre_J = row_R1 + x.far_prefix - torch.arange(x.p1 - x.p0)
    distance_RJ = torch.cat([pre_J, own_J], 1)
    hidden_RJ = distance_RJ < 0
    hidden_RJ[:, x.prefix : x.p1 - x.p0] = True
    hidden_RJ[x.b - x.a :] = True
    if window:
        hidden_RJ |= distance_RJ >= window
    return hidden_RJ


def _rows(x_THD: Tensor, x: Block, kv: int) -> Tensor:
    """The block's rows of a query-shaped tensor as [K, G R, D]: heads that share keys stand under each other."""
    n, (_, heads, size) = x.rows, x_THD.shape
    return x_THD[x.a : x.a + n].view(n, kv, heads // kv, size).permute(1, 2, 0, 3).reshape(kv, heads // kv * n, size)


def _keys(x_TKD: Tensor, x: Block) -> Tensor:
    """The block's keys or values as [K, J, D]; a view when there is no prefix."""
    own = x_TKD[x.k0 : x.k1]
    return (own if x.p0 == x.p1 else torch.cat([x_TKD[x.p0 : x.p1], own])).transpose(0, 1)


def _scores(q_KQD: Tensor, k_KJD: Tensor, hidden_RJ: Tensor, scale: float, softcap: float) -> tuple[Tensor, Tensor]:
    """(scores [K, G, R, J] in fp32 or wider, hidden ones -inf; tanh of the capped scores, empty without a cap)."""
    r, j = hidden_RJ.shape
    score = torch.bmm(q_KQD, k_KJD.transpose(1, 2)).view(len(q_KQD), -1, r, j)
    score = score.float() if score.dtype == torch.bfloat16 else score
    score.mul_(scale)
    tanh = score.new_empty(0)
    if softcap:
        tanh = score.div_(softcap).tanh_()
        score = tanh * softcap
    return score.masked_fill_(hidden_RJ, float("-inf")), tanh


def _affine(a_KQD: Tensor, b_KJD: Tensor, scale: float, minus_KQ1: Tensor) -> Tensor:
    """scale a b^T - minus, [K, Q, J] in the dtype of minus; one pass over memory where the dtypes allow it."""
    if a_KQD.dtype == minus_KQ1.dtype:
        return torch.baddbmm(minus_KQ1, a_KQD, b_KJD.transpose(1, 2), beta=-1, alpha=scale)
    return torch.bmm(a_KQD, b_KJD.transpose(1, 2)).to(minus_KQ1.dtype).mul_(scale).sub_(minus_KQ1)


def _heads_last(x_KQD: Tensor, rows: int) -> Tensor:
    """[K, G R, D] -> [R, H, D]."""
    kv, _, size = x_KQD.shape
    return x_KQD.view(kv, -1, rows, size).permute(2, 0, 1, 3).reshape(rows, -1, size)


def _flash(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, x: Block, window: int, scale: float) -> tuple[Tensor, Tensor]:
    """PyTorch's CPU kernel on the live rows of one block: ([R, H, D], log of the softmax's denominator [R, H])."""
    q = q_THD[x.a : x.b].transpose(0, 1)[None]
    x = x._replace(rows=x.b - x.a, p1=x.p0 + x.prefix, k1=x.b)
    k, v = _keys(k_TKD, x)[None], _keys(v_TKD, x)[None]
    plain = x.p0 == x.p1 and x.k0 == x.a
    mask = None
    if not plain or (window and window < x.b - x.a):
        mask = torch.zeros(q.shape[2], k.shape[2], dtype=q.dtype).masked_fill_(_hidden(x, window), float("-inf"))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, mask is None, attn_mask=mask, scale=scale
    )
    return out[0].transpose(0, 1), lse[0].transpose(0, 1)


def _capped(
    q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, x: Block, window: int, scale: float, softcap: float
) -> tuple[Tensor, Tensor]:
    """The same with a soft cap on the scores, which PyTorch's kernel does not know."""
    x = x._replace(rows=x.b - x.a, p1=x.p0 + x.prefix, k1=x.b)
    k, v = _keys(k_TKD, x), _keys(v_TKD, x)
    score, _ = _scores(_rows(q_THD, x, len(k)), k, _hidden(x, window), scale, softcap)
    lse = torch.logsumexp(score, -1, keepdim=True)
    p = torch.exp(score - lse).to(v.dtype).view(len(k), -1, v.shape[1])
    return _heads_last(torch.bmm(p, v), x.rows), lse.reshape(-1, x.rows).t()


@torch.library.custom_op("posttrain::packed", mutates_args=())
def packed(
    q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, segments_S4: Tensor, scale: float, window: int, softcap: float
) -> tuple[Tensor, Tensor]:
    """Attention over the segments of a pack on the CPU -> (output [T, H, D], log-denominators [T, H]).

    window 0 and softcap 0: none. Tokens outside every segment get zero and are seen by nobody.
    """
    if kernels.fits(q_THD) and (done := kernels.forward(q_THD, k_TKD, v_TKD, segments_S4, scale, window, softcap)):
        return done
    out = torch.zeros(q_THD.shape, dtype=q_THD.dtype)
    lse_TH = torch.zeros(q_THD.shape[:2], dtype=torch.float64 if q_THD.dtype == torch.float64 else torch.float32)
    for s in Layout(segments_S4).segments():
        for x in _blocks(s, len(q_THD), window, 1) if window or s.p1 > s.p0 or softcap else _whole(s):
            if softcap:
                o, lse = _capped(q_THD, k_TKD, v_TKD, x, window, scale, softcap)
            else:
                o, lse = _flash(q_THD, k_TKD, v_TKD, x, window, scale)
            out[x.a : x.b], lse_TH[x.a : x.b] = o, lse
    return out, lse_TH


def _whole(s: Segment) -> list[Block]:
    """A plain document as one block: PyTorch's kernel skips the hidden half by itself."""
    return [Block(s.q0, s.q1, s.q1 - s.q0, s.p0, s.p0, 0, s.q0, s.q1, 0, 0)] if s.q1 > s.q0 else []


@packed.register_fake
def _(q, k, v, segments, scale, window, softcap):  # type: ignore[no-untyped-def]
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), torch.empty(q.shape[:2], dtype=wide, device=q.device)


@torch.library.custom_op("posttrain::packed_backward", mutates_args=())
def packed_backward(
    g_THD: Tensor, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, out_THD: Tensor, lse_TH: Tensor,
    segments_S4: Tensor, scale: float, window: int, softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of `packed`, probabilities made again from the scores block by block (arXiv:2205.14135, appendix B).

    p = exp(s - lse), dv = p^T g, dp = g v^T, ds = p (dp - sum_D g out), dq = ds k, dk = ds^T q. Keys seen by several
    blocks add up in fp32.
    """
    if kernels.fits(q_THD):
        how = (segments_S4, scale, window, softcap)
        if grads := kernels.backward(g_THD, q_THD, k_TKD, v_TKD, out_THD, lse_TH, *how):
            return grads
    kv, wide = k_TKD.shape[1], lse_TH.dtype
    g_THD = g_THD.contiguous()
    delta_THS = (g_THD.to(wide) * out_THD).sum(-1, keepdim=True)
    lse_THS = lse_TH[..., None]
    q_THD, dq = q_THD.contiguous(), torch.zeros(q_THD.shape, dtype=q_THD.dtype)
    dk, dv = (torch.zeros(x.shape, dtype=wide) for x in (k_TKD, v_TKD))
    align = ALIGN if q_THD.dtype == torch.bfloat16 else 1
    for s in Layout(segments_S4).segments():
        for x in _blocks(s, len(q_THD), window, align):
            q, g = _rows(q_THD, x, kv), _rows(g_THD, x, kv)
            k, v = _keys(k_TKD, x), _keys(v_TKD, x)
            hidden_RJ, tanh = _hidden(x, window), None
            if softcap:
                score, tanh = _scores(q, k, hidden_RJ, scale, softcap)
                p = score.sub_(_rows(lse_THS, x, kv).view(*score.shape[:3], 1)).exp_()
            else:
                p = _affine(q, k, scale, _rows(lse_THS, x, kv)).view(kv, -1, *hidden_RJ.shape).exp_()
                p.masked_fill_(hidden_RJ, 0.0)
            ds = _affine(g, v, 1.0, _rows(delta_THS, x, kv)).view_as(p).mul_(p)
            if softcap:
                ds.mul_(1 - tanh.square_())
            p, ds = (y.to(q.dtype).view(kv, -1, k.shape[1]) for y in (p, ds))
            dq[x.a : x.b] = _heads_last(torch.bmm(ds, k).mul_(scale), x.rows)[: x.b - x.a]
            _add(dk, x, torch.bmm(ds.transpose(1, 2), q), scale)
            _add(dv, x, torch.bmm(p.transpose(1, 2), g), 1.0)
    return dq, dk.to(k_TKD.dtype), dv.to(v_TKD.dtype)


def _add(total_TKD: Tensor, x: Block, part_KJD: Tensor, scale: float) -> None:
    """Add a block's gradient of its keys, live ones only, to the whole."""
    part = part_KJD.transpose(0, 1)
    if x.prefix:
        total_TKD[x.p0 : x.p0 + x.prefix].add_(part[: x.prefix], alpha=scale)
    total_TKD[x.k0 : x.b].add_(part[x.p1 - x.p0 :][: x.b - x.k0], alpha=scale)


@packed_backward.register_fake
def _(g, q, k, v, out, lse, segments, scale, window, softcap):  # type: ignore[no-untyped-def]
    return tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, segments, *ctx.how = inputs
    ctx.save_for_backward(q, k, v, *output, segments)


def _gradients(ctx: Any, g: Tensor, _: Tensor) -> tuple[Any, ...]:
    return (*torch.ops.posttrain.packed_backward(g, *ctx.saved_tensors, *ctx.how), None, None, None, None)


packed.register_autograd(_gradients, setup_context=_keep)

# --- CUDA ------------------------------------------------------------------------------------------------------------


def varlen(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, how: Gathered, scale: float, window: int) -> Tensor:
    """PyTorch's variable-length flash attention over gathered keys, causal, aligned bottom right; fp16 or bf16."""
    if how.key_J is not None:
        # by way of fp32, so that the gradients of a prompt's copies are added up in fp32; compiled it is one kernel
        k_TKD, v_TKD = (x.float().index_select(0, how.key_J).to(x.dtype) for x in (k_TKD, v_TKD))
    return varlen_attn(
        q_THD, k_TKD, v_TKD, how.cu_query, how.cu_key, how.longest_query, how.longest_key,
        scale=scale, window_size=(window - 1 if window else -1, 0), **GROUPED,
    )  # fmt: skip


# --- transformers ----------------------------------------------------------------------------------------------------


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: query [B, H, T, D], key and value [B, K, J, D] -> ([B, T, H, D], None).

    With a layout B is 1.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout is None:
        return _plain(module, query, key, value, attention_mask, scale, softcap, kwargs)
    if kwargs.get("s_aux") is not None:
        raise NotImplementedError("attention sinks are not supported in packs")
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary embeddings may leave them in fp32
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if query.device.type == "cpu":
        return packed(q, k, v, layout.segments_S4, scale, sliding_window or 0, softcap or 0.0)[0][None], None
    if softcap is None and layout.gathered is not None and q.dtype in (torch.bfloat16, torch.float16):
        return varlen(q, k, v, layout.gathered, scale, sliding_window or 0)[None], None
    sees = visible(layout, query.shape[2], sliding_window).to(query.device)  # soft caps and fp32: T^2 memory
    return dense(query, key, value, sees, scale=scale, softcap=softcap).transpose(1, 2), None


def _plain(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scale: float,
    softcap: float | None,
    kwargs: dict[str, Any],
) -> tuple[Tensor, None]:
    """No layout: what transformers' sdpa does, which has no soft cap, so those models go the dense way."""
    if softcap is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scale, **kwargs)
        return out, None
    n, m = query.shape[2], key.shape[2]
    sees = attention_mask
    if sees is None:  # sdpa's masks are left out where plain causality says it all
        sees = torch.ones(n, m, dtype=torch.bool, device=query.device).tril(m - n)
    return dense(query, key, value, sees, scale=scale, softcap=softcap).transpose(1, 2), None


def register() -> None:
    """Make `attn_implementation="posttrain"` known to transformers. Without a layout its masks are those of sdpa."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
