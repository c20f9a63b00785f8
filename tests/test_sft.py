"""The SFT stage's own parts: the audit that asks the starting policy which rows it finds unlikely."""

import json

import tiny
import torch

from posttrain.loading import load_model
from posttrain.packing import Branch, Doc, build
from posttrain.pipeline import Runtime
from posttrain.render import load_chat
from posttrain.rows import Demo, Message
from posttrain.stages.sft import AUDITED, surprise
from posttrain.stages.training import Ready


def demos(count, strange):
    """Alike rows, but for the strange ones."""
    return [
        Demo(id=f"r{n}", messages=(Message(role="user", content="hello"), Message(role="assistant", content=text)))
        for n in range(count)
        for text in ["qq zz ~~ ^^" if n in strange else f"the answer is {n % 7}"]
    ]


def taught_to_say(model, docs):
    """A few steps, so that some rows are likelier than others."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    pack = build(docs)
    for _ in range(40):
        model.nll(pack, torch.full((len(pack.target_N),), 1 / len(pack.target_N)))[0].backward()
        optimiser.step()
        optimiser.zero_grad()


def test_rows_the_policy_finds_unlikely_are_named_with_examples(tmp_path):
    folder = tiny.folder(tmp_path / "model")
    rows = demos(60, strange={17})
    chat = load_chat(folder, "plain")
    docs = [Doc([], [Branch(*chat.example(r.messages))]) for r in rows]
    model = load_model(folder, Runtime(precision="fp32"), train=True)
    taught_to_say(model, [d for d, r in zip(docs, rows, strict=True) if r.id != "r17"][:8])
    ready = Ready(model, chat, docs, [r.id for r in rows], [])
    surprise(ready, rows, 512, tmp_path, Runtime())
    found = json.loads((tmp_path / "audit.json").read_text())
    (warning,) = found["warnings"]
    assert found["rows"] == 60 and warning["kind"] == "surprising_rows"
    assert [e["row"] for e in warning["examples"]] == ["r17"]


def test_a_large_set_is_sampled(tmp_path):
    folder = tiny.folder(tmp_path / "model")
    rows = demos(2 * AUDITED + 1, strange=())
    chat = load_chat(folder, "plain")
    docs = [Doc([], [Branch(*chat.example(r.messages))]) for r in rows]
    ready = Ready(load_model(folder, Runtime(precision="fp32"), train=False), chat, docs, [r.id for r in rows], [])
    surprise(ready, rows, 2048, tmp_path, Runtime())
    assert json.loads((tmp_path / "audit.json").read_text())["rows"] == -(-len(rows) // 3)
