"""What differs between runs: knobs by their dotted names, inputs, metrics with the change, stages that only one has."""

import made_run
import pytest

from posttrain.errors import UserError
from posttrain.pipeline import Runtime, run
from posttrain.report.diff import diff, differences, records
from posttrain.spec import flat


def runs(tmp_path, **changes):
    """Two runs of base, demos, sft and a report; `changes` are knobs of the second one's sft."""
    made = made_run.stages(tmp_path)
    names = ("base", "demos", "sft", "middle")
    first = {n: made[n] for n in names}
    second = first | {"sft": made["sft"].model_copy(update=changes)}
    return [run(s, tmp_path / where, Runtime()).folders for s, where in ((first, "a"), (second, "b"))]


def found(a, b):
    return {(d.what, d.stage, d.name): d for d in differences(records(a), records(b))}


def test_knobs_inputs_and_metrics(tmp_path):
    """sft answers 5 of 10 instead of all: accuracy 1.0 -> 0.5; the report's input is another sft."""
    runs(tmp_path, skill=5, loss={"type": "nll", "beta": 0.2})
    d = found(tmp_path / "a", tmp_path / "b")
    assert (d["knobs", "sft", "skill"].a, d["knobs", "sft", "skill"].b) == ("10", "5")
    assert d["knobs", "sft", "loss.beta"].change == "+0.1 (+100%)"
    assert d["inputs", "middle", "policy"].a.startswith("sft-")
    accuracy = d["metrics", "middle", "sums.accuracy"]
    assert (accuracy.a, accuracy.b, accuracy.change) == ("1", "0.5", "-0.5 (-50%)")
    assert not [k for k in d if k[1] in ("base", "demos") and k[0] not in ("cost",)]


def test_text_has_a_table_for_each_kind(tmp_path):
    runs(tmp_path, skill=5)
    text = diff(tmp_path / "a", tmp_path / "b")
    assert [line for line in text.splitlines() if line in ("knobs", "inputs", "metrics")] == [
        "knobs",
        "inputs",
        "metrics",
    ]
    assert "  sft    skill" in text


def test_stage_that_only_one_run_has(tmp_path):
    made = made_run.stages(tmp_path)
    run({"base": made["base"]}, tmp_path / "a", Runtime())
    run({"base": made["base"], "demos": made["demos"]}, tmp_path / "b", Runtime())
    d = found(tmp_path / "a", tmp_path / "b")["stages", "demos", "type"]
    assert (d.a, d.b) == ("-", "demos")


def test_two_stage_folders_also_of_one_run(tmp_path):
    first, second = runs(tmp_path, skill=5)
    text = diff(first["sft"], second["sft"])
    assert "sft / sft" in text and "skill" in text and "metrics" not in text


def test_the_latest_of_a_stage_counts(tmp_path):
    made = made_run.stages(tmp_path)
    for skill in (1, 2):
        run({"base": made_run.MadeBase(skill=skill)}, tmp_path / "a", Runtime())
    run({"base": made["base"]}, tmp_path / "b", Runtime())
    assert found(tmp_path / "a", tmp_path / "b")["knobs", "base", "skill"].a == "2"


def test_the_same_folder_differs_in_nothing(tmp_path):
    first, _ = runs(tmp_path)
    assert diff(tmp_path / "a", tmp_path / "a").startswith("no difference")
    assert diff(first["sft"], first["sft"]).startswith("no difference")


def test_a_folder_without_stages_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished stages"):
        diff(tmp_path, tmp_path)


def test_flat_names():
    assert flat({"a": {"b": {"c": 1}, "d": 2}, "e": {}}) == {"a.b.c": 1, "a.d": 2, "e": {}}
