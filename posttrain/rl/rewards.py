"""Rewards by name: every function here takes knobs and gives a Judge. `{type: number, weight: 2}` in a recipe is one.

Most scores lie in [0, 1]; what a row's right answer is stands in the row (`truth`), under the name `key`. A row without
it raises UserError. Left out on purpose: how rewards are added up (rollout.py), the loading of reward models (the stage
does it: weights are edges of a recipe). No torch.
"""

import asyncio
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from pydantic import Field, create_model

from posttrain.errors import UserError
from posttrain.judge import rules
from posttrain.judge.asking import Kept, key_of
from posttrain.judge.base import Answered, Judge, Rule
from posttrain.judge.items import fits
from posttrain.judge.llm import GENERAL, Criterion, Rubric
from posttrain.rl import sandbox
from posttrain.rl.bounded import at_most
from posttrain.rows import Verdict, digest
from posttrain.sampler.http import Client
from posttrain.sampler.server import Endpoint
from posttrain.spec import Config, config_of, one_of_types

PATIENCE = 5.0  # seconds for a pattern on one answer


def truth(item: Answered, key: str) -> Any:
    """The row's right answer. Raises UserError where the row has none."""
    if key not in item.truth:
        asked = item.prompt[-1].content[:60] if item.prompt else ""
        raise UserError(
            f"a row has no {key!r}, which this reward compares with; it has {', '.join(item.truth) or 'nothing'}",
            where=repr(asked), remedy="name the field that holds it (`key`), or use another reward",
        )  # fmt: skip
    return item.truth[key]


