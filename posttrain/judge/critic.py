"""Critics: read drafts against a constitution, revise them, say which of two is better. Rules, models, scripts.

One protocol for all three, so that a recipe for a model too weak to criticise itself (the bundled one) uses rules and
a large one uses itself or an endpoint, with nothing else changed (Bai et al. 2022, arXiv:2212.08073).
Left out on purpose: models and transport (`say` is a callable that the stage wires up), asking in both orders (llm.py).
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from math import exp
from typing import Any, Protocol

from posttrain.constitution import Constitution, Principle
from posttrain.errors import UserError
from posttrain.judge import kindness
from posttrain.judge.asking import MANY
from posttrain.judge.llm import Compared, Comparer, Criterion, Preferred
from posttrain.judge.principles import LONGEST, RULES, Draft
from posttrain.rows import Message, Messages, Row, Sample, digest

Say = Callable[[Sequence[Messages], int], Awaitable[list[list[Sample]]]]  # conversations, n -> n samples each

SCALE = (
    16.0  # rules: a whole constitution's difference in score as nats of preference; a rule broken or not is no guess
)


class Critique(Row):
    """What a critic says of one draft. text "": nothing to revise."""

    principle: str
    text: str


class Revision(Row):
    """A better answer. how: what was done, for the provenance."""

    text: str
    ended: str = "stop"
    how: str


class Preference(Row):
    """Which of two drafts keeps the principle better: p is P(first). None: the critic cannot tell."""

    p: float | None
    principle: str
    detail: dict[str, Any] = {}


class Critic(Protocol):
    """critique and revise go round by round; prefer labels pairs. Every answer is in the order of what was asked."""

    name: str

    async def critique(self, drafts: Sequence[Draft], turn: int) -> list[Critique]: ...

    async def revise(self, drafts: Sequence[Draft], critiques: Sequence[Critique]) -> list[Revision]: ...

    async def prefer(self, pairs: Sequence[tuple[Draft, Draft]]) -> list[Preference]: ...


def drawn(constitution: Constitution, seed: int, key: str) -> Principle:
    """One principle, likelier the more it weighs; the same for the same key."""
    rng = random.Random(digest([seed, key]))
    return rng.choices(constitution.principles, [p.weight for p in constitution.principles])[0]


class Rules:
    """Finds what rules find. It reads every principle and takes the weightiest broken one, where a model draws one.

    A revision is the best of `n` answers sampled again, by the score below; where none is whole, the draft is repaired
    by rule (kindness.py). Its preference is the difference of the two scores, through a logistic.
    """

    name = "rules"

    def __init__(self, constitution: Constitution, say: Say | None = None, n: int = 4, seed: int = 0):
        self.constitution, self.say, self.n, self.seed = constitution, say, n, seed
        self.checked = [p for p in constitution.principles if p.rules]
        if not self.checked:
            raise UserError(
                "no principle of this constitution has a rule, so a critic of rules finds nothing",
                where=constitution.name,
                remedy=f"give principles `rules: [...]` of {', '.join(RULES)}; or another critic",
            )  # fmt: skip

    def findings(self, draft: Draft) -> list[tuple[Principle, str]]:
        """(principle, what is wrong), the weightiest first."""
        found = ((p, next((said for r in p.rules if (said := RULES[r](draft))), "")) for p in self.checked)
        return sorted(((p, said) for p, said in found if said), key=lambda f: -f[0].weight)

    def score(self, draft: Draft) -> float:
        """Share of the constitution that is kept, by weight: 1 when no rule finds anything."""
        whole = sum(p.weight for p in self.checked)
        return 1.0 - sum(p.weight for p, _ in self.findings(draft)) / whole

    async def critique(self, drafts: Sequence[Draft], turn: int) -> list[Critique]:
        found = [self.findings(d) for d in drafts]
        return [Critique(principle=f[0][0].name, text=f[0][1]) if f else Critique(principle="", text="") for f in found]

    async def revise(self, drafts: Sequence[Draft], critiques: Sequence[Critique]) -> list[Revision]:
        again = await self.say([d.prompt for d in drafts], self.n) if self.say else [[] for _ in drafts]
        return [self._revised(d, samples) for d, samples in zip(drafts, again, strict=True)]

    def _revised(self, draft: Draft, samples: Sequence[Sample]) -> Revision:
        ways = [Revision(text=draft.answer, ended=draft.ended, how="kept: nothing better was found")]
        ways += [
            Revision(text=s.text, ended=s.ended, how=f"sampled again, number {i} of {len(samples)}")
            for i, s in sorted(enumerate(samples, 1), key=lambda n: -_likely(n[1]))
        ]
        ways += repairs(draft, self.seed)
        scores = [self.score(draft.model_copy(update={"answer": w.text, "ended": w.ended})) for w in ways]
        return ways[max(range(len(ways)), key=lambda i: (scores[i], -i))]  # its own likeliest words win a tie

    async def prefer(self, pairs: Sequence[tuple[Draft, Draft]]) -> list[Preference]:
        return [self._preferred(a, b) for a, b in pairs]

    def _preferred(self, first: Draft, second: Draft) -> Preference:
        a, b = self.score(first), self.score(second)
        broken = self.findings(second if a >= b else first)
        detail = {"score_first": a, "score_second": b, "found": broken[0][1] if broken else ""}
        p = None if a == b else 1.0 / (1.0 + exp(-SCALE * (a - b)))
        return Preference(p=p, principle=broken[0][0].name if broken else "", detail=detail)


def _likely(sample: Sample) -> float:
    """Nats per token."""
    return sum(sample.logps) / max(1, len(sample.logps))


def repairs(draft: Draft, seed: int = 0) -> list[Revision]:
    """What can be made of a draft without a model."""
    found = []
    if draft.harmful:
        text = kindness.kind_refusal(draft.question, str(draft.truth.get("category", "")), seed)
        return [Revision(text=text, how="repaired: a kind refusal in its place")]
    if cut := kindness.whole_sentences(draft.answer, LONGEST):
        found.append(Revision(text=cut, how="repaired: cut to whole sentences"))
    if (plain := kindness.modest(cut or draft.answer)) != draft.answer:
        found.append(Revision(text=plain, how="repaired: certainty taken out"))
    return found


class Model:
    """A language model as the critic: one principle drawn per draft and turn, its request put in words of our own.

    say: samples answers of the critic. judge: says which of two answers is better, with the principles as what counts
    (llm.Pairwise; see `criteria`); None: this critic labels no pairs. spent: what counts its asks and their cost, if
    anything does.
    """

    def __init__(
        self, constitution: Constitution, say: Say, judge: Comparer | None = None, *, name: str = "model",
        seed: int = 0, spent: Any = None,
    ):  # fmt: skip
        self.constitution, self.say, self.judge, self.name, self.seed = constitution, say, judge, name, seed
        self.spent = spent

    async def critique(self, drafts: Sequence[Draft], turn: int) -> list[Critique]:
        chosen = [drawn(self.constitution, self.seed, f"{turn} {d.id}") for d in drafts]
        said = await self._one([critique_request(p, d) for p, d in zip(chosen, drafts)])
        if len(said) >= MANY and not any(s.text.strip() for s in said):
            raise UserError(
                f"this critic said nothing of {len(said)} answers, which would pass for no objection", where=self.name,
                remedy="see what the model answers to a plain question; another critic",
            )  # fmt: skip
        return [Critique(principle=p.name, text=s.text.strip()) for p, s in zip(chosen, said)]

    async def revise(self, drafts: Sequence[Draft], critiques: Sequence[Critique]) -> list[Revision]:
        asked = [
            revision_request(self.constitution.principle(c.principle), d, c.text) for d, c in zip(drafts, critiques)
        ]
        said = await self._one(asked)
        return [Revision(text=s.text.strip(), ended=s.ended, how=f"written by {self.name}") for s in said]

    async def prefer(self, pairs: Sequence[tuple[Draft, Draft]]) -> list[Preference]:
        """Both orders are asked and averaged (llm.Pairwise)."""
        if self.judge is None:
            raise UserError("this critic labels no pairs", where=self.name, remedy="give it a judge")
        compared = [Compared(prompt=a.prompt, first=a.answer, second=b.answer) for a, b in pairs]
        return [
            Preference(p=s.p, principle=str(s.detail.get("criterion", "")), detail=_orders(s))
            for s in await self.judge.compare(compared)
        ]

    async def _one(self, asked: Sequence[Messages]) -> list[Sample]:
        return [samples[0] for samples in await self.say(asked, 1)]


def _orders(said: Preferred) -> dict[str, Any]:
    """Of a preference: what both orders gave, and what was wrong with them."""
    return {"ab": said.ab, "ba": said.ba} | ({"problems": said.problems} if said.problems else {})


def criteria(constitution: Constitution) -> list[Criterion]:
    """The principles as what a judge compares by."""
    return [Criterion(p.name, f"{p.critique} The better answer is the one of which that is less true.", p.weight)
            for p in constitution.principles]  # fmt: skip


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _talk(prompt: Messages) -> str:
    return "\n".join(f"[{m.role}] {m.content}" for m in prompt)


def critique_request(principle: Principle, draft: Draft) -> Messages:
    """The principle's examples as earlier turns, then the draft."""
    turns: list[Message] = []
    for e in principle.examples:
        shown = Draft(prompt=(_user(e.prompt),), answer=e.answer)
        turns += [_user(_critique(principle, shown)), Message(role="assistant", content=e.critique)]
    return (*turns, _user(_critique(principle, draft)))


def _critique(principle: Principle, draft: Draft) -> str:
    return f"A conversation:\n{_talk(draft.prompt)}\n\nThe answer given:\n{draft.answer}\n\n{principle.critique}"


def revision_request(principle: Principle, draft: Draft, critique: str) -> Messages:
    """Conversation, answer and critique, then the request; the reply is to be the new answer and nothing else."""
    turns: list[Message] = []
    for e in principle.examples:
        shown = Draft(prompt=(_user(e.prompt),), answer=e.answer)
        turns += [_user(_revision(principle, shown, e.critique)), Message(role="assistant", content=e.revision)]
    return (*turns, _user(_revision(principle, draft, critique)))


def _revision(principle: Principle, draft: Draft, critique: str) -> str:
    return (
        f"A conversation:\n{_talk(draft.prompt)}\n\nThe answer given:\n{draft.answer}\n\nWhat was said against it:\n"
        f"{critique}\n\n{principle.revision} Reply with the new answer alone."
    )
