"""The data stage in passes over the disk: byte for byte the files that it makes in memory."""

import gzip
import json
import random

import pytest

from posttrain import files
from posttrain.errors import UserError
from posttrain.pipeline import Inputs, Runtime
from posttrain.stages import large
from posttrain.stages.data import Demos, PairsFile

WORDS = ["cat", "dog", "tree", "stone", "river", "cloud", "house", "road", "lamp", "green", "small", "quick", "seven"]


def text(rng, n):
    return " ".join(rng.choices(WORDS, k=n))


def records(n=200):
    """Rows with exact twins, near twins, an empty answer, an evaluation item, and a group of one question."""
    rng = random.Random(0)
    rows = [{"prompt": f"Say {text(rng, 6)}", "completion": text(rng, 30)} for _ in range(n)]
    rows[50] = dict(rows[7])
    rows[60] = rows[8] | {"completion": rows[8]["completion"] + " too"}
    rows[61] = rows[60] | {"completion": rows[60]["completion"] + " then"}
    rows[70]["completion"] = " "
    rows[71]["completion"] = "yes."
    rows[72]["prompt"] = "please answer how many legs does a spider and a dog have together my friend"
    for k in range(80, 90):
        rows[k]["prompt"] = "One question"
    return rows


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records()))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as f:
        f.writelines(json.dumps(r) + "\n" for r in records(230)[200:])
    item = {"id": "s", "prompt": "how many legs does a spider and a dog have together"}
    (tmp_path / "suite.jsonl").write_text(json.dumps(item) + "\n")
    return tmp_path


def made(stage, out, rows):
    out.mkdir()
    metrics = stage.run(Inputs({}), out, Runtime(rows=rows))
    return metrics, {p.name: p.read_text() for p in sorted(out.iterdir())}


@pytest.mark.parametrize("how", [
    {"dedupe": "near"}, {"dedupe": "exact", "limit": 70}, {"dedupe": "off", "holdout": 0.0}, {"holdout": 0.001},
    {"seed": 3, "weights": 1.5},
], ids=str)  # fmt: skip
def test_the_files_are_those_made_in_memory(folder, tmp_path, how):
    weight = how.pop("weights", 1.0)
    path = [{"path": str(folder / "a.jsonl"), "limit": 180, "weight": weight}, str(folder / "b.jsonl.gz")]
    stage = Demos.model_validate({"path": path, "decontaminate": (str(folder / "suite.jsonl"),), **how})
    memory, disk = made(stage, tmp_path / "memory", "memory"), made(stage, tmp_path / "disk", "mapped")
    assert disk == memory
    assert set(memory[1]) == {"train.jsonl", "holdout.jsonl", "ledger.jsonl", "audit.json"}


def test_the_case_is_not_empty(folder, tmp_path):
    """What the comparison above is about really happens: twins of each kind, an empty answer, a leak."""
    stage = Demos(path=str(folder / "a.jsonl"), decontaminate=(str(folder / "suite.jsonl"),))
    metrics, found = made(stage, tmp_path / "disk", "mapped")
    reasons = {json.loads(line)["reason"].split(":")[0] for line in found["ledger.jsonl"].splitlines()}
    assert reasons == {"empty answer", "duplicate", "near-duplicate", "holds an evaluation item"}
    assert metrics["dropped.near_duplicate"] == 2


def test_pairs_and_bad_rows(folder, tmp_path):
    rows = [{"prompt": f"ask {n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(30)]
    lines = [json.dumps(r) for r in rows]
    lines[4] = "{broken"
    lines[5] = json.dumps(rows[5] | {"rejected": "yes 5"})
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    stage = PairsFile(path=str(folder / "pairs.jsonl"), bad_rows="skip", dedupe="exact")
    assert made(stage, tmp_path / "disk", "mapped") == made(stage, tmp_path / "memory", "memory")
    with pytest.raises(UserError, match=r"pairs\.jsonl:5"):
        made(stage.model_copy(update={"bad_rows": "error"}), tmp_path / "error", "mapped")


def test_nothing_left_says_why(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "a", "completion": " "}) + "\n")
    with pytest.raises(UserError, match="no row is left") as error:
        made(Demos(path=str(tmp_path / "a.jsonl")), tmp_path / "disk", "mapped")
    assert "empty_answer" in error.value.remedy or "empty answer" in error.value.remedy


def test_large_files_go_this_way_by_themselves(folder, tmp_path, monkeypatch):
    stage = Demos(path=str(folder / "a.jsonl"))
    assert not large.is_large(stage)
    monkeypatch.setattr(large, "MAPPED_FROM", 1000)
    assert large.is_large(stage)


def test_large_files_are_read_line_by_line(folder, monkeypatch):
    whole = [list(files.records(folder / n)) for n in ("a.jsonl", "b.jsonl.gz")]
    monkeypatch.setattr(files, "STREAM_FROM", 0)
    monkeypatch.setattr(files, "_text", lambda path: pytest.fail("read as a whole"))
    assert [list(files.records(folder / n)) for n in ("a.jsonl", "b.jsonl.gz")] == whole
    (folder / "latin.jsonl").write_bytes(b'{"a": 1}\n{"a": "\xe9"}\n')
    with pytest.raises(UserError, match=r"latin\.jsonl:2: not UTF-8 text: byte 0xe9"):
        list(files.records(folder / "latin.jsonl"))
    (folder / "cut.jsonl.gz").write_bytes((folder / "b.jsonl.gz").read_bytes()[:-20])
    with pytest.raises(UserError, match="not a whole gzip file"):
        list(files.records(folder / "cut.jsonl.gz"))
