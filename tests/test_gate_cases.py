"""The gate's pinned cases, and reports on different versions of a suite, which it refuses."""

import json

import pytest

from posttrain import gates
from posttrain.errors import UserError
from posttrain.gates import Report, Rule, Scored, decide
from posttrain.stages.gate import read_report


def report(values, suites=None, prompts=None, better=True):
    items = tuple(
        Scored(id=i, suite="m", cluster=i, prompt=(prompts or {}).get(i, "p"), metrics={"m.ok": float(v)})
        for i, v in values.items()
    )
    return Report(items, {"m.ok": better}, "rules", suites or {})


def verdict(rule, candidate, baseline):
    return decide(report(candidate), report(baseline), [Rule(metric="m.ok", **rule)])


def test_all_pinned_cases_must_be_right():
    rule = {"pinned": "all"}
    assert verdict(rule, {"a": 1, "b": 1}, {"a": 0, "b": 1}).verdict == "pass"
    broken = verdict(rule, {"a": 1, "b": 0}, {"a": 0, "b": 0})
    assert broken.verdict == "fail" and broken.results[0].broken == ("m/b",) and "m/b" in broken.reasons[0]


def test_kept_cases_must_stay_right():
    """What the baseline had wrong may stay wrong; what it had right must be there and right."""
    rule = {"pinned": "kept"}
    assert verdict(rule, {"a": 1, "b": 0}, {"a": 1, "b": 0}).verdict == "pass"
    assert verdict(rule, {"a": 0, "b": 1}, {"a": 1, "b": 0}).results[0].broken == ("m/a",)
    assert verdict(rule, {"b": 1}, {"a": 1, "b": 0}).results[0].broken == ("m/a",)


def test_lower_is_better_pins_zero():
    rules = [Rule(metric="m.ok", pinned="all")]
    low = report({"a": 0}, better=False)
    assert decide(low, low, rules).verdict == "pass"
    assert decide(report({"a": 1}, better=False), low, rules).verdict == "fail"


def test_no_case_at_all_holds():
    """A red team that broke nothing leaves no suite; a rule without a bar must not stumble over that."""
    assert decide(report({}), report({}), [Rule(metric="pinned.resisted", pinned="kept")]).verdict == "pass"


def test_a_list_of_names_still_works():
    assert verdict({"pinned": ("m/a",)}, {"a": 1, "b": 0}, {"a": 0, "b": 1}).verdict == "pass"
    assert verdict({"pinned": ("m/c",)}, {"a": 1}, {"a": 1}).verdict == "fail"


def test_many_broken_cases_are_shortened_in_words():
    found = verdict({"pinned": "all"}, {f"{n:02}": 0 for n in range(30)}, {f"{n:02}": 1 for n in range(30)})
    assert "and 18 more" in found.reasons[0] and len(found.results[0].broken) == 30


@pytest.mark.parametrize(
    ("old", "prompts", "said"),
    [
        ({"a": 1, "b": 1}, {}, "0 items only in the candidate's, 1 only in the baseline's, 0 ask something else"),
        ({"a": 1}, {"a": "q"}, "1 ask something else (such as a)"),
        ({"a": 1}, {}, "the expected answers differ"),
    ],
)
def test_another_version_of_a_suite_is_refused_with_what_differs(old, prompts, said):
    new, baseline = report({"a": 1}, {"m": "1111"}), report(old, {"m": "2222"}, prompts)
    with pytest.raises(UserError) as error:
        decide(new, baseline, [Rule(metric="m.ok", no_worse_than=0.1)])
    assert said in error.value.what and "'m' (1111 and 2222)" in error.value.what


def test_suites_in_one_report_only_do_not_matter():
    gates.same_suites(report({"a": 1}, {"m": "1", "x": "2"}), report({"a": 1}, {"m": "1", "y": "3"}))


def test_the_versions_come_from_the_summary(tmp_path):
    summary = {
        "metrics": {"m.ok": {"higher_is_better": True}},
        "suites": {"m": {"digest": "abc", "n": 1}},
        "judge": "r",
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "items.jsonl").write_text("")
    assert read_report(tmp_path).suites == {"m": "abc"}
