"""AdamW on fp32 master weights behind compute weights of any precision, and its learning rate over the steps.

Its moments are fp32, or 8 bits in blocks of 256 with a scale each (arXiv:2110.02861, by bitsandbytes).
Left out on purpose: the loop (train.py), other optimisers.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from posttrain import parallel, shards
from posttrain.errors import UserError

PART = 1 << 28  # weights that are stepped at one time: as much fp32 memory, times four, is used for their gradients


@dataclass(frozen=True)
class Optim:
    """AdamW with decoupled weight decay (arXiv:1711.05101) and a warm-up."""

    lr: float
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: float = 0.0  # share of the steps
    weight_decay: float = 0.0
    clip: float = 0.0  # largest global gradient norm; 0 is off
    betas: tuple[float, float] = (0.9, 0.99)
    moments: Literal["fp32", "int8"] = "fp32"


def parts(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Consecutive indices whose sizes add up to PART at most, one at least."""
    found: list[int] = []
    total = 0
    for i, n in enumerate(sizes):
        if found and total + n > PART:
            yield found
            found, total = [], 0
        found.append(i)
        total += n
    if found:
        yield found


def lr_at(step: int, steps: int, how: Optim) -> float:
    """Learning rate of step 0..steps-1: linear warm-up, then down to a thousandth of lr, or flat."""
    warm = math.ceil(how.warmup * steps)
    if step < warm:
        return how.lr * (step + 1) / warm
    if how.schedule == "constant":
        return how.lr
    x = (step - warm) / max(1, steps - warm)
    return how.lr * (0.5 * (1 + math.cos(math.pi * x)) if how.schedule == "cosine" else 1 - x) + 1e-3 * how.lr


def adamw(groups: Sequence[dict[str, Any]], how: Optim) -> torch.optim.Optimizer:
    """The optimiser of these groups of parameters. UserError where 8-bit moments cannot be had."""
    if how.moments == "fp32":
        return torch.optim.AdamW(groups, lr=how.lr, betas=how.betas, fused=True)
    where = "runtime.moments"
    if parallel.world() > 1:
        raise UserError(
            "moments of 8 bits cannot be cut over several processes", where=where,
            remedy="moments: fp32, of which each process holds its share alone",
        )  # fmt: skip
    try:
        from bitsandbytes import optim
    except ImportError:
        remedy = "pip install 'posttrain[quantize]', or moments: fp32"
        raise UserError("moments of 8 bits need the package bitsandbytes", where=where, remedy=remedy) from None
    made: torch.optim.Optimizer = optim.AdamW8bit(groups, lr=how.lr, betas=how.betas)
    return made


class Master:
    """fp32 master weights, gradients and AdamW state behind compute weights of any precision.

    Gradients of micro-batches are added up in fp32, so accumulation loses nothing to bf16. A step of one micro-batch
    has nothing to add up: its gradients stay in their own precision until AdamW takes them, PART numbers at a time.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], how: Optim):
        self.compute = list(parameters)
        same = all(p.dtype == torch.float32 for p in self.compute)
        self.weights = self.compute if same else [p.detach().float().clone() for p in self.compute]
        self.grads: list[Tensor] = []  # none before the first micro-batch of a step
        decay = [w for w in self.weights if w.ndim > 1]
        rest = [w for w in self.weights if w.ndim <= 1]
        groups = [{"params": decay, "weight_decay": how.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.moments = how.moments
        self.adamw = adamw([g for g in groups if g["params"]], how)

    @torch.no_grad()
    def collect(self) -> None:
        """Add the compute weights' gradients to those collected before, and clear them."""
        if not self.grads:
            self.grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.compute]
        else:
            for i, p in enumerate(self.compute):
                if p.grad is not None:
                    self.grads[i] = self.grads[i].float().add_(p.grad)
        for p in self.compute:
            p.grad = None

    @torch.no_grad()
    def norm(self) -> float:
        """Of the gradient as it has been collected."""
        if not self.grads:
            self.collect()
        return _norm(self.grads)

    @torch.no_grad()
    def step(self, lr: float, clip: float, norm: float | None = None) -> float:
        """One AdamW step; returns the gradient norm before clipping. Not finite: nothing is changed."""
        norm = self.norm() if norm is None else norm
        if math.isfinite(norm):
            for group in self.adamw.param_groups:
                group["lr"] = lr
            for part in parts([w.numel() for w in self.weights]):
                grads = [self.grads[i].float() for i in part]
                if clip and norm > clip:
                    torch._foreach_mul_(grads, clip / norm)
                for i, g in zip(part, grads):
                    self.weights[i].grad = g
                self.adamw.step()  # passes over weights without a gradient
                for i in part:
                    self.weights[i].grad = None
            self.publish()
        self.drop()
        return norm

    def drop(self) -> None:
        """Forget the gradient."""
        self.grads = []
        for p in self.compute:
            p.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Round the master weights into the compute weights."""
        if self.weights is not self.compute:
            torch._foreach_copy_(self.compute, self.weights)

    @torch.no_grad()
    def copy_from(self, weights: Sequence[Tensor]) -> None:
        for mine, theirs in zip(self.weights, weights):
            mine.copy_(shards.like(theirs, mine))
        self.publish()


def _norm(grads: Sequence[Tensor]) -> float:
    """The norm of all gradients together, at least in fp32."""
    if parallel.world() > 1 or all(g.dtype == torch.float32 for g in grads):
        return shards.number(torch.nn.utils.get_total_norm([g.float() for g in grads], foreach=True))
    wide = torch.float64 if any(g.dtype == torch.float64 for g in grads) else torch.float32
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2, dtype=wide))))