def texts(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


@contextmanager
def patiently(what: str) -> Iterator[None]:
    """UserError where a pattern takes PATIENCE on one answer: nested repeats can take for ever."""
    try:
        with at_most(PATIENCE):
            yield
    except TimeoutError:
        raise UserError(
            f"{what} took more than {PATIENCE:g} s on one answer",
            remedy="a pattern without repeats inside repeats: (a+)+ tries every way to cut a text",
        ) from None


def number(*, key: str = "answer") -> Judge:
    """1 when the answer's last number is the last one of the row's right answer: 7, 7.0 and seven are the same."""

    def right(item: Answered) -> float:
        wanted = rules.last_number(str(truth(item, key)))
        if wanted is None:
            raise UserError(f"the right answer {truth(item, key)!r} of a row holds no number", where=f"key: {key}")
        return float(rules.last_number(item.answer) == wanted)

    return Rule(right)


def maths(*, key: str = "answer", seconds: int = 5) -> Judge:
    """1 when math-verify finds the answer's last expression equal to the right one: 1/2, 0.5, \\frac{1}{2}."""
    try:
        from math_verify import parse, verify
    except ImportError:
        remedy = "pip install 'posttrain[maths]'"
        raise UserError("this reward needs the package math-verify", where="type: maths", remedy=remedy) from None

    def equal(item: Answered) -> float:
        gold = parse(f"${truth(item, key)}$", parsing_timeout=seconds)
        return float(verify(gold, parse(item.answer, parsing_timeout=seconds), timeout_seconds=seconds))

    return Rule(equal)


def exact(*, key: str = "answer", within: bool = False) -> Judge:
    """1 when the answer is the right one, lower case, without punctuation and articles; within: contains it."""
    same = rules.mentions if within else rules.equals
    return Rule(lambda item: float(same(texts(truth(item, key)), item.answer)))


def constraints(*, key: str = "constraints", all_or_nothing: bool = False) -> Judge:
    """Share of the row's constraints (judge/constraints.py) that the answer meets."""

    def met(item: Answered) -> float:
        wanted = truth(item, key)
        if wrong := next((w for c in wanted if (w := rules.mistakes(c))), ""):
            raise UserError(wrong, where=str(wanted)[:100])
        found = [rules.check(c, item.answer) for c in wanted]
        return float(all(found)) if all_or_nothing else sum(found) / max(1, len(found))

    return Rule(met)


def asked(*, length: int = 0) -> Judge:
    """1 when the answer does what its row asks for: right number (`answer`), form (`constraints`), or side of safety
    (`label`: harmful is refused, harmless answered). length: an answer of more words gets 0; 0 is no bound."""

    def does(item: Answered) -> float:
        if not item.answer.strip() or (length and len(item.answer.split()) > length):
            return 0.0
        return float(fits(item.truth, item.answer, repr(item.prompt[-1].content[:60]) if item.prompt else ""))

    return Rule(does)


def json_schema(*, key: str = "schema", fit: dict[str, Any] | None = None) -> Judge:
    """0 for no JSON, 0.5 for JSON that does not fit the schema (given here, or the row's), 1 for JSON that fits."""
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        remedy = "pip install 'posttrain[rewards]'"
        raise UserError("this reward needs the package jsonschema", where="type: json_schema", remedy=remedy) from None

    def fits(item: Answered) -> float:
        text = re.sub(r"\A\s*```(?:json)?\s*\n(.*)\n```\s*\Z", r"\1", item.answer, flags=re.S)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return 0.0
        wanted = fit if fit is not None else truth(item, key)
        with patiently("the schema"):
            return 1.0 if Draft202012Validator(wanted).is_valid(value) else 0.5

    return Rule(fits)


def regex(*, pattern: str, whole: bool = False) -> Judge:
    """1 when the pattern (Python's re, DOTALL) is found; whole: when it matches the whole answer."""
    try:
        compiled = re.compile(pattern, re.S)
    except re.error as error:
        raise UserError(f"not a regular expression: {error}", where=repr(pattern)) from None
    find = compiled.fullmatch if whole else compiled.search

    def matches(item: Answered) -> float:
        with patiently(f"the pattern {pattern!r}"):
            return float(find(item.answer.strip()) is not None)

    return Rule(matches)


def length(*, words: int = 50, more: bool = False) -> Judge:
    """Nearness to a length: 1 at `words`, falling to 0 at none and at twice as many; more: longer is no worse."""

    def near(item: Answered) -> float:
        n = len(item.answer.split())
        return min(1.0, n / words) if more else max(0.0, 1 - abs(n - words) / words)

    return Rule(near)


def repetition(*, n: int = 3) -> Judge:
    """Share of n-grams of words that are new: 1 without repetition, near 0 for a text in a loop."""
    return Rule(lambda item: rules.distinct(item.answer, n))


def language(*, code: str = "", key: str = "language") -> Judge:
    """1 when the answer is in the language (ISO 639-1: en, de ...), given here or by the row."""
    return Rule(lambda item: float(rules.language_of(item.answer) == (code or str(truth(item, key)))))


def code(*, key: str = "tests", seconds: float = 5.0, memory: int = 512, parallel: int = 2) -> Judge:
    """Share of the row's tests (Python statements) that pass after the answer's code, each run in the sandbox."""
    bounds = sandbox.Bounds(seconds=seconds, memory=memory)

    def passed(item: Answered, pool: ThreadPoolExecutor) -> float:
        tests = texts(truth(item, key))
        source = sandbox.source_of(item.answer)
        runs = list(pool.map(lambda test: sandbox.run(f"{source}\n\n{test}\n", bounds), tests))
        return sum(r.how == "passed" for r in runs) / max(1, len(runs))

    @dataclass
    class Tests:
        async def score(self, items: Sequence[Answered]) -> list[Verdict]:
            with ThreadPoolExecutor(parallel) as pool:
                return [Verdict(score=passed(item, pool)) for item in items]

    return Tests()


def llm(
    keep: Path | None = None, *, url: str, model: str, criterion: str = GENERAL.text, scale: tuple[int, int] = (1, 10),
    key: str = "", key_env: str = "", log_probs: bool = True, concurrent: int = 16, timeout: float = 120.0,
    tries: int = 5, anyway: str = "",
) -> Judge:  # fmt: skip
    """A language model behind an OpenAI-compatible endpoint scores each answer by a criterion, 0 to 1.

    key: the row's field that holds a right answer to compare with. key_env: the variable with the server's key. Replies
    are kept (by the stage, in its folder), so the same answer is asked about once. A judge is a proxy: watch a `gold`.
    anyway: why it may choose rows to train on (sample_demos, sample_pairs) though nobody has examined it.
    """
    client = Client([url], key=key_of(key_env), concurrent=concurrent, timeout=timeout, tries=tries)
    asker = Kept(Endpoint(client, model, log_probs=log_probs), keep)
    judge = Rubric(asker, criterion=Criterion("criterion", criterion), scale=scale, log_probs=log_probs)

    @dataclass
    class Asked:
        async def score(self, items: Sequence[Answered]) -> list[Verdict]:
            shown = [i.model_copy(update={"truth": {"reference": truth(i, key)} if key else {}}) for i in items]
            return await judge.score(shown)

    return Asked()


def function(*, path: str, seconds: float = 600.0) -> Judge:
    """Any Python function, "module:name": takes a list of Answered, gives as many numbers (None: abstains). In place of
    a number it may give process rewards, [(characters, score), ...]: what the answer earned where so many of its
    characters were written; their sum is its score. seconds: longest wait for one list."""
    called = resolve(path)

    @dataclass
    class Called:
        seconds: float

        async def score(self, items: Sequence[Answered]) -> list[Verdict]:
            with at_most(seconds):
                found = called(items)
            scores = list(await asyncio.wait_for(found, seconds) if inspect.isawaitable(found) else found)
            return [told(s) for s in scores]

    return Called(seconds)


def told(score: Any) -> Verdict:
    """What a function gave for one answer, as a verdict."""
    if not isinstance(score, list | tuple):
        return Verdict(score=None if score is None else float(score))
    steps = [(int(characters), float(part)) for characters, part in score]
    return Verdict(score=sum(part for _, part in steps), detail={"steps": steps})


def resolve(path: str) -> Callable[..., Any]:
    """The function that "module:name" names. Raises UserError."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"there is no such function: {error}", where=path,
            remedy="module:name, with the module's folder in PYTHONPATH",
        ) from None  # fmt: skip
    return cast(Callable[..., Any], found)


def reward_model(*, stage: str = "", penalty: float = 0.0) -> Judge:
    """A trained reward model, an edge of the stage (`reward_models`). stage: which one, where there are several.
    penalty: standard deviations of the ensemble taken off its mean."""
    raise UserError("a reward model is loaded by the stage that uses it", where="type: reward_model")


REWARDS = (
    number, maths, exact, constraints, asked, json_schema, regex, length, repetition, language, code, llm,
    function, reward_model,
)  # fmt: skip


def reward_of(fn: Callable[..., Judge]) -> type[Config]:
    """The function's config, with a weight."""
    base = config_of(fn)
    weight = (float, Field(default=1.0, description="what the score is multiplied with before rewards are added"))
    fields: dict[str, Any] = {"weight": weight}
    model: type[Config] = create_model(fn.__name__, __base__=base, __doc__=fn.__doc__, **fields)
    model.bind = lambda self: partial(fn, **self.model_dump(exclude={"type", "weight"}))  # type: ignore[method-assign]
    return model


AnyReward = one_of_types([reward_of(f) for f in REWARDS])


def source_identity(rewards: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the Python functions that rewards name: another source is another artefact."""
    found: dict[str, str] = {}
    for name, reward in rewards.items():
        if reward.type == "function":
            found |= source_of(f"reward {name}", reward.path)
    return found


def source_of(name: str, path: str) -> dict[str, str]:
    """{name: digest of the function's source}, or its path where there is no source."""
    called = resolve(path)
    try:
        return {name: digest(inspect.getsource(called))}
    except (OSError, TypeError):
        return {name: path}
