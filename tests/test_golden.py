"""The smoke recipe gives the numbers that are kept, and a changed objective does not."""

import golden_smoke as golden
import pytest

CHANGES = [
    ("dpo", "dpo.loss.beta=0.11", "dpo.curve"),
    ("sft", "sft.loss=dft", "sft.curve"),
    ("judge", "judge.loss={type: bradley_terry, centre: 0.01}", "judge.curve"),
    ("grpo", "grpo.algorithm={type: dr_grpo, kl: {coef: 0.02}}", "grpo.curve"),
    ("demos", "demos.seed=1", "demos.rows"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def found(runs):
    return golden.run(runs)


def test_the_run_gives_the_numbers_that_are_kept(found):
    assert list(golden.differences(found, golden.golden())) == []


@pytest.mark.parametrize(("stage", "change", "seen"), CHANGES, ids=[c for _, c, _ in CHANGES])
def test_a_change_is_seen(found, runs, stage, change, seen):
    """What a careless edit of a loss, or of how rows are drawn, would do: the stage it touches no longer compares."""
    other = golden.run(runs, change, only=stage)[stage]
    wrong = list(golden.differences(other, golden.golden()[stage], stage))
    assert any(w.startswith(seen) for w in wrong), wrong


def test_what_counts_as_the_same():
    """5e-4 of a number or 5e-5 outright, whichever is more; digests, counts of steps and names exactly."""
    assert list(golden.differences({"a": 1.0004}, {"a": 1.0})) == []
    assert list(golden.differences({"a": 1.001}, {"a": 1.0})) == ["a: 1.001, golden 1"]
    assert list(golden.differences({"a": 4e-5}, {"a": 0.0})) == []
    assert list(golden.differences({"a": [1.0], "b": "x"}, {"a": [1.0, 2.0], "b": "y"}, "s")) == [
        "s.a: [1.0], golden [1.0, 2.0]", "s.b: x, golden y",
    ]  # fmt: skip
    assert list(golden.differences({"a": float("nan")}, {"a": 1.0}))
    assert list(golden.differences({}, {"a": 1.0})) == ["a: None, golden 1.0"]
