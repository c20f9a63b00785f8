"""The one training loop: accumulate, clip, step, log, checkpoint, resume. Every training stage is a call of it.

What varies is passed in as functions: how to compute the loss of a micro-batch, how to evaluate. Shapes: see the
objectives. Several processes share a step's micro-batches (parallel.py); their weights are in shards (shards.py).
Left out on purpose: callbacks, trainers, device placement (model.py).
"""

import json
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from posttrain import finite, packing, parallel, shards
from posttrain.adamw import Master, Optim, lr_at
from posttrain.errors import UserError
from posttrain.model import Model
from posttrain.progress import Progress

# name -> (sum, count): means over a step are exact whatever its micro-batches. A sum on the GPU stays there until the
# step's end, so that nobody waits for it.
Facts = dict[str, tuple[float | Tensor, float]]
LossFn = Callable[[Sequence[int], float], tuple[Tensor, Facts]]  # (row indices, step's denominator) -> (scalar, facts)
Before = Callable[[Sequence[Sequence[int]]], None]  # the micro-batches of the step that comes
Evaluate = Callable[[], dict[str, float]]
SHOWN = ("loss", "accuracy", "reward", "held_loss", "held_reward")  # of a step, while training goes on
CHECKPOINT_SECONDS = 60.0  # how much work a kill may cost


@dataclass
class Cursor:
    """Where training stands; everything a resumed run needs beside weights, optimiser state and random states."""

    step: int = 0
    seconds: float = 0.0
    tokens: float = 0.0
    best: float = math.inf
    worse: int = 0  # evaluations since the best one
    kept: int = 0  # the step whose weights are the best so far; at the end the one that training ended on
    stopped: bool = False
    log: list[dict[str, Any]] = field(default_factory=list)

    def ends(self, key: str) -> list[dict[str, Any]]:
        """Log entries that have `key`: of the first evaluation, and of the weights that training ended on."""
        found = [e for e in self.log if key in e]
        return [found[0], next((e for e in found if e["step"] == self.kept), found[-1])] if found else []


class Live(Protocol):
    """Rows that are made while training goes on (reinforcement learning): they go into the checkpoint too."""

    stop: bool  # set by `after`: this step was the last, training ends on the best weights that evaluation has seen
    rate: float  # share of the learning rate that the next step takes

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...

    def after(self, entry: dict[str, Any]) -> None:
        """Called at the end of each step with its log entry, to add to it or to act on it."""

    def finite(self) -> bool:
        """Whether the gradients of what else is trained with this step (a critic) are; every process asks."""

    def drop(self) -> None:
        """Forget those gradients: this step is not learned from."""


@dataclass(frozen=True)
class Rows:
    """What the loop knows of the data: sizes in tokens, and what each row adds to the loss's denominator."""

    sizes: Sequence[int]
    counts: Sequence[float]  # target tokens for a token mean, 1 for a mean over pairs
    names: Sequence[str]  # shown when a row makes the loss NaN


def steps_of(rows: Rows, micro_tokens: int, batch_tokens: int, seed: int, epoch: int) -> list[list[list[int]]]:
    """One epoch as optimiser steps, each a list of micro-batches of row indices; a function of the arguments alone."""
    micro = packing.plan(rows.sizes, micro_tokens, seed=seed + 7919 * epoch)
    random.Random(f"{seed}/{epoch}").shuffle(micro)
    k = max(1, round(batch_tokens / micro_tokens))
    return [micro[i : i + k] for i in range(0, len(micro), k)]


def schedule(
    rows: Rows, *, micro_tokens: int, batch_tokens: int, epochs: float, steps: int | None, seed: int
) -> tuple[int, Iterator[list[list[int]]]]:
    """(number of optimiser steps, iterator over their micro-batches) for `epochs` passes, or exactly `steps` steps."""
    first = steps_of(rows, micro_tokens, batch_tokens, seed, 0)
    total = steps if steps is not None else max(1, round(epochs * len(first)))

    def walk() -> Iterator[list[list[int]]]:
        epoch = 0
        while True:
            yield from first if epoch == 0 else steps_of(rows, micro_tokens, batch_tokens, seed, epoch)
            epoch += 1

    return total, walk()


