"""One request's answers: asks for the engine, the pieces that come back, and the protocol's choices made of them.

Left out on purpose: HTTP (app.py) and drawing (engine.py).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.serve.engine import Ask, Desk, Piece, Token, random_seed
from posttrain.serve.wire import Chat, Completion, Speller, usage

FINISH = {"stop": "stop", "length": "length", "malformed": "stop"}


@dataclass
class Answer:
    """One choice while it grows. echo: the prompt's own tokens, once they are scored."""

    prompt: tuple[int, ...]
    asked: str = ""
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    echo: tuple[Token, ...] = ()
    ended: str = ""
    pieces: int = 0  # asks that have not ended: the answer, and its prompt's scores


class Request:
    """The answers of one HTTP request. `pieces()` yields (choice, new text, new tokens) until all have ended."""

    def __init__(self, desk: Desk, asked: Completion | Chat, prompts: Sequence[tuple[tuple[int, ...], str]]):
        self.desk, self.asked, self.chat = desk, asked, isinstance(asked, Chat)
        self.echo = isinstance(asked, Completion) and bool(asked.echo)
        self.begun, self.first = time.perf_counter(), 0.0
        self.answers = [Answer(ids, text) for ids, text in prompts for _ in range(asked.n)]
        self.prompt_tokens = sum(len(ids) for ids, _ in prompts)
        self._queue: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._asks = list(self._make())
        self.speller = Speller(desk.chat.decode, asked.return_tokens_as_token_ids)

    def submit(self) -> None:
        """Raises engine.Busy and UserError."""
        self.desk.submit(self._asks)

    def cancel(self) -> int:
        """Give up what has not ended; returns how many answers that was."""
        for ask in self._asks:
            ask.cancelled = True
        return sum(bool(a.pieces) for a in self.answers)

    @property
    def drawn(self) -> int:
        return sum(len(a.tokens) for a in self.answers)

    def _make(self) -> Any:
        asked, seed, stream = self.asked, random_seed(), bool(self.asked.stream)
        limit = asked.max_tokens if isinstance(asked, Completion) else asked.max_completion_tokens or asked.max_tokens
        how = asked.sampling(limit or self.desk.context or 2**20, seed)
        first = asked.place if isinstance(asked, Completion) else 0
        for n, answer in enumerate(self.answers):
            place, number = divmod(n, asked.n)
            if limit != 0:
                answer.pieces += 1
                yield Ask(
                    answer.prompt,
                    how,
                    self._sink(n),
                    first + place,
                    number,
                    asked.top,
                    asked.logprobs_of,
                    self.chat,
                    stream,
                )
            if self.echo and (asked.top is not None or limit == 0):
                answer.pieces += 1
                yield Ask(answer.prompt, None, self._sink(-1 - n), top=asked.top or 0)

    def _sink(self, key: int) -> Any:
        def sink(piece: Piece) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (key, piece))

        return sink

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """News of the answers, kept in them too. With echo, an answer's news waits for its prompt's scores.

        Raises the engine's error.
        """
        held: dict[int, list[Piece]] = {}
        waits = {n for n, a in enumerate(self.answers) if self._scored_too(a)}
        left = sum(a.pieces for a in self.answers)
        while left:
            key, piece = await self._queue.get()
            if piece.error:
                raise piece.error
            self.first = self.first or time.perf_counter()
            n = key if key >= 0 else -1 - key
            answer = self.answers[n]
            left -= bool(piece.ended)
            answer.pieces -= bool(piece.ended)
            if key < 0:
                answer.echo = piece.tokens
                waits.discard(n)
                news = held.pop(n, []) or ([] if answer.pieces else [Piece(ended="length")])
            else:
                held.setdefault(n, []).append(piece)
                news = [] if n in waits else held.pop(n)
            for p in news:
                answer.text += p.text
                answer.tokens += p.tokens
                answer.ended = p.ended or answer.ended
                yield n, p

    def _scored_too(self, answer: Answer) -> bool:
        return answer.pieces == 2 or (self.echo and self.asked.max_tokens == 0)

    def choice(self, n: int) -> dict[str, Any]:
        """A finished choice."""
        a = self.answers[n]
        logprobs = None if self.asked.top is None else self.logprobs(a, [*a.echo, *a.tokens], 0)
        common = {"index": n, "finish_reason": FINISH[a.ended], "logprobs": logprobs, **self._ids(a.tokens)}
        if self.chat:
            return common | {"message": {"role": "assistant", "content": a.text, "refusal": None}}
        return common | {"text": (a.asked if self.echo else "") + a.text}

    def chunk(self, n: int, piece: Piece, begins: bool) -> dict[str, Any]:
        """A piece of a choice that is streamed."""
        a = self.answers[n]
        tokens = [*(a.echo if begins else ()), *piece.tokens]
        start = len(a.asked) * (self.echo and not begins) + len(a.text) - len(piece.text)
        common = {
            "index": n, "finish_reason": FINISH[piece.ended] if piece.ended else None,
            "logprobs": None if self.asked.top is None else self.logprobs(a, tokens, start), **self._ids(piece.tokens),
        }  # fmt: skip
        if self.chat:
            return common | {"delta": ({"role": "assistant"} if begins else {}) | {"content": piece.text}}
        return common | {"text": (a.asked if self.echo and begins else "") + piece.text}

    def logprobs(self, answer: Answer, tokens: Sequence[Token], start: int) -> dict[str, Any]:
        return self.speller.chat(tokens) if self.chat else self.speller.completion(tokens, start)

    def _ids(self, tokens: Sequence[Token]) -> dict[str, Any]:
        return {"token_ids": [t.id for t in tokens]} if self.asked.return_token_ids else {}

    def usage(self) -> dict[str, int]:
        return usage(self.prompt_tokens, self.drawn)
