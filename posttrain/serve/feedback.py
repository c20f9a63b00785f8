"""What people say of served answers, kept line by line, and the training rows that it becomes.

Nothing is written until somebody gives feedback; then the conversation and the answer it is about are written with
it, in one line that is on disk before the request is answered. The same thing said twice is one line; a new opinion
of the same kind about the same answer is a new line and counts instead of the old one. A tenth of the conversations,
chosen by hash, is held out for ever: one that began with the same words is always on the same side.
Left out on purpose: who said it (the labelling server knows people), drift watch.
"""

import fcntl
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from posttrain.dataset.text import group
from posttrain.errors import UserError
from posttrain.rows import Demo, Message, Messages, Pair, Prompt, Row, Thumb, digest, read_jsonl, set_aside, write_jsonl

REMEMBERED = 10_000  # completions that feedback can be about
HELD_OUT = 0.1
FILE = "feedback.jsonl"


class Served(Row):
    """A completion as feedback needs it: what was asked and the n answers."""

    id: str
    prompt: Messages
    answers: tuple[str, ...]
    model: str = ""
    weights: str = ""


class Opinion(Row):
    """One line of feedback.jsonl. other: the worse answer of a preferred_over."""

    id: str
    completion_id: str
    choice: int = 0
    kind: Literal["thumb", "rating", "preferred_over", "rewrite", "safety_flag"]
    value: bool | int | str
    reason: str = ""
    at: float = 0.0
    prompt: Messages
    answer: str
    other: str = ""
    over: str = ""  # completion#choice of the worse answer
    model: str = ""
    weights: str = ""
    held_out: bool = False

    @property
    def about(self) -> tuple[str, int, str, str]:
        """Opinions with equal keys replace each other."""
        return self.completion_id, self.choice, self.kind, self.over


class Unknown(UserError):
    """There is no such completion, or none that is remembered."""


