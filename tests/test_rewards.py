"""Every reward by name on answers that earn it and answers that do not, and what is said when a row lacks its truth."""

import asyncio

import pytest
from pydantic import TypeAdapter, ValidationError

from posttrain.errors import UserError
from posttrain.judge.base import Answered
from posttrain.rl import rewards
from posttrain.rl.rewards import AnyReward, source_identity
from posttrain.rows import Message

CONFIG = TypeAdapter(AnyReward)
ASKED = (Message(role="user", content="What is it?"),)


def score(knobs, text, /, **truth):
    judge = CONFIG.validate_python(knobs).bind()()
    (found,) = asyncio.run(judge.score([Answered(prompt=ASKED, answer=text, truth=truth)]))
    return found.score


@pytest.mark.parametrize(
    ("knobs", "answer", "truth", "expected"),
    [
        ({"type": "number"}, "3 + 4 = 7.", {"answer": "7"}, 1),
        ({"type": "number"}, "That makes seven.", {"answer": "6 + 1 = 7\n#### 7"}, 1),
        ({"type": "number"}, "7, no, 8", {"answer": "7"}, 0),
        ({"type": "number", "key": "sum"}, "12", {"sum": 12}, 1),
        ({"type": "exact"}, "The Eiffel Tower!", {"answer": "Eiffel tower"}, 1),
        ({"type": "exact"}, "It is the Eiffel Tower.", {"answer": ["Eiffel tower", "tour Eiffel"]}, 0),
        ({"type": "exact", "within": True}, "It is the Eiffel Tower.", {"answer": ["Eiffel tower"]}, 1),
        (
            {"type": "constraints"},
            "no comma here",
            {"constraints": [{"kind": "no_commas"}, {"kind": "all_upper"}]},
            0.5,
        ),
        ({"type": "constraints", "all_or_nothing": True}, "a", {"constraints": [{"kind": "all_upper"}]}, 0),
        ({"type": "asked"}, "It is 4.", {"answer": "4"}, 1),
        ({"type": "asked", "length": 2}, "It is 4.", {"answer": "4"}, 0),
        ({"type": "asked"}, "I can't help with that.", {"label": "harmful"}, 1),
        ({"type": "asked"}, "ok", {"constraints": [{"kind": "all_lower"}]}, 1),
        ({"type": "regex", "pattern": "^a+$"}, "aaa", {}, 1),
        ({"type": "regex", "pattern": "a", "whole": True}, "aaa", {}, 0),
        ({"type": "length", "words": 4}, "one two", {}, 0.5),
        ({"type": "length", "words": 2}, "one two three", {}, 0.5),
        ({"type": "length", "words": 2, "more": True}, "one two three", {}, 1),
        ({"type": "repetition", "n": 1}, "go go go go", {}, 0.25),
        ({"type": "language", "code": "de"}, "Das ist nicht der Weg, und ich bin es auch nicht.", {}, 1),
        ({"type": "language"}, "This is the way that it was and will be.", {"language": "fr"}, 0),
        ({"type": "function", "path": "rewards_for_tests:letters"}, "four", {}, 4),
        ({"type": "function", "path": "rewards_for_tests:later"}, "", {}, 1),
    ],
)
def test_scores(knobs, answer, truth, expected):
    assert score(knobs, answer, **truth) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"), [('{"n": 3}', 1), ('```json\n{"n": 3}\n```', 1), ('{"n": "3"}', 0.5), ("n = 3", 0)]
)
def test_json_schema(answer, expected):
    pytest.importorskip("jsonschema")
    fit = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert score({"type": "json_schema", "fit": fit}, answer) == expected
    assert score({"type": "json_schema"}, answer, schema=fit) == expected


@pytest.mark.parametrize(("answer", "expected"), [("so $x = \\frac{1}{2}$", 1), ("0.5", 1), ("it is 2", 0), ("?", 0)])
def test_maths(answer, expected):
    pytest.importorskip("math_verify")
    assert score({"type": "maths"}, answer, answer="1/2") == expected


def test_a_pattern_that_takes_for_ever_is_one_message(monkeypatch):
    monkeypatch.setattr(rewards, "PATIENCE", 0.2)
    schema = {"type": "string", "pattern": "^(a+)+$"}
    for knobs, answer in (
        ({"type": "regex", "pattern": "^(a+)+$"}, "a" * 40 + "!"),
        ({"type": "json_schema", "fit": schema}, '"' + "a" * 40 + '!"'),
    ):
        with pytest.raises(UserError, match=r"took more than 0.2 s on one answer"):
            score(knobs, answer)


def test_a_weight_is_kept_beside_the_knobs():
    assert CONFIG.validate_python({"type": "number", "weight": 0.5}).weight == 0.5
    with pytest.raises(ValidationError):
        CONFIG.validate_python({"type": "number", "heavy": 1})


@pytest.mark.parametrize(
    ("knobs", "truth", "message"),
    [
        ({"type": "number"}, {"result": 1}, "no 'answer'.*it has result"),
        ({"type": "number"}, {"answer": "none"}, "holds no number"),
        ({"type": "asked"}, {}, "needs `answer`, `constraints` or `label`"),
        ({"type": "constraints"}, {"constraints": [{"kind": "no_comas"}]}, "did you mean 'no_commas'"),
        ({"type": "regex", "pattern": "("}, {}, "not a regular expression"),
        ({"type": "function", "path": "rewards_for_tests:missing"}, {}, "no such function"),
        ({"type": "function", "path": "nowhere"}, {}, "no such function"),
        ({"type": "reward_model"}, {}, "loaded by the stage"),
    ],
)
def test_mistakes_are_said(knobs, truth, message):
    with pytest.raises(UserError, match=message):
        score(knobs, "an answer", **truth)


def test_a_functions_source_is_part_of_the_identity():
    rewards = {"a": CONFIG.validate_python({"type": "function", "path": "rewards_for_tests:letters"})}
    other = {"a": CONFIG.validate_python({"type": "function", "path": "rewards_for_tests:later"})}
    assert source_identity(rewards) != source_identity(other)
    assert source_identity({"a": CONFIG.validate_python({"type": "number"})}) == {}
