"""Sampling and scoring with the scripted sampler: judges that fail, flat groups, order, penalties."""

import asyncio

import pytest
from pydantic import TypeAdapter

from posttrain.errors import UserError
from posttrain.judge.base import Answered, Rule
from posttrain.rl.asks import Asks
from posttrain.rl.rewards import AnyReward
from posttrain.rl.rollout import Ask, Episode, Shaping, Weighed, alone, answered, collect, verdicts
from posttrain.rows import Message, Sample
from posttrain.sampler import Sampling, Scripted

HOW = Sampling(max_new=20)


def ask(name, **truth):
    return Ask(name, (Message(role="user", content=name),), truth, [ord(c) for c in name])


def judge(path="letters", **knobs):
    knobs = {"type": "function", "path": f"rewards_for_tests:{path}"} | knobs
    return Weighed(TypeAdapter(AnyReward).validate_python(knobs).bind()(), knobs.get("weight", 1.0))


def groups_of(judges, say, n=3, asks=("a", "b"), shaping=None):
    draw = alone(Scripted(say).sample)
    return asyncio.run(answered([ask(a) for a in asks], draw, judges, n=n, how=HOW, shaping=shaping or Shaping()))


def test_rewards_are_weighed_sums():
    """Answers x, xx, xxx: letters 1, 2, 3 times 2, and a flat 10 times 0.5."""
    ten = Weighed(Rule(lambda item: 10.0), 0.5)
    (first, second) = groups_of({"letters": judge(weight=2.0), "ten": ten}, lambda p, j: "x" * (j + 1))
    assert first.reward == [7, 9, 11] == second.reward
    assert first.scores == {"letters": [1, 2, 3], "ten": [10, 10, 10]}
    assert not first.flat


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("breaks", r"rewards\.r: the judge failed: ZeroDivisionError: division by zero"),
        ("too_few", r"rewards\.r: the judge gave 1 scores for 6 answers"),
        ("not_a_number", r"rewards\.r: the judge gave nan for the answer 'hm'"),
        ("abstains", r"rewards\.r: the judge abstained from every answer"),
    ],
)
def test_a_judge_that_fails_is_one_clear_message(path, message):
    with pytest.raises(UserError, match=message):
        groups_of({"r": judge(path)}, ["hm"])


def test_process_rewards_stand_where_they_were_earned():
    """Letters are tokens: the first word ends with token 2, the whole with token 6; weighed; a turn counts on."""
    text_of = lambda ids: "".join(map(chr, ids))  # noqa: E731
    ids = tuple(map(ord, "abc def"))
    plain = Sample(text="abc def", ids=ids, logps=(0.0,) * 7, ended="stop")
    talk = Episode(
        text="abc def", ids=(1, 2, 9, *ids), logps=(0.0,) * 10, ended="stop", said=(), turns=(2, 7),
        spoken=(True, True, False, *(True,) * 7),
    )  # fmt: skip

    async def draw(asks, n, how):
        return [[plain, talk]]

    judges = {"r": judge("by_step", weight=2.0)}
    found = answered([ask("a")], draw, judges, n=2, how=HOW, shaping=Shaping(), text_of=text_of)
    (group,) = asyncio.run(found)
    assert group.reward == [1.5, 1.5] and group.scores["r"] == [0.75, 0.75]
    assert group.steps == {0: [(2, 1.0), (6, 0.5)], 1: [(4, 1.0), (8, 0.5)]}


def test_a_judge_that_takes_too_long():
    class Slow:
        async def score(self, items):
            await asyncio.sleep(30)

    with pytest.raises(UserError, match=r"rewards\.slow: the judge took more than 0\.05 s for 1 answers"):
        asyncio.run(verdicts("slow", Weighed(Slow(), seconds=0.05), [Answered(answer="x")]))


def test_an_abstaining_judge_prefers_nothing():
    """Scores 4 where it speaks: the mean of what it gave stands where it does not."""
    assert groups_of({"r": judge("halves")}, ["x"])[0].reward == [4, 4, 4]


def test_a_sampler_that_gives_too_little():
    async def few(prompts, n, how):
        return [[] for _ in prompts]

    with pytest.raises(UserError, match=r"gave \[0, 0\] answers where 2"):
        work = answered([ask("a"), ask("b")], alone(few), {"r": judge()}, n=2, how=HOW, shaping=Shaping())
        asyncio.run(work)


