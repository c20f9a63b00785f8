"""Runs behind URLs: two machines and one store, on a disk and on an S3 server; kills, lost leases, damage, messages."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import machine
import made_run
import pytest
from typer.testing import CliRunner

from posttrain import cli, remote, report
from posttrain.errors import UserError
from posttrain.export import export
from posttrain.locate import model_folder
from posttrain.pipeline import Record, Runtime, plan, run, run_one
from posttrain.remote import lease, parts
from posttrain.remote.bucket import Bucket, bucket, told
from posttrain.report.diff import diff

HERE = Path(__file__).parent
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def server():
    """The address of an S3 server of this test process."""
    moto = pytest.importorskip("moto.server", reason="the S3 tests need: pip install 'moto[s3]' flask flask-cors s3fs")
    pytest.importorskip("s3fs", reason="the S3 tests need: pip install 'moto[s3]' flask flask-cors s3fs")
    import logging

    logging.getLogger("werkzeug").disabled = True
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def url(request, tmp_path, monkeypatch):
    """An empty store."""
    if request.param == "file":
        return f"file://{tmp_path}/store"
    return s3(request.getfixturevalue("server"), tmp_path, monkeypatch)


def s3(server, tmp_path, monkeypatch):
    import s3fs

    for name, value in (KEYS | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"b{abs(hash(str(tmp_path)))}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}/some/runs"


def start(tmp_path, who, url, stage, **env):
    env = os.environ | {"POSTTRAIN_CACHE": str(tmp_path / who)} | env
    command = [sys.executable, str(HERE / "machine.py"), url, stage]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def on(tmp_path, who, url, stage, **env):
    """Runs a stage on machine `who`; returns (exit code, what it said, files it carried)."""
    process = start(tmp_path, who, url, stage, **env)
    said = process.communicate(timeout=100)[0]
    carried = [line for line in said.splitlines() if line.startswith("carried ")]
    return process.returncode, said, json.loads(carried[0][8:]) if carried else []


def near(tmp_path, who, url, stage, monkeypatch):
    """The same as `on` in this process."""
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / who))
    return machine.work(url, stage)


def seen_by(tmp_path, who, url, monkeypatch):
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / who))
    return machine.place(url)


def states(here):
    return {step.name: step.state for step in plan(machine.STAGES, here.root)}


def contents(root):
    """Every file of a run's artefacts but the records, which hold times, and who made it."""
    files = (p for p in root.glob("[!.]*-*/**/*") if p.is_file() and p.name not in ("record.json", "who.txt"))
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def test_two_machines_make_one_run(url, tmp_path, monkeypatch):
    """Alternately stage by stage, the result is that of one run in a folder, and nothing is carried in vain."""
    run(machine.STAGES, tmp_path / "folder", Runtime())
    moved = {}
    for who, stage in (("a", "one"), ("b", "two"), ("a", "model"), ("b", "judge"), ("c", "said")):
        code, said, moved[stage] = on(tmp_path, who, url, stage)
        assert code == 0, said
    here = seen_by(tmp_path, "d", url, monkeypatch)
    assert set(states(here).values()) == {"done"}
    assert contents(here.root) == {}  # only records so far
    for name in here.lists:
        here.whole(name)
    assert contents(here.root) == contents(tmp_path / "folder")
    fetched = [p.split("-")[0] + "/" + p.split("/", 1)[1] for p in moved["model"] if p.startswith("<")]
    assert fetched == ["< two/record.json", "< two/deep/words.txt", "< two/who.txt"]  # its own `one` was there
    assert not [p for p in moved["said"] if "/words.txt" in p]  # not an input of `said`
    assert here.bucket.sizes(".locks") == {}


def test_a_whole_run_goes_on_from_stages_of_others(tmp_path, monkeypatch, capsys):
    url = f"file://{tmp_path}/store"
    near(tmp_path, "a", url, "two", monkeypatch)
    near(tmp_path, "b", url, "all", monkeypatch)
    said = capsys.readouterr().out
    assert "two: done before" in said and "one (words) ..." in said
    monkeypatch.setattr(Bucket, "put", None)
    monkeypatch.setattr(Bucket, "get", None)
    near(tmp_path, "b", url, "all", monkeypatch)
    assert capsys.readouterr().out.count("done before") == 5


