"""One thread that draws tokens for every request at once: continuous batching with requests that come and go.

A request takes a free slot at the next step, whatever the others are doing, and each answer has its own settings. The
random stream is that of sampler/local.py, so a seeded request gets the answer that the local sampler gives, whoever
else is being served. Prompts whose own log-probabilities are wanted (echo) are scored in packs between steps.

Shapes: B slots in use, T tokens of a pack, N targets, V vocabulary.
Left out on purpose: keys and values shared between conversations, paging, long prompts read in pieces.
"""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from posttrain import packing
from posttrain.errors import UserError
from posttrain.head import scores
from posttrain.rows import Termination
from posttrain.sampler.base import Sampling
from posttrain.sampler.cache import AREA, Batched, Engine, Plain, Stem, context, fits, round_up
from posttrain.sampler.choose import choose, log_probs, penalised, uniforms
from posttrain.sampler.text import shown, stop_at

FIRST_POSITIONS = 512  # the cache begins with room for so many tokens a slot and doubles when an answer needs more
SCORE_TOKENS = 2048  # tokens scored between two steps


class Busy(Exception):
    """The queue is full."""


class Token(NamedTuple):
    """A drawn or scored token. logp is None for the first token of a text, which nothing predicts."""

    id: int
    logp: float | None = None
    top: tuple[tuple[int, float], ...] = ()  # the likeliest tokens and their log-probabilities, likeliest first


class Piece(NamedTuple):
    """News of an answer: text and tokens since the last piece; ended or error is set in the last one."""

    text: str = ""
    tokens: tuple[Token, ...] = ()
    ended: Termination | None = None
    error: Exception | None = None


@dataclass(eq=False)
class Ask:
    """An answer that is wanted, or with how=None the log-probabilities of the prompt itself.

    place, number: which prompt of its request, which sample of it (they choose the random stream).  top: None for no
    log-probabilities, else how many alternatives beside each token.  of: "model" (softmax of the logits) or "sampled"
    (after temperature and truncation).  chat: the text is an assistant's turn, not a text that goes on.
    sink: called on the engine's thread with each Piece; only once, with everything, unless stream.
    """

    prompt: tuple[int, ...]
    how: Sampling | None
    sink: Callable[[Piece], None]
    place: int = 0
    number: int = 0
    top: int | None = None
    of: Literal["model", "sampled"] = "model"
    chat: bool = False
    stream: bool = False
    cancelled: bool = False


@dataclass(eq=False)
class Row:
    """An answer in progress. at: position of its newest token. sent, told: characters and tokens given away."""

    ask: Ask
    how: Sampling
    at: int
    limit: int
    uniform: np.ndarray
    ids: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    sent: int = 0
    told: int = 0
    cut: int | None = None
    ended: Termination | None = None


