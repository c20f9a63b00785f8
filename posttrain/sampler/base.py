"""What a sampler is: token ids in, samples with log-probabilities out. Two methods; transport is private to each one.

The log-probability contract: `Sample.logps[i]` is the natural logarithm of the probability that `ids[i]` had in the
distribution it was drawn from, after temperature and truncation, renormalised over what truncation left. The stop
token is one of the ids. Greedy decoding draws from a point mass, so its log-probabilities are 0.

Left out on purpose: text and templates (render.py makes the prompts), and settings that cannot be scored again.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from posttrain.rows import Sample


class Sampling(BaseModel):
    """How to draw. Order: repetition_penalty, / temperature, top_k, top_p, min_p (the order of transformers).

    max_new: tokens, the stop token included.  temperature: 0 is greedy.  top_k: 0 is off.  top_p: keep the likeliest
    tokens whose mass reaches it.  min_p: drop tokens less likely than min_p x the likeliest.  repetition_penalty: what
    logits of tokens that prompt and answer hold already are made smaller by; 1 is off.  stop: texts that end an
    answer, cut off its text.  Tokens that tie with the last one kept are kept too, so that the support depends on the
    logits alone.  seed: with it, a token depends on (seed, prompt's place, sample's number, position), not on
    what else is in the batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    seed: int = Field(default=0, ge=0, lt=2**64)
    stop: tuple[str, ...] = ()

    @field_validator("stop")
    @classmethod
    def _some_text(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("an empty stop string would end every answer before it begins")
        return stop

    @property
    def truncates(self) -> bool:
        """Whether some tokens can get probability 0."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0

    @property
    def penalises(self) -> bool:
        """Whether a token's probability depends on more than its logits."""
        return self.repetition_penalty != 1.0


class Sampler(Protocol):
    """Draws n samples for each prompt; result[i][j] is sample j of prompt i."""

    async def sample(self, prompts: Sequence[Sequence[int]], n: int, how: Sampling) -> list[list[Sample]]: ...

    async def load(self, weights: Any, version: int) -> None: ...
