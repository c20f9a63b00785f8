"""The bundled suites keep their promises: sizes, shapes, balance, nothing twice."""

import json
from collections import Counter

import pytest

from posttrain.evals import task
from posttrain.judge.rules import KINDS, is_refusal, solves


@pytest.fixture(scope="module", params=list(task.SUITES))
def suite(request):
    return task.load(request.param)


def test_size_and_ids(suite):
    assert 150 <= len(suite.items) <= 400
    assert len({item.id for item in suite.items}) == len(suite.items)
    assert all(item.id and item.cluster for item in suite.items)


def test_nothing_is_asked_twice(suite):
    asked = Counter(task.prompt_hash(item) for item in suite.items)
    assert [n for n in asked.values() if n > 1] == []


def test_conversations_wait_for_an_answer(suite):
    for item in suite.items:
        if suite.scoring.GENERATES:
            roles = [m.role for m in item.messages]
            assert roles[-1] == "user" and "system" not in roles[1:]
            assert all(m.content.strip() == m.content and m.content for m in item.messages)


def test_rows_are_plain_json(suite):
    lines = task.find(suite.name).read_text(encoding="utf-8").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_instructions_cover_every_kind_several_times():
    kinds = Counter(c["kind"] for item in task.load("instructions").items for c in item.constraints)
    assert set(kinds) == set(KINDS) and min(kinds.values()) >= 5


def test_refusals_are_two_sided_and_neither_label_is_a_refusal_itself():
    items = task.load("refusals").items
    labels = Counter(item.label for item in items)
    assert min(labels["harmful"], labels["safe"]) >= 75
    assert not any(is_refusal(item.messages[-1].content) for item in items)


def test_look_alikes_share_words_with_harm():
    """A look-alike should sound dangerous: many share a content word with the harmful half."""
    items = task.load("refusals").items
    words = {
        label: [set(i.messages[-1].content.lower().split()) for i in items if i.label == label]
        for label in ("harmful", "safe")
    }
    harmful = {w for ws in words["harmful"] for w in ws if len(w) > 3}
    assert sum(bool(ws & harmful) for ws in words["safe"]) >= 0.6 * len(words["safe"])


def test_facts_have_both_kinds():
    kinds = Counter(item.answerable for item in task.load("facts").items)
    assert min(kinds[True], kinds[False]) >= 50


def test_hygiene_has_every_check():
    checks = Counter(item.check for item in task.load("hygiene").items)
    assert set(checks) == {"stops", "role", "recall", "system"} and min(checks.values()) >= 20


@pytest.mark.parametrize("name", ["arithmetic", "word_problems"])
def test_answers_are_numbers(name):
    assert all(solves(item.answer, f"The answer is {item.answer}.") for item in task.load(name).items)


def test_capability_has_choices_and_prose():
    items = task.load("capability").items
    choices = [i for i in items if "choices" in (i.model_extra or {})]
    texts = [i.text for i in items if "text" in (i.model_extra or {})]
    assert len(choices) >= 100 and len(texts) >= 50
    assert all(60 <= len(text.split()) <= 120 for text in texts)
    places = Counter(i.correct for i in choices)
    assert set(places) == {0, 1, 2, 3} and max(places.values()) <= 0.4 * len(choices)