class Desk:
    """The engine's front: `submit` from any thread, `close` at the end. drawn, steps: counts for people who watch."""

    def __init__(self, model: Any, chat: Any, *, slots: int = 16, queue: int = 1024):
        self.model, self.chat, self.slots, self.queue = model, chat, slots, queue
        self.hf = model.hf.get_base_model() if hasattr(model.hf, "peft_config") else model.hf
        self.context = context(self.hf)
        self.steps = self.drawn = 0
        self._waiting: deque[Ask] = deque()
        self._scoring: deque[Ask] = deque()
        self._rows: list[Row] = []
        self._stems: dict[tuple[int, ...], Stem] = {}
        self._engine = self._new_engine()
        self._wake = threading.Condition()
        self._closed = False
        self._fresh: tuple[Callable[[], None], Future[None]] | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        return len(self._rows)

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._scoring)

    def submit(self, asks: Sequence[Ask]) -> None:
        """Queue answers, all or none. Raises Busy, and UserError for a prompt that cannot be answered."""
        for ask in asks:
            self._check(ask)
        with self._wake:
            if self._closed or self.waiting + len(asks) > self.queue:
                raise Busy
            for ask in asks:
                (self._waiting if ask.how else self._scoring).append(ask)
            self._wake.notify()

    def renew(self, load: Callable[[], None]) -> None:
        """Call `load`, which puts other weights into the model, when no answer is in progress; those that wait begin
        with the new weights. Returns when it is done, raises what `load` raises."""
        done: Future[None] = Future()
        with self._wake:
            if self._closed or self._fresh:
                raise Busy
            self._fresh = load, done
            self._wake.notify()
        done.result()

    def close(self) -> None:
        """Stop after the step in progress; unfinished answers end with an error."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _check(self, ask: Ask) -> None:
        length, room = len(ask.prompt), self.context or 2**31
        if not length:
            raise UserError("a prompt needs at least one token")
        if length > room - (ask.how is not None):
            raise UserError(f"a prompt of {length:,} tokens is too long: this model holds {room:,}")

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._fresh or self._rows or self.waiting)
                if self._closed:
                    break
            try:
                self._load()
                self._turn()
            except Exception as error:  # whatever broke, these requests end and the next ones are served
                self._fail(error)
        self._fail(UserError("the server is stopping"))
        if self._fresh:
            self._fresh[1].set_exception(UserError("the server is stopping"))

    def _turn(self) -> None:
        """One round: forget who left, score some prompts, let new answers in, one token for everybody."""
        for slot in [n for n, row in enumerate(self._rows) if row.ask.cancelled]:
            self._rows[slot].ended = "length"
        self._leave()
        if self._scoring:
            self._score()
        if self._waiting and len(self._rows) < self.slots and not self._fresh:
            self._enter()
        if self._rows:
            logits_BV = self._engine.step([r.ids[-1] for r in self._rows], [r.at for r in self._rows])
            self.steps += 1
            self._draw(self._rows, logits_BV)
            self._leave()

    def _load(self) -> None:
        if not self._fresh or self._rows:
            return
        (load, done), self._fresh = self._fresh, None
        try:
            load()
        except Exception as error:
            done.set_exception(error)
            return
        self._stems, self._engine = {}, self._new_engine()
        done.set_result(None)

    def _enter(self) -> None:
        """Read waiting prompts into free slots, no more than a pass holds, and draw their first tokens."""
        taken: list[Ask] = []
        tokens = 0
        while self._waiting and len(self._rows) + len(taken) < self.slots:
            ask = self._waiting[0]
            if taken and tokens + len(ask.prompt) > AREA:
                break
            self._waiting.popleft()
            if not ask.cancelled:
                taken.append(ask)
                tokens += len(ask.prompt)
        if not taken:
            return
        unread = [p for p in dict.fromkeys(a.prompt for a in taken) if p not in self._stems]
        unread.sort(key=len)
        self._stems.update(zip(unread, self._engine.read(unread)))
        new = [self._row(ask) for ask in taken]
        make_room(self._engine, max(len(r.ask.prompt) + r.limit for r in new), self.context)
        stems = [self._stems[a.prompt] for a in taken]
        self._engine.place(stems, range(len(self._rows), len(self._rows) + len(new)))
        coming = self._waiting[0].prompt if self._waiting else ()
        self._stems = {p: s for p, s in self._stems.items() if p == coming}  # more samples of one prompt read it once
        self._rows += new
        self._draw(new, torch.stack([s.logits_V for s in stems]))
        self._leave()

    def _row(self, ask: Ask) -> Row:
        assert ask.how is not None
        limit = min(ask.how.max_new, (self.context or 2**31) - len(ask.prompt))
        uniform = uniforms(ask.how.seed, ask.place, ask.number, limit)
        return Row(ask, ask.how, len(ask.prompt) - 1, limit, uniform)

    def _draw(self, rows: Sequence[Row], logits_BV: Tensor) -> None:
        """One token for each row, rows of like settings together."""
        groups: dict[tuple[float, ...], list[int]] = {}
        for n, row in enumerate(rows):
            how = row.how
            alike = how.temperature, how.top_p, how.top_k, how.min_p, how.repetition_penalty
            groups.setdefault(alike, []).append(n)
        for chosen in groups.values():
            logits, members = logits_BV[chosen], [rows[n] for n in chosen]
            u_B = torch.tensor([r.uniform[len(r.ids)] for r in members], dtype=torch.float64, device=logits.device)
            drawn_from = penalised(logits, ([*r.ask.prompt, *r.ids] for r in members), members[0].how)
            token_B, _ = choose(drawn_from, u_B, members[0].how)
            for row, token, own_V, drawn_V in zip(members, token_B.tolist(), logits, drawn_from):
                self._take(row, token, own_V if row.ask.of == "model" else drawn_V)
        self.drawn += len(rows)

    def _take(self, row: Row, id: int, logits_V: Tensor) -> None:
        row.ids.append(id)
        row.at += 1
        if row.ask.top is None:
            row.tokens.append(Token(id))
        else:
            how = row.how if row.ask.of == "sampled" else Sampling()
            row.tokens += described(log_probs(logits_V[None], how), [id], row.ask.top)
        if id in self.chat.stop_ids:
            row.ended = "stop"
        elif row.how.stop and (cut := stop_at(self._text_of(row), row.ids, row.how.stop)) is not None:
            row.cut, row.ended = cut, "stop"
        elif len(row.ids) >= row.limit:
            row.ended = "length"
        if row.ended or row.ask.stream:
            self._tell(row)

    def _tell(self, row: Row) -> None:
        """Send what is new of a row. Characters are never split, beginnings of stop strings are held back."""
        text = self._text_of(row)(row.ids)
        around = (self.chat.lead, self.chat.tail) if row.ask.chat else ("", "")
        text = text[: row.cut] if row.ended else shown(text, [*row.how.stop, *filter(None, around[1:])], around[0])
        new, tokens = text[row.sent :], tuple(row.tokens[row.told :])
        if row.ended or new:
            row.sent, row.told = max(row.sent, len(text)), len(row.tokens)
            row.ask.sink(Piece(new, tokens, row.ended))

    def _text_of(self, row: Row) -> Callable[[Sequence[int]], str]:
        if row.ask.chat:
            return lambda ids: str(self.chat.parse(ids)[0].content)
        return lambda ids: continued(self.chat.tokenizer, row.ask.prompt[-1], ids)

    def _leave(self) -> None:
        """Drop ended rows; rows from the end move into their slots, so that slots 0..len-1 are the ones in use."""
        rows = self._rows
        stay = sum(r.ended is None for r in rows)
        holes = [slot for slot in range(stay) if rows[slot].ended]
        movers = [slot for slot in range(stay, len(rows)) if not rows[slot].ended]
        for hole, mover in zip(holes, movers):
            self._engine.move(mover, hole)
            rows[hole] = rows[mover]
        del rows[stay:]

    def _score(self) -> None:
        """Log-probabilities of some waiting prompts' own tokens."""
        taken: list[Ask] = []
        while self._scoring and (
            not taken or sum(len(a.prompt) for a in taken) + len(self._scoring[0].prompt) <= SCORE_TOKENS
        ):
            taken.append(self._scoring.popleft())
        taken = [a for a in taken if not a.cancelled]
        try:
            for ask, tokens in zip(taken, scored(self.model, self.chat.pad_id, taken)):
                ask.sink(Piece(tokens=tuple(tokens), ended="length"))
        except Exception as error:
            for ask in taken:
                ask.sink(Piece(error=error))

    def _fail(self, error: Exception) -> None:
        """End every answer that is in progress or waiting with an error, and start afresh."""
        asks = [r.ask for r in self._rows if not r.ended] + [*self._waiting, *self._scoring]
        self._rows, self._stems = [], {}
        self._waiting.clear()
        self._scoring.clear()
        self._engine = self._new_engine()
        for ask in asks:
            ask.sink(Piece(error=error))

    def _new_engine(self) -> Engine:
        return Batched(self.hf, self.slots, FIRST_POSITIONS) if fits(self.hf) else Plain(self.hf)


