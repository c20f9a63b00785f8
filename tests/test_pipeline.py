"""The orchestration: edges, fingerprints, records, gates, locks, interruption. Stages here are real, only small."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from posttrain.errors import UserError
from posttrain.pipeline import Record, Ref, Runtime, Stage, check, locked, plan, run, run_one


class Words(Stage):
    makes = "demos"
    places = frozenset({"path"})
    type: Literal["words"] = "words"
    text: str = "a b"
    path: str = ""
    loss: dict[str, Any] = {}

    def identity(self):
        return {"file": Path(self.path).read_text()} if self.path else {}

    def run(self, inputs, out, runtime):
        (out / "words.txt").write_text(self.text)
        return {"rows": float(len(self.text.split()))}


class Join(Stage):
    makes = "policy"
    type: Literal["join"] = "join"
    data: Annotated[tuple[str, ...] | str, Ref("demos")]
    other: Annotated[str | None, Ref("demos")] = None
    glue: str = "-"

    def run(self, inputs, out, runtime):
        words = [(p / "words.txt").read_text() for p in inputs.many("data")]
        (out / "joined.txt").write_text(self.glue.join(words))
        return {}


class Door(Stage):
    makes = "decision"
    type: Literal["door"] = "door"
    policy: Annotated[str, Ref("policy")]
    says: Literal["pass", "fail", "inconclusive"] = "pass"

    def run(self, inputs, out, runtime):
        return {}

    def verdict(self, out):
        return self.says


class Ship(Stage):
    makes = "release"
    type: Literal["ship"] = "ship"
    policy: Annotated[str, Ref("policy")]
    gate: Annotated[str, Ref("decision")]

    def run(self, inputs, out, runtime):
        return {}


def recipe(**changes):
    stages = {"w": Words(), "v": Words(text="c"), "j": Join(data=("w", "v"))}
    return stages | changes


def test_runs_once_and_keeps_records(tmp_path):
    outcome = run(recipe(), tmp_path, Runtime())
    assert (outcome.folders["j"] / "joined.txt").read_text() == "a b-c"
    record = Record.read(outcome.folders["j"])
    assert record.edges == {"data": ("w", "v"), "other": ()}
    assert record.inputs["data"] == tuple(outcome.folders[s].name[-10:] for s in "wv")
    before = (outcome.folders["w"] / "record.json").stat().st_mtime_ns
    again = run(recipe(), tmp_path, Runtime())
    assert again.folders == outcome.folders
    assert (outcome.folders["w"] / "record.json").stat().st_mtime_ns == before


def test_a_changed_knob_rebuilds_what_depends_on_it_and_the_plan_says_why(tmp_path):
    run(recipe(), tmp_path, Runtime())
    steps = {s.name: s for s in plan(recipe(v=Words(text="d")), tmp_path)}
    assert steps["w"].state == "done"
    assert steps["v"].why == "text: 'c' -> 'd'"
    assert steps["j"].state == "run" and "input data (w, v) is rebuilt" in steps["j"].why


def test_a_change_deep_in_a_knob_is_named_as_it_would_be_overridden(tmp_path):
    run(recipe(v=Words(loss={"beta": 0.1, "old": 1})), tmp_path, Runtime())
    steps = {s.name: s for s in plan(recipe(v=Words(loss={"beta": 0.3, "more": {"deep": None}})), tmp_path)}
    assert steps["v"].why == "loss.beta: 0.1 -> 0.3; loss.more.deep is new, None; loss.old is gone"


def test_a_changed_file_rebuilds(tmp_path):
    file = tmp_path / "rows.txt"
    file.write_text("one")
    stages = {"w": Words(path=str(file))}
    run(stages, tmp_path / "run", Runtime())
    file.write_text("two")
    (step,) = plan(stages, tmp_path / "run")
    assert (step.state, step.why) == ("run", "file changed on disk")


def test_names_and_places_are_not_identity(tmp_path):
    """The same rows under another stage name, in another file, in another run directory: the same fingerprint."""
    (tmp_path / "here.txt").write_text("one")
    (tmp_path / "there.txt").write_text("one")
    one = plan({"a": Words(path=str(tmp_path / "here.txt"))}, tmp_path / "x")[0].fingerprint
    two = plan({"b": Words(path=str(tmp_path / "there.txt"))}, tmp_path / "y")[0].fingerprint
    assert one == two


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"j": Join(data="w")}, "there is no stage 'w' above"),
        ({"j": Join(data="w"), "w": Words()}, "stage 'w' comes later in the file"),
        ({"w": Words(), "d": Door(policy="w")}, "needs a policy, but 'w' makes a set of demos"),
    ],
)
def test_wrong_edges_are_refused_before_any_work(stages, message):
    with pytest.raises(UserError, match=message) as error:
        check(stages)
    assert error.value.where.startswith("stages.")


@pytest.mark.parametrize("says", ["pass", "fail", "inconclusive"])
def test_nothing_behind_a_gate_that_did_not_pass_runs(tmp_path, says):
    stages = recipe(d=Door(policy="j", says=says), s=Ship(policy="j", gate="d"))
    for _ in range(2):  # the second time the gate's record is read back
        outcome = run(stages, tmp_path, Runtime())
        assert ("s" in outcome.folders) == (says == "pass")
        assert outcome.stopped == ({} if says == "pass" else {"d": says})
        assert outcome.skipped == ({} if says == "pass" else {"s": "d"})


def test_a_failed_stage_leaves_no_artefact(tmp_path):
    class Broken(Words):
        def run(self, inputs, out, runtime):
            (out / "half.txt").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        run({"w": Broken()}, tmp_path, Runtime())
    assert not list(tmp_path.glob("w-??????????"))
    run({"w": Words()}, tmp_path, Runtime())  # and the next run is not in its way


def test_two_runs_cannot_share_a_directory(tmp_path):
    with locked(tmp_path):
        other = textwrap.dedent(f"""
            from pathlib import Path
            from posttrain.errors import UserError
            from posttrain.pipeline import locked
            try:
                with locked(Path({str(tmp_path)!r})): pass
            except UserError as e: print(e)
        """)
        said = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=True).stdout
    assert f"another run (process {os.getpid()})" in said
    with locked(tmp_path):  # free again
        pass


def test_a_killed_stage_is_run_again(tmp_path):
    code = textwrap.dedent(f"""
        import sys, os, signal
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_pipeline import Words
        from posttrain.pipeline import Runtime, run
        class Slow(Words):
            def run(self, inputs, out, runtime):
                (out / "words.txt").write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)
        Slow.__name__ = "Words"
        run({{"w": Slow()}}, Path({str(tmp_path)!r}), Runtime())
    """)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    outcome = run({"w": Words()}, tmp_path, Runtime())
    assert (outcome.folders["w"] / "words.txt").read_text() == "a b"


def test_one_stage_at_a_time_ends_like_a_whole_run(tmp_path):
    """What a scheduler does: each stage by a call of its own, against one directory."""
    stages = {"a": Words(text="x y"), "b": Join(data="a"), "gate": Door(policy="b")}
    whole = run(stages, tmp_path / "whole", Runtime())
    for name in stages:
        run_one(stages, tmp_path / "pieces", Runtime(), name)
    assert {p.name for p in whole.folders.values()} == {p.name for p in (tmp_path / "pieces").glob("[!.]*-*")}
    again = run(stages, tmp_path / "pieces", Runtime())
    assert [Record.read(f).started for f in again.folders.values()] == [
        Record.read(tmp_path / "pieces" / f.name).started for f in again.folders.values()
    ]


def test_one_stage_wants_its_inputs_and_an_open_gate(tmp_path):
    stages = {
        "a": Words(),
        "b": Join(data="a"),
        "gate": Door(policy="b", says="fail"),
        "ship": Ship(policy="b", gate="gate"),
    }
    with pytest.raises(UserError, match="needs 'a', which is not finished"):
        run_one(stages, tmp_path, Runtime(), "b")
    with pytest.raises(UserError, match="no stage 'c'"):
        run_one(stages, tmp_path, Runtime(), "c")
    for name in ("a", "b", "gate"):
        run_one(stages, tmp_path, Runtime(), name)
    outcome = run_one(stages, tmp_path, Runtime(), "ship")
    assert outcome.skipped == {"ship": "gate"} and outcome.stopped == {"gate": "fail"}
    assert not list(tmp_path.glob("ship-*"))


def test_one_stage_and_a_whole_run_exclude_each_other(tmp_path):
    stages = {"a": Words(), "b": Words(text="other")}
    with locked(tmp_path), pytest.raises(UserError, match="another run"):
        run_one(stages, tmp_path, Runtime(), "a")
    with locked(tmp_path, shared=True):
        run_one(stages, tmp_path, Runtime(), "a")
        with pytest.raises(UserError, match="another run"):
            run(stages, tmp_path, Runtime())
    with locked(tmp_path, ".lock-b"), pytest.raises(UserError, match="another run"):
        run_one(stages, tmp_path, Runtime(), "b")


def test_after_says_when_and_not_what(tmp_path):
    """A gate in `after` blocks its stage, and changing the gate does not change what the stage would make."""
    door, later = Door(policy="j", says="fail"), Words(text="later", after="d")
    outcome = run(recipe(d=door, x=later), tmp_path, Runtime())
    assert outcome.skipped == {"x": "d"} and "x" not in outcome.folders
    opened = recipe(d=Door(policy="j"), x=later)
    before = {s.name: s.fingerprint for s in plan(recipe(d=door, x=later), tmp_path)}
    after = {s.name: s.fingerprint for s in plan(opened, tmp_path)}
    assert (
        before["d"] != after["d"]
        and before["x"] == after["x"] == plan({"x": Words(text="later")}, tmp_path)[0].fingerprint
    )
    assert (run(opened, tmp_path, Runtime()).folders["x"] / "words.txt").read_text() == "later"
    assert Record.read(next(tmp_path.glob("x-*"))).inputs["after"] == (after["d"],)
    with pytest.raises(UserError, match="needs a gate's decision"):
        check(recipe(x=Words(after="j")))
