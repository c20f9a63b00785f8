"""What people type wrong: every mistake is one message with its place and a remedy, exit code 2, and no traceback.

In one process through the command line's own entry. Left out: mistakes inside a long run (test_end_to_end.py).
"""

import gzip
import json
import os
from pathlib import Path

import pytest

from posttrain import cli

RECIPE = """stages:
  base: {type: base_model, model: bundled:tiny}
  demos: {type: demos, path: PATH, holdout: 0.1}
  sft: {type: sft, policy: base, data: demos, lr: 1.0e-3, steps: 2, too_long: drop}
"""
ROWS = [{"prompt": f"what is {n}?", "completion": f"it is {n}."} for n in range(20)]
LINES = "".join(json.dumps(r) + "\n" for r in ROWS)


def posttrain(*words: str) -> int:
    return cli.guarded(lambda: cli.app(args=list(words), standalone_mode=False))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(LINES)
    (tmp_path / "good.yaml").write_text(RECIPE.replace("PATH", "rows.jsonl"))
    (tmp_path / "data.yaml").write_text("stages:\n  demos: {type: demos, path: rows.jsonl, holdout: 0.1}\n")
    return tmp_path


def refused(capsys, *words: str) -> tuple[str, str]:
    """(message, remedy) of a command that must be refused."""
    assert posttrain(*words) == 2
    said = capsys.readouterr().err.splitlines()
    message, remedy = [s for s in said if s.startswith("posttrain: ")], [s for s in said if s.startswith("  try: ")]
    assert len(message) == 1 and len(remedy) == 1, said
    assert "Traceback" not in "".join(said)
    return message[0].removeprefix("posttrain: "), remedy[0].removeprefix("  try: ")


# ---- recipes


