"""A policy that speaks: conversations in, answers out, tokens counted.

What stages that ask models (critics, red team) share. Left out on purpose: judging (sampler/asking.py). Importing this
file does not import torch.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from posttrain.pipeline import Runtime
from posttrain.rows import Messages, Sample

if TYPE_CHECKING:
    from posttrain.sampler import Sampling

T = TypeVar("T")


class Voice:
    """A policy's folder, loaded once. Every call draws with another seed, so a second question gets another answer."""

    def __init__(self, folder: Path, runtime: Runtime, *, max_new: int, temperature: float, seed: int):
        from posttrain.loading import load_model
        from posttrain.render import load_chat
        from posttrain.sampler.local import Local

        self.chat, self.model = load_chat(folder), load_model(folder, runtime, train=False)
        self.sampler, self.progress = Local(self.model, self.chat), runtime.progress
        self.max_new, self.temperature, self.seed = max_new, temperature, seed
        self.tokens, self.calls = 0, 0

    async def say(self, conversations: Sequence[Messages], n: int = 1) -> list[list[Sample]]:
        """n answers to each conversation."""
        prompts = [self.chat.prompt(messages) for messages in conversations]
        if not prompts:
            return []
        with self.progress.task("answer", total=len(prompts) * n) as tick:
            groups = await self.sampler.sample(
                prompts, n, self._how(), on_step=lambda done, tokens: tick(done, tokens=tokens)
            )
        self.tokens += sum(map(len, prompts)) + sum(len(s.ids) for group in groups for s in group)
        return groups

    def _how(self) -> "Sampling":
        from posttrain.sampler import Sampling

        self.calls += 1
        return Sampling(max_new=self.max_new, temperature=self.temperature, seed=self.seed * 1000 + self.calls)

    def cost(self) -> dict[str, float]:
        """tokens and flops spent so far, of forward passes alone."""
        return {"tokens": float(self.tokens), "flops": self.tokens * self.model.flops_per_token / 3}


def wait(work: Awaitable[T]) -> T:
    """Run to the end what is asked in a stage."""

    async def whole() -> T:
        return await work

    return asyncio.run(whole())
