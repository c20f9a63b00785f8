"""From unreduced losses to the scalar that is differentiated: the only place where a mean is taken.

Shapes: N target tokens of one micro-batch, S sequences in it. Left out on purpose: masks; packed micro-batches list
only the tokens that count.
"""

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["token", "sequence"]


def reduce(x_N: Tensor, how: Reduction, total: float, sequence_N: Tensor | None = None, sequences: int = 0) -> Tensor:
    """Sum over tokens ("token") or of sequence means ("sequence"), divided by `total`.

    total: how many tokens (or sequences) the WHOLE optimiser step has, over all its micro-batches and ranks, so that
    accumulating gradients equals one large batch exactly. sequence_N: which sequence each token belongs to.
    """
    if how == "sequence":
        assert sequence_N is not None
        return sequence_mean(x_N, sequence_N, sequences).sum() / total
    return x_N.sum() / total


def sequence_sum(x_N: Tensor, sequence_N: Tensor, sequences: int) -> Tensor:
    """Sum of x over each sequence's tokens -> [S]."""
    return torch.zeros(sequences, dtype=x_N.dtype, device=x_N.device).index_add(0, sequence_N, x_N)


def sequence_mean(x_N: Tensor, sequence_N: Tensor, sequences: int) -> Tensor:
    """Mean of x over each sequence's tokens -> [S]; 0 for a sequence without tokens."""
    n_S = torch.bincount(sequence_N, minlength=sequences).clamp(min=1)
    return sequence_sum(x_N, sequence_N, sequences) / n_S