def test_a_push_that_was_killed_goes_on_without_computing(url, tmp_path, monkeypatch):
    code, _, _ = on(tmp_path, "a", url, "one", MISHAP="kill 2")
    assert code == -signal.SIGKILL
    other = seen_by(tmp_path, "b", url, monkeypatch)
    assert states(other)["one"] == "run"
    mine = seen_by(tmp_path, "a", url, monkeypatch)
    began = Record.read(next(mine.root.glob("one-*"))).started
    code, said, moved = on(tmp_path, "a", url, "two")  # any stage: what was left is pushed first
    assert code == 0, said
    assert [p.partition("/")[2] for p in moved if "one-" in p] == ["who.txt", "record.json"]  # deep/words.txt was there
    other = seen_by(tmp_path, "b", url, monkeypatch)
    assert states(other)["one"] == "done"
    assert Record.read(next(other.root.glob("one-*"))).started == began


def test_a_push_that_fails_says_what_to_do_and_loses_nothing(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/store"
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "a"))

    def refused(*_):
        raise PermissionError("Access Denied")

    with monkeypatch.context() as broken:
        broken.setattr(Bucket, "put", refused)
        with pytest.raises(UserError, match=r"finished in .*one-.*, but not pushed: no permission \(Access Denied\)"):
            machine.work(url, "one")
    assert machine.place(url).bucket.sizes(".locks") == {}
    monkeypatch.setattr(machine.Words, "run", None)  # it cannot be computed again
    machine.work(url, "one")
    assert states(seen_by(tmp_path, "b", url, monkeypatch))["one"] == "done"


def test_two_machines_do_not_work_on_one_stage(url, tmp_path):
    slow = start(tmp_path, "a", url, "one", MISHAP="slow 600", BEAT="60")
    store = bucket(f"{url}/words")
    until = time.monotonic() + 30
    while not store.sizes(".locks") and time.monotonic() < until:
        time.sleep(0.1)
    code, said, _ = on(tmp_path, "b", url, "one", BEAT="60")
    assert code == 2 and f"(process {slow.pid}, since " in said and "is working on this stage" in said
    assert on(tmp_path, "b", url, "two")[0] == 0  # another stage is free
    slow.kill()
    slow.communicate()


def test_a_stage_of_a_lost_machine_is_taken_over(url, tmp_path):
    lost = start(tmp_path, "a", url, "one", MISHAP="slow 100", BEAT="0.2")
    store = bucket(f"{url}/words")
    until = time.monotonic() + 30
    while not store.sizes(".locks") and time.monotonic() < until:
        time.sleep(0.1)
    lost.kill()
    lost.communicate()
    time.sleep(0.2 * lease.STALE)
    code, said, _ = on(tmp_path, "b", url, "one", BEAT="0.2")
    assert code == 0 and f"(process {lost.pid}, since " in said and "its stage is taken over" in said


def test_a_killed_process_does_not_lock_out_its_own_machine(tmp_path):
    url = f"file://{tmp_path}/store"
    assert on(tmp_path, "a", url, "one", MISHAP="kill 1", BEAT="1000")[0] == -signal.SIGKILL
    code, said, _ = on(tmp_path, "b", url, "one", BEAT="1000")
    assert code == 2 and "is working on this stage" in said
    assert on(tmp_path, "a", url, "one", BEAT="1000")[0] == 0


