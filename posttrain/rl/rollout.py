"""Sampling and scoring: prompts in, groups of answers with rewards out. The half of a step that learns nothing.

A judge may fail in many ways, and each is one clear message: it raises, takes too long, gives the wrong number of
scores, or a score that is no number. Left out on purpose: log-probs under other models, credit, losses (learner.py),
conversations of several turns (environments.py), which prompts are drawn (asks.py).
"""

import asyncio
import math
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from posttrain import parallel
from posttrain.errors import UserError
from posttrain.judge.answers import distinct
from posttrain.judge.base import Answered, Judge
from posttrain.rows import Messages, Sample, Verdict
from posttrain.sampler.base import Sampling

FLAT = 1e-6  # a group whose rewards differ by no more than this teaches nothing


@dataclass(frozen=True)
class Ask:
    """A prompt ready to be sampled from. truth: what judges compare answers with."""

    id: str
    messages: Messages
    truth: Mapping[str, Any]
    ids: list[int]


@dataclass(frozen=True)
class Weighed:
    """A judge and what its scores are multiplied with. seconds: longest wait for one batch of verdicts."""

    judge: Judge
    weight: float = 1.0
    seconds: float = 600.0


def at_once(judge: Judge, answers: int) -> Weighed:
    """For a stage that asks about all its answers at once: a slow judge must not lose the rest."""
    return Weighed(judge, seconds=max(600.0, 60.0 * answers))


class Episode(Sample):
    """A sample of several turns. ids go on behind the prompt, answers and observations in turn; spoken: which of them
    the policy drew (the others have log-prob 0 here, and teach nothing). said: the same as messages; text: the last
    answer's. turns: tokens of each answer."""

    spoken: tuple[bool, ...]
    said: Messages
    turns: tuple[int, ...]


def spoken(sample: Sample) -> list[bool]:
    """Which ids the policy drew."""
    return list(sample.spoken) if isinstance(sample, Episode) else [True] * len(sample.ids)


