"""Language models as judges: pairwise in both orders, by rubric, by principle, against a reference, in panels.

A pair is always asked in both orders, p = (p_AB + 1 - p_BA) / 2, and a judge that changes its mind with the order has
said nothing: p is 0.5. Where the model's log-probabilities can be had, they are the answer; else its words are read.
What could not be read or answered is None with the reason beside it, never a quiet guess. A judge may label training
data only after it has passed on labelled rows (card.py).
Left out on purpose: models and transport (an Asker), and prompts of other people.
"""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from posttrain.errors import UserError
from posttrain.judge.asking import Asker, Asking, Problem, Reply, checked, shares
from posttrain.judge.base import Answered
from posttrain.rows import Message, Messages, Row, Verdict, digest

CLAMP = (0.4, 0.6)  # after written thoughts a model is surer than it is right (Bai et al. 2022, arXiv:2212.08073)
THOUGHTS = 256  # tokens
LETTERS = ("A", "B", "C")  # C: equally good


class Compared(Row):
    """Two answers to one conversation. truth: {"reference": a right answer}, or nothing."""

    prompt: Messages
    first: str
    second: str
    truth: Mapping[str, Any] = {}


class Preferred(Row):
    """p: P(first is better); None: the judge could not be asked or read. consistent: same choice in both orders.

    ab, ba: P(the one shown first is better) when the first, when the second is shown first.
    """

    p: float | None
    consistent: bool | None = None
    ab: float | None = None
    ba: float | None = None
    problems: tuple[str, ...] = ()
    detail: dict[str, Any] = {}


class Comparer(Protocol):
    name: str

    async def compare(self, items: Sequence[Compared]) -> list[Preferred]: ...


class Criterion(NamedTuple):
    """What to judge by, in a sentence. weight: how often it is drawn."""

    name: str
    text: str
    weight: float = 1.0


GENERAL = Criterion(
    "overall", "Which answer serves the person better: right, complete, clear, and no longer than useful?"
)


class Pairwise:
    """Which of two answers is better.

    criteria: one is drawn for each item, by weight, the same whenever the item is asked.  log_probs False: only the
    model's words count.  ties: whether "equally good" may be said.  thinks: it writes its thoughts first, and soft
    labels are clamped to CLAMP.
    """

    def __init__(
        self, asker: Asker, *, criteria: Sequence[Criterion] = (GENERAL,), log_probs: bool = True, ties: bool = True,
        thinks: bool = False, seed: int = 0,
    ):  # fmt: skip
        if not criteria:
            raise UserError("a judge needs a criterion")
        self.asker, self.criteria, self.thinks, self.seed = asker, tuple(criteria), thinks, seed
        self.options, self.log_probs = (LETTERS if ties else LETTERS[:2]), log_probs
        self.name = f"{asker.name}/pairwise"

    async def compare(self, items: Sequence[Compared]) -> list[Preferred]:
        drawn = [self.criterion(item) for item in items]
        asked = [pair_question(c, i, i.first, i.second, self.options) for c, i in zip(drawn, items)]
        asked += [pair_question(c, i, i.second, i.first, self.options) for c, i in zip(drawn, items)]
        seen = [self._read(reply) for reply in await self._ask(asked)]
        both = zip(drawn, seen[: len(items)], seen[len(items) :], strict=True)
        return [self._joined(c, ab, ba) for c, ab, ba in both]

    def criterion(self, item: Compared) -> Criterion:
        """Swapping the answers does not change what is drawn."""
        key = [self.seed, [m.model_dump() for m in item.prompt], sorted((item.first, item.second))]
        return random.Random(digest(key)).choices(self.criteria, [c.weight for c in self.criteria])[0]

    async def _ask(self, asked: Sequence[Messages]) -> list[Reply]:
        if self.thinks:
            how = Asking(max_new=THOUGHTS, seed=self.seed)
            thoughts = await self.asker.ask([(*q[:-1], _user(q[-1].content + THINK)) for q in asked], how)
            asked = [(*q, _said(t.text or "..."), _user(SO)) for q, t in zip(asked, thoughts)]
        how = Asking(options=self.options if self.log_probs else (), seed=self.seed)
        return checked(await self.asker.ask(asked, how), self.asker.name)

    def _read(self, reply: Reply) -> tuple[float | None, str, Problem]:
        """(P(the one shown first is better), letter chosen, what is wrong)."""
        if reply.problem:
            return None, "", reply.problem
        if reply.options is None:
            letter = letter_of(reply.text, self.options)
            return {"A": 1.0, "B": 0.0, "C": 0.5}.get(letter), letter, "" if letter else "unreadable"
        share = shares(reply.options)
        p = share[0] + (share[2] / 2 if len(share) > 2 else 0.0)
        return p, self.options[share.index(max(share))], ""

    def _joined(
        self, criterion: Criterion, one: tuple[float | None, str, Problem], two: tuple[float | None, str, Problem]
    ) -> Preferred:
        (ab, chosen, wrong), (ba, other, wrong_too) = one, two
        problems = tuple(p for p in (wrong, wrong_too) if p)
        detail: dict[str, Any] = {"criterion": criterion.name}
        if ab is None or ba is None:
            return Preferred(p=None, ab=ab, ba=ba, problems=problems, detail=detail)
        consistent = {"A": "B", "B": "A", "C": "C"}[chosen] == other
        average = (ab + 1.0 - ba) / 2
        p = average if consistent else 0.5
        if self.thinks:
            p = min(max(p, CLAMP[0]), CLAMP[1])
        return Preferred(p=p, consistent=consistent, ab=ab, ba=ba, detail=detail | {"average": average})


