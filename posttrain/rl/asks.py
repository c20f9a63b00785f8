"""Which prompts are asked: epoch after epoch in a seeded order, those whose groups are all alike less often.

A group whose answers are all right or all wrong teaches nothing. How likely that is for a prompt is estimated from its
own answers: p is its running pass rate, a group of n varies with chance 1 - p^n - (1 - p)^n. Prompts nobody has seen
are taken to vary. Left out on purpose: levels of difficulty written by people, sampling with replacement.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from posttrain.errors import UserError
from posttrain.rl.rollout import Ask, Group
from posttrain.rows import Messages, Prompt

FORGET = 0.5  # what a prompt's earlier answers count for at its next visit: the policy has changed meanwhile


class Serving(BaseModel):
    """Servers that draw the answers (this project's own, vLLM), one address or several.

    folder: where the servers read their weights from; each version is written there. reload: what is then posted, path
    from the host on, with body: our own is started as `posttrain serve FOLDER --reload`.  processed: the servers'
    log-probs are those of the distribution sampled from (vLLM: --logprobs-mode processed_logprobs).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | tuple[str, ...]
    model: str
    folder: str
    reload: str = "/v1/reload"
    body: dict[str, Any] = {}
    key_env: str = ""
    concurrent: int = Field(default=64, ge=1)
    timeout: float = Field(default=600.0, gt=0)
    tries: int = Field(default=5, ge=1)
    processed: bool | None = None


class Rollouts(BaseModel):
    """How rollouts are made.

    curriculum: how much less a prompt is asked whose answers are surely all alike, as a share; 0: all alike, 0.9: a
    tenth as often.  max_staleness: rollouts are made this many rollouts ahead, with the weights of then; importance
    weights (algorithm.correction) make up for it.  too_long: prompts that leave no room for an answer.  server: who
    draws the answers, this process if not set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    curriculum: float = Field(default=0.0, ge=0, le=0.95)
    max_staleness: int = Field(default=0, ge=0, le=16)
    too_long: Literal["error", "drop"] = "error"
    server: Serving | None = None


class Asks:
    """Prompts in a seeded order; `taken` says how far it has come, `passes` what is known of each prompt.

    passes: prompt -> (right answers, answers), older ones counting less. low, high: rewards seen so far; right is what
    lies above their middle.
    """

    def __init__(self, asks: Sequence[Ask], seed: int, taken: int = 0, curriculum: float = 0.0):
        if not asks:
            raise UserError("there is no prompt to answer", where="prompts")
        self.asks, self.seed, self.taken, self.curriculum = asks, seed, taken, curriculum
        self.passes: dict[str, tuple[float, float]] = {}
        self.low, self.high = 0.0, 0.0
        self.group = 2
        self.skipped = 0
        self._order: tuple[int, list[int]] = (-1, [])

    def take(self, n: int) -> list[Ask]:
        found: list[Ask] = []
        while len(found) < n:
            ask = self._at(self.taken)
            if self._wanted(ask, self.taken):
                found.append(ask)
            else:
                self.skipped += 1
            self.taken += 1
        return found

    def seen(self, groups: Sequence[Group]) -> None:
        """Learn from groups how hard their prompts are. Unvaried groups are all right or all wrong."""
        if not self.curriculum or not groups:
            return
        rewards = [r for g in groups for r in g.reward]
        self.low, self.high = min(self.low, *rewards), max(self.high, *rewards)
        for g in groups:
            self.group = n = len(g.reward)
            right = sum(r > (self.low + self.high) / 2 for r in g.reward)
            right = right if g.flat else min(max(right, 1), n - 1)
            before = self.passes.get(key(g.ask), (0.0, 0.0))
            self.passes[key(g.ask)] = (FORGET * before[0] + right, FORGET * before[1] + n)

    def varies(self, ask: Ask) -> float:
        """Chance that the prompt's next group is not all alike; p = (right + 1/2) / (answers + 1) (Jeffreys' prior)."""
        if key(ask) not in self.passes:
            return 1.0
        right, answers = self.passes[key(ask)]
        p = (right + 0.5) / (answers + 1)
        return float(1 - p**self.group - (1 - p) ** self.group)

    def facts(self) -> dict[str, float]:
        """How many prompts were passed over since the last call, and how hard those are that have been seen."""
        if not self.curriculum:
            return {}
        skipped, self.skipped = self.skipped, 0
        rates = [right / answers for right, answers in self.passes.values()]
        known = max(1, len(rates))
        return {
            "skipped": float(skipped), "easy": sum(r > 0.95 for r in rates) / known,
            "hard": sum(r < 0.05 for r in rates) / known,
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        found = {k: getattr(self, k) for k in ("taken", "low", "high", "group", "skipped")}
        return found | {"passes": dict(self.passes)}

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def _wanted(self, ask: Ask, place: int) -> bool:
        if not self.curriculum:
            return True
        return random.Random(f"{self.seed}/ask/{place}").random() >= self.curriculum * (1 - self.varies(ask))

    def _at(self, i: int) -> Ask:
        epoch, place = divmod(i, len(self.asks))
        if self._order[0] != epoch:
            order = list(range(len(self.asks)))
            random.Random(f"{self.seed}/{epoch}").shuffle(order)
            self._order = epoch, order
        return self.asks[self._order[1][place]]


def key(ask: Ask) -> str:
    return ask.id or " ".join(map(str, ask.ids))


def asks_of(rows: Sequence[Prompt], prompt: Callable[[Messages], list[int]]) -> list[Ask]:
    """Rows as prompts; what a row says beside its messages is its truth."""
    return [Ask(r.id, r.messages, r.meta, prompt(r.messages)) for r in rows]