class Shaping(BaseModel):
    """What is done to a reward before anything is learned from it.

    penalty: taken off where an answer does not end by itself. buffer: tokens before max_new over which the penalty
    grows from nothing, so that nearly too long is nearly as bad (soft overlong punishment of DAPO, eq. 13); 0: only
    unfinished answers pay. mask: unfinished answers count in their group's mean, but their tokens teach nothing.
    normalise: rewards in standard deviations from the running mean of all so far. In a conversation of several turns
    max_new and buffer are about its longest answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    penalty: float = Field(default=0.0, ge=0)
    buffer: int = Field(default=0, ge=0)
    mask: bool = False
    normalise: bool = False

    def owed(self, sample: Sample, max_new: int) -> float:
        if sample.ended != "stop":
            return self.penalty
        longest = max(sample.turns) if isinstance(sample, Episode) else len(sample.ids)
        over = longest - (max_new - self.buffer)
        return self.penalty * over / self.buffer if self.buffer and over > 0 else 0.0


@dataclass
class Group:
    """The answers to one prompt. scores: of each judge, unweighted; doubt: standard deviation over the members of a
    judge that has several, where it does not abstain; reward: the weighted sum of scores, less what is unpaid."""

    ask: Ask
    samples: list[Sample]
    scores: dict[str, list[float]] = field(default_factory=dict)
    reward: list[float] = field(default_factory=list)
    doubt: dict[str, list[float]] = field(default_factory=dict)
    abstained: int = 0  # scores that judges did not give
    # sample -> (target, its part of the reward)
    steps: dict[int, list[tuple[int, float]]] = field(default_factory=dict)

    def place(self, verdicts: Sequence[Verdict], weight: float, text_of: "TextOf") -> None:
        """Put what a judge gave for steps of the answers where the steps end."""
        for j, verdict in enumerate(verdicts):
            for characters, score in verdict.detail.get("steps", ()):
                part = target_at(self.samples[j], int(characters), text_of), weight * float(score)
                self.steps.setdefault(j, []).append(part)

    @property
    def flat(self) -> bool:
        return max(self.reward) - min(self.reward) <= FLAT


Draw = Callable[[Sequence[Ask], int, Sampling], Awaitable[list[list[Sample]]]]  # n samples of each prompt
TextOf = Callable[[Sequence[int]], str]  # of the beginning of an answer


async def collect(
    take: Callable[[int], list[Ask]],
    draw: Draw,
    judges: Mapping[str, Weighed],
    *,
    prompts: int,
    n: int,
    how: Sampling,
    shaping: Shaping,
    resample: int = 0,
    seen: Callable[[Sequence[Group]], None] = lambda groups: None,
    text_of: TextOf | None = None,
) -> tuple[list[Group], dict[str, float]]:
    """`prompts` groups of n answers with rewards, and what there is to say of them.

    resample: how often flat groups are replaced by other prompts' (DAPO's dynamic sampling); those that still lack a
    replacement stay. Try k is drawn with the seed how.seed + k: callers leave `resample` seeds free between theirs.
    seen: told of all groups, those that are replaced among them.
    """
    groups: list[Group] = []
    spare: list[Group] = []
    drawn, tries = 0, 0
    while len(groups) < prompts and tries <= resample:
        asks = take(prompts - len(groups))
        seeded = how.model_copy(update={"seed": how.seed + tries})
        found = await answered(asks, draw, judges, n=n, how=seeded, shaping=shaping, text_of=text_of)
        seen(found)
        drawn, tries = drawn + len(found), tries + 1
        groups += [g for g in found if resample == 0 or not g.flat]
        spare += [g for g in found if resample > 0 and g.flat]
    groups += spare[: prompts - len(groups)]
    facts = describe(groups) | {"answers": float(drawn * n)}
    return groups, facts | ({"flat": len(spare) / drawn} if resample else {})


async def answered(
    asks: Sequence[Ask],
    draw: Draw,
    judges: Mapping[str, Weighed],
    *,
    n: int,
    how: Sampling,
    shaping: Shaping,
    text_of: TextOf | None = None,
) -> list[Group]:
    """n answers to each prompt, scored by all judges. text_of: with it, rewards for steps of an answer are placed."""
    drawn = await draw(asks, n, how)
    if len(drawn) != len(asks) or any(len(samples) != n for samples in drawn):
        raise UserError(f"the sampler gave {[len(s) for s in drawn][:8]} answers where {n} to each prompt were asked")
    groups = [Group(ask, list(samples)) for ask, samples in zip(asks, drawn)]
    items = [judged(g.ask, s) for g in groups for s in g.samples]
    for name, weighed in judges.items():
        found = await asked(name, weighed, items)
        for k, g in enumerate(groups):
            mine = found[k * n : (k + 1) * n]
            g.scores[name] = [float(v.score or 0.0) for v in mine]
            g.abstained += sum("abstained" in v.detail for v in mine)
            if doubts := [float(v.detail["std"]) for v in mine if "std" in v.detail]:
                g.doubt[name] = doubts
            if text_of:
                g.place(mine, weighed.weight, text_of)
    for g in groups:
        owed = [shaping.owed(s, how.max_new) for s in g.samples]
        g.reward = [sum(w.weight * g.scores[k][i] for k, w in judges.items()) - owed[i] for i in range(n)]
    return groups


def target_at(sample: Sample, characters: int, text_of: TextOf) -> int:
    """Which of the tokens that the policy drew ends these first characters of its (last) answer."""
    own = [i for i, mine in zip(sample.ids, spoken(sample)) if mine]
    before = len(own) - (sample.turns[-1] if isinstance(sample, Episode) else len(own))
    low, high = 1, len(own) - before
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(text_of(own[before : before + middle])) >= characters else (middle + 1, high)
    return before + low - 1


def judged(ask: Ask, sample: Sample) -> Answered:
    """What judges see: the last answer, and everything before it as its prompt."""
    before = sample.said[:-1] if isinstance(sample, Episode) else ()
    return Answered(prompt=(*ask.messages, *before), answer=sample.text, truth=ask.truth)


class Shared:
    """A judge asked by several processes: each asks it about its share of the answers and hears what the others did.

    Judges that draw or are asked over a network may say two things of one answer; so every answer is judged once.
    """

    def __init__(self, judge: Judge):
        self.judge = judge

    async def score(self, items: Sequence[Answered]) -> list[Verdict]:
        if parallel.world() == 1:
            return await self.judge.score(items)
        mine = items[parallel.rank() :: parallel.world()]
        parts = parallel.gather(list(await self.judge.score(mine)) if mine else [])
        return [v for block in zip_longest(*parts) for v in block if v is not None]


async def drawn(
    model: Any, sampler: Any, prompts: Sequence[Sequence[int]], n: int, how: Sampling, **more: Any
) -> list[list[Sample]]:
    """n answers of the model to each prompt, each process drawing those of its share with its own whole weights.

    A draw depends on the seed and on the numbers of its prompt and answer, not on who makes it.
    """
    if parallel.world() == 1:
        found: list[list[Sample]] = await sampler(model).sample(prompts, n, how, **more)
        return found
    from posttrain import shards

    mine = [i for i in parallel.split([len(p) for p in prompts], parallel.world())[parallel.rank()] if i is not None]
    own = await sampler(shards.whole(model)).sample(prompts, n, how, only=mine, **more)
    parts = parallel.gather({i: own[i] for i in mine})
    return [next(part[i] for part in parts if i in part) for i in range(len(prompts))]


async def verdicts(name: str, weighed: Weighed, items: Sequence[Answered]) -> list[float]:
    """A judge's scores; see `asked`."""
    return [float(v.score or 0.0) for v in await asked(name, weighed, items)]