class Rubric:
    """A score for one answer: the expected value of a whole number that the model gives, rescaled to [0, 1].

    E = sum_k k p(k) / sum_k p(k) over the scale's numbers (G-Eval, Liu et al. 2023, arXiv:2303.16634, eq. 1).
    """

    def __init__(
        self, asker: Asker, *, criterion: Criterion = GENERAL, scale: tuple[int, int] = (1, 10), log_probs: bool = True,
        seed: int = 0,
    ):  # fmt: skip
        low, high = scale
        if not 0 <= low < high <= 100:
            raise UserError(f"a rubric's scale goes from a small to a larger whole number, not {low} to {high}")
        self.asker, self.criterion, self.numbers, self.seed = asker, criterion, range(low, high + 1), seed
        self.log_probs, self.name = log_probs, f"{asker.name}/rubric"

    async def score(self, items: Sequence[Answered]) -> list[Verdict]:
        options = tuple(map(str, self.numbers)) if self.log_probs else ()
        asked = [rubric_question(self.criterion, item, self.numbers) for item in items]
        replies = await self.asker.ask(asked, Asking(options=options, seed=self.seed))
        return [self._verdict(reply) for reply in checked(replies, self.asker.name)]

    def _verdict(self, reply: Reply) -> Verdict:
        if reply.problem:
            return Verdict(score=None, detail={"problem": reply.problem})
        if reply.options is None:
            found = re.search(r"(?<![\d.])\d+(?![\d.]*\d)", reply.text)
            if not found or int(found[0]) not in self.numbers:
                return Verdict(score=None, detail={"problem": "unreadable"})
            expected = float(found[0])
        else:
            expected = sum(k * p for k, p in zip(self.numbers, shares(reply.options)))
        low, high = self.numbers[0], self.numbers[-1]
        return Verdict(score=(expected - low) / (high - low), detail={"expected": expected})