def make_room(engine: Engine, positions: int, limit: int | None) -> None:
    """Let a cache hold `positions` tokens a slot: at least doubled, what is in it kept."""
    if not isinstance(engine, Batched) or positions <= engine.positions:
        return
    engine.positions = round_up(max(positions, min(2 * engine.positions, limit or 2**31)))
    for own in (engine.keys, engine.values):
        for layer, old_BKSD in own.items():
            b, k, s, d = old_BKSD.shape
            own[layer] = old_BKSD.new_zeros(b, k, engine.positions, d)
            own[layer][:, :, :s] = old_BKSD
    engine.renew()


def described(logp_NV: Tensor, ids: Sequence[int], top: int) -> list[Token]:
    """Tokens with their log-probabilities and the `top` likeliest ones at their place."""
    own = logp_NV.gather(1, torch.tensor(ids, device=logp_NV.device)[:, None])[:, 0].tolist()
    values, likeliest = logp_NV.topk(min(top, logp_NV.shape[-1]), -1)
    rows = zip(ids, own, likeliest.tolist(), values.tolist())
    return [
        Token(id, logp, tuple((t, v) for t, v in zip(tops, vs) if v > -float("inf"))) for id, logp, tops, vs in rows
    ]


def scored(model: Any, pad_id: int, asks: Sequence[Ask]) -> list[list[Token]]:
    """Tokens of each prompt with the model's log-probabilities: one pass over the pack of them all."""
    docs = [packing.Doc([], [packing.Branch(list(a.prompt), [True] * len(a.prompt))]) for a in asks]
    pack = packing.build(docs, pad_id=pad_id)
    found: list[list[Token]] = []
    with torch.no_grad():
        h_TD = model.hidden(pack) if len(pack.at_N) else torch.empty(0)
        at = 0
        for ask in asks:
            n = len(ask.prompt) - 1
            tokens = [Token(ask.prompt[0])]
            for start in range(0, n, 256):  # few rows of the vocabulary at a time
                rows = pack.at_N[at + start : at + min(start + 256, n)]
                logits = scores(h_TD.index_select(0, rows.to(h_TD.device)), model.head())
                tokens += described(torch.log_softmax(logits, -1), ask.prompt[1:][start : start + 256], ask.top or 0)
            at += n
            found.append(tokens)
    return found


def continued(tokenizer: Any, before: int, ids: Sequence[int]) -> str:
    """Text of ids that go on after the token `before`: some tokenizers drop a text's first blank."""
    head = tokenizer.decode([before], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    whole = tokenizer.decode([before, *ids], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if whole.startswith(head):
        return str(whole[len(head) :])
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def random_seed() -> int:
    """For requests without a seed."""
    return secrets.randbits(63)
