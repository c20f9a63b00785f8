"""`posttrain label`: projects and items made once, models sampled, the serving log read, the real command.

Kinds: hand values on small files, idempotence, one crash (the server killed while people vote).
"""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from made_project import PASSWORD

from posttrain import label as labelling
from posttrain import listen
from posttrain.errors import UserError
from posttrain.store import Candidate, Store, read_items

LINES = [{"id": f"i{n}", "prompt": f"Question {n}?", "answers": [f"yes {n}", f"no {n}"]} for n in range(3)]


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/feedback.db") as opened:
        yield opened


def write(path: Path, rows: list) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_project_is_made_once_and_keeps_its_kind(store):
    said: list[str] = []
    assert labelling.settle(store, "help", "rating", "", 2, said.append) == "rating"
    assert labelling.settle(store, "help", None, "", 1, said.append) == "rating"
    assert said == ["project help: made, rating"] and store.project("help").settings.labels_per_item == 2
    with pytest.raises(UserError, match="is of kind rating, not pair"):
        labelling.settle(store, "help", "pair", "", 1, said.append)
    with pytest.raises(UserError, match="did you mean 'ranking'"):
        labelling.known_kind("rankin")


def test_items_are_imported_once(store, tmp_path):
    said: list[str] = []
    labelling.settle(store, "help", "pair", "", 1, said.append)
    items = read_items(write(tmp_path / "a.jsonl", LINES), "pair")
    labelling.add(store, "help", items[:2], said.append)
    labelling.add(store, "help", items, said.append)
    assert said[1:] == ["items: 2 imported", "items: 1 imported, 2 were there already"]
    assert [i.id for i in store.items("help")] == ["i0", "i1", "i2"]


def test_two_models_answer_prompts(store, tmp_path):
    """Two random models of different seeds; asked again, nothing is sampled again."""
    import tiny

    folders = [str(tiny.folder(tmp_path / f"model{seed}", seed=seed)) for seed in (1, 2)]
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": "the user asks"}, {"prompt": "the assistant answers"}])
    said: list[str] = []
    labelling.settle(store, "models", "pair", "", 1, said.append)
    how = (store, "models", "pair", folders, prompts, 1.0, 12, said.append)
    made = labelling.sampled(*how)
    labelling.add(store, "models", made, said.append)
    assert 0 < len(made) <= 2 and [a.model for a in made[0].answers] == folders
    assert all(len({a.text for a in item.answers}) == 2 for item in made)
    if len(made) == 2:
        assert labelling.sampled(*how) == []
    with pytest.raises(UserError, match="shows 3 to 9"):
        labelling.sampled(store, "models", "ranking", folders, prompts, 1.0, 12, said.append)


def test_a_stage_is_named_without_its_fingerprint(tmp_path):
    for age, fingerprint in ((200, "aaaa"), (100, "bbbb")):
        folder = tmp_path / f"sft-{fingerprint}"
        folder.mkdir()
        (folder / "record.json").write_text("{}")
        os.utime(folder, (folder.stat().st_atime, folder.stat().st_mtime - age))
    assert labelling.newest(str(tmp_path / "sft")) == str(tmp_path / "sft-bbbb")
    assert labelling.newest(str(tmp_path / "dpo")) == str(tmp_path / "dpo")
    assert labelling.newest("owner/model") == "owner/model"


def test_the_serving_log_gives_answers_to_compare(tmp_path):
    """Three opinions on two conversations, one of them held out: a pair, two single answers, and no opinion taken."""
    ask = lambda text: [{"role": "user", "content": text}]  # noqa: E731
    said = [
        {"completion_id": "c1", "prompt": ask("Hi"), "answer": "Hello.", "model": "one", "value": True},
        {"completion_id": "c2", "prompt": ask("Hi"), "answer": "Good day.", "other": "Hello.", "value": "c1"},
        {"completion_id": "c3", "prompt": ask("Secret"), "answer": "x", "held_out": True, "value": False},
    ]
    log = write(tmp_path / "feedback.jsonl", said)
    pairs = labelling.served(log, "pair")
    assert [[a.text for a in item.answers] for item in pairs] == [["Hello.", "Good day."]]
    assert pairs[0].answers[0] == Candidate(text="Hello.", model="one") and pairs[0].gold is None
    assert [len(item.answers) for item in labelling.served(log, "rating")] == [1, 1]
    assert labelling.served(log, "ranking") == []
    assert labelling.served(write(tmp_path / "items.jsonl", LINES), "pair") == []