WRONG = {
    "a stage twice": (
        "  sft:", "  base: {type: base_model}\n  sft:", "wrong.yaml:4: not valid YAML: 'base' stands here twice, first",
        "rename"),
    "a key twice": (
        "model: bundled:tiny", "model: a, model: b", "wrong.yaml:2: not valid YAML: 'model' stands",
        "rename"),
    "a tab": ("  base:", "\tbase:", "wrong.yaml:2: not valid YAML: a tab", "blanks"),
    "a bracket": ("too_long: drop}", "too_long: drop", "wrong.yaml:", "bracket"),
    "itself": ("policy: base", "policy: sft", "stages.sft.policy: a stage cannot be its own input", "a policy"),
    "a cycle": (
        "  sft:", "  one: {type: sft, policy: two, data: demos}\n  two: {type: sft, policy: one, data: demos}\n  sft:",
        "stages.one.policy: 'one' and 'two' need each other: a cycle", "a policy"),
    "a number as a name": ("  demos:", "  7:", "stages.7: YAML reads this name as 7", "quotes"),
    "yes as a name": ("  demos:", "  on:", "stages.True: YAML reads this name as True", "quotes"),
    "a reserved name": ("  demos:", "  runtime:", "stages.runtime: a stage cannot be called 'runtime'", "another name"),
    "a slash in a name": ("  demos:", "  de/mos:", "stages.de/mos: a stage's name may hold", "de_mos"),
    "a way out": ("stages:\n", "name: ../up\nstages:\n", "wrong.yaml: name: a run's name is", "wrong"),
    "an empty name": ("stages:\n", "name: ''\nstages:\n", "wrong.yaml: name: a run's name is", "wrong"),
    "no stages": ("stages:", "stage:", "unknown key 'stage'", "did you mean 'stages'"),
    "a text": (RECIPE, "hello\n", "a recipe needs a `stages:` mapping", "recipes/sft.yaml"),
    "yes as a number": ("steps: 2", "steps: yes", "stages.sft.steps: expected a number, got true", "digits"),
    "words as a number": ("lr: 1.0e-3", "lr: fast", "stages.sft.lr: expected a number, got 'fast'", "lr: 1e-05"),
    "too small": ("lr: 1.0e-3", "lr: -1", "stages.sft.lr: must be greater than 0, got -1", "lr: 1e-05"),
    "a fraction": ("steps: 2", "steps: 2.5", "stages.sft.steps: expected a whole number, got 2.5", "schema"),
    "one of": (
        "too_long: drop", "too_long: dorp", "stages.sft.too_long: expected one of error, truncate, drop",
        "'drop'"),
    "a list": ("lr: 1.0e-3", "lr: [1]", "stages.sft.lr: expected a number, got [1]", "lr: 1e-05"),
    "a number as a mapping": ("lr: 1.0e-3", "lora: 8", "stages.sft.lora: expected a mapping", "schema"),
    "an edge left out": (
        "policy: base, ", "", "stages.sft.policy: this key is required",
        "policy: the name of a stage above"),
    "a wrong key inside": ("path: PATH", "path: [{pth: x}]", "stages.demos.path.0.pth: unknown key 'pth'", "'path'"),
    "a wrong value inside": ("path: PATH", "path: [3]", "stages.demos.path.0: expected a text, got 3", "schema"),
    "a device": (
        "stages:\n", "runtime: {device: cdua}\nstages:\n", "runtime.device: expected one of auto, cpu, cuda",
        "'cuda'"),
    "a suite": (
        "  sft:", "  ev: {type: evaluate, policy: base, suites: [arithmetc]}\n  sft:", "stages.ev: there is no",
        "'arithmetic'"),
    "suites in a text": (
        "  sft:", "  ev: {type: evaluate, policy: base, suites: facts}\n  sft:",
        "stages.ev.suites: expected a list", "suites: [facts]"),
    "a file": ("PATH", "row.jsonl", "stages.demos: row.jsonl: there is no such file", "'rows.jsonl'"),
    "a folder of nothing": ("PATH", "empty", "stages.demos: empty: the folder holds no data files", "jsonl"),
    "a recipe as data": (
        "PATH", "good.yaml", "stages.demos: good.yaml: this is a recipe, not data",
        "posttrain plan good.yaml"),
    "no ending": ("PATH", "noext", "stages.demos: noext: the name does not say what it holds", "jsonl"),
    "a missing yaml": ("PATH", "some/thing.yaml", "stages.demos: some/thing.yaml: there is no such file", "path"),
    "a rule about a suite that nobody asks": (
        "  sft:",
        "  ev: {type: evaluate, policy: base, suites: [facts]}\n  g: {type: gate, candidate: ev, baseline: ev, "
        "rules: [{metric: fact.accuracy, no_worse_than: 0}]}\n  sft:",
        "stages.g: rules.0.metric: 'ev' evaluates no suite 'fact'", "'facts'"),
    "a model": ("bundled:tiny", "/nowhere/model", "stages.base: there is no model folder", "config.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_recipe_is_refused_before_anything_is_done(home, capsys, name):
    old, new, what, remedy = WRONG[name]
    (home / "empty").mkdir()
    (home / "noext").write_text(LINES)
    assert old in RECIPE
    (home / "wrong.yaml").write_text(RECIPE.replace(old, new, 1).replace("PATH", "rows.jsonl"))
    message, said = refused(capsys, "run", "wrong.yaml")
    assert what in message and remedy in said
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("override", "what", "remedy"),
    [
        ("sft.lr=abc", "stages.sft.lr: expected a number", "lr: 1e-05"),
        ("sft.lrr=1", "unknown key 'lrr'", "did you mean 'lr'"),
        ("sft.lr", "not of the form", "dpo.loss.beta=0.2"),
        ("stf.lr=1", "no stage 'stf'", "did you mean 'sft'"),
        ("sft.lr.x=1", "'lr' is a plain value", "sft.lr=VALUE"),
        ("demos.path=[a,", "not valid YAML", "quote the whole argument"),
    ],
)
def test_a_wrong_override(home, capsys, override, what, remedy):
    message, said = refused(capsys, "plan", "good.yaml", override)
    assert what in message and remedy in said


def test_an_override_of_one_stage_leaves_those_that_share_its_anchor(home):
    from posttrain import recipe

    (home / "shared.yaml").write_text(
        "stages:\n  base: {type: base_model}\n  a: &e {type: evaluate, policy: base, suites: [facts]}\n  b: *e\n"
    )
    stages = recipe.load("shared.yaml", ["a.limit=3"]).stages
    assert (stages["a"].limit, stages["b"].limit) == (3, None)


def test_a_merge_may_say_again_what_the_anchor_said(home):
    from posttrain import recipe

    (home / "merged.yaml").write_text(
        "stages:\n  base: {type: base_model}\n  a: &e {type: evaluate, policy: base, suites: [facts], limit: 2}\n"
        "  b: &f {<<: *e, limit: 3}\n  c: {<<: *f, limit: 4}\n"
    )
    assert [s.limit for s in list(recipe.load("merged.yaml").stages.values())[1:]] == [2, 3, 4]


# ---- data


def broken(home: Path) -> dict[str, tuple[str, bytes, str, str]]:
    """name -> (file, its bytes, what is said, what helps)."""
    lines = LINES.splitlines(keepends=True)
    return {
        "nothing": ("x.jsonl", b"", "x.jsonl: the file is empty", "row"),
        "half a row": (
            "x.jsonl", "".join([*lines[:2], '{"prompt": "a"\n', *lines[3:]]).encode(), "x.jsonl:3: row: not valid JSON",
            "--bad-rows skip"),
        "no answer": (
        "x.jsonl", (LINES + '{"prompt": "a"}\n').encode(), "x.jsonl:21: messages: there is no answer",
        "skip"),
        "other fields": ("x.jsonl", b'{"foo": 1}\n', "x.jsonl:1: row: none of the known fields; it has foo", "skip"),
        "bytes": ("x.jsonl", bytes(range(256)) * 9, "a binary file, no text", "jsonl"),
        "latin-1": ("x.jsonl", LINES.encode() + '{"prompt": "é"}'.encode("latin-1"), "x.jsonl:21: not UTF-8", "iconv"),
        "no header": (
        "x.csv", b"What is it?,A thing.\nAnd that?,Another.\n", "x.csv:2: row: none of the known",
        "first line"),
        "half a gzip": ("x.jsonl.gz", gzip.compress(LINES.encode())[:-20], "not a whole gzip file", "again"),
        "half an array": (
        "x.json", b'[\n{"prompt": "a", "completion": "b"},\n{"pro', "x.json:3: not valid JSON",
        "cut short"),
        "no parquet": ("x.parquet", b"hello", "not a readable Parquet file", "again"),
    }  # fmt: skip


@pytest.mark.parametrize("name", broken(Path()))
def test_data_that_cannot_be_read_says_where_and_what_helps(home, capsys, name):
    file, content, what, remedy = broken(home)[name]
    (home / file).write_bytes(content)
    message, said = refused(capsys, "run", "data.yaml", f"demos.path={file}")
    assert message.startswith("stages.demos: ") and what in message and remedy in said


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_tables_of_any_spreadsheet_are_read(home, end, mark, between):
    from posttrain import formats

    (home / "x.csv").write_bytes(
        (mark + end.join(["prompt,completion", "a?,b", "c?,d"])).replace(",", between).encode()
    )
    assert [[m.content for m in r.messages] for r in formats.load("x.csv", "demos").rows] == [["a?", "b"], ["c?", "d"]]


# ---- paths


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("plan", "."), "this is a folder, not a recipe"),
        (("plan", "smke"), "no such recipe"),
        (("run", "data.yaml", "--bad-rows", "sip"), "--bad-rows takes error or skip"),
        (("run", "data.yaml", "--runs", "rows.jsonl"), "rows.jsonl/data: not a directory"),
        (("run", "data.yaml", "--only", "nothing"), "there is no stage 'nothing'"),
        (("export", "rows.jsonl", "out"), "this is a file, not a model"),
        (("export", "./nothing", "out"), "there is no such folder"),
        (("export", "bundled:tny", "out"), "no model is called 'bundled:tny'"),
        (("export", "empty", "out"), "there is no model here"),
        (("export", "bundled:tiny", "rows.jsonl/out"), "rows.jsonl: file exists"),
        (("export", "bundled:tiny", "empty"), "this already exists"),
        (("chat", "runs/nothing"), "there is no such folder"),
        (("serve", "runs/nothing", "--port", "0"), "there is no such folder"),
        (("diff", "empty", "empty"), "there are no finished stages here"),
        (("show", "good.yaml"), "this is a recipe, not data"),
        (("show", "empty"), "no data files"),
        (("show", "empty", "--vote", "3"), "there is no finished stage here"),
    ],
)
def test_a_wrong_path_is_told(home, capsys, words, what):
    (home / "empty").mkdir()
    assert what in refused(capsys, *words)[0]