def train(
    model: Model,
    rows: Rows,
    loss: LossFn,
    *,
    optim: Optim,
    steps: int,
    batches: Iterator[list[list[int]]],
    out: Path,
    progress: Progress,
    evaluate: Evaluate | None = None,
    eval_every: int = 0,
    patience: int = 0,
    before: Before | None = None,
    live: Live | None = None,
    not_finite: Literal["stop", "skip"] = "stop",
) -> Cursor:
    """Train `model` in place for `steps` optimiser steps; returns the cursor with its log (one dict per step).

    Resumes from out/checkpoint.pt when it is there: same weights, same log, bit for bit on a CPU. evaluate: called
    before the first step, every eval_every steps and at the end; its "regret" (which is not logged), else its "loss",
    decides early stopping (patience > 0: stop after that many evaluations without improvement, and end on the best
    weights). before: called at the beginning of each step, for losses that must look at the whole step first; it may
    only depend on its argument and the weights. live: owner of rows that change; `batches` then goes on where it stood.
    not_finite: what becomes of a step with a loss or gradient that is none, see finite.py.
    """
    torch.manual_seed(0)
    master = Master(list(model.parameters()), optim)
    cursor = _resume(out, master, live) or Cursor()
    for _ in range(0 if live else cursor.step):
        next(batches)
    started, saved = time.monotonic() - cursor.seconds, time.monotonic()
    if cursor.step == 0 and evaluate and not cursor.log:
        cursor.log.append({"step": 0, **_held(evaluate, cursor, patience if live else 0, out, master)})
    with _stop_between_steps() as stop, progress.task("train", total=steps, done=cursor.step) as tick:
        while cursor.step < steps and not cursor.stopped:
            micro = next(batches)
            if before:
                before(micro)
            lr = lr_at(cursor.step, steps, optim) * (live.rate if live else 1.0)
            entry = _step(model, master, rows, loss, micro, optim, lr, before, live)
            cursor.step += 1
            finite.check(cursor.step, entry, cursor.log, not_finite, progress.say)
            cursor.tokens += entry["tokens"]
            if evaluate and (cursor.step == steps or (eval_every and cursor.step % eval_every == 0)):
                entry |= _held(evaluate, cursor, patience, out, master)
            if live:
                live.after(entry)
                cursor.stopped = cursor.stopped or live.stop
            cursor.seconds = time.monotonic() - started
            cursor.log.append({"step": cursor.step, **entry})
            tick(tokens=entry["tokens"], **{k: entry[k] for k in SHOWN if k in entry})
            asked = parallel.gather((bool(stop), time.monotonic() - saved > CHECKPOINT_SECONDS))
            if any(map(any, asked)):
                _save(out, master, cursor, live)
                saved = time.monotonic()
            if any(now for now, _ in asked):
                raise KeyboardInterrupt
    if patience and (best := shards.kept(out, "best")):
        master.copy_from(best)
    else:
        cursor.kept = cursor.step
    _write_log(out, cursor)
    return cursor


@contextmanager
def _stop_between_steps() -> Iterator[list[int]]:
    """Ctrl-C fills the list and lets the step end, so that a checkpoint can be written; a second one stops at once.

    So does SIGTERM from a scheduler; of several processes it ends one that waits for others in vain (parallel.py).
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread gets signals
        return

    def ask(number: int, _: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    heard = (signal.SIGINT, signal.SIGTERM) if parallel.world() == 1 else (signal.SIGINT,)
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(out: Path) -> None:
    """Remove what only a resumed run needs; called once the artefact is written."""
    for name in ("checkpoint", "best"):
        shards.forget(out, name)


def _step(
    model: Model, master: Master, rows: Rows, loss: LossFn, micro: list[list[int]], optim: Optim, lr: float,
    before: Before | None = None, live: Live | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One optimiser step and its log entry. Not finite: nothing is changed, and the entry says so.

    A loss that is not finite goes on to the gradient all the same, since passes are work in common of all processes.
    """
    total = sum(rows.counts[i] for indices in micro for i in indices)
    found: list[tuple[Tensor, Facts]] = []
    for indices, counted in parallel.shares(micro, rows.sizes):
        value, facts = loss(indices, total if counted else math.inf)
        value.backward()
        master.collect()
        found.append((value.detach(), facts if counted else {}))
    sums, counts = (parallel.total(x) for x in _read(found))
    wrong, norm = "loss" if sums.pop("") else "", master.norm()
    if not wrong and not (math.isfinite(norm) and (live is None or live.finite())):
        wrong = "gradient"
    tokens = float(sum(rows.sizes[i] for indices in micro for i in indices))
    if wrong:
        master.drop()
        said = finite.entry(wrong, micro, rows.names, _bad(master, loss, total, before, live))
        return said | {"lr": lr, "tokens": tokens}
    master.step(lr, optim.clip, norm)
    return {name: sums[name] / max(counts[name], 1e-12) for name in sums} | {"lr": lr, "norm": norm, "tokens": tokens}


