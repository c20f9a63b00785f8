"""The server with the real OpenAI client, against the local sampler and a plain forward pass; bad input, feedback."""

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import tiny
import torch
import uvicorn

from posttrain import listen
from posttrain.errors import UserError
from posttrain.loading import load_model
from posttrain.pipeline import Runtime
from posttrain.render import load_chat
from posttrain.rows import Demo, Message, Pair, Prompt, Thumb, read_jsonl
from posttrain.sampler import Sampling
from posttrain.sampler.local import Local
from posttrain.serve import app as apps
from posttrain.serve import feedback, wire
from posttrain.serve.engine import Ask, Busy, Desk

KEY = "a key"
TEXT = "the user asks"


class Running:
    """A service behind uvicorn on a free port, in a thread."""

    def __init__(self, service: apps.Service):
        self.service = service
        config = uvicorn.Config(apps.create(service), port=0, log_level="warning")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join()

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers={"authorization": f"Bearer {KEY}"}, **more)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, headers={"authorization": f"Bearer {KEY}"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("model"), "qwen3")


def desk_of(folder: Path, **more: Any) -> Desk:
    model = load_model(folder, Runtime(precision="fp32", device="cpu"), train=False)
    return Desk(model, load_chat(folder), **more)


@pytest.fixture(scope="module")
def running(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = feedback.Log(tmp_path_factory.mktemp("feedback"))
    server = Running(apps.Service(desk_of(folder, slots=4), "tiny", log, key=KEY, weights="abc"))
    yield server
    server.stop()


def local(running: Running, prompt: list[int], n: int, how: Sampling) -> list[Any]:
    desk = running.service.desk
    return asyncio.run(Local(desk.model, desk.chat).sample([prompt], n, how))[0]


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 0}], ids=str)
def test_same_answers_and_log_probs_as_the_local_sampler(running: Running, setting: dict[str, Any]) -> None:
    prompt = running.service.desk.chat.prompt([Message(role="user", content=TEXT)])
    want = local(running, prompt, 3, Sampling(max_new=12, seed=7, **setting))
    got = running.client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": TEXT}], n=3, seed=7, max_tokens=12, logprobs=True,
        extra_body={"logprobs_of": "sampled", "return_token_ids": True}, **setting,
    )  # fmt: skip
    for sample, choice in zip(want, got.choices):
        assert choice.message.content == sample.text
        assert choice.token_ids == list(sample.ids)
        assert [t.logprob for t in choice.logprobs.content] == pytest.approx(sample.logps, abs=1e-4)
        assert choice.finish_reason == ("stop" if sample.ended == "malformed" else sample.ended)
    assert got.usage.completion_tokens == sum(len(s.ids) for s in want)
    assert got.usage.prompt_tokens == len(prompt)


def test_many_at_once_get_what_they_would_get_alone(running: Running) -> None:
    """More requests than slots, long and short, each with settings of its own."""
    asks = [
        {"prompt": TEXT * (1 + k % 3), "max_tokens": 5 + 9 * (k % 4), "seed": k, "temperature": 0.5 + 0.1 * (k % 5)}
        for k in range(14)
    ]

    def ask(body: dict[str, Any]) -> list[int]:
        return running.post("/v1/completions", body | {"return_token_ids": True}).json()["choices"][0]["token_ids"]

    alone = [ask(body) for body in asks]
    with ThreadPoolExecutor(14) as pool:
        assert list(pool.map(ask, asks)) == alone
    steps = running.service.desk.steps
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, [{"prompt": TEXT, "max_tokens": 40, "seed": 3}] * 4))
    assert running.service.desk.steps - steps < 4 * 39  # they shared steps


