"""The release: a folder that stands alone, evidence that can be checked, a card that says what the records say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import made_run
import pytest
import yaml

from posttrain import recipe
from posttrain.errors import UserError
from posttrain.pipeline import Record, Runtime, fingerprint, run
from posttrain.report.lineage import Node
from posttrain.stages.gate import Gate
from posttrain.stages.release import SUMS, Release, copy_model, recipe_of, verify
from posttrain.stages.sft import Sft


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return made_run.made(tmp_path_factory.mktemp("run"), price=3.6)[1]


@pytest.fixture
def released(outcome, tmp_path) -> Path:
    """A copy of the release, to damage."""
    return Path(shutil.copytree(outcome.folders["release"], tmp_path / "copy"))


def test_model_folder_is_whole_and_holds_nothing_else(outcome):
    model = outcome.folders["release"] / "model"
    assert {p.name for p in model.iterdir()} == {
        "config.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors", "README.md",
    }  # fmt: skip
    assert not any(p.is_symlink() for p in model.iterdir())
    assert (model / "model.safetensors").read_text() == "10"
    assert "another model" not in (model / "README.md").read_text()


def test_an_untouched_release_verifies_here_and_elsewhere(outcome, released):
    assert verify(outcome.folders["release"]) == [] and verify(released) == []
    check = subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=released, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_damage_is_found(released):
    (released / "model" / "model.safetensors").write_text("11")
    (released / "model" / "config.json").unlink()
    (released / "model" / "extra.py").write_text("")
    assert verify(released) == [
        "model/config.json: missing", "model/model.safetensors: changed", "model/extra.py: not in the list",
    ]  # fmt: skip


def test_a_folder_without_the_list_is_no_release(tmp_path):
    with pytest.raises(UserError, match="not a release"):
        verify(tmp_path)


def test_evidence_reaches_every_stage_behind_the_model(outcome):
    evidence = json.loads((outcome.folders["release"] / "evidence.json").read_text())
    behind = {"base", "demos", "sft", "sampled", "dpo", "before", "after", "gate"}
    assert {s["record"]["stage"] for s in evidence["stages"].values()} == behind
    assert evidence["stages"][outcome.folders["gate"].name]["files"].keys() == {"decision.json", "record.json"}
    assert set(evidence["released"]) == {
        "recipe.yaml", *(f"model/{p.name}" for p in (outcome.folders["release"] / "model").iterdir())
    }  # fmt: skip
    assert Record.model_validate(evidence["stages"][outcome.folders["sft"].name]["record"]).metrics["held_loss"] == 0.9


def test_nothing_is_released_behind_a_gate_that_fails(tmp_path):
    root, outcome = made_run.made(tmp_path, dpo=0)
    assert outcome.stopped == {"gate": "fail"} and outcome.skipped == {"release": "gate"}
    assert not list(root.glob("release-*"))


def test_card_front_matter_is_yaml_with_the_released_models_numbers(outcome):
    text = (outcome.folders["release"] / "model" / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "apache-2.0" and front["model-index"][0]["name"] == "small: one"
    assert "base_model" not in front  # 'bundled' is no id of the hub
    metrics = {m["name"]: m["value"] for r in front["model-index"][0]["results"] for m in r["metrics"]}
    assert metrics["sums.accuracy"] == 1.0


def test_card_says_what_the_records_say(outcome):
    text = (outcome.folders["release"] / "model" / "README.md").read_text()
    weights = "4a44dc15364204a80fe80e9039455cc1608281820fe2b24f1e5233ade6af1dd5"  # SHA-256 of "10"
    for said in (
        "**The gate passed.** dpo was compared with base", "Sums only.", "| loss.beta | 0.1 |",
        "| sums.accuracy | 10 | 0.0% (", "4 optimiser steps, on demos, 400 tokens, held-out loss 3.000 to 0.900.",
        "Left out: duplicate (2) and holds an evaluation item (1).", "| sft | 30 s | 400 |", "| 0.0300 |", weights,
        "2.0 million parameters", "posttrain run recipe.yaml", "| gate | gate |",
    ):  # fmt: skip
        assert said in text, said


def test_card_tables_keep_their_columns(outcome):
    """Every line of a table has as many cells as its head."""
    text = (outcome.folders["release"] / "model" / "README.md").read_text().replace("\\|", "")
    width = 0
    for line in text.splitlines():
        if line.startswith("|"):
            width = width or line.count("|")
            assert line.count("|") == width, line
        else:
            width = 0


def test_release_without_gate_and_reports_says_so(tmp_path):
    made = made_run.stages(tmp_path)
    release = Release(policy="base")
    outcome = run({"base": made["base"], "release": release}, tmp_path / "r", Runtime())
    text = (outcome.folders["release"] / "model" / "README.md").read_text()
    for said in ("No gate decided", "No evaluation report", "Nothing was trained", "No data stage"):
        assert said in text
    yaml.safe_load(text.split("---\n")[1])


def test_a_policy_without_weights_cannot_be_released(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"no tokenizer_config.json and no \*.safetensors"):
        copy_model(tmp_path, tmp_path / "model")


def test_written_recipe_makes_the_same_stages(tmp_path):
    """Knobs, edges (a list of one stays a list where one is needed) and fingerprints survive the round trip."""
    stages = {
        "base": recipe.stage_types()["base_model"](),
        "demos": recipe.stage_types()["demos"](path="data.jsonl"),
        "sft": Sft(policy="base", data=("demos",), lr=3e-4),
        "release": Release(policy="sft", reports=("report",)),
        "gate": Gate(candidate="report", baseline="report", rules=({"metric": "all.stopped", "no_worse_than": 0.02},)),
    }
    stages["report"] = recipe.stage_types()["evaluate"](policy="sft")
    order = ("base", "demos", "sft", "report", "gate", "release")
    path = tmp_path / "again.yaml"
    path.write_text(recipe_of([Node(tmp_path / n, record_of(n, stages[n])) for n in order], "again"))
    again = recipe.load(str(path)).stages
    assert list(again) == list(order)
    for name, stage in again.items():
        assert stage.edges() == stages[name].edges()
        assert fingerprint(stage, {}, {}) == fingerprint(stages[name], {}, {})


def record_of(name, stage) -> Record:
    return Record(
        stage=name, type=stage.type, makes=stage.makes, fingerprint="0" * 10, knobs=stage.knobs(), edges=stage.edges(),
        inputs={}, identity={}, metrics={}, seconds=0.0, peak_gib=0.0, started=0.0, versions={},
    )  # fmt: skip


def test_a_real_model_is_released_and_loads(tmp_path):
    """Base links a model folder's files into the run; the release holds copies that transformers loads."""
    import tiny
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from posttrain.stages.base import Base

    source = tiny.folder(tmp_path / "tiny")
    stages = {"base": Base(model=str(source), template="chatml"), "release": Release(policy="base")}
    outcome = run(stages, tmp_path / "r", Runtime())
    assert (outcome.folders["base"] / "model.safetensors").is_symlink()
    shutil.rmtree(source)
    model = outcome.folders["release"] / "model"
    got, want = AutoModelForCausalLM.from_pretrained(model).state_dict(), tiny.model().state_dict()
    assert all(torch.equal(got[k], want[k]) for k in want)
    messages = [{"role": "user", "content": "hello"}]
    text = AutoTokenizer.from_pretrained(model).apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    assert text.endswith("<|im_start|>assistant\n")
    assert verify(outcome.folders["release"]) == []


def test_imports_without_torch():
    """The module itself; the package beside it lists every stage, so it is put aside."""
    code = (
        "import sys, types, posttrain; package = types.ModuleType('posttrain.stages'); "
        "package.__path__ = [posttrain.__path__[0] + '/stages']; sys.modules['posttrain.stages'] = package; "
        "import posttrain.stages.release as r; r.verify; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
