"""Constitution, red team, pinned cases, side by side and gates in one recipe on a tiny model, report and all."""

import json

import pytest
import tiny

from posttrain import cli, pipeline, recipe
from posttrain.pipeline import Record, Runtime

RECIPE = """
stages:
  base: {type: base_model, model: %s, template: chatml}
  revised: {type: constitution, policy: base, limit: 24, rounds: 1, max_new: 6, critic: {type: rules, n: 2}}
  sft: {type: sft, policy: base, data: revised, lr: 3.0e-3, steps: 4, batch_tokens: 512, micro_tokens: 512}
  labelled: {type: constitution_pairs, policy: sft, limit: 16, n: 4, max_new: 6, temperature: 2.0}
  red: {type: red_team, policy: sft, rounds: 1, tries: 22, max_new: 4}
  before: &evaluation {type: evaluate, policy: base, suites: [refusals, attacks], limit: 6, max_new: 4, cases: [red]}
  after: {<<: *evaluation, policy: sft}
  side: {type: side_by_side, candidate: after, baseline: before}
  gate:
    type: gate
    candidate: after
    baseline: before
    rules: [{metric: refusals.safe_answered, better_than: 0.9}, {metric: pinned.resisted, pinned: kept}]
  next: {type: constitution, policy: sft, after: gate, limit: 4}
  later: {type: sft, policy: sft, data: next}
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    path = root / "safety.yaml"
    path.write_text(RECIPE % tiny.folder(root / "tiny"))
    return pipeline.run(recipe.load(str(path)).stages, root / "runs" / "safety", Runtime()), root


def test_a_round_behind_a_gate_that_did_not_pass_is_not_run(outcome):
    done, _ = outcome
    assert done.stopped["gate"] in ("fail", "inconclusive")
    assert done.skipped == {"next": "gate", "later": "gate"}
    assert "side" in done.folders and "next" not in done.folders


def test_pinned_cases_stand_in_the_report(outcome):
    done, _ = outcome
    pins = (done.folders["red"] / "pinned.jsonl").read_text().splitlines()
    summary = json.loads((done.folders["after"] / "summary.json").read_text())
    assert ("pinned" in summary["suites"]) == bool(pins)


def test_side_by_side_says_who_wins_and_by_whom(outcome):
    done, _ = outcome
    summary = json.loads((done.folders["side"] / "summary.json").read_text())
    assert summary["judge"] == "rules of general" and 0 <= summary["metrics"]["side.win"]["value"] <= 1
    assert Record.read(done.folders["side"]).metrics["items"] == 12


def test_the_page_is_written_with_all_of_it(outcome):
    """The command finds every stage done, writes the report and ends with the gate's exit code."""
    done, root = outcome
    args = ["run", str(root / "safety.yaml"), "--runs", str(root / "runs")]
    code = cli.guarded(lambda: cli.app(args=args, standalone_mode=False))
    page = (root / "runs" / "safety" / "report.html").read_text()
    assert code == {"fail": 1, "inconclusive": 3}[done.stopped["gate"]]
    assert "side" in page and "attacks" in page