def test_echo_scores_are_those_of_a_plain_forward(running: Running) -> None:
    """As a harness asks: ids in, one token drawn, log-probabilities of everything; the first token has none."""
    desk = running.service.desk
    prompts = [desk.chat.tokenizer(t).input_ids for t in ("one or two", "the assistant answers in sentences")]
    got = running.client.completions.create(
        model="tiny", prompt=prompts, max_tokens=1, temperature=0, logprobs=2, echo=True
    )
    for choice, ids in zip(got.choices, prompts):
        logits = tiny_forward(desk, ids)
        logp = torch.log_softmax(logits, -1)
        own = logp[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        drawn = int(logits[-1].argmax())
        assert choice.logprobs.token_logprobs[0] is None
        assert choice.logprobs.token_logprobs[1:] == pytest.approx([*own, float(logp[-1].max())], abs=1e-4)
        best = [max(top.values()) for top in choice.logprobs.top_logprobs[1:]]
        assert best == pytest.approx(logp.max(-1).values.tolist(), abs=1e-4)
        assert choice.text.startswith(desk.chat.decode(ids))
        assert choice.logprobs.tokens[-1] == desk.chat.decode([drawn])
        assert choice.logprobs.text_offset[:2] == [0, len(desk.chat.decode(ids[:1]))]


def tiny_forward(desk: Desk, ids: list[int]) -> torch.Tensor:
    model = tiny.model("qwen3")  # the same seed, the same weights; transformers' own attention
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def test_echo_alone_draws_nothing(running: Running) -> None:
    body = {"prompt": TEXT, "max_tokens": 0, "echo": True, "logprobs": 0}
    got = running.post("/v1/completions", body).json()
    assert got["choices"][0]["text"] == TEXT and got["usage"]["completion_tokens"] == 0
    assert len(got["choices"][0]["logprobs"]["tokens"]) == got["usage"]["prompt_tokens"]


@pytest.mark.parametrize("stop", [None, ["e", "an"]])
def test_streams_join_to_the_whole(running: Running, stop: list[str] | None) -> None:
    ask = {"model": "tiny", "messages": [{"role": "user", "content": TEXT}], "n": 2, "seed": 5, "max_tokens": 30,
           "stop": stop, "logprobs": True}  # fmt: skip
    whole = running.client.chat.completions.create(**ask)
    texts, tokens, ends, usage = ["", ""], [0, 0], ["", ""], None
    for chunk in running.client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            tokens[choice.index] += len(choice.logprobs.content)
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert texts == [c.message.content for c in whole.choices]
    assert tokens == [len(c.logprobs.content) for c in whole.choices]
    assert ends == [c.finish_reason for c in whole.choices]
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert stop is None or not any(s in text for s in stop for text in texts)


def test_a_stream_begins_behind_what_the_template_puts_before_an_answer(folder: Path) -> None:
    """Nothing of the lead is shown while it grows, and no character of the answer is lost."""
    desk, how, pieces, done = desk_of(folder), Sampling(max_new=30, seed=3), [], threading.Event()
    desk.chat = dataclasses.replace(desk.chat, stop_ids=())
    prompt = desk.chat.prompt((Message(role="user", content=TEXT),))

    def drawn() -> Any:
        return asyncio.run(Local(desk.model, desk.chat).sample([prompt], 1, how))[0][0]

    def sink(piece: Any) -> None:
        pieces.append(piece.text)
        if piece.ended or piece.error:
            done.set()

    whole = drawn()
    desk.chat = dataclasses.replace(desk.chat, lead=desk.chat.decode(whole.ids[:4]))
    desk.submit([Ask(tuple(prompt), how, sink, chat=True, stream=True)])
    assert done.wait(60)
    desk.close()
    assert "".join(pieces) == drawn().text == whole.text[len(desk.chat.lead) :] and len(pieces) > 3


def test_streamed_echo(running: Running) -> None:
    ask = {"model": "tiny", "prompt": TEXT, "max_tokens": 6, "seed": 1, "echo": True, "logprobs": 1}
    whole = running.client.completions.create(**ask).choices[0]
    chunks = [c.choices[0] for c in running.client.completions.create(**ask, stream=True)]
    assert "".join(c.text for c in chunks) == whole.text
    assert [t for c in chunks for t in c.logprobs.token_logprobs] == whole.logprobs.token_logprobs
    assert chunks[0].logprobs.text_offset[0] == 0


def test_a_client_that_leaves_frees_its_slot(running: Running) -> None:
    ask = {"prompt": TEXT, "max_tokens": 240, "n": 4, "stream": True, "temperature": 2.0}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", running.url + "/v1/completions", json=ask, headers=headers) as response:
        next(response.iter_lines())
    until = time.time() + 5
    while running.service.desk.running and time.time() < until:
        time.sleep(0.02)
    assert running.service.desk.running == 0
    assert "posttrain_cancelled_total" in running.get("/metrics").text


def test_the_cache_grows_and_the_context_ends_an_answer(running: Running) -> None:
    """The context is 256: a prompt of 250 leaves room for 6."""
    got = running.post("/v1/completions", {"prompt": [9] * 250, "max_tokens": 100, "temperature": 2.0, "seed": 2})
    assert got.json()["usage"]["completion_tokens"] <= 6
    too_long = running.post("/v1/completions", {"prompt": [9] * 256})
    assert too_long.status_code == 400 and too_long.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_null_is_what_was_not_said(running: Running, path: str) -> None:
    names = ("model", "n", "temperature", "top_p", "seed", "stop", "stream", "stream_options", "logprobs", "tools",
             "presence_penalty", "user", "logit_bias", "response_format", "return_token_ids")  # fmt: skip
    asked = {"prompt": "x"} if path == "completions" else {"messages": [{"role": "user", "content": "x"}]}
    answer = running.post(f"/v1/{path}", asked | {"max_tokens": 2} | dict.fromkeys(names))
    assert answer.status_code == 200 and len(answer.json()["choices"]) == 1, answer.text


BAD = [
    ("/v1/completions", {"prompt": 5}, "prompt"),
    ("/v1/completions", {"prompt": []}, "prompt"),
    ("/v1/completions", {"prompt": [99999]}, "vocabulary"),
    ("/v1/completions", {"prompt": "x", "max_tokens": 0}, "max_tokens"),
    ("/v1/completions", {"prompt": "x", "temperature": -1}, "temperature"),
    ("/v1/completions", {"prompt": "x", "stop": [""]}, "stop"),
    ("/v1/completions", {"prompt": "x", "best_of": 5}, "best_of"),
    ("/v1/completions", {"prompt": "x", "logprobs": 99}, "logprobs"),
    ("/v1/completions", {"prompt": "x", "presence_penalty": 1.0}, "presence_penalty"),
    ("/v1/chat/completions", {"messages": []}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0"),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": "x"}]}, "answer"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, "tools"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}, "top_logprobs"),
]


