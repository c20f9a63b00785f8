"""Conversations of several turns: the policy speaks, an environment answers, until one of them has had enough.

An environment is a function of the conversation so far (it ends with the policy's answer) and of what the prompt's row
says beside its messages. It gives the next observation, as text or as a Message, or None to end:

    def guess(conversation, truth):
        said = conversation[-1].content
        return None if said == truth["answer"] else "Too small." if int(said) < int(truth["answer"]) else "Too big."

It keeps no state of its own: whatever it must remember stands in the conversation, so a rollout that is made again is
the same. Observations are context: their ids are not targets, so they meet no loss, ratio, KL or entropy.
Left out on purpose: processes and browsers (call them from a function), observations that are not text.
"""

import ast
import asyncio
import inspect
import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, create_model

from posttrain.errors import UserError
from posttrain.rl.bounded import at_most
from posttrain.rl.rewards import resolve
from posttrain.rl.rollout import Ask, Draw, Episode
from posttrain.rows import Message, Messages, Sample
from posttrain.sampler.base import Sampling
from posttrain.spec import Config, config_of, one_of_types

if TYPE_CHECKING:
    from posttrain.render import Chat

Observation = str | Message | None
Environment = Callable[[Messages, Mapping[str, Any]], Observation | Awaitable[Observation]]
Answers = Callable[[Sequence[Sequence[int]], int, Sampling], Awaitable[list[list[Sample]]]]

TOLD = (
    "You have a calculator. To use it, end your message with calc(...), for example calc(12 * (3 + 4)), and wait: the "
    "result comes back. Then give the answer."
)
CALL, LONGEST = "calc(", 200  # characters of an expression
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
LARGEST = 10**30  # a number beyond it, or a fraction finer, is no answer of a pocket calculator


# ---- environments by name: knobs in, a function out ------------------------------------------------------------------


def calculator() -> Environment:
    """Arithmetic for an answer that ends with calc(...): + - * / and brackets, exact; other answers end it."""

    def answer(conversation: Messages, truth: Mapping[str, Any]) -> Observation:
        expression = called(conversation[-1].content)
        return None if expression is None else calculate(expression)

    return answer


def python(*, function: str) -> Environment:
    """Your own: "module:name" of a function (conversation, truth) -> text, Message or None; it may be async."""
    found: Environment = resolve(function)
    return found


def called(text: str) -> str | None:
    """What stands in the brackets of the call that a text ends with."""
    _, call, rest = text.rpartition(CALL)
    rest = rest.rstrip(" \n.!?`*")
    return rest[:-1] if call and rest.endswith(")") and len(rest) <= LONGEST else None


def calculate(expression: str) -> str:
    """The value as people write it, or what is wrong with the expression, beginning with "error:"."""
    try:
        tree = ast.parse(expression.strip().replace("×", "*").replace("÷", "/").replace(",", ""), mode="eval")
        return shown(_value(tree.body))
    except ZeroDivisionError:
        return "error: division by zero"
    except OverflowError:
        return "error: the number is too large"
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "error: that is no arithmetic; use numbers, + - * / and brackets"


def _value(node: ast.AST) -> Fraction:
    """Exact arithmetic over a syntax tree; anything but numbers and four operations is refused."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        found = Fraction(repr(node.value))
    elif isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in OPERATORS:
        parts = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.operand,)
        found = OPERATORS[type(node.op)](*map(_value, parts))
    else:
        raise ValueError(type(node).__name__)
    if max(abs(found.numerator), found.denominator) > LARGEST:
        raise OverflowError
    return found


def shown(value: Fraction) -> str:
    """Whole numbers whole, others with at most six decimals, rounded half to even."""
    if value.denominator == 1:
        return str(value.numerator)
    text = f"{float(value):.6f}".rstrip("0").rstrip(".")
    return text if Fraction(text) == value else f"about {text}"


# ---- the stage's knob ------------------------------------------------------------------------------------------------


def environment_of(fn: Callable[..., Environment], told: str = "") -> type[Config]:
    """The function's config, with what every environment has."""
    fields: dict[str, Any] = {
        "turns": (int, Field(default=4, ge=1, le=30, description="answers in a conversation, at most")),
        "longest": (int, Field(default=128, ge=1, description="tokens of an observation; what is longer is cut")),
        "seconds": (float, Field(default=60.0, gt=0, description="longest wait for one observation")),
        "told": (str, Field(default=told, description="what the system message tells the policy of it")),
    }
    base = config_of(fn)
    model: type[Config] = create_model(fn.__name__, __base__=base, __doc__=fn.__doc__, **fields)
    own = {k for k in base.model_fields if k != "type"}
    model.bind = lambda self: partial(fn, **self.model_dump(include=own))  # type: ignore[method-assign]
    return model


def by_name(given: Any) -> Any:
    """`env: calculator` is `env: {type: calculator}`."""
    return {"type": given} if isinstance(given, str) else given


NAMED: Any = one_of_types([environment_of(calculator, TOLD), environment_of(python)])
AnyEnvironment = Annotated[NAMED, BeforeValidator(by_name)]