def _read(found: Sequence[tuple[Tensor, Facts]]) -> tuple[dict[str, float], dict[str, float]]:
    """Sums and counts of a step's facts; only now does the host wait for the GPU. "": losses that are not finite.

    found: loss and facts of every micro-batch.
    """
    sums: dict[str, float] = {"": 0.0}
    counts: dict[str, float] = {}
    for value, facts in found:
        sums[""] += not math.isfinite(float(value))
        for name, (s, n) in facts.items():
            sums[name], counts[name] = sums.get(name, 0.0) + float(s), counts.get(name, 0.0) + n
    return sums, counts


def _bad(
    master: Master, loss: LossFn, total: float, before: Before | None, live: Live | None
) -> Callable[[Sequence[int]], bool]:
    """Whether some rows by themselves have a loss or a gradient that is not finite; nothing is learned from them.

    Every process passes the same rows, the first one's count.
    """

    def bad(indices: Sequence[int]) -> bool:
        if before:
            before([indices])
        value, _ = loss(indices, total if parallel.rank() == 0 else math.inf)
        value.backward()
        master.collect()
        fine = [bool(torch.isfinite(value)), math.isfinite(master.norm()), live is None or live.finite()]
        master.drop()
        if live:
            live.drop()
        return parallel.agreed(not all(fine))

    if live:
        live.drop()
    return bad


def _held(evaluate: Evaluate, cursor: Cursor, patience: int, out: Path, master: Master) -> dict[str, float]:
    """The log entries of an evaluation, and what it means for early stopping."""
    found = evaluate()
    regret = found.pop("regret", found.get("loss", 0.0))
    _early_stop(cursor, regret, patience, out, master)
    return {f"held_{k}": v for k, v in found.items()}


def _early_stop(cursor: Cursor, held: float, patience: int, out: Path, master: Master) -> None:
    if not patience:
        return
    if held < cursor.best:
        cursor.best, cursor.worse, cursor.kept = held, 0, cursor.step
        shards.keep(master.weights, out, "best", cursor.step)
    else:
        cursor.worse += 1
        cursor.stopped = cursor.worse >= patience


def _save(out: Path, master: Master, cursor: Cursor, live: Live | None = None) -> None:
    state = {
        "weights": master.weights,
        "adamw": master.adamw.state_dict(),
        "moments": master.moments,
        "cursor": vars(cursor),
        "rng": torch.get_rng_state(),
        "python_rng": random.getstate(),
        "live": live.state() if live else None,
    }
    shards.keep(state, out, "checkpoint", cursor.step)
    _write_log(out, cursor)


def _resume(out: Path, master: Master, live: Live | None = None) -> Cursor | None:
    state = shards.kept(out, "checkpoint")
    if state is None:
        return None
    if (moments := state.get("moments", "fp32")) != master.moments:
        raise UserError(
            f"the checkpoint holds moments of {moments}, and runtime.moments is {master.moments} now", where=str(out),
            remedy=f"runtime.moments={moments} goes on from it; remove that folder to begin anew",
        )  # fmt: skip
    master.copy_from(state["weights"])
    master.adamw.load_state_dict(state["adamw"])
    shards.fit(master.adamw)
    torch.set_rng_state(state["rng"])
    random.setstate(state["python_rng"])
    if live:
        live.restore(state["live"])
    return Cursor(**state["cursor"])


def _write_log(out: Path, cursor: Cursor) -> None:
    from posttrain.pipeline import write_text

    write_text(out / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in cursor.log))
