"""Each detector on a history that has its disease, and on healthy ones."""

import pytest
from pydantic import ValidationError

from posttrain.rl import health
from posttrain.rl.health import DETECTORS, Health


def rollouts(n=12, **change):
    """A healthy run; change: name -> function of the rollout's number."""
    plain = {
        "reward": lambda i: 0.3 + 0.03 * i, "reward_std": lambda i: 0.4, "spread": lambda i: 0.3, "flat": lambda i: 0.3,
        "stopped": lambda i: 1.0, "unique": lambda i: 0.9, "length": lambda i: 20 + i, "distinct": lambda i: 0.98,
        "entropy": lambda i: 1.0 - 0.05 * i, "drift": lambda i: 0.001, "clipped": lambda i: 0.02,
        "mismatch": lambda i: 1e-5, "explained": lambda i: 0.05 * i,
    }  # fmt: skip
    return [{name: f(i) for name, f in (plain | change).items()} for i in range(n)]


def evaluations(*pairs, error=0.01):
    return [{"held_reward": r, "held_gold": g, "held_gold_error": error} for r, g in pairs]


def distances(*pairs, error=0.05):
    return [{"held_kl": k, "held_reward": r, "held_reward_error": error} for k, r in pairs]


SICK = {
    "flat_reward": rollouts(3, reward=lambda i: 0.0, reward_std=lambda i: 0.0, flat=lambda i: 1.0),
    "reward_hacking": evaluations((0.3, 0.5), (0.5, 0.6), (0.9, 0.2)),
    "kl_frontier": distances((0.0, 0.2), (2.0, 0.5), (4.0, 0.55), (9.0, 0.4)),
    "length_drift": rollouts(length=lambda i: 20 + 10 * i),
    "repetition_collapse": rollouts(distinct=lambda i: 0.98 - 0.06 * i),
    "entropy_collapse": rollouts(entropy=lambda i: 2.0**-i, reward=lambda i: 0.3, spread=lambda i: 0.3 * 0.5**i),
    "ratio_explosion": rollouts(drift=lambda i: 0.5 if i == 11 else 0.001),
    "critic_failure": rollouts(explained=lambda i: -2.0),
    "sampler_mismatch": rollouts(mismatch=lambda i: 0.2),
    "disagreement": rollouts(doubt=lambda i: 0.1 + 0.1 * i),
}


def test_every_detector_has_its_disease_here():
    assert set(SICK) == {d.__name__ for d in DETECTORS} == set(Health.model_fields) - {"patience"}


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: d.__name__)
def test_it_fires_on_its_disease_and_on_no_other(detector):
    assert detector(SICK[detector.__name__])
    healthy = [rollouts(n) for n in (1, 3, 8, 12)] + [evaluations((0.3, 0.5)), evaluations((0.3, 0.5), (0.6, 0.55))]
    healthy += [
        distances((0.0, 0.2), (2.0, 0.4), (5.0, 0.5), (9.0, 0.35)),
        distances((0.0, 0.2), (3.0, 0.5), (5.0, 0.4)),
    ]
    healthy += [distances((0.0, 0.2), (2.0, 1.0), (6.0, 1.0), error=0.0)]  # all answers are right: nothing to gain
    assert [detector(h) for h in healthy] == [""] * len(healthy)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"stopped": lambda i: 0.0}, "max_new"),
        ({"unique": lambda i: 0.2}, "temperature"),
        ({}, "no answer is ever right"),
        ({"reward": lambda i: 1.0}, "every answer is right already"),
    ],
)
def test_a_reward_that_never_varies_is_said_with_its_cause(change, cause):
    flat = {"reward": lambda i: 0.0, "reward_std": lambda i: 0.0, "flat": lambda i: 1.0} | change
    assert cause in health.flat_reward(rollouts(3, **flat))
    assert health.flat_reward(rollouts(2, **flat)) == ""  # not yet


def test_gold_may_fall_within_its_error_or_together_with_the_reward():
    assert health.reward_hacking(evaluations((0.3, 0.5), (0.5, 0.45), error=0.05)) == ""
    assert health.reward_hacking(evaluations((0.5, 0.5), (0.3, 0.2))) == ""  # worse at everything: not gamed


def test_certain_because_it_has_learned_is_no_collapse():
    learned = rollouts(entropy=lambda i: 2.0**-i, reward=lambda i: min(1.0, 0.2 * i), spread=lambda i: 0.3 * 0.5**i)
    assert health.entropy_collapse(learned) == ""


def test_the_frontier_is_golds_where_there_is_gold():
    """The reward rises, gold falls by more than an error while KL doubles; without gold the same run is fine."""
    run = [
        e | {"held_gold": g, "held_gold_error": 0.03}
        for e, g in zip(distances((0, 0.2), (2, 0.5), (5, 0.9)), (0.3, 0.5, 0.4))
    ]
    assert "KL went from 2.0 to 5.0 nats an answer and the gold score from 0.500 to 0.400" in health.kl_frontier(run)
    assert health.kl_frontier([{k: v for k, v in e.items() if "gold" not in k} for e in run]) == ""


def test_actions_and_patience():
    watch = Health(length_drift="stop", sampler_mismatch="off", patience=2)
    assert watch.actions() == {"warn", "stop", "off"}
    ((name, action, sentence),) = watch.examine(SICK["length_drift"])
    assert (name, action) == ("length_drift", "stop") and "tokens" in sentence
    assert watch.examine(SICK["sampler_mismatch"]) == []
    assert watch.examine(SICK["ratio_explosion"]) == []  # only the last rollout: not twice in a row
    with pytest.raises(ValidationError):
        Health(length_drift="panic")


def test_patience_counts_rollouts_and_not_the_evaluations_between_them():
    """Two bad rollouts in a row, each with an evaluation before it; one is not two because of its evaluation."""
    between = [e for r in rollouts(6, drift=lambda i: 0.5) for e in (*evaluations((0.3, 0.5)), r)]
    assert [name for name, *_ in Health(patience=2).examine(between)] == ["ratio_explosion"]
    longer = rollouts(8, length=lambda i: 20 if i < 6 else 60)  # the median of the last five is still 20
    longer += [*rollouts(1, length=lambda i: 60), *evaluations((0.3, 0.5)), *rollouts(1, length=lambda i: 60)]
    assert health.length_drift(longer) and health.length_drift(longer[:-1])
    assert not health.length_drift(longer[:-3])
    assert [name for name, *_ in Health(patience=2).examine(longer)] == ["length_drift"]
    assert Health(patience=3).examine(longer) == []


def test_a_flat_reward_is_found_with_patience_too():
    flat = rollouts(4, reward=lambda i: 0.0, reward_std=lambda i: 0.0, flat=lambda i: 1.0)
    assert [name for name, *_ in Health(patience=2).examine(flat)] == ["flat_reward"]
    assert Health(patience=2).examine(flat[:3]) == []
