"""Clients of OpenAI-compatible servers: a Sampler that equals the local one, and servers that misbehave."""

import asyncio
import time
from collections.abc import Iterator
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import tiny
from endpoint import Endpoint as Fake
from endpoint import Raw, chat, endpoint
from test_serve import Running, desk_of

from posttrain.errors import UserError
from posttrain.judge.asking import Asking
from posttrain.render import load_chat
from posttrain.rows import Message
from posttrain.sampler import Sampling
from posttrain.sampler.http import Client, Unanswered
from posttrain.sampler.local import Local
from posttrain.sampler.server import Endpoint, Server, option_scores, reply_of
from posttrain.serve import app as apps

QUESTION = (Message(role="user", content="the user asks"),)
FAST: dict[str, Any] = {"pause": 0.01, "tries": 3, "timeout": 1.0}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tiny.folder(tmp_path_factory.mktemp("model"), "qwen3")
    server = Running(apps.Service(desk_of(folder, slots=4), "tiny", None, key="k"))
    yield server
    server.stop()


SETTINGS = [
    {}, {"temperature": 0}, {"temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": 0.01},
    {"stop": ("e", "an"), "max_new": 40}, {"repetition_penalty": 1.6, "temperature": 0.8, "top_k": 20},
]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_local_sampler_is_the_oracle(running: Running, setting: dict[str, Any]) -> None:
    """Same ids, texts, ends and log-probabilities, through HTTP and two clients' worth of concurrency."""
    desk = running.service.desk
    how = Sampling(**{"max_new": 10, "seed": 3, **setting})
    prompts = [[5, 6, 7], [9] * 20, [40, 41]]
    server = Server(Client([running.url + "/v1"] * 2, key="k"), "tiny", desk.chat)
    asyncio.run(server.load(None, version=4))
    got = asyncio.run(server.sample(prompts, 3, how))
    want = asyncio.run(Local(desk.model, desk.chat).sample(prompts, 3, how))
    for row, other in zip(got, want):
        for a, b in zip(row, other):
            assert (a.ids, a.text, a.ended, a.version) == (b.ids, b.text, b.ended, 4)
            assert a.logps == pytest.approx(b.logps, abs=1e-4)


def test_settings_that_cannot_be_scored_are_refused() -> None:
    def vllm(path: str, body: Any, number: int) -> Any:
        return {"data": [{"id": "m", "owned_by": "vllm"}]}

    with endpoint(vllm) as fake:
        server = Server(Client([fake.url]), "m", None)
        with pytest.raises(UserError, match="processed"):
            asyncio.run(server.sample([[1]], 1, Sampling(temperature=0.7)))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"text": "x"}, "no ids"),
        ({"text": "x", "token_ids": [5], "logprobs": {"token_logprobs": [0.5]}}, "cannot be any"),
        ({"text": "x", "token_ids": [5, 6], "logprobs": {"token_logprobs": [-0.5]}}, "no ids"),
    ],
)
def test_samples_without_ids_or_with_impossible_log_probs(tmp_path: Path, choice: dict[str, Any], said: str) -> None:
    tiny.tokenizer().save_pretrained(tmp_path)
    with endpoint(lambda path, body, number: {"choices": [choice]}) as fake:
        server = Server(Client([fake.url]), "m", load_chat(tmp_path), processed=True)
        with pytest.raises(Unanswered, match=said):
            asyncio.run(server.sample([[1]], 1, Sampling()))


def ask(fake: Fake, how: Asking | None = None, count: int = 1, **more: Any) -> list[Any]:
    client = Client([fake.url], **(FAST | more))
    return asyncio.run(Endpoint(client, "m").ask([QUESTION] * count, how or Asking()))


@pytest.mark.parametrize(
    "bad",
    [
        Raw(500, '{"error": {"message": "oh"}}'), Raw(429, "{}", {"retry-after": "0.01"}), Raw(200, "<html>"),
        Raw(200, '{"choices": '), Raw(200, '{"error": "half way"}'), Raw(200, "[]"), Raw(503),
        Raw(200, "{}", delay=3.0),
    ],
    ids=lambda raw: f"{raw.status} {raw.text[:12]} {raw.delay}",
)  # fmt: skip
def test_what_may_pass_is_tried_again(bad: Raw) -> None:
    with endpoint(lambda path, body, number: bad if number < 2 else chat("fine")) as fake:
        (reply,) = ask(fake, timeout=0.3)
        assert reply.text == "fine" and len(fake.asked) == 3


def test_what_never_passes_is_a_reply_with_a_problem() -> None:
    """Two of twenty questions get no answer: the other eighteen are not lost. Shapes that are none count too."""

    def script(path: str, body: Any, number: int) -> Any:
        wrong = "seed" in body and body["messages"][0]["content"] == "bad"
        return {"choices": [{"index": 0}]} if wrong else chat("A")

    questions = [(Message(role="user", content="bad" if n % 10 == 0 else "good"),) for n in range(20)]
    with endpoint(script) as fake:
        replies = asyncio.run(Endpoint(Client([fake.url], **FAST), "m").ask(questions, Asking()))
    assert [r.problem for r in replies].count("unanswered") == 2
    assert "without a message" in replies[0].why


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_cannot_pass_ends_at_once(status: int) -> None:
    with endpoint(lambda path, body, number: Raw(status, '{"error": {"message": "wrong key"}}')) as fake:
        with pytest.raises(UserError, match="wrong key"):
            ask(fake)
        assert len(fake.asked) == 1


