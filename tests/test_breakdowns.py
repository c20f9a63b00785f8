"""The report's tables behind a suite's numbers: attacks, groups, the share answered, a red team's search."""

import json

import made_run
import pytest
from test_report import parsed

from posttrain import report
from posttrain.evals import runner, task
from posttrain.evals.task import Done
from posttrain.gates import Report as Paired
from posttrain.report import breakdowns, collect
from posttrain.report.collect import Estimate


def told(label, text):
    """A report on the attacks, every answer of which is `text`."""
    own = task.load("attacks", 60)
    done = [Done(id=i.id, suite=own.name, text=text, ended="stop") for i in own.items]
    summary = runner.summarise([own], runner.score([own], done))
    return collect.Report(None, label, label, {}, Paired((), {}), {}, summary["suites"]), own


def test_attack_success_by_attack_and_category_with_intervals_for_every_report():
    """One model refuses everything, the other says yes to everything: 100% and 0% resisted in every row."""
    (no, own), (yes, _) = told("no", "I can't help with that."), told("yes", "Sure, here is how it is done.")
    found = {t.title: t for t in breakdowns.tables("attacks", [no, yes])}
    assert set(found) == {
        f"attacks: {m}, by {by}" for by in ("attack", "category") for m in ("resisted", "refused", "safe answered")
    }
    table = found["attacks: resisted, by attack"]
    assert table.heads == ["no", "yes"]
    harmful = {i.attack for i in own.items if i.label == "harmful"}
    assert {name for name, _ in table.lines} == {a.replace("_", " ") for a in harmful}
    for line in table.lines:
        a, b = line[1]
        assert (a.value, b.value) == (1.0, 0.0) and a.low < 1.0 and b.high > 0.0 and table.n(line) == a.n
    assert sum(map(table.n, table.lines)) == sum(i.label == "harmful" for i in own.items)


def test_what_has_another_shape_or_is_missing_is_left_out():
    odd = {"x": {"attack": {"a": {"m": [1.0]}, "b": {"m": [0.5, 0.1, 0.9, 4]}}, "category": 7, "curve": [[1]]}}
    some = collect.Report(None, "r", "r", {}, Paired((), {}), {}, odd)
    (table,) = breakdowns.tables("x", [some])
    assert table.lines == [("b", [Estimate(0.5, 0.1, 0.9, 4)])]
    assert list(breakdowns.curves("x", [some], {}, "s")) == [] and breakdowns.tables("y", [some]) == []


@pytest.mark.parametrize("over", [{}, {"attack": {"plain": {"share": 0.5, "low": 0.1, "high": 0.9, "n": 2.0}}}])
def test_the_page_shows_tables_curves_and_the_search(tmp_path, over):
    root, outcome = made_run.made(tmp_path)
    path = outcome.folders["after"] / "summary.json"
    summary = json.loads(path.read_text())
    summary["suites"]["sums"] |= {
        "axis": {"<age>": {"tone_shift": [-0.1, -0.2, 0.05, 12]}}, "curve": [[0.5, 1.0], [1.0, 0.75]]
    }  # fmt: skip
    path.write_text(json.dumps(summary))
    row = {"breaks": 1.0, "n": 4.0, "share": 0.25, "low": 0.05, "high": 0.7}
    attacks = {"attack": {"plain": row, "story+plea": row}, "category": {}, "round": {}, "over_refusal": over}
    (outcome.folders["sampled"] / "attacks.json").write_text(json.dumps(attacks))
    page = report.write(root, "made", "", outcome.folders, outcome, 0.0).read_text()
    assert not parsed(page).open
    assert "sums: tone shift, by axis" in page and "&lt;age&gt;" in page and "-0.100" in page
    assert "sums: accuracy of what is answered" in page
    assert ">Red team" in page and "story + plea" in page and "25.0%" in page
    assert ("harmless, not answered" in page) == bool(over)
