"""Borrowing a training module for a moment: another attention, faster products, no dropout, all put back afterwards.

The module is changed only while a forward pass runs, never between two steps, so several samplers can take turns on
it and a stream that is left half read harms nobody.

Left out on purpose: copies of weights in other layouts; what is sampled from is the storage that is trained.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

NAME = "posttrain_decode"
APART = "posttrain_decode_apart"  # the same, out of torch.compile's sight: it would make code for each layer's number
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
    """Make the names known to transformers. Without a mask function of that name no mask is built, and none is used."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    AttentionInterface.register(APART, torch.compiler.disable(attend))


class Loan:
    """`with loan():` hf runs without dropout, gradients and compiled layers, with `attention` (None: its own).

    Layers compiled for training are left aside because they would be compiled again for every shape of a step. layers:
    these run compiled all the same, everything but attention, for steps that are recorded and have few shapes.
    """

    def __init__(self, hf: Any, attention: str | None, layers: Sequence[nn.Module] = (), backend: str = "inductor"):
        self.hf, self.attention, self.config = hf, attention, hf.config.get_text_config()
        self.fast = [(m, torch.compile(m._call_impl, dynamic=True, backend=backend)) for m in layers]
        self.linears = turnable(hf) if attention else []
        self.compiled = [m for m in hf.modules() if m._compiled_call_impl is not None]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        before = self.config._attn_implementation
        training = [m for m in self.hf.modules() if m.training] if self.hf.training else []
        calls = [m._compiled_call_impl for m in self.compiled]
        try:
            for m in training:
                m.training = False
            for m in self.compiled:
                m._compiled_call_impl = None
            for m, call in self.fast:
                m._compiled_call_impl = call
            for m in self.linears:
                m.forward = partial(turned, m)  # type: ignore[method-assign]
            if self.attention:
                self.config._attn_implementation_internal = self.attention
            with torch.no_grad():
                yield
        finally:
            self.config._attn_implementation_internal = before
            for m in self.linears:
                m.__dict__.pop("forward", None)
            for m, _ in self.fast:
                m._compiled_call_impl = None
            for m, call in zip(self.compiled, calls):
                m._compiled_call_impl = call
            for m in training:
                m.training = True


def turned(linear: nn.Linear, x: Tensor) -> Tensor:
    """x W^T + b, computed as (W x^T)^T: MKL shares that order's work better among threads when there are few rows.

    fp32, two AVX2 cores, the products of a step with 4 / 16 / 32 / 64 rows: 2.7 / 1.5 / 1.5 / 1.5 times faster.
    """
    rows = x.numel() // x.shape[-1]
    if rows == 1 or rows > TURNED_ROWS:
        return nn.functional.linear(x, linear.weight, linear.bias)
    y = torch.mm(linear.weight, x.reshape(rows, -1).t()).t().contiguous()
    return (y if linear.bias is None else y + linear.bias).view(*x.shape[:-1], -1)


def turnable(hf: nn.Module) -> list[nn.Linear]:
    """Linear layers that `turned` speeds up. Chosen by machine and type, never by a stopwatch: draws must repeat."""
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or torch.get_num_threads() == 1:
        return []
    plain = (m for m in hf.modules() if type(m) is nn.Linear and not hooked(m) and "forward" not in m.__dict__)
    return [m for m in plain if m.weight.dtype == torch.float32 and m.weight.device.type == "cpu"]


def hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
