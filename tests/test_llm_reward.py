"""A language model as a reward, against a scripted endpoint: what it says is learned from, what goes wrong is said."""

import asyncio
import json
import re

import pytest
from endpoint import Raw, chat, endpoint
from pydantic import TypeAdapter
from test_rl import places as places_fixture
from test_rl import run

from posttrain.errors import UserError
from posttrain.judge.base import Answered
from posttrain.rl.rewards import AnyReward
from posttrain.rl.rollout import Weighed, verdicts
from posttrain.rows import Message

places = places_fixture
ASKED = (Message(role="user", content="How much is it?"),)
QUICK = {"type": "llm", "model": "judge", "tries": 1, "log_probs": False}


def items(n=12, text="answer"):
    return [Answered(prompt=ASKED, answer=f"{text} {k}", truth={"right": "it is seven"}) for k in range(n)]


def answer_of(body):
    """The answer that the judge is shown."""
    return re.search(r"--- Answer ---\n(.*)\n\n--- What counts", body["messages"][0]["content"], re.S)[1]


def scores(script, asked=None, seconds=20.0, **knobs):
    with endpoint(script) as server:
        judge = TypeAdapter(AnyReward).validate_python(QUICK | {"url": server.url} | knobs).bind()()
        return asyncio.run(verdicts("llm", Weighed(judge, seconds=seconds), asked or items())), server


def test_scores_are_rescaled_and_asked_at_once():
    """Answer k gets k + 1 on a scale of 1 to 12, which becomes 0 to 1; up to four questions are on their way."""

    def say(path, body, number):
        return Raw(text=json.dumps(chat(str(int(answer_of(body).split()[1]) + 1))), delay=0.05)

    found, server = scores(say, scale=(1, 12), concurrent=4)
    assert found == pytest.approx([k / 11 for k in range(12)])
    assert 1 < server.at_once <= 4


def test_an_expected_value_where_log_probs_can_be_had():
    """P(1) = 1/4, P(3) = 3/4 on a scale 1 to 3: (2.5 - 1) / 2."""
    from math import log

    found, _ = scores(lambda *_: chat("3", [{"1": log(0.25), "3": log(0.75)}]), items(2), scale=(1, 3), log_probs=True)
    assert found == pytest.approx([0.75, 0.75])


def test_a_right_answer_and_a_criterion_are_shown():
    _, server = scores(lambda *_: chat("5"), items(1), criterion="Is it polite?", key="right")
    question = server.asked[0][2]["messages"][0]["content"]
    assert "Is it polite?" in question and "it is seven" in question


def test_the_same_answer_is_paid_for_once(tmp_path):
    with endpoint(lambda *_: chat("5")) as server:
        config = TypeAdapter(AnyReward).validate_python(QUICK | {"url": server.url})
        for _ in range(2):  # the second judge is that of a stage that was killed and goes on
            judge = config.bind()(tmp_path / "replies.db")
            for _ in range(2):
                asyncio.run(verdicts("llm", Weighed(judge), items(3)))
        assert len(server.asked) == 3


def impossible(path, body, number):
    return chat("5", [{"5": 3.0, "6": 2.0}])


def nan(path, body, number):
    return chat("5", [{"5": float("nan")}])


def dies(path, body, number):
    return chat("5") if number < 3 else Raw(503, "gone")


@pytest.mark.parametrize(
    ("script", "knobs", "message"),
    [
        (lambda *_: Raw(500, "boom"), {}, r"rewards\.llm: judge at http.*: this judge does not answer \(12 of 12"),
        (dies, {}, r"rewards\.llm: judge at http.*: this judge does not answer \(9 of 12 replies\).*status 503: gone"),
        (lambda *_: Raw(401, "who are you"), {}, r"rewards\.llm.*status 401"),
        (
            lambda *_: Raw(text=json.dumps(chat("5")), delay=5),
            {"timeout": 0.2},
            r"does not answer.*no answer within 0\.2",
        ),
        (lambda *_: chat("a fine answer"), {}, r"rewards\.llm: the judge abstained from every answer: unreadable"),
        (lambda *_: chat("nan"), {}, r"abstained from every answer: unreadable"),
        (lambda *_: chat("11"), {}, r"abstained from every answer: unreadable"),
        (impossible, {"log_probs": True}, "log-probabilities that cannot be any"),
        (nan, {"log_probs": True}, "log-probabilities that cannot be any"),
        (lambda *_: {"choices": []}, {}, r"does not answer.*an answer without 1 choices"),
        (lambda *_: Raw(text="<html>"), {}, "does not answer.*not JSON"),
        (lambda *_: chat("5"), {"key": "nothing"}, "no 'nothing', which this reward compares with"),
    ],
)
def test_a_judge_that_fails_is_one_clear_message(script, knobs, message):
    with pytest.raises(UserError, match=message):
        scores(script, **knobs)


def test_a_judge_that_takes_too_long_in_all():
    with pytest.raises(UserError, match=r"the judge took more than 0\.3 s for 12 answers"):
        scores(lambda *_: Raw(text=json.dumps(chat("5")), delay=2), seconds=0.3)


def test_one_lost_answer_prefers_nothing():
    found, _ = scores(lambda path, body, number: Raw(500) if answer_of(body) == "answer 3" else chat("10"))
    assert found == [1.0] * 12


def test_no_address_and_no_key():
    with pytest.raises(UserError, match="is no address"):
        TypeAdapter(AnyReward).validate_python(QUICK | {"url": "nowhere"}).bind()()
    with pytest.raises(UserError, match="holds no key"):
        TypeAdapter(AnyReward).validate_python(QUICK | {"url": "http://x/v1", "key_env": "NO_SUCH_KEY"}).bind()()


def test_a_policy_learns_what_the_judge_likes(places, tmp_path):
    """The judge likes answers that begin with some letters; a fifth of its replies is unreadable."""

    def say(path, body, number):
        return chat("hm" if number % 5 == 0 else "10" if answer_of(body)[:1] in "abcdefghijklm " else "1")

    with endpoint(say) as server:
        _, log = run(places, tmp_path, rewards={"llm": QUICK | {"url": server.url}}, steps=8, eval_every=100, lr=8e-3)
    rewards = [e["reward"] for e in log if "reward" in e]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1
    assert any(0 < e["abstained"] < 0.5 for e in log if "abstained" in e)
    assert (tmp_path / "replies-llm.db").exists()


def test_a_server_that_dies_in_the_middle_ends_the_run_with_its_name(places, tmp_path):
    with endpoint(lambda path, body, number: chat("5") if number < 60 else Raw(503, "gone")) as server:
        rewards = {"llm": QUICK | {"url": server.url}}
        with pytest.raises(UserError, match=r"rewards\.llm: judge at http.*does not answer"):
            run(places, tmp_path, rewards=rewards, steps=9)