@pytest.mark.parametrize(("path", "body", "said"), BAD, ids=lambda x: x if isinstance(x, str) else "")
def test_bad_requests(running: Running, path: str, body: dict[str, Any], said: str) -> None:
    answer = running.post(path, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_other_errors_have_the_clients_types(running: Running) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        running.client.completions.create(model="gpt", prompt="x")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="wrong").models.list()
    assert httpx.get(running.url + "/health").json()["status"] == "ok"
    assert running.get("/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    broken = httpx.post(running.url + "/v1/completions", content=b"{", headers={"authorization": f"Bearer {KEY}"})
    assert broken.status_code == 400 and "JSON" in broken.json()["error"]["message"]
    assert [m.id for m in running.client.models.list()] == ["tiny"]


def test_a_broken_step_ends_its_requests_and_no_others(running: Running) -> None:
    """Weights that are not numbers, as a diverged model has them: an error in words; then put right again."""
    weight = running.service.desk.hf.get_output_embeddings().weight.data
    kept = weight.clone()
    weight.fill_(float("nan"))
    try:
        with pytest.raises(openai.InternalServerError, match="not finite"):
            running.client.completions.create(model="tiny", prompt="x")
        stream = running.post("/v1/completions", {"prompt": "x", "stream": True}).text
        assert "not finite" in json.loads(stream.split("data: ")[1])["error"]["message"]
    finally:
        weight.copy_(kept)
    assert running.post("/v1/completions", {"prompt": "x"}).status_code == 200


def test_a_full_queue_says_come_again(folder: Path) -> None:
    desk = desk_of(folder, slots=1, queue=3)
    try:
        ended = threading.Semaphore(0)
        how = Sampling(max_new=60, temperature=2.0)

        def ask() -> Ask:
            return Ask((5, 6), how, lambda piece: ended.release() if piece.ended else None)

        with pytest.raises(Busy):
            desk.submit([ask() for _ in range(4)])  # all or none
        desk.submit([ask() for _ in range(3)])
        assert all(ended.acquire(timeout=10) for _ in range(3))
        with pytest.raises(UserError, match="too long"):
            desk.submit([Ask((5,) * 300, how, print)])
    finally:
        desk.close()
    with pytest.raises(Busy):
        desk.submit([ask()])


def say(running: Running, **body: Any) -> httpx.Response:
    return running.post("/v1/feedback", body)


def test_feedback_is_kept_once(running: Running) -> None:
    chat = running.client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "once"}], n=2, max_tokens=8, seed=1
    )
    first = say(running, completion_id=chat.id, kind="thumb", value=True).json()
    again = say(running, completion_id=chat.id, kind="thumb", value=True).json()
    other = say(running, completion_id=chat.id, kind="thumb", value=False, reason="too short").json()
    assert first["recorded"] and not again["recorded"] and other["recorded"]
    assert first["id"] == again["id"] != other["id"]
    opinions = [o for o in read_jsonl(running.service.log.path, feedback.Opinion) if o.completion_id == chat.id]
    assert [o.value for o in opinions] == [True, False]
    assert opinions[0].answer == chat.choices[0].message.content and opinions[0].weights == "abc"
    (counted,) = feedback.latest(opinions)
    assert counted.value is False


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"completion_id": "chatcmpl-none", "kind": "thumb", "value": True}, 404),
        ({"completion_id": "ID", "kind": "thumb", "value": 5}, 400),
        ({"completion_id": "ID", "kind": "rating", "value": 8}, 400),
        ({"completion_id": "ID", "kind": "rating", "value": True}, 400),
        ({"completion_id": "ID", "kind": "rewrite", "value": " "}, 400),
        ({"completion_id": "ID", "kind": "applause", "value": 1}, 400),
        ({"completion_id": "ID", "kind": "thumb", "value": True, "choice": 9}, 400),
        ({"completion_id": "ID", "kind": "preferred_over", "value": "ID"}, 400),
        ({"completion_id": "ID", "kind": "thumb", "value": True, "colour": "red"}, 400),
    ],
)  # fmt: skip
def test_bad_feedback(running: Running, body: dict[str, Any], status: int) -> None:
    id = running.post("/v1/completions", {"prompt": "bad feedback", "max_tokens": 2}).json()["id"]
    body = {k: v.replace("ID", id) if isinstance(v, str) else v for k, v in body.items()}
    answer = running.post("/v1/feedback", body)
    assert answer.status_code == status and answer.json()["error"]["message"]


