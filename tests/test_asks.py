"""Which prompts are asked: estimates of difficulty by hand, how often each is drawn, a state that comes back."""

from collections import Counter

import pytest
from pydantic import ValidationError

from posttrain.rl.asks import Asks, Rollouts
from posttrain.rl.rollout import Ask, Group

ASKS = [Ask(name, (), {}, [n]) for n, name in enumerate(("easy", "hard", "mixed", "new"))]
REWARDS = {"easy": [1.0] * 4, "hard": [0.0] * 4, "mixed": [0.0, 1.0, 1.0, 0.0]}


def groups(*names):
    return [Group(a, [], {}, REWARDS[a.id]) for name in names for a in ASKS if a.id == name]


def test_chance_to_vary_by_hand():
    """After one group of 4: all right, p = 4.5 / 5 = 0.9, 1 - 0.9^4 - 0.1^4 = 0.3438; two of four, p = 1/2: 7/8. After
    a second right group, the first counting half: p = 6.5 / 7."""
    asks = Asks(ASKS, 0, curriculum=0.5)
    asks.seen(groups("easy", "hard", "mixed"))
    varies = {a.id: asks.varies(a) for a in ASKS}
    assert varies == {"easy": pytest.approx(0.3438), "hard": pytest.approx(0.3438), "mixed": 0.875, "new": 1.0}
    asks.seen(groups("easy"))
    assert asks.passes["easy"] == (6.0, 6.0)
    assert asks.varies(ASKS[0]) == pytest.approx(1 - (6.5 / 7) ** 4 - (0.5 / 7) ** 4)


def test_rewards_on_any_scale():
    """Right is above the middle of what was seen; a group that varies is never taken for all right or all wrong."""
    asks = Asks(ASKS, 0, curriculum=0.5)
    asks.seen([Group(ASKS[0], [], {}, [7.0, 7.0]), Group(ASKS[1], [], {}, [-3.0, -3.0]),
               Group(ASKS[2], [], {}, [6.5, 7.0])])  # fmt: skip
    assert {k: right for k, (right, _) in asks.passes.items()} == {"easy": 2, "hard": 0, "mixed": 1}
    assert asks.facts() == {"skipped": 0, "easy": 1 / 3, "hard": 1 / 3}


def test_what_teaches_nothing_is_drawn_less():
    """With 0.9, a prompt that varies with chance v is kept with chance 1 - 0.9 (1 - v)."""
    asks = Asks(ASKS, 3, curriculum=0.9)
    for _ in range(30):
        asks.seen(groups("easy", "hard", "mixed"))
    counts = Counter(a.id for a in asks.take(6000))
    expected = {a.id: 1 - 0.9 * (1 - asks.varies(a)) for a in ASKS}
    for name, keep in expected.items():
        assert counts[name] / counts["new"] == pytest.approx(keep / expected["new"], rel=0.12)
    assert counts["easy"] < 0.45 * counts["mixed"]
    assert asks.facts()["skipped"] == asks.taken - 6000


def test_without_a_curriculum_nothing_is_skipped_and_nothing_is_kept():
    asks = Asks(ASKS, 3)
    asks.seen(groups("easy"))
    assert Counter(a.id for a in asks.take(40)) == dict.fromkeys(REWARDS | {"new": 0}, 10)
    assert asks.passes == {} and asks.facts() == {}


def test_the_state_comes_back():
    whole, cut = Asks(ASKS, 3, curriculum=0.9), Asks(ASKS, 3, curriculum=0.9)
    for asks in (whole, cut):
        asks.take(7)
        asks.seen(groups("easy", "hard", "hard"))
    again = Asks(ASKS, 3, curriculum=0.9)
    again.restore(cut.state())
    assert [a.id for a in again.take(20)] == [a.id for a in whole.take(20)]


def test_a_curriculum_leaves_every_prompt_a_chance():
    with pytest.raises(ValidationError):
        Rollouts(curriculum=1.0)
