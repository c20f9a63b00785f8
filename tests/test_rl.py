"""The rl stage on a tiny model: every algorithm learns, a killed run ends with the same bytes, mistakes are said."""

import json
import signal

import pytest
import tiny
import torch
from killed import outcome
from pydantic import ValidationError
from safetensors.torch import load_file

from posttrain.errors import UserError
from posttrain.pipeline import Inputs, Runtime
from posttrain.progress import Progress
from posttrain.render import load_chat
from posttrain.rl.algorithms import ALGORITHMS
from posttrain.rows import Message, Prompt, write_jsonl
from posttrain.stages.rl import Rl

NAMES = [a.model_fields["type"].default for a in ALGORITHMS]
EARLY = {"early": {"type": "regex", "pattern": "^[a-m ]"}}  # begins with one of a third of the letters


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """(policy, prompts) of a random model and eight short questions."""
    policy, prompts = tmp_path_factory.mktemp("policy"), tmp_path_factory.mktemp("prompts")
    tiny.folder(policy)
    load_chat(policy, "chatml").save(policy)
    words = ["the", "user", "asks", "and", "one", "two", "sentences", "in"]
    rows = [Prompt(id=f"p{i}", messages=(Message(role="user", content=w),), meta={"n": i}) for i, w in enumerate(words)]
    write_jsonl(prompts / "train.jsonl", rows)
    write_jsonl(prompts / "holdout.jsonl", rows[:3])
    return policy, prompts


def stage(**knobs):
    plain = {
        "policy": "p", "prompts": "d", "rewards": EARLY, "sampling": {"max_new": 5}, "steps": 3,
        "prompts_per_step": 4, "group": 8, "lr": 3e-3, "micro_tokens": 512,
    }  # fmt: skip
    return Rl(**(plain | knobs))