def test_another_machine_goes_on_from_the_checkpoint_of_a_lost_one(url, tmp_path, monkeypatch):
    lost = start(tmp_path, "a", url, "steps", MISHAP="slow 20", BEAT="0.2")
    store = bucket(f"{url}/words")
    until = time.monotonic() + 60
    while not [n for n in store.sizes(".parts") if n.endswith(".json")] and time.monotonic() < until:
        time.sleep(0.1)
    lost.kill()
    lost.communicate()
    time.sleep(0.2 * lease.STALE)
    code, said, _ = on(tmp_path, "b", url, "steps", BEAT="0.2")
    assert code == 0 and "goes on from the checkpoint" in said
    here = seen_by(tmp_path, "c", url, monkeypatch)
    (name,) = (n for n in here.lists if n.startswith("steps-"))
    done = (here.whole(name) / "done.txt").read_text().split()
    assert len(done) == 3 and done[0] == "a" and done[-1] == "b"
    assert store.sizes(".parts") == {}


def test_a_stage_that_is_told_to_stop_leaves_its_checkpoint_in_the_store(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/store"

    def stop(path, text):
        path.write_text(text)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(machine, "write_text", stop)
        with pytest.raises(KeyboardInterrupt):
            near(tmp_path, "a", url, "steps", monkeypatch)
    outcome = near(tmp_path, "b", url, "steps", monkeypatch)
    assert (outcome.folders["steps"] / "done.txt").read_text() == "a b b"


def test_a_checkpoint_is_caught_at_rest_and_the_further_one_counts(tmp_path, monkeypatch):
    store, said = bucket(f"file://{tmp_path}/store"), []
    held = lease.take(store, ".locks/s.json", "m", said.append)
    a, b = tmp_path / "a", tmp_path / "b"
    (a / "s.part").mkdir(parents=True)
    b.mkdir()
    keeper = parts.Keeper(store, a, "s", held, said.append)

    def write(**texts):
        for name, text in texts.items():
            (a / "s.part" / name).write_text(text)

    write(best="one", weights="1" * 10)
    keeper.push()
    first = store.sizes(".parts/s")
    copy = parts._copy

    def while_writing(*args):
        copy(*args)
        write(weights="2" * 10)

    write(weights="3" * 10)
    with monkeypatch.context() as busy:
        busy.setattr(parts, "_copy", while_writing)
        keeper.push()
    assert store.sizes(".parts/s") == first  # nothing was published of a moment that was none
    keeper.push()
    assert len(first) == 2 == len(store.sizes(".parts/s")) == len(first.keys() | store.sizes(".parts/s")) - 1
    parts.resume(store, b, "s", said.append)
    assert {p.name: p.read_text() for p in (b / "s.part").iterdir()} == {"best": "one", "weights": "2" * 10}
    (b / "s.part" / "weights").write_text("4" * 10)
    parts.resume(store, b, "s", said.append)
    assert (b / "s.part" / "weights").read_text() == "4" * 10  # it went on from the store's, and further
    keeper.push()
    write(weights="5" * 10)
    keeper.push()
    parts.resume(store, b, "s", said.append)
    assert (b / "s.part" / "weights").read_text() == "5" * 10
    for path in (tmp_path / "store" / ".parts" / "s").iterdir():
        path.write_text("damaged")
    shutil.rmtree(b / "s.part")
    parts.resume(store, b, "s", said.append)
    assert not (b / "s.part").exists() and "is not whole" in said[-1]
    keeper.end()
    held.end()


def test_who_lost_the_lease_publishes_nothing(tmp_path, monkeypatch):
    """A machine that slept through its lease finds another owner: the store has the other's artefact, then it too."""
    url = f"file://{tmp_path}/store"
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "a"))
    monkeypatch.setattr(lease, "BEAT", 1000.0)
    work = machine.Words.run

    def overtaken(self, inputs, out, runtime):
        store = bucket(f"{url}/words")
        (name,) = store.sizes(".locks")
        store.remove(f".locks/{name}")  # as the one who takes over does
        assert on(tmp_path, "b", url, "one")[0] == 0
        store.create(f".locks/{name}", b'{"host": "b", "token": "of b"}')
        return work(self, inputs, out, runtime)

    with monkeypatch.context() as slow:
        slow.setattr(machine.Words, "run", overtaken)
        with pytest.raises(UserError, match=r"b \(process 0.* has taken this stage over"):
            machine.work(url, "one")
    here = machine.place(url)
    folder = next(here.root.glob("one-*"))
    assert (here.whole(folder.name) / "who.txt").read_text() == str(tmp_path / "b")


