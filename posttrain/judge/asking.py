"""Asking a language model short questions: what a judge needs of it, kept answers, and what it all cost.

`ask` takes many questions at once and gives one reply each, in order. A model that could not be reached, after all
retries, is a reply with a `problem`, not an exception: one lost answer must not lose the other thousand.
Left out on purpose: transport (sampler/server.py), weights (sampler/asking.py), what is asked (llm.py).
"""

import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from math import exp, inf, isfinite, log
from pathlib import Path
from typing import Any, Literal, Protocol

from posttrain.errors import UserError
from posttrain.rows import Messages, Row, Sample, digest

Problem = Literal["", "unanswered", "unreadable", "equal", "impossible"]
PART = 64  # conversations that are answered before the answers are kept
MANY = 8  # asks after which a problem that half of them have is the endpoint's and not the question's


def key_of(variable: str) -> str:
    """The key that an environment variable holds, '' for none. Raises UserError where it should hold one."""
    if variable and not os.environ.get(variable):
        raise UserError(f"the environment variable {variable} holds no key", remedy=f"export {variable}=...")
    return os.environ.get(variable, "") if variable else ""


class Asking(Row):
    """How to ask. options: answers whose log-probabilities are wanted, each as the whole answer, if they can be had."""

    max_new: int = 16
    temperature: float = 0.0
    seed: int = 0
    options: tuple[str, ...] = ()


class Reply(Row):
    """options: log-probabilities in nats, one per option asked for; None where they cannot be had."""

    text: str
    options: tuple[float, ...] | None = None
    problem: Problem = ""
    why: str = ""
    prompt_tokens: int = 0
    drawn: int = 0


class Asker(Protocol):
    """name: of the model and where it runs; answers are kept under it."""

    name: str

    async def ask(self, questions: Sequence[Messages], how: Asking) -> list[Reply]: ...


class Scripted:
    """An asker that says what it was told to: for tests and demonstrations. say: question -> text, or -> the chance of
    each option (nats are made of them)."""

    def __init__(self, say: Callable[[Messages], str | Mapping[str, float]], name: str = "script"):
        self.say, self.name = say, name

    async def ask(self, questions: Sequence[Messages], how: Asking) -> list[Reply]:
        return [self._reply(self.say(question), how) for question in questions]

    def _reply(self, said: str | Mapping[str, float], how: Asking) -> Reply:
        if isinstance(said, str):
            return Reply(text=said, drawn=1)
        scores = tuple(log(said[o]) if said.get(o, 0.0) > 0 else -inf for o in how.options)
        return Reply(text=max(said, key=lambda o: said[o]), options=scores, drawn=1)