def test_nobody_there() -> None:
    client = Client(["http://127.0.0.1:9/v1"], pause=0.01, tries=2, timeout=1.0)
    (reply,) = asyncio.run(Endpoint(client, "m").ask([QUESTION], Asking()))
    assert reply.problem == "unanswered" and "2 tries" in reply.why
    with pytest.raises(UserError, match="no address"):
        Client(["localhost:8000"])


def test_several_servers_share_and_stand_in() -> None:
    """One of two is down: its questions go to the other one."""
    with endpoint(lambda *_: chat("here")) as good, endpoint(lambda *_: Raw(503)) as bad:
        client = Client([bad.url, good.url], **FAST)
        replies = asyncio.run(Endpoint(client, "m").ask([QUESTION] * 12, Asking()))
        assert [r.text for r in replies] == ["here"] * 12
        assert bad.asked and good.asked


def test_concurrency_and_rate_are_kept() -> None:
    def slow(path: str, body: Any, number: int) -> Any:
        time.sleep(0.05)
        return chat("x")

    with endpoint(slow) as fake:
        ask(fake, count=12, concurrent=3)
        assert fake.at_once <= 3
        begun = time.monotonic()
        ask(fake, count=10, rate=50.0)  # the tenth begins 9 / 50 s after the first
        assert time.monotonic() - begun >= 0.18


def test_option_scores_by_hand() -> None:
    """ " A" and "A" are one option: ln(.5 + .2). Nothing said of C: minus infinity."""
    place = {" A": log(0.5), "A": log(0.2), "B": log(0.1), "Well": log(0.2)}
    scores = reply_of(chat("A", [place]), ("A", "B", "C")).options
    assert scores is not None
    assert scores[0] == pytest.approx(log(0.7)) and scores[1] == pytest.approx(log(0.1)) and scores[2] == -float("inf")
    assert reply_of(chat("A"), ("A", "B")).options is None
    assert reply_of(chat("A", []), ("A", "B")).options is None


def test_one_and_ten_are_told_apart_at_the_second_token() -> None:
    """First "1" with .6, "7" with .4; then "0" with .75: 10 has .45, 1 has .15. Not drawn: they share, .3 and .3."""
    places = [{"1": log(0.6), "7": log(0.4)}, {"0": log(0.75), "<end>": log(0.25)}]
    options = ("1", "7", "10")
    scores = option_scores(chat("10", places)["choices"][0]["logprobs"]["content"], options)
    assert scores is not None and [exp(s) for s in scores] == pytest.approx([0.15, 0.4, 0.45])
    scores = option_scores(chat("7", places, drawn="7")["choices"][0]["logprobs"]["content"], options)
    assert scores is not None and [exp(s) for s in scores] == pytest.approx([0.3, 0.4, 0.3])


def test_say_and_options_for_critics(running: Running) -> None:
    client = Client([running.url + "/v1"], key="k")
    critic = Endpoint(client, "tiny", how=Sampling(max_new=6))
    said = asyncio.run(critic.say([QUESTION, QUESTION], 2))
    assert [len(s) for s in said] == [2, 2]
    assert said[0][0].text != said[1][0].text  # equal conversations are drawn apart
    with endpoint(lambda *_: chat("A", [{"A": -0.1, "B": -2.0}])) as fake:
        rows = asyncio.run(Endpoint(Client([fake.url]), "m").options([QUESTION], ("A", "B")))
        assert rows == [[pytest.approx(-0.1), pytest.approx(-2.0)]]
    with endpoint(lambda *_: chat("A")) as fake, pytest.raises(Unanswered):
        asyncio.run(Endpoint(Client([fake.url]), "m").options([QUESTION], ("A", "B")))


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"message": {"content": "A"}, "index": None, "logprobs": [1]}], "usage": {"prompt_tokens": "x"}},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": {"a": 1}}}], "usage": 3},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "top_logprobs": 7}]}}]},
    ],
)
def test_fields_of_the_wrong_shape_are_passed_over(answer: dict[str, Any]) -> None:
    reply = reply_of(answer, ("A", "B"))
    assert (reply.text, reply.options, reply.prompt_tokens) == ("A", None, 0)


def test_an_address_without_v1_is_told_so() -> None:
    with endpoint(lambda *_: Raw(404, "not found")) as fake:
        for url, remedy in ((fake.url, ""), (fake.url.removesuffix("/v1"), "with /v1")):
            with pytest.raises(UserError, match="status 404: not found") as error:
                asyncio.run(Endpoint(Client([url]), "m").ask([QUESTION], Asking()))
            assert remedy in error.value.remedy and bool(remedy) == bool(error.value.remedy)
