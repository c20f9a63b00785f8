"""Decoding steps that a GPU plays back: recorded once for each shape as a CUDA graph, the draw of the tokens included.

A step of a small model is a thousand short kernels, and launching them takes ten times as long as running them.
Recorded work reads and writes the same memory every time, so a step's tokens, positions and uniforms are copied into
one buffer, and what was drawn is read from another: one copy each way. Parameters are read where they lie, so weights
that are trained in place need no new recording.

The recorder is passed in: without a GPU the "recording" is the work itself, which is how this is tested.
Shapes: B slots that a step looks at, V vocabulary. Left out on purpose: prompts, whose shapes are too many.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posttrain.sampler.base import Sampling
from posttrain.sampler.choose import check, pick

SIZES = (1, 4, 16, 64, 256)  # of 16 slots a step costs what it costs of 4: weights are read once
Work = Callable[[], Tensor]


class OnGpu:
    """Records what a piece of work launches. All recordings share their memory: they are played one at a time."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        aside, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):  # outside of the recording kernels are chosen, compiled and loaded
                work()
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            out = work()

        def play() -> Tensor:
            graph.replay()
            return out

        return play


def rounded(length: int) -> int:
    """Positions that a step looks at: four lengths between a power of two and the next, none below 64."""
    unit = max(64, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // unit) * unit


class Steps:
    """forward(ids_B1, position_B, length): logits [B, V] of slots 0..B-1, which see their first `length` positions."""

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor, int], Tensor],
        slots: int,
        positions: int,
        device: torch.device,
        record: Callable[[Work], Work],
    ):
        self.forward, self.record, self.slots, self.positions = forward, record, slots, positions
        self.host_3B = torch.zeros(3, slots, dtype=torch.long, pin_memory=device.type == "cuda")
        self.given_3B = torch.zeros(3, slots, dtype=torch.long, device=device)  # tokens, positions, bits of uniforms
        self.recorded: dict[Any, Work] = {}

    def logits(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """[len(tokens), V], good until the next step."""
        return self._play(tokens, positions, None, None)[: len(tokens)]

    def draw(
        self, tokens: Sequence[int], positions: Sequence[int], uniforms: Sequence[float], how: Sampling
    ) -> tuple[list[int], list[float]]:
        """The next tokens and their log-probabilities, as choose.choose draws them."""
        found_B3 = self._play(tokens, positions, uniforms, how)[: len(tokens)].cpu()
        check(found_B3[:, 2])
        return found_B3[:, 0].long().tolist(), found_B3[:, 1].tolist()

    def _play(
        self, tokens: Sequence[int], positions: Sequence[int], uniforms: Sequence[float] | None, how: Sampling | None
    ) -> Tensor:
        size = min(next((s for s in SIZES if s >= len(tokens)), self.slots), self.slots)
        length = min(rounded(max(positions) + 1), self.positions)
        host_3B = self.host_3B.numpy()
        host_3B[:2, : len(tokens)] = tokens, positions
        host_3B[:2, len(tokens) :] = 0  # slots not in use: what is written there harms nobody
        if uniforms is not None:
            host_3B[2, : len(tokens)] = np.array(uniforms, dtype=np.float64).view(np.int64)
        self.given_3B.copy_(self.host_3B, non_blocking=True)
        key = (size, length, how and (how.temperature, how.top_k, how.top_p, how.min_p))
        if key not in self.recorded:
            self.recorded[key] = self.record(lambda: self._work(size, length, how))
        return self.recorded[key]()

    @torch.no_grad()
    def _work(self, size: int, length: int, how: Sampling | None) -> Tensor:
        token_B, position_B, bits_B = self.given_3B[:, :size]
        logits_BV = self.forward(token_B[:, None], position_B, length)
        if how is None:
            return logits_BV
        token_B, logp_B, top_B = pick(logits_BV, bits_B.contiguous().view(torch.float64), how, waits=False)
        return torch.stack([token_B.double(), logp_B.double(), top_B.double()], 1)