def test_half_a_list_is_no_artefact_and_a_lost_one_is_pushed_again(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/store"
    near(tmp_path, "a", url, "one", monkeypatch)
    (mark,) = (tmp_path / "store" / "words" / ".files").iterdir()
    assert states(seen_by(tmp_path, "b", url, monkeypatch))["one"] == "done"
    text = mark.read_text()
    mark.write_text(text[: len(text) // 2])
    assert states(seen_by(tmp_path, "c", url, monkeypatch))["one"] == "run"
    shutil.rmtree(tmp_path / "store")
    assert states(seen_by(tmp_path, "b", url, monkeypatch))["one"] == "run"  # b had its record, not its files
    near(tmp_path, "a", url, "two", monkeypatch)  # a has all of it
    assert states(seen_by(tmp_path, "b", url, monkeypatch))["one"] == "done"


def test_damage_in_the_store_is_found_and_can_be_mended(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/store"
    for stage in ("one", "two"):
        near(tmp_path, "a", url, stage, monkeypatch)
    (words,) = (tmp_path / "store" / "words").glob("two-*/deep/words.txt")
    words.write_text("d" * 1000)
    with pytest.raises(UserError, match="its digest differs") as error:
        near(tmp_path, "b", url, "model", monkeypatch)
    wrong = error.value.remedy.removeprefix("delete file://").removesuffix(" and run its stage again")
    Path(wrong).unlink()
    for stage in ("two", "model"):
        assert near(tmp_path, "b", url, stage, monkeypatch).folders


def test_links_stay_links(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/store"
    near(tmp_path, "a", url, "all", monkeypatch)
    here = seen_by(tmp_path, "b", url, monkeypatch)
    (name,) = (n for n in here.lists if n.startswith("judge-"))
    link = here.whole(name) / "model"
    assert link.is_symlink() and link.resolve().parent == here.root.resolve()
    assert (link / "model.safetensors").read_text() == "a b-" + "c" * 1000
    assert not list((tmp_path / "store").rglob("judge-*/model"))


# ---- reports, releases, and what takes a run ------------------------------------------------------------------------


def test_a_release_and_a_report_are_written_where_nothing_else_was_made(url, tmp_path, monkeypatch):
    """All but the release on one machine, the release on a second one, the report on a third one."""
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "a"))
    stages = made_run.stages(tmp_path)
    a = remote.place(url, "made")
    a.known()
    first = {n: s for n, s in stages.items() if n != "release"}
    outcome = run(first, a.root, Runtime(), around=a.around)
    assert (outcome.folders["base"] / "config.json").is_symlink()

    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "b"))
    b = remote.place(url, "made")
    b.known()
    assert run_one(stages, b.root, Runtime(), "release", around=b.around).folders
    assert not list(b.root.glob("base-*/model.safetensors"))  # weights behind the released ones stay away

    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "c"))
    c = remote.place(url, "made")
    c.known()
    outcome = run(stages, c.root, Runtime(), around=c.around)
    c.light()
    page = report.write(c.root, "made", "text", outcome.folders, outcome, 0.0)
    c.publish(page)
    here = run(stages, tmp_path / "folder", Runtime())
    whole = report.write(tmp_path / "folder", "made", "text", here.folders, here, 0.0).read_text()
    assert page.read_text().count("<section") == whole.count("<section")
    assert c.bucket.read("report.html") == page.read_bytes()
    assert not list(c.root.rglob("*.safetensors"))

    assert model_folder(f"{url}/made").name == "model"
    assert "load it with" in export(f"{url}/made/{outcome.folders['dpo'].name}", tmp_path / "exported")
    assert (tmp_path / "exported" / "model.safetensors").read_text() == "10"