def test_feedback_becomes_rows(tmp_path: Path) -> None:
    log = feedback.Log(tmp_path / "log")
    asked = (Message(role="user", content="How?"),)
    for id in ("c-1", "c-2"):
        log.remember(feedback.Served(id=id, prompt=asked, answers=(f"{id} so", f"{id} thus")))
    said = [
        {"kind": "thumb", "value": True}, {"kind": "thumb", "value": False}, {"kind": "rewrite", "value": "Like this."},
        {"kind": "preferred_over", "value": "c-2", "over_choice": 1}, {"kind": "safety_flag", "value": "violence"},
        {"kind": "rating", "value": 6},
    ]  # fmt: skip
    for one in said:
        log.add(wire.Feedback(completion_id="c-1", **one))
    log.close()
    with (tmp_path / "log" / feedback.FILE).open("a") as f:
        f.write('{"id": "torn')  # a crash while writing
    again = feedback.Log(tmp_path / "log")
    assert again.add(wire.Feedback(completion_id="c-1", kind="rating", value=6))[1] is False
    with pytest.raises(UserError, match="another server"):
        feedback.Log(tmp_path / "log")
    again.close()
    counts = feedback.write_rows(tmp_path / "log", tmp_path / "rows")
    side = "holdout" if feedback.held_out(asked) else "train"
    assert {k: v for k, v in counts.items() if v} == {
        f"{side}/thumbs": 1, f"{side}/pairs": 2, f"{side}/demos": 1, f"{side}/flags": 1, f"{side}/ratings": 1,
    }  # fmt: skip
    rows = tmp_path / "rows" / side
    assert [t.label for t in read_jsonl(rows / "thumbs.jsonl", Thumb)] == [False]  # the newer opinion
    rewrite, preferred = read_jsonl(rows / "pairs.jsonl", Pair)
    assert (rewrite.chosen.content, rewrite.rejected.content) == ("Like this.", "c-1 so")
    assert (preferred.chosen.content, preferred.rejected.content) == ("c-1 so", "c-2 thus")
    assert next(read_jsonl(rows / "demos.jsonl", Demo)).messages[-1].content == "Like this."
    assert next(read_jsonl(rows / "flags.jsonl", Prompt)).category == "violence"


def test_a_tenth_is_held_out_by_how_a_conversation_begins() -> None:
    asked = [(Message(role="user", content=f"question {n}"),) for n in range(2000)]
    share = sum(map(feedback.held_out, asked)) / len(asked)
    assert 0.08 < share < 0.12
    later = (*asked[0], Message(role="assistant", content="x"), Message(role="user", content="and now?"))
    assert feedback.held_out(later) == feedback.held_out(asked[0])


def test_a_taken_port_is_said(running: Running) -> None:
    with pytest.raises(UserError, match="cannot listen"):
        listen.bind("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