@pytest.mark.parametrize(("kind", "count"), [("ranking", 3), ("rating", 1)])
def test_any_number_of_models_answers_prompts(store, tmp_path, kind, count):
    import tiny

    folders = [str(tiny.folder(tmp_path / f"model{seed}", seed=seed)) for seed in range(1, count + 1)]
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": "the user asks"}, {"prompt": "the assistant answers"}])
    labelling.settle(store, kind, kind, "", 1, print)
    made = labelling.sampled(store, kind, kind, folders, prompts, 1.0, 12, print)
    assert made and all([a.model for a in item.answers] == folders for item in made)


def test_models_and_prompts_belong_together(tmp_path):
    with pytest.raises(UserError, match="belong together"):
        labelling.label("x", models=("a", "b"), db=f"sqlite:///{tmp_path}/f.db", port=0)


def test_a_port_in_use_is_told_before_anything_is_made(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="in use"):
            labelling.label("x", db=f"sqlite:///{tmp_path}/f.db", port=taken.getsockname()[1])
    assert not (tmp_path / "f.db").exists()


def test_an_answer_does_not_wait_for_the_network_to_gather_more():
    """TCP_NODELAY on what is accepted: without it, the second half of each answer comes 40 ms late."""
    found = []

    async def accept() -> bool:
        with listen.bind("127.0.0.1", 0) as listener:
            server = await asyncio.start_server(lambda _, w: found.append(w), sock=listener)
            async with server:
                _, writer = await asyncio.open_connection(*listener.getsockname())
                while not found:
                    await asyncio.sleep(0.001)
                at_once = found[0].get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                writer.close()
                found[0].close()  # from Python 3.12 on, a server waits for its connections
                return bool(at_once)

    assert asyncio.run(accept())


class Server:
    """The real command as a process; its lines until it serves."""

    def __init__(self, db: Path, *more: str):
        command = [
            sys.executable,
            "-u",
            "-m",
            "posttrain",
            "label",
            "--project",
            "help",
            "--db",
            str(db),
            "--port",
            "0",
            *more,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        for line in self.process.stdout or ():
            self.lines.append(line)
            if line.startswith("labelling "):
                break
        self.base = re.search(r"http://[\d.]+:\d+", self.lines[-1]).group(0)  # type: ignore[union-attr]

    def end(self, how: int) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)


def test_the_command_serves_and_a_killed_server_forgets_nothing(tmp_path):
    """The administrator's link works once; SIGKILL right after a receipt; the vote and the chain are there."""
    db = tmp_path / "feedback.db"
    server = Server(db, "--items", write(tmp_path / "items.jsonl", LINES))
    link = re.search(r"http://\S+/join/(\S+)", "".join(server.lines)).group(1)
    transport = httpx.HTTPTransport(retries=10)  # the socket listens before the application runs
    with httpx.Client(base_url=server.base, transport=transport, timeout=60) as http:
        joined = http.post("/api/v1/join", json={"invitation": link, "name": "ada", "password": PASSWORD}).json()
        http.headers["authorization"] = f"Bearer {joined['token']}"
        task = http.get("/api/v1/projects/help/tasks/next").json()
        receipt = http.post(f"/api/v1/tasks/{task['id']}/answer", json={"choice": "a", "strength": 2}).json()
    server.end(signal.SIGKILL)
    again = Server(db)
    assert not any("administrator" in line for line in again.lines)
    with httpx.Client(transport=httpx.HTTPTransport(retries=10), timeout=60) as http:
        answer = http.get(
            f"{again.base}/api/v1/projects/help/events", headers={"authorization": f"Bearer {joined['token']}"}
        )
    assert answer.json()[-1]["hash"] == receipt["hash"]
    assert again.end(signal.SIGINT) in (0, 130, -signal.SIGINT)
    with Store.open(f"sqlite:///{db}") as store:
        assert store.verify().ok and len(store.votes("help")) == 1
