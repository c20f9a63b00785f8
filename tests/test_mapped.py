"""Rows on the disk: the documents, checks and weights of rows in memory; one cache for the same content."""

import json

import pytest
import tiny

from posttrain import mapped, recipe
from posttrain.dataset import lines
from posttrain.errors import UserError
from posttrain.pipeline import Inputs, Runtime
from posttrain.preflight import preflight
from posttrain.render import load_chat
from posttrain.rows import Demo, Message, Pair, write_jsonl
from posttrain.stages.sft import Sft


def demos(n=40, long=()):
    def said(k):
        return f"the answer is {k} " * (60 if k in long else 1 + k % 3)

    return [
        Demo(id=f"r{k}" if k % 2 else "", messages=(
            Message(role="user", content=f"ask {k}\né"), Message(role="assistant", content=said(k)),
        ))
        for k in range(n)
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny.folder(tmp_path_factory.mktemp("model"))
    load_chat(folder, "plain").save(folder)
    return folder


@pytest.fixture
def chat(model):
    return load_chat(model)


def test_lines_are_the_rows_of_several_files(tmp_path):
    rows = demos(10)
    write_jsonl(tmp_path / "a.jsonl", rows[:4])
    (tmp_path / "b.jsonl").write_text("")
    write_jsonl(tmp_path / "c.jsonl", rows[4:])
    found = lines.Lines([tmp_path / n for n in ("a.jsonl", "b.jsonl", "missing.jsonl", "c.jsonl")], Demo)
    assert len(found) == 10 and list(found) == rows
    assert found[-1] == rows[-1] and found[3:6] == rows[3:6]
    with pytest.raises(IndexError):
        found[10]
    (tmp_path / "c.jsonl").write_bytes((tmp_path / "c.jsonl").read_bytes().rstrip(b"\n"))
    assert list(lines.Lines([tmp_path / "c.jsonl"], Demo)) == rows[4:]  # a last line without its end


def test_a_bad_line_is_named(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", demos(2))
    with (tmp_path / "a.jsonl").open("a") as f:
        f.write('{"messages": 1}\n')
    with pytest.raises(UserError, match=r"a\.jsonl:3"):
        lines.Lines([tmp_path / "a.jsonl"], Demo)[2]


@pytest.mark.parametrize("too_long", ["truncate", "drop"])
@pytest.mark.parametrize("chunk", [7, 2048])
def test_the_same_documents_as_in_memory(tmp_path, chat, too_long, chunk, monkeypatch):
    """Chunks of 7 rows go through worker processes, one chunk of all does not."""
    monkeypatch.setattr(mapped, "CHUNK", chunk)
    rows = demos(long=(3, 30))
    write_jsonl(tmp_path / "a.jsonl", rows)
    memory = preflight(rows, chat, max_tokens=128, too_long=too_long)
    found = mapped.check(lines.Lines([tmp_path / "a.jsonl"], Demo), chat, max_tokens=128, too_long=too_long)
    assert list(found.docs) == memory.docs and list(found.names) == memory.names
    assert (found.ledger, found.facts, list(found.kept)) == (memory.ledger, memory.facts, memory.kept)
    assert list(mapped.sizes(found.docs)) == mapped.sizes(memory.docs)
    assert list(mapped.targets(found.docs)) == mapped.targets(memory.docs)


def test_pairs_are_documents_of_two_branches(tmp_path, chat):
    ask = (Message(role="user", content="ask"),)
    rows = [
        Pair(prompt=ask, chosen=Message(role="assistant", content=f"yes {k}"),
             rejected=Message(role="assistant", content=f"no {k} no"))
        for k in range(5)
    ]  # fmt: skip
    write_jsonl(tmp_path / "a.jsonl", rows)
    found = mapped.check(lines.Lines([tmp_path / "a.jsonl"], Pair), chat, max_tokens=128)
    assert list(found.docs) == preflight(rows, chat, max_tokens=128).docs


def test_the_cache_knows_content_template_and_mask(tmp_path, chat, cache, model, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl", demos())
    rows = lines.Lines([tmp_path / "a.jsonl"], Demo)
    mapped.check(rows, chat, max_tokens=128)
    write_jsonl(tmp_path / "copy.jsonl", demos())
    with monkeypatch.context() as m:
        m.setattr(mapped, "chunk", lambda *_: pytest.fail("tokenised a second time"))
        mapped.check(lines.Lines([tmp_path / "copy.jsonl"], Demo), chat, max_tokens=64)
    assert len(list((cache / "tokens").iterdir())) == 1
    mapped.check(rows, chat, max_tokens=128, train_on="all")
    mapped.check(rows, load_chat(model, "plain"), max_tokens=128)  # the same template again
    write_jsonl(tmp_path / "a.jsonl", demos(41))
    mapped.check(lines.Lines([tmp_path / "a.jsonl"], Demo), chat, max_tokens=128)
    assert len(list((cache / "tokens").iterdir())) == 3


@pytest.mark.parametrize("chunk", [7, 2048])
def test_refusals_and_nothing_half_written(tmp_path, model, cache, chunk, monkeypatch):
    monkeypatch.setattr(mapped, "CHUNK", chunk)
    chat = load_chat(model, "chatml")  # whose answers begin with no blank
    write_jsonl(tmp_path / "long.jsonl", demos(long=(30,)))
    with pytest.raises(UserError, match="1 of 40 rows are longer than 128 tokens"):
        mapped.check(lines.Lines([tmp_path / "long.jsonl"], Demo), chat, max_tokens=128)
    rows = demos()
    rows[33] = rows[33].model_copy(update={"messages": (rows[0].messages[0], Message(role="assistant", content=""))})
    write_jsonl(tmp_path / "empty.jsonl", rows)
    with pytest.raises(UserError, match=r"1 rows have an answer without a token to learn, first: r33"):
        mapped.check(lines.Lines([tmp_path / "empty.jsonl"], Demo), chat, max_tokens=128)
    same = [r.model_copy(update={"messages": (r.messages[0], Message(role="assistant", content="no"))}) for r in rows]
    write_jsonl(tmp_path / "same.jsonl", same)
    with pytest.raises(UserError, match="have the same answer"):
        mapped.check(lines.Lines([tmp_path / "same.jsonl"], Demo), chat, max_tokens=128)
    assert len(list((cache / "tokens").iterdir())) == 1


def test_sft_makes_the_same_weights(tmp_path, model):
    """runtime.rows is how, not what: log and weights are equal bit for bit."""
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train.jsonl", demos())
    write_jsonl(tmp_path / "data" / "holdout.jsonl", demos(6))
    stage = Sft(policy="a", data="b", lr=0.01, steps=4, batch_tokens=256, micro_tokens=128, max_tokens=128)
    inputs = Inputs({"policy": (model,), "data": (tmp_path / "data",)})
    made = []
    for how in ("memory", "mapped"):
        out = tmp_path / how
        out.mkdir()
        metrics = stage.run(inputs, out, Runtime(rows=how, precision="fp32", compile="off"))
        made.append((metrics, (out / "model.safetensors").read_bytes(), (out / "log.jsonl").read_bytes()))
    assert made[0] == made[1]


def test_recipes_say_where_rows_are(tmp_path):
    (tmp_path / "r.yaml").write_text(json.dumps({"stages": {"base": {"type": "base_model"}}}))
    assert recipe.load(str(tmp_path / "r.yaml"), ["runtime.rows=mapped"]).runtime.rows == "mapped"
    with pytest.raises(UserError):
        recipe.load(str(tmp_path / "r.yaml"), ["runtime.rows=cloud"])
