"""Rows from the model itself: which answers are chosen, what more samples are worth, both stages on a tiny model."""

import asyncio
import json
import math

import pytest
import tiny

from posttrain.errors import UserError
from posttrain.judge.base import Rule
from posttrain.pipeline import Inputs, Runtime
from posttrain.render import load_chat
from posttrain.rows import Demo, Item, Message, Pair, Sample, read_jsonl, write_jsonl
from posttrain.stages.sample import SampleDemos, SamplePairs, Scored, best_and_worst, gain, judged, kl_of_best, sides

ITEM = Item(id="i", cluster="c", messages=(Message(role="user", content="2 + 2?"),), answer="4")


def answer(text, score, logp=-1.0, ended="stop"):
    return Scored(Sample(text=text, ids=(1, 2), logps=(logp, logp), ended=ended), score, ended == "stop")


def test_gain_by_hand():
    """Scores 0, 1, 3: best of 1 is 4/3; of 2: pairs (0,1) 1, (0,3) 3, (1,3) 3, mean 7/3; of 3: 3."""
    assert gain([[1, 0, 3]]) == pytest.approx({1: 4 / 3, 2: 7 / 3, 3: 3})
    assert gain([[1, 0, 3], [0, 0, 0]]) == pytest.approx({1: 2 / 3, 2: 7 / 6, 3: 1.5})
    assert [kl_of_best(k) for k in (1, 2)] == pytest.approx([0, math.log(2) - 0.5])


def test_the_best_against_the_worst_and_among_equals_the_likeliest():
    answers = [answer("a", 1, -2), answer("b", 1, -1), answer("c", 0, -3), answer("d", 0, -0.5), answer("e", 0.5)]
    pair = best_and_worst(ITEM, answers)
    assert (pair.chosen.content, pair.rejected.content) == ("b", "d")
    assert pair.meta == {"scores": [1, 0]} and pair.reason == "right result" and pair.category == "sampled_answer"
    assert best_and_worst(ITEM, answers, margin=1) is None


LLM = {"type": "llm", "url": "http://127.0.0.1:9/v1", "model": "m"}


@pytest.mark.parametrize("stage", [SampleDemos, SamplePairs])
def test_a_model_without_a_card_chooses_nothing_to_train_on_unless_the_recipe_says_why(stage):
    with pytest.raises(ValueError, match="after an examination"):
        stage(policy="p", judge=LLM)
    assert stage(policy="p", judge=LLM | {"anyway": "a test"}).judge.anyway == "a test"


@pytest.mark.parametrize(("judge", "source"), [({"type": "number"}, "rule"), (LLM | {"anyway": "a test"}, "judge")])
def test_rows_say_whether_a_rule_or_a_judge_chose_them(judge, source):
    answers = [answer("4", 1), answer("5", 0)]
    (pair,) = SamplePairs(policy="p", judge=judge).rows(ITEM, answers)
    (demo,) = SampleDemos(policy="p", judge=judge).rows(ITEM, answers)
    assert pair.source == demo.source == source


def test_what_cannot_be_imitated_is_never_chosen():
    cut, control = answer("long", 2, ended="length"), answer("bad", -1, ended="malformed")
    assert best_and_worst(ITEM, [cut, answer("x", 1), control]) is None  # nothing is worse and usable
    assert best_and_worst(ITEM, [answer("x", 1), answer("cut", 0, ended="length")]).rejected.content == "cut"
    assert best_and_worst(ITEM, [answer("", 1), cut]) is None
    assert best_and_worst(ITEM, [answer("x", 1), answer("y", 1)]) is None


def test_unfinished_answers_are_not_asked_about():
    asked = []
    judge = Rule(lambda a: asked.append(a.answer) or float(a.truth["answer"] == a.answer))
    samples = [a.sample for a in (answer("4", 0), answer("5", 0), answer("4", 0, ended="length"), answer(" ", 0))]
    (group,) = asyncio.run(judged([ITEM], [samples], judge))
    assert [(a.score, a.fit) for a in group] == [(1, True), (0, True), (0, False), (0, False)] and asked == ["4", "5"]


def test_rejection_sampling_keeps_the_best_that_differ():
    stage = SampleDemos(policy="p", keep=2, least=0.5)
    answers = [answer("a", 1, -2), answer("a", 1, -1), answer("b", 0.6), answer("c", 0.7), answer("d", 0.1)]
    assert [d.messages[-1].content for d in stage.rows(ITEM, answers)] == ["a", "c"]
    assert list(stage.rows(ITEM, [answer("x", 0.4), answer("y", 1, ended="length")])) == []


def test_all_answers_to_a_prompt_stand_on_one_side():
    made = [(f"p{i}", f"p{i} {k}") for i in range(40) for k in range(3)]
    train, held = sides(made, 0.3)
    asked = [{row.split()[0] for row in side} for side in (train, held)]
    assert asked[0].isdisjoint(asked[1]) and sorted(train + held) == sorted(row for _, row in made)
    assert len(train) == 3 * len(asked[0]) and 3 < len(asked[1]) < 25


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    tiny.folder(folder)
    load_chat(folder, "chatml").save(folder)
    words = ["the", "user", "asks", "and", "one", "two"]
    items = [Item(id=w, cluster="c", messages=(Message(role="user", content=w),), word=w) for w in words]
    write_jsonl(folder / "items.jsonl", items)
    return folder


@pytest.mark.parametrize(("stage", "kind"), [(SamplePairs, Pair), (SampleDemos, Demo)])
def test_the_stages_run(home, tmp_path, stage, kind):
    work = stage(
        policy="p", prompts=str(home / "items.jsonl"), n=16, max_new=4, holdout=0.3, temperature=1.0,
        judge={"type": "regex", "pattern": "[a-m]"},
    )  # fmt: skip
    metrics = work.run(Inputs({"policy": (home,)}), tmp_path, Runtime(precision="fp32"))
    rows = [r for name in ("train", "holdout") for r in read_jsonl(tmp_path / f"{name}.jsonl", kind)]
    assert len(rows) == metrics["rows"] and metrics["best_of.1"] <= metrics["best_of.4"] <= metrics["best_of.16"]
    assert len(json.loads((tmp_path / "gain.json").read_text())["best_of"]) == 16


def test_an_empty_file_of_prompts(home, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(UserError, match="no prompt to answer"):
        work = SamplePairs(policy="p", prompts=str(tmp_path / "none.jsonl"))
        work.run(Inputs({"policy": (home,)}), tmp_path, Runtime())


def test_prompts_of_several_files_are_shuffled_together(home, tmp_path):
    more = tmp_path / "more.jsonl"
    write_jsonl(
        more, [Item(id=f"m{n}", cluster="m", messages=(Message(role="user", content="two"),)) for n in range(6)]
    )
    files, rule = (str(home / "items.jsonl"), str(more)), {"type": "regex", "pattern": "[a-m]"}
    alone = SampleDemos(policy="p", prompts=files[0])
    work = SampleDemos(policy="p", prompts=files, n=2, max_new=2, limit=9, judge=rule)
    assert work.identity() != alone.identity()
    assert work.run(Inputs({"policy": (home,)}), tmp_path, Runtime(precision="fp32"))["prompts"] == 9
