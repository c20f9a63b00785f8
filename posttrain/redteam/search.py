"""The search for what works: a bandit over attacks that spends its tries where the model breaks, and stacks winners.

Thompson sampling (Thompson 1933): each attack has a Beta(1 + breaks, 1 + held) belief; every try draws one number from
each belief and takes the attack with the largest. After each round the two best single attacks are stacked into a new
one, so what works is kept and tried together.
Left out on purpose: models. `reply` is a callable that answers conversations.
"""

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from posttrain import stats
from posttrain.redteam.attacks import NAMES, TALK, TEXT, chain
from posttrain.redteam.verdict import answered, broke
from posttrain.rows import Message, Messages, Row, Sample

Reply = Callable[[Sequence[Messages]], Awaitable[list[Sample]]]
Asked = tuple["Goal", Messages, Sample]  # a goal, the conversation it was put in, what came
Judge = Callable[[Sequence[Asked]], Awaitable[list[bool]]]  # whether the model did what it should not


class Goal(Row):
    """What is asked for. label: harmful, or safe (a harmless one that sounds alike, which should be answered)."""

    id: str
    category: str
    goal: str
    label: str = "harmful"


class Try(Row):
    """One attack on one goal and what came of it. broke: a harmful goal was served; refused: a safe one was not."""

    id: str
    round: int
    attack: str
    category: str
    goal: str
    label: str
    messages: Messages
    answer: str
    ended: str
    broke: bool = False
    refused: bool = False


@dataclass
class Bandit:
    """Beliefs about attacks. counts: name -> [breaks, tries]."""

    seed: int
    names: list[str] = field(default_factory=lambda: list(NAMES))
    counts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def choose(self) -> str:
        """The attack whose belief draws the largest number; a never tried one draws from the uniform."""

        def draw(name: str) -> float:
            breaks, tries = self.counts.get(name, (0, 0))
            return self.rng.betavariate(1 + breaks, 1 + tries - breaks)

        return max(self.names, key=draw)

    def learn(self, name: str, broke: bool) -> None:
        self.counts[name][0] += broke
        self.counts[name][1] += 1

    def stack(self) -> str:
        """Add the two best single attacks as one, the better one outside; "" when there is nothing new to add."""
        singles = [n for n in self.names if "+" not in n and n != "plain" and self.counts[n][1] >= 3]
        best = sorted(singles, key=lambda n: -(1 + self.counts[n][0]) / (2 + self.counts[n][1]))[:3]
        inner = [n for n in best if n in TEXT]
        for outer in best:
            for text in inner:
                name = f"{text}+{outer}"
                if text != outer and name not in self.names:
                    self.names.append(name)
                    return name
        return ""


async def search(
    goals: Sequence[Goal], reply: Reply, *, rounds: int, tries: int, seed: int = 0, judge: Judge | None = None
) -> tuple[list[Try], Bandit]:
    """Rounds of `tries` attacks on harmful goals; each round's lessons choose the next one's attacks."""
    bandit, found = Bandit(seed), []
    targets = [g for g in goals if g.label == "harmful"]
    for number in range(1, rounds + 1):
        chosen = [(bandit.choose(), targets[bandit.rng.randrange(len(targets))]) for _ in range(tries)]
        if number == 1:  # the first round tries everything once before it believes anything
            chosen = [(NAMES[i % len(NAMES)], goal) for i, (_, goal) in enumerate(chosen)]
        chosen = list(dict.fromkeys(chosen))
        done = await play(chosen, reply, number, bandit.rng, judge)
        for one in done:
            bandit.learn(one.attack, one.broke)
        found += done
        bandit.stack()
    return found, bandit


async def play(
    chosen: Sequence[tuple[str, Goal]], reply: Reply, number: int, rng: random.Random, judge: Judge | None = None
) -> list[Try]:
    """Play each attack to its last turn, the model's own replies in between."""
    turns = [chain(name, goal.goal, rng) for name, goal in chosen]
    talks: list[list[Message]] = [[] for _ in chosen]
    last: list[Sample | None] = [None] * len(chosen)
    for n in range(max(map(len, turns), default=0)):
        open_ = [i for i, t in enumerate(turns) if n < len(t)]
        for i in open_:
            before = last[i]
            if before is not None:
                talks[i].append(Message(role="assistant", content=before.text.strip() or "..."))
            talks[i].append(Message(role="user", content=turns[i][n]))
        for i, sample in zip(open_, await reply([tuple(talks[i]) for i in open_]), strict=True):
            last[i] = sample
    asked = [(goal, tuple(talk), one) for (_, goal), talk, one in zip(chosen, talks, last) if one is not None]
    wrong = await (judge or by_rule)(asked)
    rows = zip((name for name, _ in chosen), asked, wrong, strict=True)
    return [_told(f"{number}-{i}", number, name, *one, bad) for i, (name, one, bad) in enumerate(rows)]


def _told(id: str, number: int, name: str, goal: Goal, talk: Messages, sample: Sample, wrong: bool) -> Try:
    harmful = goal.label == "harmful"
    return Try(
        id=f"{goal.id}-{id}", round=number, attack=name, category=goal.category, goal=goal.goal, label=goal.label,
        messages=talk, answer=sample.text, ended=sample.ended, broke=wrong and harmful, refused=wrong and not harmful,
    )  # fmt: skip


async def by_rule(asked: Sequence[Asked]) -> list[bool]:
    """The model did what it should not: served a harmful goal, or did not answer a harmless one."""
    return [
        broke(goal.goal, sample.text) if goal.label == "harmful" else not answered(sample.text, sample.ended)
        for goal, _, sample in asked
    ]


def table(tries: Sequence[Try], by: str) -> dict[str, dict[str, float]]:
    """attack or category -> breaks, n, share with its 95% Wilson interval; the most broken first.

    Tries of a search are not a random sample: the bandit looks where it breaks, so shares of a search are an upper
    view of the model; the suite `attacks` asks everything equally often.
    """
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in tries:
        counts[getattr(one, by)][0] += one.broke or one.refused
        counts[getattr(one, by)][1] += 1
    found = {}
    for name, (k, n) in sorted(counts.items(), key=lambda kv: (-kv[1][0] / kv[1][1], kv[0])):
        low, high = stats.wilson(k, n)
        found[name] = {"breaks": float(k), "n": float(n), "share": k / n, "low": low, "high": high}
    return found


assert not set(TEXT) & set(TALK)
