"""Weights in this process as an Asker: a local model as judge or critic.

The log-probability of an option is that of the whole answer, its tokens and the stop token, so "1" and "10" are
different things. A prompt is read once for all its options. Left out on purpose: judging (judge/llm.py).
"""

from collections.abc import Sequence
from typing import Any

import torch

from posttrain import packing
from posttrain.judge.asking import Asking, Reply
from posttrain.rows import Message, Messages, Sample
from posttrain.sampler.base import Sampling
from posttrain.sampler.local import Local

PACK_TOKENS = 4096


class Weights:
    """model: a posttrain Model. name: what its answers are kept under, so it should change with the weights."""

    def __init__(self, model: Any, chat: Any, name: str, *, how: Sampling | None = None, batch: int = 32):
        self.model, self.chat, self.name, self.how = model, chat, name, how or Sampling()
        self.sampler = Local(model, chat, batch=batch)

    async def ask(self, questions: Sequence[Messages], how: Asking) -> list[Reply]:
        """With options the text is the likeliest of them and nothing is drawn. Too long a question is unanswered."""
        prompts = [self.chat.prompt(q) for q in questions]
        room = (self.sampler.context or 2**31) - how.max_new
        fits = [n for n, p in enumerate(prompts) if len(p) <= room]
        replies = [Reply(text="", problem="unanswered", why="the question is too long for this model")] * len(prompts)
        for n, reply in zip(fits, await self._replies([questions[n] for n in fits], how)):
            replies[n] = reply.model_copy(update={"prompt_tokens": len(prompts[n])})
        return replies

    async def _replies(self, questions: Sequence[Messages], how: Asking) -> list[Reply]:
        if how.options:
            scores = await self.options(questions, how.options)
            return [Reply(text=how.options[row.index(max(row))], options=tuple(row)) for row in scores]
        sampling = Sampling(max_new=how.max_new, temperature=how.temperature, seed=how.seed)
        groups = await self.sampler.sample([self.chat.prompt(q) for q in questions], 1, sampling)
        return [Reply(text=group[0].text, drawn=len(group[0].ids)) for group in groups]

    async def say(self, conversations: Sequence[Messages], n: int) -> list[list[Sample]]:
        """n sampled answers each."""
        return await self.sampler.sample([self.chat.prompt(c) for c in conversations], n, self.how)

    async def options(self, conversations: Sequence[Messages], options: Sequence[str]) -> list[list[float]]:
        """Log-probability of each option as the whole answer, nats."""
        docs = [self._doc(c, options) for c in conversations]
        found: list[list[float]] = [[] for _ in docs]
        for chosen in packing.plan([packing.size(d) for d in docs], self._budget(docs), seed=None):
            pack = packing.build([docs[i] for i in chosen], pad_id=self.chat.pad_id)
            with torch.no_grad():
                logps = self.model.token_logps(pack)
            sums = torch.zeros(pack.branches, dtype=torch.float64).index_add_(0, pack.branch_N, logps.double())
            for place, i in enumerate(chosen):
                found[i] = sums[place * len(options) : (place + 1) * len(options)].tolist()
        return found

    def _doc(self, conversation: Messages, options: Sequence[str]) -> packing.Doc:
        answers = [self.chat.continuation(conversation, Message(role="assistant", content=o)) for o in options]
        return packing.Doc(answers[0][0], [packing.Branch(ids, [True] * len(ids)) for _, ids in answers])

    def _budget(self, docs: Sequence[packing.Doc]) -> int:
        return max([PACK_TOKENS, *(packing.size(d) for d in docs)])