def test_a_folder_of_runs_is_no_run(home, capsys):
    record = home / "runs" / "small" / "base-0123456789" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    for words in (("show", "runs"), ("chat", "runs"), ("export", "runs", "out")):
        message, remedy = refused(capsys, *words)
        assert "say which one" in message and os.path.join("runs", "small") in remedy


@pytest.mark.parametrize(
    ("left_out", "cut", "what"),
    [("model.safetensors", "", "has no weights"), ("", "model.safetensors", "not a whole safetensors file")],
)
def test_a_model_folder_that_is_not_whole_is_refused_by_its_stage(home, capsys, left_out, cut, what):
    from posttrain import bundled

    folder = home / "half"
    folder.mkdir()
    for file in bundled.model("bundled:tiny").iterdir():
        if file.name != left_out:
            content = file.read_bytes()
            (folder / file.name).write_bytes(content[:100] if file.name == cut else content)
    message, _ = refused(capsys, "run", "good.yaml", "base.model=half", "--only", "base")
    assert message.startswith("stages.base: half") and what in message


@pytest.mark.parametrize(
    "words",
    [("chat", "bundled:tiny", "--max-new", "0"), ("chat", "bundled:tiny", "--temperature", "nan"),
     ("serve", "bundled:tiny", "--port", "99999"), ("show", "rows.jsonl", "--rows", "-1"), ("pan", "x"), ("run",)],
)  # fmt: skip
def test_a_wrong_option_is_told_at_once(home, capsys, words):
    assert posttrain(*words) == 2
    said = capsys.readouterr().err
    assert "Error: " in said and "Traceback" not in said


