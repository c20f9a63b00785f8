"""The last layer computed only where its result is read.

Behind a decoder's last attention every token goes its own way. Of a token whose hidden state nobody reads, such as a
prompt's or, in a reward model, all but an answer's last, keys and values are wanted but no query, no output projection
and no MLP: nine tenths of a layer like Llama's. The rows that are left out come back as if these parts gave zero.

Shapes: T tokens of a pack, R rows that are computed, D channels.
Left out on purpose: layers further down, where every token is read; fused projections and mixtures of experts, which
are computed whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PARTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp")
ROWS = 256  # rows are filled up to a multiple of this: products, and compiled code, meet few different shapes
PAYS = 0.5  # of all rows; with more than that, gathering and scattering them costs what is saved


def rows(at_N: Tensor, tokens: int) -> Tensor | None:
    """The rows to compute, int64 [R], each once, in order; None when that is nearly all of them."""
    read_R = np.unique(at_N.numpy())
    wanted = -(-max(1, len(read_R)) // ROWS) * ROWS
    if wanted > PAYS * tokens:
        return None
    unread = np.ones(tokens, dtype=bool)
    unread[read_R] = False
    return torch.from_numpy(np.sort(np.concatenate([read_R, np.flatnonzero(unread)[: wanted - len(read_R)]])))


class Narrow:
    """The parts of a decoder layer that see one token at a time. `at` computes them at some rows for a while."""

    def __init__(self, layer: nn.Module):
        self.row_R: Tensor | None = None
        found = (find(layer, name) for name in PARTS)
        self.parts = [(part, self._narrowed(part.forward)) for part in found if part]

    def _narrowed(self, whole: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def forward(x_1TD: Tensor) -> Tensor:
            row_R = self.row_R
            assert row_R is not None
            y_RD = whole(x_1TD[0].index_select(0, row_R)[None])[0]
            return y_RD.new_zeros(x_1TD.shape[1], y_RD.shape[1]).index_copy(0, row_R, y_RD)[None]

        return forward

    @contextmanager
    def at(self, row_R: Tensor) -> Iterator[None]:
        self.row_R = row_R
        for part, forward in self.parts:
            part.forward = forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            self.row_R = None
            for part, _ in self.parts:
                del part.forward


def find(layer: nn.Module, name: str) -> Any:
    """The part of this name; None where there is none, or where it is no plain MLP."""
    part: Any = layer
    for step in name.split("."):
        part = getattr(part, step, None)
    return part if isinstance(part, nn.Module) and (name != "mlp" or hasattr(part, "down_proj")) else None
