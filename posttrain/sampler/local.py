"""Sampling in this process with the very weights that are being trained: no second model, no copy.

Continuous batching: an answer that ends leaves its slot, the next prompt in the queue enters. Each prompt is read
once however many samples it gets, and what several begin with is read once for all of them. A step is one forward pass
for all slots (cache.py), one draw per slot (choose.py).

Shapes: B slots in use. Left out on purpose: other processes and machines, speculation.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from posttrain.errors import UserError
from posttrain.rows import Sample, Termination
from posttrain.sampler.base import Sampling
from posttrain.sampler.cache import Batched, Engine, Plain, Stem, context, fits
from posttrain.sampler.choose import choose, penalised, uniforms
from posttrain.sampler.text import shown, stop_at

KEPT_BYTES = 4 << 30  # of keys and values that a GPU holds on to between two requests
OnStep = Callable[[int, int], None]  # (samples finished, tokens drawn) since the last call


@dataclass
class Row:
    """One answer in progress. asked: its prompt's tokens. at: position of its newest token."""

    asked: Sequence[int]
    prompt: int
    sample: int
    at: int
    limit: int
    version: int  # of the weights when it began
    uniform: np.ndarray
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    cut: int | None = None  # where a stop string begins in the text
    ended: Termination | None = None


@dataclass
class Turn:
    """What one step brought: rows that got a token, finished ones among them."""

    rows: list[Row]
    finished: list[Row]