class Log:
    """feedback.jsonl in a folder, and the completions served lately. Safe for several threads; one process a folder."""

    def __init__(self, folder: Path):
        self.path, self._served = folder / FILE, OrderedDict[str, Served]()
        self._mutex = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another server writes here", where=str(folder), remedy="--feedback with another folder"
            ) from None
        mend(self.path)
        self._latest = {opinion.about: opinion for opinion in read_jsonl(self.path, Opinion)}

    def remember(self, served: Served) -> None:
        with self._mutex:
            self._served[served.id] = served
            if len(self._served) > REMEMBERED:
                self._served.popitem(last=False)

    def add(self, said: Any) -> tuple[Opinion, bool]:
        """(the opinion, was it new). said: wire.Feedback. Raises Unknown, and UserError for answers not comparable."""
        with self._mutex:
            opinion = self._opinion(said)
            before = self._latest.get(opinion.about)
            if before and (before.value, before.reason) == (opinion.value, opinion.reason):
                return before, False
            self._file.write((json.dumps(opinion.model_dump(mode="json"), ensure_ascii=False) + "\n").encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._latest[opinion.about] = opinion
            return opinion, True

    def close(self) -> None:
        self._file.close()

    def _opinion(self, said: Any) -> Opinion:
        served = self._find(said.completion_id, said.choice)
        other, over = "", ""
        if said.kind == "preferred_over":
            worse = self._find(said.value, said.over_choice)
            over, other = f"{said.value}#{said.over_choice}", worse.answers[said.over_choice]
            if worse.prompt != served.prompt:
                raise UserError("the two completions answer different conversations", remedy="compare like with like")
            if (said.value, said.over_choice) == (said.completion_id, said.choice):
                raise UserError("an answer cannot be better than itself")
        at = time.time()
        return Opinion(
            id=f"fb-{digest([said.model_dump(mode='json'), at])}", completion_id=said.completion_id, choice=said.choice,
            kind=said.kind, value=said.value, reason=said.reason, at=at, prompt=served.prompt,
            answer=served.answers[said.choice], other=other, over=over, model=served.model, weights=served.weights,
            held_out=held_out(served.prompt),
        )  # fmt: skip

    def _find(self, id: str, choice: int) -> Served:
        served = self._served.get(id) or self._from_log(id, choice)
        if served is None:
            raise Unknown(
                f"no completion {id!r} is remembered",
                remedy=f"give feedback within the last {REMEMBERED:,} completions of this server",
            )
        if choice >= len(served.answers):
            raise UserError(f"completion {id!r} has {len(served.answers)} answers, there is no choice {choice}")
        return served

    def _from_log(self, id: str, choice: int) -> Served | None:
        """A completion that got feedback before the server was started again."""
        for o in self._latest.values():
            if (o.completion_id, o.choice) == (id, choice):
                answers = ("",) * choice + (o.answer,)
                return Served(id=id, prompt=o.prompt, answers=answers, model=o.model, weights=o.weights)
        return None


def held_out(prompt: Messages) -> bool:
    """Whether a conversation is never trained on. By its first request, so that a second round cannot leak it."""
    return set_aside(group(Prompt(messages=prompt)), HELD_OUT)


def mend(path: Path) -> None:
    """Cut off a last line that a crash left unfinished; it was never acknowledged."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as f:
            f.truncate(data.rfind(b"\n") + 1)


def latest(opinions: Iterable[Opinion]) -> list[Opinion]:
    """What counts: of opinions about the same thing the last."""
    return list({o.about: o for o in opinions}.values())


def rows_of(opinions: Sequence[Opinion]) -> dict[str, list[Row]]:
    """thumbs (KTO), pairs (preferred_over and rewrites), demos (rewrites), flags (for the red team), ratings as rows.

    Only conversations become rows; feedback on plain completions has one user message.
    """
    found: dict[str, list[Row]] = {"thumbs": [], "pairs": [], "demos": [], "flags": [], "ratings": []}
    for o in latest(opinions):
        meta = {"completion": o.completion_id, "model": o.model, "weights": o.weights}
        answer = Message(role="assistant", content=o.answer)
        if o.kind == "thumb":
            found["thumbs"].append(
                Thumb(id=o.id, messages=(*o.prompt, answer), label=bool(o.value), source="human", meta=meta)
            )
        elif o.kind == "preferred_over":
            worse = Message(role="assistant", content=o.other)
            if o.answer != o.other:
                found["pairs"].append(_pair(o, answer, worse, meta))
        elif o.kind == "rewrite":
            better = Message(role="assistant", content=str(o.value))
            found["demos"].append(Demo(id=o.id, messages=(*o.prompt, better), source="human", meta=meta))
            if better != answer:
                found["pairs"].append(_pair(o, better, answer, meta))
        elif o.kind == "rating":
            found["ratings"].append(o)
        elif o.value is not False:
            category = o.value if isinstance(o.value, str) else "flagged"
            found["flags"].append(Prompt(id=o.id, messages=o.prompt, category=category, meta=meta | {"said": o.answer}))
    return found


def _pair(o: Opinion, chosen: Message, rejected: Message, meta: dict[str, Any]) -> Pair:
    return Pair(
        id=o.id, prompt=o.prompt, chosen=chosen, rejected=rejected, source="human", reason=o.reason, category=o.kind,
        meta=meta,
    )  # fmt: skip


def write_rows(log: Path, out: Path) -> dict[str, int]:
    """feedback.jsonl -> out/train/*.jsonl and out/holdout/*.jsonl. Returns counts; existing files are written anew."""
    path = log / FILE if log.is_dir() else log
    if not path.is_file():
        raise UserError("there is no feedback here", where=str(path), remedy="posttrain serve MODEL --feedback FOLDER")
    opinions = list(read_jsonl(path, Opinion))
    counts: dict[str, int] = {}
    for side, held in (("train", False), ("holdout", True)):
        for name, rows in rows_of([o for o in opinions if o.held_out == held]).items():
            counts[f"{side}/{name}"] = write_jsonl(out / side / f"{name}.jsonl", rows)
    return counts