def test_the_overview_fits_and_says_which_version(capsys):
    assert posttrain("-h") == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert "run " in listed and "..." not in listed
    assert posttrain("--version") == 0
    assert capsys.readouterr().out.startswith("posttrain 0.")


def test_items_that_cannot_be_read_leave_no_project_of_a_wrong_kind_behind(home, capsys):
    message, remedy = refused(capsys, "label", "--project", "x", "--items", "rows.jsonl", "--db", "x.db", "--port", "0")
    assert message.startswith("rows.jsonl:1: ") and "--kind" in remedy
    from posttrain.store import Missing, Store

    store = Store.open("x.db")
    with pytest.raises(Missing):
        store.project("x")
    store.close()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--project", "a b"), "expected lower-case letters"),
        (("--project", "x", "--db", "nowhere/x.db"), "there is no such folder"),
        (("--project", "x", "--db", "."), "this is a folder"),
        (("--project", "x", "--db", "rows.jsonl"), "the database cannot be used"),
        (("--project", "x", "--kind", "pear"), "no kind of task 'pear'"),
    ],
)
def test_label_told_wrong(home, capsys, words, what):
    assert what in refused(capsys, "label", "--port", "0", *words)[0]


class Parrot:
    """A sampler that says nothing but how long the prompt was, and has room for ten characters."""

    def stream(self, prompt, how):
        from posttrain.errors import UserError

        if len(prompt) > 10:
            raise UserError("no room for an answer")
        yield f"heard {len(prompt)}"


class Letters:
    def prompt(self, messages):
        return [*messages[-1].content]


def test_a_line_that_is_too_long_or_no_text_does_not_end_a_chat(monkeypatch):
    import io

    from posttrain import chat

    monkeypatch.setattr(chat, "model_folder", lambda name: Path(name))
    monkeypatch.setattr(chat, "load", lambda name, **how: chat.Speaker("same", Parrot(), Letters(), None))
    out = io.StringIO()
    chat.converse(
        ["a/same", "b/same"], temperature=0, max_new=1, stdin=io.StringIO("ok\n" + "x" * 11 + "\n\udcff\n"), out=out
    )
    said = out.getvalue().splitlines()
    assert [s for s in said if "heard" in s] == [
        "[a/same] heard 2", "[b/same] heard 2", "[a/same] heard 1", "[b/same] heard 1"]  # fmt: skip
    assert sum("no room" in s for s in said) == 2
