"""Packed causal attention with prefix sharing, as an attention implementation of transformers named "posttrain".

Every Hugging Face decoder that goes through transformers' attention interface can use it: the layout of the pack
travels in the model's keyword arguments (`model(..., layout=pack.layout)`). Without a layout the call is an ordinary
one (generation with a cache, say) and goes to transformers' sdpa, or to `dense` where a model caps its scores.

Shapes: T tokens, H query heads, K key/value heads (H a multiple of K), D head size, S segments.
Left out on purpose: padding masks, cross attention, attention dropout in packs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posttrain.packing import Layout, Segment

NAME = "posttrain"


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
    q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, sees: Tensor, *, scale: float, softcap: float | None = None
) -> Tensor:
    """Attention by its definition, softmax in fp32 or wider: slow, obviously right, the oracle of the tests.

    sees: bool, broadcasts to [B, H, T, J]. softcap c: scores become c tanh(scores / c) (Gemma 2). Rows that see
    nothing give zero. Returns [B, H, T, D].
    """
    groups = q_BHTD.shape[1] // k_BKTD.shape[1]
    k, v = (x.repeat_interleave(groups, 1) for x in (k_BKTD, v_BKTD))
    score = (q_BHTD @ k.transpose(-1, -2)) * scale
    score = score.float() if score.dtype in (torch.bfloat16, torch.float16) else score
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    score = score.masked_fill(~sees, torch.finfo(score.dtype).min)
    p = torch.softmax(score, -1).masked_fill(~sees, 0.0)
    return p.to(v.dtype) @ v


def segmentwise(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, segments: list[Segment], scale: float) -> Tensor:
    """One call of PyTorch's attention per segment. Exact, differentiable, any device."""
    out = torch.zeros_like(q_THD)
    k_KTD, v_KTD = k_TKD.transpose(0, 1), v_TKD.transpose(0, 1)
    for s in segments:
        q = q_THD[s.q0 : s.q1].transpose(0, 1)[None]
        if s.p0 == s.p1:
            k, v = k_KTD[None, :, s.q0 : s.q1], v_KTD[None, :, s.q0 : s.q1]
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        else:
            k, v = (torch.cat([x[:, s.p0 : s.p1], x[:, s.q0 : s.q1]], 1)[None] for x in (k_KTD, v_KTD))
            n = s.q1 - s.q0
            sees = torch.ones(n, k.shape[2], dtype=torch.bool, device=q.device).tril(s.p1 - s.p0)
            o = F.scaled_dot_product_attention(q, k, v, attn_mask=sees, scale=scale, enable_gqa=True)
        out[s.q0 : s.q1] = o[0].transpose(0, 1)
    return out


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

    With a layout B is 1. Soft caps, and windows shorter than a document, take the dense path that honours them.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout is None:
        return _plain(module, query, key, value, attention_mask, scale, softcap, kwargs)
    if kwargs.get("s_aux") is not None:
        raise NotImplementedError("attention sinks are not supported in packs")
    segments = layout.segments()
    longest = max((s.q1 - s.q0 + s.p1 - s.p0 for s in segments), default=0)
    window = sliding_window if sliding_window is not None and sliding_window < longest else None
    if window is not None or softcap is not None:
        sees = visible(layout, query.shape[2], window).to(query.device)
        return dense(query, key, value, sees, scale=scale, softcap=softcap).transpose(1, 2), None
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return segmentwise(q, k, v, segments, scale)[None], None


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