# ---- conversations ---------------------------------------------------------------------------------------------------


@dataclass
class Talk:
    """One conversation while it goes on. ids: behind the prompt."""

    ask: Ask
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    spoken: list[bool] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    last: Sample | None = None
    over: bool = False

    def hear(self, sample: Sample) -> None:
        """The policy's next answer; one that did not end by itself is its last."""
        self._add(sample.ids, sample.logps, True)
        self.said.append(Message(role="assistant", content=sample.text))
        self.turns.append(len(sample.ids))
        self.last, self.over = sample, sample.ended != "stop"

    def see(self, observation: Message, ids: Sequence[int]) -> None:
        self._add(ids, [0.0] * len(ids), False)
        self.said.append(observation)

    def _add(self, ids: Sequence[int], logps: Sequence[float], spoken: bool) -> None:
        self.ids += ids
        self.logps += logps
        self.spoken += [spoken] * len(ids)

    def episode(self) -> Episode:
        assert self.last is not None
        return Episode(
            text=self.last.text, ids=tuple(self.ids), logps=tuple(self.logps), ended=self.last.ended,
            version=self.last.version, spoken=tuple(self.spoken), said=tuple(self.said), turns=tuple(self.turns),
        )  # fmt: skip


class World:
    """An environment with its bounds and the template that its observations are written in."""

    def __init__(self, knobs: Any, chat: "Chat"):
        self.knobs, self.chat = knobs, chat
        self.answer: Environment = knobs.bind()()

    def told(self, messages: Messages) -> Messages:
        """The prompt with what the policy is told of the environment, in its system message."""
        told = self.knobs.told
        if not told:
            return messages
        if messages[0].role == "system":
            return (messages[0].model_copy(update={"content": f"{messages[0].content}\n\n{told}"}), *messages[1:])
        return (Message(role="system", content=told), *messages)

    def room(self, max_new: int) -> int:
        """Most tokens that a conversation may put behind its prompt."""
        frame = len(self.chat.between([], Message(role="user", content="x"))) + 8  # merges may differ by a few
        return int(self.knobs.turns * max_new + (self.knobs.turns - 1) * (self.knobs.longest + frame))

    def draw(self, sample: Answers) -> Draw:
        """n conversations about each prompt. Turn k is drawn with the seed of turn 0 + k x 2^33."""

        async def talk(asks: Sequence[Ask], n: int, how: Sampling) -> list[list[Sample]]:
            first = await sample([a.ids for a in asks], n, how)
            talks = [[Talk(ask) for _ in samples] for ask, samples in zip(asks, first)]
            going = [t for row in talks for t in row]
            heard = [s for samples in first for s in samples]
            for turn in range(self.knobs.turns):
                for t, s in zip(going, heard):
                    t.hear(s)
                if turn + 1 < self.knobs.turns:
                    await self._observe([t for t in going if not t.over])
                going = [t for t in going if not t.over]
                if turn + 1 == self.knobs.turns or not going:
                    break
                later = how.model_copy(update={"seed": how.seed + ((turn + 1) << 33)})
                heard = [s for (s,) in await sample([[*t.ask.ids, *t.ids] for t in going], 1, later)]
            return [[t.episode() for t in row] for row in talks]

        return talk

    async def _observe(self, talks: Sequence[Talk]) -> None:
        """Ask the environment about each conversation, all at once where it is async."""
        for t, found in zip(talks, await asyncio.gather(*(self._ask(t) for t in talks))):
            if found is None:
                t.over = True
            else:
                t.see(found, self.chat.between(t.ids, found))

    async def _ask(self, t: Talk) -> Message | None:
        """The next observation, at most `longest` tokens of it. Raises UserError for an environment that fails."""
        seconds = self.knobs.seconds
        try:
            with at_most(seconds):
                found = self.answer((*t.ask.messages, *t.said), t.ask.truth)
            if inspect.isawaitable(found):
                found = await asyncio.wait_for(found, seconds)
        except UserError:
            raise
        except TimeoutError:
            raise UserError(f"the environment took more than {seconds:g} s for one observation", where="env") from None
        except Exception as error:
            raise UserError(
                f"the environment failed: {type(error).__name__}: {str(error)[:300]}",
                where=f"env, at {t.said[-1].content[:60]!r}",
            ) from error
        if isinstance(found, str):
            found = Message(role="user", content=found)
        if found is not None and (not isinstance(found, Message) or found.role == "assistant"):
            what = "a message of the assistant" if isinstance(found, Message) else f"a {type(found).__name__}"
            raise UserError(
                f"the environment gave {what}", where="env",
                remedy="an observation is text, a Message of user, tool or system, or None to end",
            )  # fmt: skip
        return found and found.model_copy(update={"content": self._cut(found.content)})

    def _cut(self, text: str) -> str:
        ids = self.chat.tokenizer(text, add_special_tokens=False).input_ids
        return text if len(ids) <= self.knobs.longest else self.chat.decode(ids[: self.knobs.longest])