def run(places, out, *, said=None, **knobs):
    """(metrics, log) of a run of the stage into `out`."""
    progress = Progress("silent")
    if said is not None:
        progress.say = said.append
    out.mkdir(exist_ok=True)
    inputs = Inputs({"policy": (places[0],), "prompts": (places[1],)})
    metrics = stage(**knobs).run(inputs, out, Runtime(precision="fp32", progress=progress))
    return metrics, [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_learns(places, tmp_path, name):
    """A third of random answers begins as wanted; after twenty rollouts of 32 answers most do, held-out prompts too."""
    metrics, log = run(places, tmp_path, algorithm={"type": name}, steps=24)
    rewards = [e["reward.early"] for e in log if "reward.early" in e]  # without what the row takes off for length
    assert sum(rewards[:3]) / 3 < 0.45 and sum(rewards[-4:]) / 4 > 0.65
    assert metrics["reward_last"] > metrics["reward_first"]
    last = log[-1]
    wanted = {"reward", "reward_std", "reward.early", "spread", "flat", "entropy", "clipped", "ratio_max", "ratio_min"}
    wanted |= {"length", "stopped", "distinct", "mismatch", "drift", "kl", "kl_k1", "kl_k3", "held_reward"}
    assert wanted <= set(last) and ("explained" in last) == (name == "ppo")
    assert max(e["mismatch"] for e in log if "mismatch" in e) < 1e-6


def test_it_learns_from_rollouts_of_older_weights(places, tmp_path):
    """Two rollouts old, with truncated importance weights: staleness 0, 1, 2, 2, ... and the reward rises."""
    _, log = run(places, tmp_path, algorithm={"type": "grpo"}, steps=24, rollouts={"max_staleness": 2})
    rewards = [e["reward"] for e in log if "reward" in e]
    assert sum(rewards[:3]) / 3 < 0.45 and sum(rewards[-4:]) / 4 > 0.65
    stale = [e for e in log if "staleness" in e]
    assert [e["staleness"] for e in stale[:4]] == [0, 1, 2, 2]
    assert "mismatch" in stale[0] and all(e["off_policy"] > 0 and 0 <= e["capped"] < 0.2 for e in stale[1:])


def test_rollouts_made_ahead_differ_from_the_second_on(places, tmp_path):
    """Said or not, staleness 0 is the same bytes; with 2 the first rollout is the same, and the second is drawn by the
    weights from before it."""
    _, log = run(places, tmp_path / "a", steps=4)
    _, same = run(places, tmp_path / "b", steps=4, rollouts={"max_staleness": 0, "curriculum": 0.0})
    weights = [(tmp_path / d / "model.safetensors").read_bytes() for d in "ab"]
    assert log == same and weights[0] == weights[1]
    _, ahead = run(places, tmp_path / "c", steps=4, rollouts={"max_staleness": 2})
    assert ahead[1]["reward"] == log[1]["reward"] and ahead[2]["reward"] != log[2]["reward"]


def test_a_curriculum_passes_over_what_teaches_nothing(places, tmp_path):
    """Half of the prompts are right whatever is said: after a few rollouts they are asked less than the others."""
    rewards = {"half": {"type": "function", "path": "rewards_for_tests:half_are_easy"}}
    _, log = run(places, tmp_path, rewards=rewards, steps=10, rollouts={"curriculum": 0.9}, lr=1e-9)
    assert sum(e["skipped"] for e in log if "skipped" in e) > 5 and log[-1]["easy"] > 0.2
    _, plain = run(places, tmp_path / "b", rewards=rewards, steps=10, lr=1e-9)
    flat = [[e["flat"] for e in entries if "flat" in e][-6:] for entries in (log, plain)]
    assert sum(flat[0]) < sum(flat[1])


def test_what_is_saved_is_the_policy_that_was_trained(places, tmp_path):
    run(places, tmp_path, steps=2)
    before, after = (load_file(p / "model.safetensors") for p in (places[0], tmp_path))
    assert set(before) == set(after) and any(not torch.equal(before[k], after[k]) for k in before)
    assert not list(tmp_path.glob("*.pt"))
    load_chat(tmp_path)


def test_distance_from_the_reference_on_held_out_answers(places, tmp_path):
    """0 before anything is learned, more and more afterwards; nothing where nobody asks for a reference."""
    _, log = run(places, tmp_path, steps=9, eval_every=3)
    found = [e["held_kl"] for e in log if "held_reward" in e]
    assert found[0] == pytest.approx(0, abs=1e-5) and 1e-3 < found[1] < found[-1]
    _, log = run(places, tmp_path / "b", steps=1, algorithm={"type": "grpo", "kl": {"where": "none", "watch": False}})
    assert "held_reward" in log[-1] and "held_kl" not in log[-1]


def test_lora_with_its_adapter_off_as_reference(places, tmp_path):
    pytest.importorskip("peft")
    _, log = run(places, tmp_path, lora={"rank": 4}, lr=2e-2, steps=4)
    assert log[1]["kl"] == pytest.approx(0, abs=1e-5) and log[-1]["kl"] > 1e-4


BUSY = {
    "algorithm": {"type": "ppo", "kl": {"target": 0.5}}, "epochs": 2, "minibatches": 2, "steps": 3,
    "shaping": {"normalise": True}, "rollouts": {"curriculum": 0.5, "max_staleness": 1},
    "eval_every": 1, "gold": {"type": "length", "words": 3}, "micro_tokens": 96, "health": {"length_drift": "stop"},
}  # fmt: skip


@pytest.mark.slow
def test_killed_in_a_rollout_and_in_an_update_it_ends_with_the_same_bytes(places, tmp_path):
    """PPO with everything that has a memory: critic, adaptive KL, running rewards, evaluations, best weights, rollouts
    made ahead, difficulty of prompts."""
    cut = (run, places, tmp_path / "cut")
    assert outcome(run, places, tmp_path / "whole", **BUSY) == 0
    assert outcome(*cut, kill_at=("update", 7), **BUSY) == -signal.SIGKILL  # within the first rollout's updates
    assert (tmp_path / "cut" / "checkpoint.pt").exists()
    assert outcome(*cut, kill_at=("decode", 7), **BUSY) == -signal.SIGKILL  # while the next one is sampled
    assert outcome(*cut, **BUSY) == 0
    whole, cut = (load_file(tmp_path / d / "model.safetensors") for d in ("whole", "cut"))
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    logs = [(tmp_path / d / "log.jsonl").read_text() for d in ("whole", "cut")]
    assert logs[0] == logs[1] and logs[0].count('"step"') == 3 * 4 + 1


def test_a_flat_reward_is_said_with_its_cause(places, tmp_path):
    said = []
    metrics, _ = run(places, tmp_path, rewards={"never": {"type": "regex", "pattern": "impossible answer"}}, said=said)
    (warning,) = [line for line in said if "flat_reward" in line]
    assert "has not varied in 3 rollouts" in warning and "no answer is ever right" in warning
    assert metrics["warnings"] == 1


def test_a_gamed_reward_is_stopped_and_the_best_weights_come_back(places, tmp_path):
    """The reward likes a letter, the gold judge hates it: training ends early and the policy is the one it began as."""
    said = []
    _, log = run(
        places, tmp_path, said=said, steps=40, eval_every=4, lr=6e-3, algorithm={"type": "dr_grpo"},
        gold={"type": "regex", "pattern": "^[^a-m ]", "weight": 1.0}, health={"reward_hacking": "stop"},
        rewards=EARLY,
    )  # fmt: skip
    assert "reward_hacking" in log[-1]["fired"] and log[-1]["step"] < 40
    assert any("back to the best checkpoint" in line for line in said)
    best = max((e for e in log if "held_gold" in e), key=lambda e: e["held_gold"])
    assert best["held_gold"] > log[-1]["held_gold"]
    again, _ = run(
        (tmp_path, places[1]), tmp_path / "again", steps=1, gold={"type": "regex", "pattern": "^[^a-m ]"}, lr=1e-9,
    )  # fmt: skip
    assert again["held_gold_before"] == pytest.approx(best["held_gold"])


def test_kl_becomes_dearer_when_that_is_asked_for(places, tmp_path):
    _, log = run(places, tmp_path, steps=3, rewards={"no": {"type": "regex", "pattern": "no such"}},
                 health={"flat_reward": "raise_kl"})  # fmt: skip
    assert [e["kl_coef"] for e in log if "kl_coef" in e][-1] == 0.04
    _, log = run(places, tmp_path / "b", steps=5, rewards={"no": {"type": "regex", "pattern": "no such"}},
                 health={"flat_reward": "raise_kl"})  # fmt: skip
    assert [e["kl_coef"] for e in log if "kl_coef" in e][-1] == pytest.approx(0.06)


def test_several_rewards_and_dynamic_sampling(places, tmp_path):
    rewards = EARLY | {"short": {"type": "length", "words": 1, "weight": 0.5}}
    _, log = run(places, tmp_path, rewards=rewards, algorithm={"type": "dapo"}, shaping={"penalty": 0.5, "mask": False})
    e = next(e for e in log if "rollout" in e)
    owed = 0.5 * (1 - e["stopped"])
    assert e["reward"] == pytest.approx(e["reward.early"] + 0.5 * e["reward.short"] - owed)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"sampling": {"top_p": 0.9}}, "top_p, top_k or min_p"),
        ({"sampling": {"repetition_penalty": 1.1}}, "a repetition_penalty"),
        ({"sampling": {"temperature": 0}}, "greedy answers"),
        ({"group": 1}, "one is not enough"),
        ({"minibatches": 9}, "more minibatches than prompts"),
        ({"algorithm": {"type": "dapo"}, "health": {"length_drift": "raise_kl"}}, "KL that costs something"),
        ({"health": {"reward_hacking": "stop"}, "eval_every": 2}, "gold judge says .* there is none"),
        ({"health": {"reward_hacking": "stop"}, "gold": {"type": "length"}}, "no evaluation between first and last"),
        ({"algorithm": {"type": "grpo", "kl": {"estimator": "k1"}}}, "gradient of k1 in the loss is 0"),
        ({"algorithm": {"type": "ppo", "critic": None}}, "credit gae needs a critic"),
        ({"algorithm": {"type": "grpo", "critic": {}}}, "credit gae needs a critic"),
        ({"algorithm": {"type": "trpo"}}, "trpo"),
        ({"rewards": {}}, "rewards"),
        ({"group": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(knobs, message):
    with pytest.raises((UserError, ValidationError), match=message):
        stage(**knobs)


def test_dapo_is_its_whole_row():
    """Overlong shaping with the paper's numbers, unless the recipe says otherwise; other rows have none."""
    for algorithm in ({"type": "dapo"}, stage(algorithm={"type": "dapo"}).algorithm):
        s = stage(algorithm=algorithm, sampling={"max_new": 40}).shaping
        assert (s.penalty, s.buffer) == (1.0, 8)
    assert stage(algorithm={"type": "dapo"}, shaping={"penalty": 0.2}).shaping.buffer == 0
    assert stage(algorithm={"type": "dapo"}, shaping={}).shaping.penalty == 0
    assert stage().shaping.penalty == 0 and stage(algorithm={"type": "ppo"}).shaping.buffer == 0


def test_a_gold_judge_without_held_out_prompts_is_said(places, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "train.jsonl").write_text((places[1] / "train.jsonl").read_text())
    said = []
    run((places[0], tmp_path / "bare"), tmp_path / "out", said=said, steps=1, gold={"type": "length"})
    assert any("no prompt is held out, so nothing is evaluated" in line for line in said)


def test_a_prompt_without_room_for_an_answer(places, tmp_path):
    with pytest.raises(UserError, match=r"of 8 prompts leave no room for 500 new tokens"):
        run(places, tmp_path, sampling={"max_new": 500})
    long = tmp_path / "long"
    rows = [Prompt(id=n, messages=(Message(role="user", content=t),)) for n, t in (("a", "hi"), ("b", "hi " * 400))]
    write_jsonl(long / "train.jsonl", rows)
    (tmp_path / "out").mkdir()
    run((places[0], long), tmp_path / "out", rollouts={"too_long": "drop"}, steps=1)
    (entry,) = [json.loads(x) for x in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert entry["row"] == "b" and entry["reason"] == "prompt too long"


def test_no_prompt_at_all(places, tmp_path):
    with pytest.raises(UserError, match="no prompt to answer"):
        run((places[0], tmp_path), tmp_path / "out")


def test_a_part_of_an_algorithm_keeps_the_rest_of_its_row():
    a = stage(algorithm={"type": "dapo", "loss": {"high": 0.4}}).algorithm
    assert (a.loss.low, a.loss.high, a.resample) == (0.2, 0.4, 3)
    a = stage(algorithm={"type": "dapo", "loss": {"type": "cispo"}}).algorithm
    assert (a.loss.type, a.loss.high) == ("cispo", 4.0)  # another loss has its own numbers
