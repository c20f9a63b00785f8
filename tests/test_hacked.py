"""Runs that are gamed on purpose (a reward that likes length) under each action of the detectors, end to end; and
ensembles of reward models: what they doubt is logged and paid for."""

import json

import pytest
import rewards_for_tests
import torch
from safetensors.torch import load_file
from test_rl import places as places_fixture
from test_rl import run, stage

from posttrain.pipeline import Inputs, Runtime
from posttrain.progress import Progress
from posttrain.rows import Message, Pair, write_jsonl
from posttrain.stages.reward import Reward

places = places_fixture
LONG = {"long": {"type": "function", "path": "rewards_for_tests:letters"}}
GAMED = {
    "rewards": LONG, "gold": {"type": "function", "path": "rewards_for_tests:told"}, "steps": 12, "eval_every": 2,
    "lr": 5e-3, "sampling": {"max_new": 8}, "algorithm": {"type": "dr_grpo", "kl": {"where": "loss", "coef": 0.001}},
}  # fmt: skip


def gamed(places, out, action, gold=(0.5, 0.9, 0.1), **knobs):
    """A run whose reward is the number of letters; what gold says of evaluation 0, 1, 2 ... is told."""
    rewards_for_tests.SAID[:] = gold
    said = []
    _, log = run(
        places,
        out,
        said=said,
        **(GAMED | {"health": {"reward_hacking": action, "length_drift": "off", "kl_frontier": "off"}} | knobs),
    )
    return load_file(out / "model.safetensors"), log, said


def same(one, other):
    return set(one) == set(other) and all(torch.equal(one[k], other[k]) for k in one)


def test_stop_ends_on_the_weights_of_the_best_evaluation(places, tmp_path):
    """Gold is best after two rollouts and bad after four, while the reward has risen: training ends there, and the
    weights are, bit for bit, those of a run of two rollouts."""
    weights, log, said = gamed(places, tmp_path / "stopped", "stop")
    assert log[-1]["step"] == 4 and log[-1]["fired"] == ["reward_hacking"]
    assert log[-1]["held_reward"] > [e for e in log if "held_reward" in e][1]["held_reward"]
    assert any("stopped by reward_hacking; back to the best checkpoint" in line for line in said)
    best, _, _ = gamed(places, tmp_path / "best", "stop", steps=2)
    assert same(weights, best)
    last, _, _ = gamed(places, tmp_path / "last", "warn", steps=4)
    assert not same(weights, last)
    assert not (tmp_path / "stopped" / "best.pt").exists()


def test_stop_may_end_where_the_run_began(places, tmp_path):
    weights, log, _ = gamed(places, tmp_path / "out", "stop", gold=(0.9, 0.1))
    assert log[-1]["step"] == 2 and same(weights, load_file(places[0] / "model.safetensors"))


def test_warn_says_it_once_and_changes_nothing(places, tmp_path):
    """The same weights as with the detector off, and one line however often it fires."""
    warned, log, said = gamed(places, tmp_path / "warn", "warn", steps=8)
    off, quiet, _ = gamed(places, tmp_path / "off", "off", steps=8)
    assert same(warned, off) and not any("fired" in e for e in quiet)
    assert sum("reward_hacking" in e.get("fired", []) for e in log) > 1
    assert sum("warning: reward_hacking: the gold judge fell" in line for line in said) == 1


def test_raise_kl_makes_staying_near_the_reference_dearer(places, tmp_path):
    """x 1.5 once it fires, again after some rollouts at the earliest; the policy ends nearer to where it began."""
    weights, log, _ = gamed(places, tmp_path / "raise", "raise_kl", gold=(0.9, 0.1))
    coefs = [e["kl_coef"] for e in log if "kl_coef" in e]
    assert coefs[:2] == [0.001] * 2 and coefs[2:7] == pytest.approx([0.0015] * 5)
    assert coefs[7:] == pytest.approx([0.00225] * 5)
    assert not same(weights, gamed(places, tmp_path / "warn", "warn", gold=(0.9, 0.1))[0])


def test_lower_lr_makes_smaller_steps(places, tmp_path):
    """x 0.5 from the step after it fires, again after some rollouts at the earliest; a critic's rate goes along."""
    weights, log, _ = gamed(places, tmp_path / "lower", "lower_lr", gold=(0.9, 0.1))
    rates = [e["lr"] for e in log if "lr" in e]
    assert rates == pytest.approx([5e-3] * 2 + [2.5e-3] * 5 + [1.25e-3] * 5)
    (alarm,) = [e["alarms"] for e in log if "alarms" in e]
    assert alarm["reward_hacking"].endswith("(the learning rate was lowered)")
    assert not same(weights, gamed(places, tmp_path / "warn", "warn", gold=(0.9, 0.1))[0])


def test_health_asks_each_detector_once_a_view(monkeypatch):
    from posttrain.rl import health

    asked = []

    def length_drift(history):
        asked.append(len(history))
        return "longer"

    monkeypatch.setattr(health, "DETECTORS", (length_drift,))
    assert health.Health(patience=3).examine([{}] * 5) == [("length_drift", "warn", "longer")]
    assert asked == [5, 4, 3]
    assert health.Health(patience=3).examine([{}] * 2) == []  # not yet three rollouts in a row


# ---- ensembles -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ensemble(places, tmp_path_factory):
    """Four heads that learned from a few pairs to like answers that begin with 'a'."""
    rows, out = tmp_path_factory.mktemp("pairs"), tmp_path_factory.mktemp("reward")
    ask = (Message(role="user", content="the user"),)
    pairs = [
        Pair(id=str(n), prompt=ask, chosen=Message(role="assistant", content=f"a{n}"),
             rejected=Message(role="assistant", content=f"z{n}"))
        for n in range(24)
    ]  # fmt: skip
    write_jsonl(rows / "train.jsonl", pairs)
    write_jsonl(rows / "holdout.jsonl", pairs[:4])
    knobs = Reward(
        policy="p", pairs="d", members=4, steps=12, lr=3e-3, batch_tokens=256, micro_tokens=256, max_tokens=64
    )
    inputs = Inputs({"policy": (places[0],), "pairs": (rows,)})
    knobs.run(inputs, out, Runtime(precision="fp32", progress=Progress("silent")))
    return out


def first_rollout(places, ensemble, out, penalty):
    out.mkdir()
    inputs = Inputs({"policy": (places[0],), "prompts": (places[1],), "reward_models": (ensemble,)})
    knobs = {"reward_models": "rm", "rewards": {"rm": {"type": "reward_model", "penalty": penalty}}, "steps": 2}
    stage(**knobs).run(inputs, out, Runtime(precision="fp32", progress=Progress("silent")))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return next(e for e in log if "rollout" in e)


def test_doubt_is_logged_and_paid_for(places, ensemble, tmp_path):
    """The same first answers: a penalty of 2 takes two standard deviations off the mean reward."""
    plain, paid = (first_rollout(places, ensemble, tmp_path / str(k), k) for k in (0.0, 2.0))
    assert plain["doubt"] == paid["doubt"] > 0
    assert paid["reward"] == pytest.approx(plain["reward"] - 2 * plain["doubt"], abs=1e-6)
