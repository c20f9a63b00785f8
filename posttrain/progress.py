"""What long work says while it runs: bars in a terminal, a line now and then in a log.

Left out on purpose: metrics files (train.py writes them) and any dependency of the stages on a terminal library.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

LOG_EVERY = 20.0  # seconds between lines of one task when there is no terminal


class Tick:
    """Handed to the work: call it after each piece. Facts (loss=1.9) are shown; `tokens` adds up to tokens/s."""

    def __init__(self, title: str, total: float | None, done: float = 0):
        self.title, self.total, self.done = title, total, done
        self.facts: dict[str, Any] = {}
        self.tokens, self.started = 0.0, time.monotonic()

    def __call__(self, advance: float = 1, *, tokens: float = 0, **facts: Any) -> None:
        self.done += advance
        self.tokens += tokens
        self.facts.update(facts)
        self.show()

    def show(self) -> None:
        """Overridden by the terminal and log variants; silent here, which is what tests use."""

    def line(self) -> str:
        """'loss 1.93 · 3,412 tok/s'."""
        seconds = time.monotonic() - self.started
        parts = [f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.facts.items()]
        if self.tokens and seconds > 0:
            parts.append(f"{self.tokens / seconds:,.0f} tok/s")
        return " · ".join(parts)


class LogTick(Tick):
    def __init__(self, title: str, total: float | None, done: float, stream: TextIO):
        super().__init__(title, total, done)
        self.stream, self.spoke, self.first = stream, time.monotonic(), done

    def show(self) -> None:
        now = time.monotonic()
        if now - self.spoke < LOG_EVERY:
            return
        self.spoke = now
        share, left = "", ""
        if self.total and self.done > self.first:
            share = f" {100 * self.done / self.total:.0f}%"
            left = f" · {clock((now - self.started) * (self.total - self.done) / (self.done - self.first))} left"
        print(f"  {self.title}{share} · {self.line()}{left}", file=self.stream, flush=True)


class BarTick(Tick):
    def __init__(self, title: str, total: float | None, done: float, bar: Any):
        super().__init__(title, total, done)
        self.bar = bar
        self.task = bar.add_task(title, total=total, completed=done, facts="")

    def show(self) -> None:
        self.bar.update(self.task, completed=self.done, facts=self.line())


class Progress:
    """`with progress.task("train", total=100) as tick: tick(loss=1.9, tokens=4096)`; `say` prints a line."""

    def __init__(self, mode: str = "auto", stream: TextIO | None = None):
        """mode: bars | lines | silent | auto (bars on a terminal outside CI, lines elsewhere)."""
        self.stream = stream or sys.stderr
        live = self.stream.isatty() and not os.environ.get("CI")
        self.mode = ("bars" if live else "lines") if mode == "auto" else mode

    def say(self, text: str) -> None:
        if self.mode != "silent":
            print(text, file=self.stream, flush=True)

    @contextmanager
    def task(self, title: str, total: float | None = None, done: float = 0) -> Iterator[Tick]:
        if self.mode == "silent":
            yield Tick(title, total, done)
        elif self.mode == "lines":
            yield LogTick(title, total, done, self.stream)
        else:
            with _bars(self.stream) as bar:
                yield BarTick(title, total, done, bar)


def _bars(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    return Bars(*columns, console=Console(file=stream), transient=True)


def number(value: float) -> str:
    """'12,610' for what is whole, '0.2756' for what is not."""
    whole = float(value).is_integer() and abs(value) < 1e12
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def clock(seconds: float) -> str:
    """'47 s', '3 min 20 s', '2 h 5 min'."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60} min"