def test_plan_show_and_diff_take_urls(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "a"))
    (tmp_path / "rows.jsonl").write_text('{"messages": [{"role": "user", "content": "Who?"}]}\n')
    recipe = tmp_path / "asks.yaml"
    recipe.write_text(f"stages:\n  asks: {{type: prompts, path: {tmp_path}/rows.jsonl, holdout: 0}}\n")
    url, invoke = f"file://{tmp_path}/store", CliRunner().invoke
    assert "1 of 1 stages to run in " + url in invoke(cli.app, ["plan", str(recipe), "--runs", url]).output
    done = invoke(cli.app, ["run", str(recipe), "--runs", url, "--quiet"])
    assert done.exit_code == 0 and f", {url}/asks/report.html" in done.output
    assert (tmp_path / "store" / "asks" / "recipe.yaml").is_file()
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "b"))
    assert "0 of 1 stages to run" in invoke(cli.app, ["plan", str(recipe), "--runs", url]).output
    assert "rows 1" in invoke(cli.app, ["show", f"{url}/asks"]).output
    assert "no difference" in diff(f"{url}/asks", f"{url}/asks")
    changed = ["run", str(recipe), "asks.seed=1", "--runs", str(tmp_path / "folder"), "--quiet"]
    assert invoke(cli.app, changed).exit_code == 0
    assert "seed" in diff(f"{url}/asks", tmp_path / "folder" / "asks")
    with pytest.raises(UserError, match="no finished stage here"):
        diff(f"{url}/other", tmp_path / "folder" / "asks")


# ---- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "what", "remedy"),
    [
        ("s4://bucket/runs", "unknown protocol 's4'", "s3"),
        ("oss://bucket/runs", "oss:// needs a package that is not installed", "pip install ossfs"),
        ("s3://no-such-bucket/runs", "there is no such bucket", "check its name"),
    ],
)
def test_wrong_urls_are_one_message(wrong, what, remedy, tmp_path, monkeypatch, request):
    if wrong.startswith("s3:"):
        s3(request.getfixturevalue("server"), tmp_path, monkeypatch)
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "a"))
    with pytest.raises(UserError, match=what) as error:
        machine.place(wrong)
    assert remedy in error.value.remedy


def test_missing_keys_are_one_message(server, tmp_path, monkeypatch):
    url = s3(server, tmp_path, monkeypatch)
    for name in KEYS:
        monkeypatch.delenv(name)
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "a"))
    with pytest.raises(UserError, match="no permission"):
        machine.place(url)


def test_what_passes_is_tried_again_and_bugs_stay_bugs(monkeypatch):
    monkeypatch.setattr("posttrain.remote.bucket.WAITS", (0.0, 0.0))
    store, failures = bucket("memory://tried"), [TimeoutError(), TimeoutError()]
    write = store.fs.pipe_file
    monkeypatch.setattr(store.fs, "pipe_file", lambda *a: (failures and _raise(failures.pop())) or write(*a))
    store.write("x", b"1")
    assert store.read("x") == b"1" and not failures
    with pytest.raises(TypeError), told("memory://tried"):
        len(5)
    with pytest.raises(UserError, match="cannot be used"), told("memory://tried"):
        _raise(RuntimeError("odd"))


def _raise(error):
    raise error


@pytest.mark.slow
def test_processes_of_one_machine_share_the_mirror(tmp_path):
    """Two processes train against a store: the first one carries, the other finds what it needs."""
    import ranks

    command = ["run", str(ranks.recipe(tmp_path, "sft")), "--runs", f"file://{tmp_path}/store"]
    processes = ranks.start(2, lambda: cli.app(args=command, standalone_mode=False), tmp_path)
    for p in processes:
        p.join(120)
    assert [p.exitcode for p in processes] == [0, 0], (tmp_path / "said-0.txt").read_text()
    (run,) = (tmp_path / "store").iterdir()
    assert len(list(run.glob(".files/*.json"))) == 5 and (run / "report.html").is_file()
    assert not list(run.glob(".locks/*")) and not list(run.glob(".parts/**/*.json"))


def test_machines_that_train_together_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(UserError, match="one checkpoint"):
        remote.place("s3://bucket/runs", "words")