def test_groups_without_spread_are_replaced():
    """Prompts a, c, e give equal answers, b and d different ones: asked for two groups, it finds b and d."""
    asks = Asks([ask(x) for x in "abcde"], seed=0)
    asks._at = lambda i: asks.asks[i % 5]

    def say(prompt, j):
        return "x" * (j + 1) if chr(int(prompt)) in "bd" else "x"

    async def work(resample):
        asks.taken = 0
        return await collect(
            asks.take, alone(Scripted(say).sample), {"r": judge()}, prompts=2, n=3, how=HOW, shaping=Shaping(),
            resample=resample,
        )  # fmt: skip

    groups, facts = asyncio.run(work(3))
    assert [g.ask.id for g in groups] == ["b", "d"]
    assert facts["flat"] == 0.5 and facts["answers"] == 12  # a, b; c; d: four prompts were asked
    groups, facts = asyncio.run(work(0))
    assert [g.ask.id for g in groups] == ["a", "b"] and facts["flat"] == 0.5
    groups, _ = asyncio.run(work(1))  # c is flat too: what was found first fills up
    assert [g.ask.id for g in groups] == ["b", "a"]


def test_every_try_draws_with_its_own_seed():
    sampler = Scripted(["x"])
    work = collect(
        Asks([ask("a")], 0).take, alone(sampler.sample), {"r": judge()}, prompts=1, n=2, how=HOW, shaping=Shaping(),
        resample=2,
    )  # fmt: skip
    asyncio.run(work)
    assert [how.seed for _, _, how in sampler.asked] == [0, 1, 2]


def test_prompts_come_once_an_epoch_in_a_seeded_order():
    asks = Asks([ask(str(i)) for i in range(10)], seed=1)
    first, second = ([a.id for a in asks.take(10)] for _ in range(2))
    assert sorted(first) == sorted(second) == [str(i) for i in range(10)] and first != second
    again = Asks(asks.asks, seed=1, taken=7)
    assert [a.id for a in again.take(6)] == (first + second)[7:13]
    with pytest.raises(UserError, match="no prompt"):
        Asks([], 0)


def sample(n, ended="stop"):
    return Sample(text="x", ids=tuple(range(n)), logps=(0.0,) * n, ended=ended)


def test_what_unfinished_answers_pay():
    """Penalty 2, buffer 4 of 10 tokens: free up to 6, then a quarter of it more with each token; unfinished: all."""
    plain, soft = Shaping(penalty=2), Shaping(penalty=2, buffer=4)
    assert [plain.owed(sample(n), 10) for n in (1, 10)] == [0, 0]
    assert [soft.owed(sample(n), 10) for n in (6, 7, 9, 10)] == [0, 0.5, 1.5, 2]
    assert plain.owed(sample(3, "malformed"), 10) == soft.owed(sample(10, "length"), 10) == 2
    long = "y" * 40
    (group,) = groups_of({"r": judge()}, ["abc", long], n=2, asks=("a",), shaping=plain)
    assert group.reward == [3, 20 - 2]


def test_what_is_logged():
    """Two groups (1, 3) and (2, 2): mean 2, std sqrt(1/2), spread (1 + 0) / 2, half of them flat."""
    answers = iter(["x", "xxx", "xx", "xx"])
    groups, facts = asyncio.run(
        collect(
            Asks([ask("a"), ask("b")], 0).take, alone(Scripted(lambda p, j: next(answers)).sample), {"r": judge()},
            prompts=2, n=2, how=HOW, shaping=Shaping(),
        )
    )  # fmt: skip
    assert facts["reward"] == facts["reward.r"] == 2 and facts["reward_std"] == pytest.approx(0.5**0.5)
    assert facts["spread"] == 0.5 and facts["flat"] == 0.5 and facts["unique"] == 0.75 and facts["stopped"] == 1
    assert facts["length"] == 3 and len(groups) == 2


def test_a_python_reward_that_never_ends():
    with pytest.raises(UserError, match=r"rewards\.r: the judge took more than 0\.1 s for 6 answers"):
        groups_of({"r": judge("hangs", seconds=0.1)}, ["hm"])


def test_empty_answers_are_judged_like_others():
    assert groups_of({"r": judge()}, ["", "x"])[0].reward == [0, 1, 0]