class Panel:
    """Several judges, their answers averaged; families should differ. A judge that has nothing to say is left out.

    consistent: when most of those that answered were.
    """

    def __init__(self, judges: Sequence[Any]):
        if len(judges) < 2:
            raise UserError("a panel needs two judges or more")
        self.judges, self.name = tuple(judges), "panel of " + ", ".join(j.name for j in judges)

    async def compare(self, items: Sequence[Compared]) -> list[Preferred]:
        said = [await judge.compare(items) for judge in self.judges]
        return [self._joined(votes) for votes in zip(*said, strict=True)]

    async def score(self, items: Sequence[Answered]) -> list[Verdict]:
        said = [await judge.score(items) for judge in self.judges]
        return [self._averaged(votes) for votes in zip(*said, strict=True)]

    def _joined(self, votes: Sequence[Preferred]) -> Preferred:
        ps, agree = _known(v.p for v in votes), _known(v.consistent for v in votes)
        problems = tuple(p for v in votes for p in v.problems)
        if not ps:
            return Preferred(p=None, problems=problems)
        asked = dict.fromkeys(str(v.detail["criterion"]) for v in votes if v.detail.get("criterion"))
        return Preferred(
            p=sum(ps) / len(ps), consistent=2 * sum(agree) > len(agree), ab=_mean([v.ab for v in votes]),
            ba=_mean([v.ba for v in votes]), problems=problems,
            detail={"votes": [v.p for v in votes], "criterion": ", ".join(asked)},
        )  # fmt: skip

    def _averaged(self, votes: Sequence[Verdict]) -> Verdict:
        return Verdict(score=_mean([v.score for v in votes]), detail={"votes": [v.score for v in votes]})


def _known(values: Any) -> list[Any]:
    return [v for v in values if v is not None]


def _mean(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None


THINK = "\nDo not reply with a letter yet. First say in a few sentences what speaks for and against each."
SO = "Now reply with the letter alone."
_LETTER = re.compile(
    r"^[\s\"'*(\[]*(?:(?:my |the )?(?:better |best )?(?:answer|verdict|choice|reply)(?: is)?\s*:?\s*)?"
    r"[\s\"'*(\[]*([ABC])(?![\w'’])(?=\s*(?:[.,:;)\]*\"'!\n-]|$|is\b))",
    re.I,
)
_TIE = re.compile(r"^\W*(?:it is a |a )?(?:tie|draw|equal(?:ly good)?|both are equal)\b", re.I)


def letter_of(text: str, options: Sequence[str]) -> str:
    """The letter that a reply chooses, '' when it does not choose: "A", "(B).", "Answer: A", "tie"."""
    found = _LETTER.match(text)
    letter = found[1].upper() if found else "C" if _TIE.match(text) else ""
    if found and text.strip()[:1] == found[1] == found[1].lower():
        letter = ""  # "a ..." is an article
    return letter if letter in options else ""


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _said(text: str) -> Message:
    return Message(role="assistant", content=text)


def _talk(prompt: Messages) -> str:
    return "\n".join(f"{m.role.upper()}: {m.content}" for m in prompt)


def _reference(truth: Mapping[str, Any]) -> str:
    given = truth.get("reference")
    return f"\n\n--- A right answer, for comparison ---\n{given}" if given else ""


def pair_question(criterion: Criterion, item: Compared, a: str, b: str, options: Sequence[str]) -> Messages:
    """One question with two answers; the reply is to be a letter."""
    tie = " C if they are equally good." if "C" in options else ""
    text = (
        f"Two assistants answered the same conversation.\n\n--- Conversation ---\n{_talk(item.prompt)}"
        f"{_reference(item.truth)}\n\n--- Answer A ---\n{a}\n\n--- Answer B ---\n{b}\n\n--- What counts ---\n"
        f"{criterion.text}\nReply with one letter: A if answer A is better, B if answer B is better.{tie}"
    )
    return (_user(text),)


def rubric_question(criterion: Criterion, item: Answered, numbers: range) -> Messages:
    low, high = numbers[0], numbers[-1]
    text = (
        f"An assistant answered a conversation.\n\n--- Conversation ---\n{_talk(item.prompt)}{_reference(item.truth)}"
        f"\n\n--- Answer ---\n{item.answer}\n\n--- What counts ---\n{criterion.text}\n"
        f"Reply with one whole number from {low} (as bad as can be) to {high} (could not be better)."
    )
    return (_user(text),)
