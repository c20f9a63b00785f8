"""Borrowing a training module for a moment: another attention, faster products, no dropout, all put back afterwards.

The module is changed only while a forward pass runs, never between two steps, so several samplers can take turns on
it and a stream that is left half read harms nobody.

Left out on purpose: copies of weights in other layouts; what is sampled from is the storage that is trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

NAME = "posttrain_decode"
TURNED_ROWS = 256  # above that many rows both orders of the product cost the same


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    work: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: hands the layer's query, key, value [B, heads, T, D] to the step's `work`."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out_BHTD = work.attend(module.layer_idx, query, key, value, scale, sliding_window, softcap)
    return out_BHTD.transpose(1, 2), None


def register() -> None:
    """Make the name known to transformers. Without a mask function of that name no mask is built, and none is used."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


@contextmanager
def borrowed(hf: nn.Module, attention: str | None, linears: list[nn.Linear]) -> Iterator[None]:
    """In this context hf runs without dropout and gradients, with `attention` (None: its own) and faster `linears`."""
    config: Any = hf.config.get_text_config()
    before, in_training = config._attn_implementation, [m for m in hf.modules() if m.training] if hf.training else []
    try:
        for m in in_training:
            m.training = False
        for linear in linears:
            linear.forward = partial(turned, linear)  # type: ignore[method-assign]
        if attention is not None:
            config._attn_implementation_internal = attention
        with torch.no_grad():
            yield
    finally:
        config._attn_implementation_internal = before
        for linear in linears:
            linear.__dict__.pop("forward", None)
        for m in in_training:
            m.training = True


def turned(linear: nn.Linear, x: Tensor) -> Tensor:
    """x W^T + b, computed as (W x^T)^T: MKL shares that order's work better among threads when there are few rows.

    fp32, two AVX2 cores, the products of a step with 4 / 16 / 32 / 64 rows: 2.7 / 1.5 / 1.5 / 1.5 times faster.
    """
    rows = x.numel() // x.shape[-1]
    if rows == 1 or rows > TURNED_ROWS:
        return nn.functional.linear(x, linear.weight, linear.bias)
    y = torch.mm(linear.weight, x.reshape(rows, -1).t()).t()
    y = y.contiguous() if linear.bias is None else y + linear.bias
    return y.view(*x.shape[:-1], -1)


def turnable(hf: nn.Module) -> list[nn.Linear]:
    """Linear layers that `turned` speeds up. Chosen by machine and type, never by a stopwatch: draws must repeat."""
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or torch.get_num_threads() == 1:
        return []
    plain = (m for m in hf.modules() if type(m) is nn.Linear and not hooked(m) and "forward" not in m.__dict__)
    return [m for m in plain if m.weight.dtype == torch.float32 and m.weight.device.type == "cpu"]


def hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