async def asked(name: str, weighed: Weighed, items: Sequence[Answered]) -> list[Verdict]:
    """A judge's verdicts; where it abstains, the mean of what it gave, which prefers nothing. Raises UserError."""
    where = f"rewards.{name}"
    try:
        found = await asyncio.wait_for(weighed.judge.score(items), weighed.seconds)
    except UserError as error:
        raise UserError(
            error.what, where=f"{where}: {error.where}" if error.where else where, remedy=error.remedy
        ) from None
    except TimeoutError:
        seconds = min(weighed.seconds, float(getattr(weighed.judge, "seconds", weighed.seconds)))
        raise UserError(
            f"the judge took more than {seconds:g} s for {len(items)} answers", where=where,
            remedy="a faster judge, or fewer answers a step (prompts, group)",
        ) from None  # fmt: skip
    except Exception as error:
        raise UserError(f"the judge failed: {type(error).__name__}: {str(error)[:300]}", where=where) from error
    if len(found) != len(items):
        raise UserError(f"the judge gave {len(found)} scores for {len(items)} answers", where=where)
    given = [v.score for v in found if v.score is not None]
    for item, score in zip(items, found):
        if score.score is not None and not math.isfinite(score.score):
            raise UserError(f"the judge gave {score.score} for the answer {item.answer[:60]!r}", where=where)
    if not given:
        why = next((str(x) for v in found for x in v.detail.values()), "")
        raise UserError("the judge abstained from every answer" + (f": {why}" if why else ""), where=where)
    middle = sum(given) / len(given)
    return [v if v.score is not None else Verdict(score=middle, detail={"abstained": True}) for v in found]


def describe(groups: Sequence[Group]) -> dict[str, float]:
    """What is logged of a rollout. Lengths in tokens; distinct: share of new 3-grams of words within an answer; unique:
    share of answers that no other sample of their group equals; spread: mean over groups of the rewards' std; turns:
    answers in a conversation; abstained: share of scores that judges did not give; doubt: mean standard deviation over
    the members of a reward ensemble."""
    rewards = [r for g in groups for r in g.reward]
    samples = [s for g in groups for s in g.samples]
    facts = {
        "reward": statistics.fmean(rewards),
        "reward_std": statistics.pstdev(rewards),
        "spread": statistics.fmean(statistics.pstdev(g.reward) for g in groups),
        "flat": statistics.fmean(g.flat for g in groups),
        "length": statistics.fmean(sum(spoken(s)) for s in samples),
        "stopped": statistics.fmean(s.ended == "stop" for s in samples),
        "distinct": statistics.fmean(distinct(s.text) for s in samples),
        "unique": statistics.fmean(len({s.text for s in g.samples}) / len(g.samples) for g in groups),
    }
    if turns := [len(s.turns) for s in samples if isinstance(s, Episode)]:
        facts["turns"] = statistics.fmean(turns)
    if abstained := sum(g.abstained for g in groups):
        facts["abstained"] = abstained / (len(samples) * len(groups[0].scores))
    if doubts := [x for g in groups for found in g.doubt.values() for x in found]:
        facts["doubt"] = statistics.fmean(doubts)
    for name in groups[0].scores:
        facts[f"reward.{name}"] = statistics.fmean(x for g in groups for x in g.scores[name])
    return facts


def alone(sample: Callable[[Sequence[Sequence[int]], int, Sampling], Awaitable[list[list[Sample]]]]) -> Draw:
    """A sampler as it is asked here: one answer and nothing behind it."""
    return lambda asks, n, how: sample([a.ids for a in asks], n, how)
