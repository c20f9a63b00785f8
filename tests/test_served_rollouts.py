"""Rollouts drawn by a server that gets each version of the weights: the run of one process, and what fails."""

import asyncio
import shutil
from typing import Any

import pytest
from endpoint import Raw, endpoint
from test_rl import places as places_fixture
from test_rl import run
from test_serve import KEY, Running, desk_of

from posttrain.errors import UserError
from posttrain.loading import load_model
from posttrain.pipeline import Runtime
from posttrain.render import load_chat
from posttrain.sampler import Sampling
from posttrain.sampler.http import Client
from posttrain.sampler.local import Local
from posttrain.sampler.server import Server
from posttrain.serve import app as apps

places = places_fixture
FP32 = Runtime(precision="fp32", device="cpu")


@pytest.fixture
def running(places, tmp_path, monkeypatch):
    """A server that reads its weights anew from a folder, as `posttrain serve FOLDER --reload` does."""
    monkeypatch.setenv("RL_KEY", KEY)
    folder = tmp_path / "served"
    shutil.copytree(places[0], folder)
    desk, reads = desk_of(folder, slots=8), []

    def renew() -> None:
        reads.append(folder)
        desk.hf.load_state_dict(load_model(folder, FP32, train=False).hf.state_dict())

    server: Any = Running(apps.Service(desk, "tiny", None, key=KEY, renew=renew))
    server.folder, server.reads = folder, reads
    yield server
    server.stop()


def serving(running, **more):
    return {"url": f"{running.url}/v1", "model": "tiny", "folder": str(running.folder), "key_env": "RL_KEY"} | more


def test_a_served_run_is_the_run_of_one_process(places, running, tmp_path):
    """The same draws with each version of the weights: reward for reward, until rounding tells them apart."""
    _, local = run(places, tmp_path / "local", steps=4)
    _, served = run(places, tmp_path / "served-run", steps=4, rollouts={"server": serving(running)})
    rewards = [[e["reward"] for e in log if "reward" in e] for log in (local, served)]
    assert rewards[0] == rewards[1] and len(set(rewards[0])) > 1
    assert max(e["mismatch"] for e in served if "mismatch" in e) < 1e-6
    assert len(running.reads) == 4  # one version a rollout


def test_stale_rollouts_of_a_server(places, running, tmp_path):
    """Rollouts 0 and 1 come from one version, so there is one reload less."""
    _, log = run(places, tmp_path / "out", steps=4, rollouts={"server": serving(running), "max_staleness": 1})
    assert [e["staleness"] for e in log if "staleness" in e] == [0, 1, 1, 1] and len(running.reads) == 3


def test_new_weights_draw_other_answers(places, running):
    """Old answers, reload, the answers of the new weights: those that the local sampler draws from them."""
    chat = load_chat(places[0])
    server = Server(Client([f"{running.url}/v1"], key=KEY), "tiny", chat, folder=running.folder)
    how, prompts = Sampling(max_new=12, seed=1), [[5, 6, 7], [9, 8]]
    before = asyncio.run(server.sample(prompts, 2, how))
    model = load_model(places[0], FP32, train=False)
    for p in model.hf.parameters():
        p.data.mul_(0.8)
    asyncio.run(server.load(model, version=3))
    after, want = asyncio.run(server.sample(prompts, 2, how)), asyncio.run(Local(model, chat).sample(prompts, 2, how))
    ids = [[[s.ids for s in row] for row in found] for found in (before, after, want)]
    assert ids[1] == ids[2] != ids[0] and after[0][0].version == 3


def test_weights_without_a_folder_and_a_server_that_does_not_reload(places, running):
    chat, model = load_chat(places[0]), load_model(places[0], FP32, train=False)
    with pytest.raises(UserError, match="cannot be put into a server") as caught:
        asyncio.run(Server(Client(["http://x/v1"]), "tiny", chat).load(model, 1))
    assert "folder" in caught.value.remedy
    running.service.renew = None
    with pytest.raises(UserError, match="start it with --reload"):
        server = Server(Client([f"{running.url}/v1"], key=KEY), "tiny", chat, folder=running.folder)
        asyncio.run(server.load(model, 1))


def test_a_server_that_dies_ends_the_run_with_one_message(places, tmp_path):
    """It takes the weights and answers nothing after that."""

    def script(path, body, number):
        return {"status": "ok"} if path == "/v1/reload" else Raw(503, "gone")

    with endpoint(script) as fake:
        server = {"url": fake.url, "model": "m", "folder": str(tmp_path / "served"), "tries": 1}
        with pytest.raises(UserError, match=r"no answer after 1 tries: status 503: gone"):
            run(places, tmp_path / "out", rollouts={"server": server})
        assert (tmp_path / "served" / "model.safetensors").exists() and fake.asked[0][1] == "/v1/reload"
