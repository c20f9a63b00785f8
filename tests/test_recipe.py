"""Recipes: every shipped one is valid, every mistake is one message with the place and the nearest right name."""

import json
from pathlib import Path

import pytest

from posttrain import recipe as recipes
from posttrain.errors import UserError

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
GOOD = """
stages:
  base: {type: base_model, model: bundled}
  demos: {type: demos, path: bundled:demos}
  sft: {type: sft, policy: base, data: demos, lr: 1e-4}
  votes: {type: pairs, path: bundled:pairs}
  dpo: {type: preference, policy: sft, pairs: votes, loss: {type: dpo, beta: 0.2}}
"""


def load(tmp_path, text, *overrides):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return recipes.load(str(path), overrides)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path):
    assert recipes.load(str(path)).stages


def test_values_and_overrides(tmp_path):
    loaded = load(tmp_path, GOOD, "dpo.loss.beta=0.5", "stages.sft.epochs=2", "runtime.precision=fp32")
    assert loaded.stages["sft"].lr == 1e-4
    assert loaded.stages["sft"].epochs == 2
    assert loaded.stages["dpo"].loss.beta == 0.5
    assert loaded.runtime.precision == "fp32"


MISTAKES = [
    ("type: sft,", "type: stf,", "stages.sft.type", "unknown stage type 'stf'", "did you mean 'sft'?"),
    ("lr: 1e-4", "lrr: 1e-4", "stages.sft.lrr", "unknown key 'lrr'", "did you mean 'lr'?"),
    ("lr: 1e-4", "lr: fast", "stages.sft.lr", "expected a number", ""),
    ("lr: 1e-4", "lr: -1", "stages.sft.lr", "greater than 0", ""),
    ("policy: base, ", "", "stages.sft.policy", "required", ""),
    ("type: dpo, beta", "type: dpoo, beta", "stages.dpo.loss", "unknown type 'dpoo'", "did you mean 'dpo'?"),
    ("beta: 0.2", "betta: 0.2", "stages.dpo.loss", "unknown key 'betta'", "did you mean 'beta'?"),
    ("pairs: votes", "pairs: demos", "stages.dpo.pairs", "needs a set of pairs, but 'demos'", "votes"),
    ("policy: sft, pairs", "policy: sfft, pairs", "stages.dpo.policy", "there is no stage 'sfft' above", "'sft'"),
    ("stages:", "stagess:", "", "unknown key 'stagess'", ""),
    ("stages:", "extra: 1\nstages:", "", "unknown key 'extra'", "known: name, runtime, stages"),
    ("{type: demos", "{type: demos, ]", ":4", "not valid YAML", ""),
]


@pytest.mark.parametrize(("old", "new", "where", "what", "remedy"), MISTAKES)
def test_mistakes_name_the_place_and_the_remedy(tmp_path, old, new, where, what, remedy):
    assert old in GOOD
    with pytest.raises(UserError) as error:
        load(tmp_path, GOOD.replace(old, new))
    assert where in error.value.where
    assert what in error.value.what
    assert remedy in error.value.remedy


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("dpo.loss.beta", "not of the form"),
        ("dppo.loss.beta=1", "no stage 'dppo'"),
        ("sft.lr.x=1", "plain value"),
        ("sft.lr=quick", "expected a number"),
    ],
)
def test_wrong_overrides(tmp_path, override, what):
    with pytest.raises(UserError, match=what):
        load(tmp_path, GOOD, override)


def test_a_missing_recipe_suggests_the_shipped_ones():
    with pytest.raises(UserError) as error:
        recipes.load("asistant")
    assert "assistant" in error.value.remedy


def test_schema_knows_every_stage_and_its_keys():
    schema = json.loads(json.dumps(recipes.schema()))
    assert {f"stage_{name}" for name in recipes.stage_types()} <= schema["$defs"].keys()
    assert "lr" in schema["$defs"]["stage_sft"]["properties"]
    assert schema["$defs"]["stage_sft"]["additionalProperties"] is False


def test_a_stage_has_few_knobs():
    """An engineer reads a stage's knobs at a glance: fewer than 25, edges included."""
    for name, stage in recipes.stage_types().items():
        assert len(stage.model_fields) < 25, name