class Kept:
    """An asker whose replies are kept in a file, by content: the same question is asked and paid for once.

    price: per million prompt tokens and per million drawn tokens, in whatever money.  file None: kept in memory.
    Replies with a problem are not kept.
    """

    def __init__(self, asker: Asker, file: Path | None = None, price: tuple[float, float] = (0.0, 0.0)):
        self.asker, self.name, self.price = asker, asker.name, price
        self.asked = self.reused = self.prompt_tokens = self.drawn = 0
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(file or ":memory:", timeout=30, isolation_level=None, check_same_thread=False)
            self._db.execute("create table if not exists reply (question text primary key, reply text) without rowid")
        except sqlite3.DatabaseError as error:
            raise UserError(f"cannot keep replies here: {error}", where=str(file), remedy="another file") from None

    @property
    def cost(self) -> float:
        return (self.prompt_tokens * self.price[0] + self.drawn * self.price[1]) / 1e6

    async def ask(self, questions: Sequence[Messages], how: Asking) -> list[Reply]:
        keys = [digest([self.name, [m.model_dump() for m in q], how.model_dump(mode="json")]) for q in questions]
        known = {key: reply for key in dict.fromkeys(keys) if (reply := self._find(key))}
        new = {key: question for key, question in zip(keys, questions) if key not in known}
        replies = await self.asker.ask(list(new.values()), how) if new else []
        for key, reply in zip(new, replies, strict=True):
            known[key] = reply
            if not reply.problem:
                self._db.execute("insert or replace into reply values (?, ?)", (key, reply.model_dump_json()))
        self.asked += len(new)
        self.reused += len(questions) - len(new)
        self.prompt_tokens += sum(r.prompt_tokens for r in replies)
        self.drawn += sum(r.drawn for r in replies)
        return [known[key] for key in keys]

    async def say(self, conversations: Sequence[Messages], n: int) -> list[list[Sample]]:
        """n sampled answers of the asker's own `say` to each, kept like replies: PART conversations at a time, so that
        a server that goes away takes no more than these with it. Equal conversations are answered apart."""
        speaker: Any = self.asker
        how = speaker.how.model_dump(mode="json")
        said = [[m.model_dump() for m in c] for c in conversations]
        keys = [digest([self.name, "say", how, n, place, c]) for place, c in enumerate(said)]
        found = {key: kept for key in keys if (kept := self._row(key))}
        new = [i for i, key in enumerate(keys) if key not in found]
        for start in range(0, len(new), PART):
            part, before = new[start : start + PART], speaker.used
            for i, samples in zip(part, await speaker.say([conversations[i] for i in part], n), strict=True):
                found[keys[i]] = json.dumps([s.model_dump(mode="json") for s in samples])
                self._db.execute("insert or replace into reply values (?, ?)", (keys[i], found[keys[i]]))
            self.prompt_tokens += speaker.used[0] - before[0]
            self.drawn += speaker.used[1] - before[1]
        self.asked += len(new)
        self.reused += len(keys) - len(new)
        return [[Sample.model_validate(s) for s in json.loads(found[key])] for key in keys]

    def _find(self, key: str) -> Reply | None:
        row = self._row(key)
        return Reply.model_validate_json(row) if row else None

    def _row(self, key: str) -> str:
        row = self._db.execute("select reply from reply where question = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def close(self) -> None:
        self._db.close()


def checked(replies: Sequence[Reply], name: str) -> list[Reply]:
    """Replies whose log-probabilities cannot be true are marked so; an endpoint that does it all the time is refused.

    "equal": every option has the same score, which says nothing. "impossible": not numbers, or chances above one.
    """
    found = [_checked(reply) for reply in replies]
    for problem, meaning in MEANING.items():
        bad = [r for r in found if r.problem == problem]
        if len(found) >= MANY and 2 * len(bad) > len(found):
            raise UserError(
                f"{meaning} ({len(bad)} of {len(found)} replies){': ' + bad[0].why if bad[0].why else ''}",
                where=name, remedy=REMEDY[problem],
            )  # fmt: skip
    return found


MEANING = {
    "unanswered": "this judge does not answer",
    "equal": "this judge gives every option the same log-probability",
    "impossible": "this judge gives log-probabilities that cannot be any",
}
REMEDY = {
    "unanswered": "see whether the server runs and answers; then run again, replies that came are kept",
    "equal": "the server does not report log-probabilities truly; use another, or log_probs: false",
    "impossible": "the server does not report log-probabilities truly; use another, or log_probs: false",
}


def _checked(reply: Reply) -> Reply:
    scores = reply.options
    if reply.problem or scores is None:
        return reply
    problem: Problem = ""
    if any(s != s or s == inf or s > 1e-6 for s in scores) or sum(map(exp, scores)) > 1.01:
        problem = "impossible"
    elif not any(map(isfinite, scores)):
        problem = "unreadable"  # none of the options is among the likeliest tokens
    elif len(set(scores)) == 1 and len(scores) > 1:
        problem = "equal"
    return reply.model_copy(update={"problem": problem}) if problem else reply


def shares(scores: Sequence[float]) -> list[float]:
    """Log-probabilities of options -> probabilities that sum to one."""
    top = max(scores)
    weights = [exp(s - top) for s in scores]
    return [w / sum(weights) for w in weights]