class Local:
    """Sampler over a posttrain Model or a plain transformers module.

    batch: slots, so the answers in progress at once.  engine: "batched", "plain" (one answer at a time with
    transformers' cache), or "auto": batched where that is exact.  version: of the weights; a sample carries the one it
    began with.
    """

    def __init__(self, model: Any, chat: Any, batch: int = 32, *, engine: Literal["auto", "batched", "plain"] = "auto"):
        hf = getattr(model, "hf", model)
        self.hf = hf.get_base_model() if hasattr(hf, "peft_config") else hf  # adapters live inside the base's layers
        self.model, self.chat, self.batch, self.version = model, chat, batch, 0
        self.batched = fits(self.hf) if engine == "auto" else engine == "batched"
        self.context = context(self.hf)
        self._turn = threading.Lock()  # one forward pass at a time: it borrows the module
        self._kept: Batched | None = None  # an engine with recorded steps, for the next request

    async def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        how: Sampling,
        *,
        on_step: OnStep | None = None,
        only: Sequence[int] | None = None,
    ) -> list[list[Sample]]:
        """n samples of each prompt. Other coroutines get their turn after every step; on_step feeds progress bars.
        only: numbers of the prompts that are this process's share; the lists of the others stay full of None.

        Raises UserError for a prompt that fills the model's context. An answer that reaches the end of the context
        ends with "length".
        """
        done: list[list[Sample | None]] = [[None] * n for _ in prompts]
        for turn in self.turns(prompts, n, how, only):
            for row in turn.finished:
                done[row.prompt][row.sample] = self.finish(row)
            if on_step:
                on_step(len(turn.finished), len(turn.rows))
            await asyncio.sleep(0)
        return done  # type: ignore[return-value]  # turns() ends when every row is finished

    async def load(self, weights: Any, version: int) -> None:
        """The weights are shared with training, so there is nothing to copy: later samples carry the new version."""
        self.version = version

    def stream(self, prompt: Sequence[int], how: Sampling) -> Iterator[str]:
        """Pieces of one answer as they are drawn; joined they are the sample's text. Characters are never split."""
        sent, ends = "", [*how.stop, *filter(None, [self.chat.tail])]
        for turn in self.turns([prompt], 1, how):
            row = turn.rows[0]
            if row.ended:
                text = self.finish(row).text
            else:
                text = shown(self.text_of(row.ids), ends, self.chat.lead)
            if text.startswith(sent) and len(text) > len(sent):
                yield text[len(sent) :]
                sent = text

    def finish(self, row: Row) -> Sample:
        """The sample of an ended row. A control token inside the answer makes it "malformed"."""
        said, parsed = self.chat.parse(row.ids)
        ended: Termination = parsed if parsed == "malformed" else row.ended or "length"
        return Sample(
            text=said.content[: row.cut], ids=tuple(row.ids), logps=tuple(row.logps), ended=ended, version=row.version
        )

    def text_of(self, ids: Sequence[int]) -> str:
        """What the assistant has said so far; what the template puts before its stop token is not counted as said."""
        return str(self.chat.parse(ids)[0].content)

    def turns(
        self, prompts: Sequence[Sequence[int]], n: int, how: Sampling, only: Sequence[int] | None = None
    ) -> Iterator[Turn]:
        """The work itself, a step at a time. Between two steps the model is as its owner left it."""
        room = [self._room(prompt) for prompt in prompts]
        chosen = range(len(prompts)) if only is None else only
        order = sorted(chosen, key=lambda i: -len(prompts[i]))  # like lengths share passes and slots
        if not order or n < 1:
            return
        engine = self._engine(len(order) * n, max(len(prompts[i]) + min(how.max_new, room[i]) for i in order))
        queue = [(i, j) for i in order for j in range(n)][::-1]  # taken from the end
        stems: dict[int, Stem] = {}
        rows: list[Row] = []
        slots = min(self.batch, len(queue))
        while queue or rows:
            if queue and len(rows) <= slots - max(1, slots // 8):
                taken = [queue.pop() for _ in range(min(slots - len(rows), len(queue)))]
                new = [self._row(i, j, prompts[i], min(how.max_new, room[i]), how) for i, j in taken]
                drawn = self._draw(new, self._enter(engine, prompts, new, stems, first=len(rows)), how)
                stems = {i: s for i, s in stems.items() if queue and queue[-1][0] == i}
                rows += new
            else:
                new, drawn = rows, self._step(engine, rows, how)
            self._take(new, *drawn, how)
            finished = [r for r in new if r.ended]
            yield Turn(list(new), finished)
            rows = self._leave(engine, rows)
        self._keep(engine)

    def _room(self, prompt: Sequence[int]) -> int:
        """Tokens that fit behind a prompt."""
        if not prompt:
            raise ValueError("a prompt needs at least one token")
        if self.context is None:
            return 2**31
        if len(prompt) >= self.context:
            raise UserError(
                f"a prompt of {len(prompt):,} tokens leaves no room for an answer: the model holds {self.context:,}",
                remedy="shorten the conversation",
            )
        return self.context - len(prompt)

    def _row(self, i: int, j: int, asked: Sequence[int], limit: int, how: Sampling) -> Row:
        return Row(asked, i, j, len(asked) - 1, limit, self.version, uniforms(how.seed, i, j, limit))

    def _engine(self, samples: int, positions: int) -> Engine:
        kept, self._kept = self._kept, None
        if kept and kept.serves(min(self.batch, samples), positions):
            return kept
        if not self.batched:
            return Plain(self.hf)
        layers = getattr(self.model, "compiled_layers", ())  # what training found worth compiling, steps do too
        return Batched(self.hf, min(self.batch, samples), positions, layers)

    def _keep(self, engine: Engine) -> None:
        """An engine that has recorded steps (on a GPU) is kept while its keys and values do not take up much."""
        if isinstance(engine, Batched) and engine.steps and engine.held <= KEPT_BYTES:
            self._kept = engine

    def _enter(
        self, engine: Engine, prompts: Sequence[Sequence[int]], new: list[Row], stems: dict[int, Stem], first: int
    ) -> torch.Tensor:
        """Read the prompts of new rows that have not been read, fill slots from `first` on: logits [new, V]."""
        unread = [i for i in dict.fromkeys(r.prompt for r in new) if i not in stems]
        with self._turn:
            stems.update(zip(unread, engine.read([prompts[i] for i in unread])))
            own = [stems[r.prompt] for r in new]
            engine.place(own, range(first, first + len(new)))
        return torch.stack([s.logits_V for s in own])

    def _step(self, engine: Engine, rows: list[Row], how: Sampling) -> tuple[list[int], list[float]]:
        """Feed every row's newest token, draw the next one. Row k stands in slot k."""
        fed = [r.ids[-1] for r in rows], [r.at for r in rows]
        with self._turn:
            if engine.steps and not how.penalises:
                return engine.steps.draw(*fed, [r.uniform[len(r.ids)] for r in rows], how)
            logits_BV = engine.step(*fed)
        return self._draw(rows, logits_BV, how)

    def _draw(self, rows: list[Row], logits_BV: torch.Tensor, how: Sampling) -> tuple[list[int], list[float]]:
        u_B = torch.tensor([r.uniform[len(r.ids)] for r in rows], dtype=torch.float64, device=logits_BV.device)
        drawn_from = penalised(logits_BV, ([*r.asked, *r.ids] for r in rows), how)
        token_B, logp_B = choose(drawn_from, u_B, how)
        return token_B.tolist(), logp_B.tolist()

    def _take(self, rows: list[Row], tokens: list[int], logps: list[float], how: Sampling) -> None:
        stops = set(self.chat.stop_ids)
        for row, token, logp in zip(rows, tokens, logps):
            row.ids.append(token)
            row.logps.append(logp)
            row.at += 1
            if token in stops:
                row.ended = "stop"
            elif how.stop and (cut := stop_at(self.text_of, row.ids, how.stop)) is not None:
                row.cut, row.ended = cut, "stop"
            elif len(row.ids) >= row.limit:
                row.ended = "length"

    def _leave(self, engine: Engine, rows: list[Row]) -> list[Row]:
        """Drop ended rows; rows from the end move into their slots, so that slots 0..len-1 are the ones in use."""
        stay = sum(r.ended is None for r in rows)
        holes = [slot for slot in range(stay) if rows[slot].ended]
        movers = [slot for slot in range(stay, len(rows)) if not rows[slot].ended]
        rows = list(rows)
        for hole, mover in zip(holes, movers):
            engine.move(mover, hole)
            rows[hole] = rows[mover]
        return rows[:stay]
