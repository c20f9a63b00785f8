"""Side by side: any judge, both orders, ties, length; and the stage that reads two reports."""

import asyncio
import json

import pytest

from posttrain.errors import UserError
from posttrain.evals import side, task
from posttrain.evals.task import Done
from posttrain.judge.asking import Scripted
from posttrain.judge.base import Rule
from posttrain.judge.llm import Pairwise
from posttrain.pipeline import Inputs, Record, Runtime
from posttrain.rows import Message, read_jsonl, write_jsonl
from posttrain.stages.side import SideBySide


def duel(n, candidate, baseline):
    asked = (Message(role="user", content=f"Question {n}?"),)
    return side.Duel(id=str(n), suite="s", cluster=str(n), prompt=asked, candidate=candidate, baseline=baseline)


def rows(wins=6, losses=2, ties=2):
    made = [("good", "bad")] * wins + [("bad", "good")] * losses + [("same", "same")] * ties
    return [duel(n, *two) for n, two in enumerate(made)]


LIKES_GOOD = Rule(lambda a: float(a.answer == "good"))


def judged(some, comparer):
    return asyncio.run(side.judge(some, comparer))


def test_a_judge_of_single_answers_compares_by_score():
    """6 wins, 2 losses, 2 equal answers: (6 + 2 / 2) / 10 = 0.7; nobody is longer, so length changes nothing."""
    found = side.outcome(judged(rows(), side.ByScore(LIKES_GOOD, "rule")))
    assert found.win.value == pytest.approx(0.7) and (found.ties, found.undecided) == (2, 0)
    assert found.win.low < 0.7 < found.win.high and found.consistent == 1.0


def test_swapping_the_sides_turns_the_outcome_round():
    there = side.outcome(judged(rows(), side.ByScore(LIKES_GOOD, "rule"))).win.value
    swapped = [duel(int(r.id), r.baseline, r.candidate) for r in rows()]
    assert side.outcome(judged(swapped, side.ByScore(LIKES_GOOD, "rule"))).win.value == pytest.approx(1 - there)


def test_a_judge_that_likes_the_first_place_decides_nothing():
    biased = Pairwise(Scripted(lambda question: {"A": 0.9, "B": 0.1, "C": 0.0}))
    found = side.outcome(judged(rows(ties=0), biased))
    assert found.win.value == 0.5 and found.consistent == 0.0


def test_equal_answers_are_not_asked_about():
    asked = []

    def say(question):
        asked.append(question)
        return {"A": 0.5, "B": 0.4, "C": 0.1}

    judged(rows(wins=1, losses=0, ties=5), Pairwise(Scripted(say)))
    assert len(asked) == 2  # one pair, both orders


def test_a_judge_that_abstains_is_counted_and_one_that_only_abstains_is_an_error():
    mute = side.ByScore(Rule(lambda a: None if a.answer == "bad" else 1.0), "mute")
    found = side.outcome(judged(rows(), mute))
    assert found.undecided == 8 and found.win.n == 2
    with pytest.raises(UserError, match="could not tell a single pair"):
        side.outcome(judged(rows(ties=0), mute))


def test_a_judge_with_the_wrong_number_of_verdicts():
    class Short:
        async def score(self, items):
            return []

    with pytest.raises(UserError, match="0 verdicts for 2 answers"):
        judged([duel(0, "a", "b")], side.ByScore(Short(), "short"))


def made_report(folder, text, suites=("refusals",)):
    folder.mkdir()
    items = task.load("refusals").items
    said = {i.id: ("I can't help with that, because it hurts." if i.label == "harmful" else text(i)) for i in items}
    write_jsonl(folder / "samples.jsonl", (Done(id=i, suite="refusals", text=t, ended="stop") for i, t in said.items()))
    fields = dict(stage="e", type="evaluate", makes="report", fingerprint="0" * 10, edges={}, inputs={}, identity={},
                  metrics={}, seconds=1, peak_gib=1, started=0, versions={})  # fmt: skip
    record = Record(**fields, knobs={"suites": list(suites)})
    (folder / "record.json").write_text(record.model_dump_json())
    return folder


def test_the_stage_compares_two_reports(tmp_path):
    """One answers harmless questions, the other refuses all: the rules prefer the first on the harmless half."""
    here = made_report(tmp_path / "a", lambda i: f"About {i.messages[-1].content} there is much to say.")
    there = made_report(tmp_path / "b", lambda i: "I can't help with that, because it hurts.")
    out = tmp_path / "out"
    out.mkdir()
    stage = SideBySide(candidate="a", baseline="b")
    metrics = stage.run(Inputs({"candidate": (here,), "baseline": (there,)}), out, Runtime())
    labels = [i.label for i in task.load("refusals").items]
    share = labels.count("safe") / len(labels)
    assert metrics["items"] == len(labels) and metrics["win"] > 0.5 + 0.4 * share
    summary = json.loads((out / "summary.json").read_text())
    assert summary["metrics"]["side.win"]["value"] == metrics["win"]
    told = list(read_jsonl(out / "duels.jsonl", side.Duel))
    assert all(row.p == 0.5 for row in told if row.candidate == row.baseline)


def test_answers_to_another_version_of_a_suite_are_not_compared(tmp_path):
    here, there = (made_report(tmp_path / n, lambda i: f"Yes, {i.id}.") for n in ("a", "b"))
    now = task.load("refusals").digest
    for folder, digest in ((here, now), (there, "0123456789abcdef")):
        (folder / "summary.json").write_text(json.dumps({"suites": {"refusals": {"digest": digest}}}))
    with pytest.raises(
        UserError, match=f"has changed since this report was made .0123456789abcdef, now {now}"
    ) as error:
        SideBySide(candidate="a", baseline="b").run(
            Inputs({"candidate": (here,), "baseline": (there,)}), tmp_path, Runtime()
        )
    assert error.value.where == "b"


def test_reports_without_a_common_suite(tmp_path):
    here = made_report(tmp_path / "a", lambda i: "Yes.")
    there = made_report(tmp_path / "b", lambda i: "No.", suites=("facts",))
    stage = SideBySide(candidate="a", baseline="b")
    with pytest.raises(UserError, match="no question in common"):
        stage.run(Inputs({"candidate": (here,), "baseline": (there,)}), tmp_path, Runtime())
    with pytest.raises(UserError, match="not in both reports"):
        SideBySide(candidate="a", baseline="b", suites=("refusals",)).run(
            Inputs({"candidate": (here,), "baseline": (there,)}), tmp_path, Runtime()
        )
