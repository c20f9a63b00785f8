"""Several processes: the same curves as one, checkpoints that fit any number, a lost process ends the others."""

import itertools
import json
import math
import os
import signal
import time

import pytest
import ranks
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from posttrain import parallel

ALL = ("sft", "lora", "dpo", "kto", "judge", "grpo", "ppo")
# fp32 sums in another order: 1e-7 a sum, and AdamW divides by the root of its second moment, so that after n steps of
# learning rate r two runs lie a few r x 1e-4 apart. Measured: 2e-6 of 1 + |x| at most, over all entries of all stages.
TOLERANCE = 2e-5


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 9))
def test_split_deals_out_every_item_once_and_in_like_rounds(sizes, world):
    dealt = parallel.split(sizes, world)
    assert sorted(k for mine in dealt for k in mine if k is not None) == list(range(len(sizes)))
    assert {len(mine) for mine in dealt} == {math.ceil(len(sizes) / world)}
    rounds = [[sizes[k] for k in column if k is not None] for column in zip(*dealt)]
    assert all(min(a) >= max(b) for a, b in itertools.pairwise(rounds))
    assert all(len(column) == world for column in rounds[:-1])
    loads = [sum(sizes[k] for k in mine if k is not None) for mine in dealt]
    assert max(loads) - min(loads) <= max(sizes, default=0)


def test_split_by_hand():
    """Five items for two ranks: 9 | 8, then the larger of 5 and 4 to the rank with 8, the last to the one with 13."""
    assert parallel.split([4, 9, 8, 5, 1], 2) == [[1, 0, 4], [2, 3, None]]


def test_one_process_is_the_identity():
    assert parallel.gather(3) == [3] and parallel.agreed(4) == 4 and parallel.total({"a": 1.0}) == {"a": 1.0}
    assert list(parallel.shares([[0], [1, 2]], [5, 1, 1])) == [([0], True), ([1, 2], True)]
    assert list(parallel.each([1, 2], lambda x: x * 2, float)) == [(1, 2), (2, 4)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(home):
    """One process's run of the stages of a test."""
    known = {}

    def get(*names, **how):
        key = (names, tuple(how.items()))
        if key not in known:
            ranks.run(1, ranks.recipe(home, *names, **how), home / f"alone-{len(known)}")
            known[key] = home / f"alone-{len(known)}"
        return known[key]

    return get


def same_curves(one, many, tolerance=TOLERANCE):
    """Every number of every entry of every log."""
    one, many = ranks.logs(one), ranks.logs(many)
    assert one.keys() == many.keys() and one
    for stage, entries in one.items():
        assert len(entries) == len(many[stage]) > 1
        for a, b in zip(entries, many[stage]):
            assert a.keys() == b.keys()
            for name in a:
                assert b[name] == pytest.approx(a[name], rel=tolerance, abs=tolerance), (stage, a["step"], name)


def test_two_processes_train_as_one(home, alone, tmp_path):
    """SFT; a step has three micro-batches, so one rank goes along without rows in its second round."""
    said = ranks.run(2, ranks.recipe(home, "sft"), tmp_path)
    same_curves(alone("sft"), tmp_path)
    assert "sft:" in said[0] and not said[1]
    a, b = (load_file(next(p.glob("*/sft-*/model.safetensors"))) for p in (alone("sft"), tmp_path))
    assert a.keys() == b.keys() and all(float((a[k] - b[k]).abs().max()) < 1e-4 for k in a)
    left = {p.name for p in next(tmp_path.glob("*/sft-*")).iterdir()}
    assert left == {p.name for p in next(alone("sft").glob("*/sft-*")).iterdir()}


@pytest.mark.parametrize("how", ["true", "offload"])
def test_activations_computed_again_change_nothing(home, alone, tmp_path, how):
    """GRPO too, whose whole weights are a copy of the layers that compute their activations again."""
    stages = ("sft", "grpo") if how == "true" else ("sft",)
    ranks.run(2, ranks.recipe(home, *stages), tmp_path, f"runtime.checkpointing={how}")
    same_curves(alone(*stages), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "stages"), [(2, ALL), (4, ("sft", "dpo", "judge", "grpo"))])
def test_every_training_stage_is_the_same(home, alone, tmp_path, world, stages):
    """Full weights and adapters, pairs, thumbs, a reward model with two members, GRPO, PPO with a critic of its own."""
    ranks.run(world, ranks.recipe(home, *stages), tmp_path)
    same_curves(alone(*stages), tmp_path)


@pytest.mark.slow
def test_bf16_rounds_alike(home, alone, tmp_path):
    """The fp32 shards are rounded to the same bf16 weights; gradients are rounded per micro-batch in both."""
    ranks.run(2, ranks.recipe(home, "sft", "lora", precision="bf16"), tmp_path)
    same_curves(alone("sft", "lora", precision="bf16"), tmp_path, tolerance=2e-2)


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def killed(world, path, runs, after, victim=-1):
    """Start a run that writes a checkpoint at every step; SIGKILL one process after so many. (exit codes, seconds)"""
    from posttrain import cli, train

    def work():
        train.CHECKPOINT_SECONDS = 0.0
        command = ["run", str(path), "--runs", str(runs)]
        return cli.app(args=command, standalone_mode=False)

    runs.mkdir()
    processes = ranks.start(world, work, runs)
    until = time.monotonic() + 100
    while len(steps_logged(runs)) < after and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(processes[victim].pid, signal.SIGKILL)
    begun = time.monotonic()
    for p in processes:
        p.join(60)
    return [p.exitcode for p in processes], time.monotonic() - begun


def steps_logged(runs):
    found = [p.read_text().splitlines() for p in runs.glob("*/*.part/log.jsonl")]
    return [e for lines in found for x in lines if (e := json.loads(x))["step"]]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 4), (1, 2)])
def test_a_checkpoint_fits_any_number_of_processes(home, alone, tmp_path, before, after):
    """Killed in the middle, resumed by another number: the rest of the curve is the same."""
    path = ranks.recipe(home, "sft")
    codes, _ = killed(before, path, tmp_path / "cut", 3)
    assert any(codes)
    kept = [p.name for p in tmp_path.glob("cut/*/sft-*.part/checkpoint*") if not p.name.endswith(".part")]
    assert len(kept) == 1 and (kept[0] == "checkpoint.pt") == (before == 1)
    ranks.run(after, path, tmp_path / "cut")
    same_curves(alone("sft"), tmp_path / "cut")
    assert not list(tmp_path.glob("cut/*/sft-*/checkpoint*"))


def test_a_lost_process_ends_the_others_with_a_message(home, tmp_path):
    codes, seconds = killed(2, ranks.recipe(home, "sft"), tmp_path / "cut", 2)
    assert codes == [2, -signal.SIGKILL] and seconds < 30
    said = (tmp_path / "cut" / "said-0.txt").read_text()
    assert "another process of this run has ended" in said and "goes on from the last checkpoint" in said
    assert "Traceback" not in said
