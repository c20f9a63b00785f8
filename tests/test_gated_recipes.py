"""The shipped recipes are gated: every trained model is judged against the one it came from, releases wait for it."""

from pathlib import Path

import pytest

from posttrain import recipe as recipes

ROOT = Path(__file__).parent.parent
TRAINS = ("sft", "preference", "rl")
SAFETY = ("refusals.harmful_refused", "refusals.safe_answered")


def stages(name, *types):
    """name -> stage of these types, all when none is given."""
    found = recipes.load(str(ROOT / "recipes" / f"{name}.yaml")).stages
    return {n: s for n, s in found.items() if not types or s.type in types}


def policy_of(found, report):
    return found[report].policy


@pytest.mark.parametrize("name", ["assistant", "constitutional"])
def test_a_gate_after_every_training_stage(name):
    """Some gate compares each trained policy with the policy it was trained from."""
    found = stages(name)
    compared = {
        (policy_of(found, g.candidate), policy_of(found, g.baseline)) for g in found.values() if g.type == "gate"
    }
    trained = {n: s for n, s in found.items() if s.type in TRAINS}
    if name == "constitutional":  # begins with a helpful model, its own baseline, and then with the base model again
        del trained["sft"]
        assert ("sl", "sft") in compared and trained.pop("sl").policy == "base"
    for n, stage in trained.items():
        assert (n, stage.policy) in compared, n


@pytest.mark.parametrize("name", ["assistant", "constitutional", "constitutional_rl", "llama", "domain"])
def test_safety_is_watched_on_both_sides(name):
    """A rule on refusing alone would be passed by a model that refuses everything."""
    rules = [{r.metric for r in g.rules} for g in stages(name, "gate").values()]
    both = [m for m in rules if any(one in m for one in SAFETY)]
    assert both and all(set(SAFETY) <= m for m in both), rules


@pytest.mark.parametrize("name", ["assistant", "constitutional", "constitutional_rl", "llama", "domain"])
def test_no_release_without_its_gate(name):
    releases = stages(name, "release")
    gates = stages(name, "gate")
    assert releases and all(r.gate in gates for r in releases.values())
    found = stages(name)
    assert all(policy_of(found, gates[r.gate].candidate) == r.policy for r in releases.values())


def test_what_the_assistant_is_asked_is_not_in_what_it_learns():
    found = stages("assistant")
    asked = {suite for s in found.values() if s.type == "evaluate" for suite in s.suites} - {"capability"}
    for name in ("demos", "votes"):
        assert asked <= set(found[name].decontaminate), name


def test_breaks_of_the_red_team_are_learned_from_and_pinned():
    found = stages("assistant")
    assert "breaks" in found["dpo"].pairs and found["breaks"].found == ("red",)
    pinned = [g for g in found.values() if g.type == "gate" and any(r.pinned == "kept" for r in g.rules)]
    assert pinned and all(found[r].cases == ("red",) for g in pinned for r in (g.candidate, g.baseline))
