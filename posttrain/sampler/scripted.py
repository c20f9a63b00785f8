"""A sampler that says what it was told to: for tests, demonstrations and stages that need no model.

Left out on purpose: probabilities; every token of a scripted answer has log-probability 0, as in greedy decoding.
"""

from collections.abc import Callable, Sequence
from typing import Any

from posttrain.rows import Sample, Termination
from posttrain.sampler.base import Sampling


class Scripted:
    """Sampler whose answers come from a function or a list.

    say: called with (text of the prompt, number of the sample), or a list that is gone through in a circle, one entry
    for each sample.  chat: turns prompt ids into text and answers into ids; None: a prompt's text is its ids joined by
    blanks and an answer's ids are its characters' code points.
    """

    def __init__(self, say: Callable[[str, int], str] | Sequence[str], chat: Any = None):
        self.say, self.chat, self.version = say, chat, 0
        self.asked: list[tuple[tuple[int, ...], int, Sampling]] = []  # every call's prompts, for tests to look at
        self._next = 0

    async def sample(self, prompts: Sequence[Sequence[int]], n: int, how: Sampling) -> list[list[Sample]]:
        self.asked += [(tuple(p), n, how) for p in prompts]
        return [[self._answer(p, j, how) for j in range(n)] for p in prompts]

    async def load(self, weights: Any, version: int) -> None:
        self.version = version

    def _answer(self, prompt: Sequence[int], j: int, how: Sampling) -> Sample:
        if callable(self.say):
            asked = self.chat.decode(prompt) if self.chat else " ".join(map(str, prompt))
            text = self.say(asked, j)
        else:
            text = self.say[self._next % len(self.say)]
            self._next += 1
        text = text[: min((text.index(s) for s in how.stop if s in text), default=len(text))]
        ids, ended = self._ids(text), "stop"
        if len(ids) > how.max_new:
            ids, ended = ids[: how.max_new], "length"
            text = self.chat.parse(ids)[0].content if self.chat else "".join(map(chr, ids))
        return Sample(text=text, ids=tuple(ids), logps=(0.0,) * len(ids), ended=_ended(ended), version=self.version)

    def _ids(self, text: str) -> list[int]:
        if self.chat is None:
            return [*map(ord, text), 0]
        return [*self.chat.tokenizer(text, add_special_tokens=False).input_ids, self.chat.stop_ids[0]]


def _ended(word: str) -> Termination:
    return "stop" if word == "stop" else "length"
