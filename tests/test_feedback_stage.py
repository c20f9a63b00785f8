"""The feedback stage over a real store: freeze, make rows, train on them, and trace every vote to the weights."""

import json
import random
import shutil
import sys

import pytest
import tiny
import yaml
from made_votes import item

from posttrain import pipeline, report, trace
from posttrain.cli import main
from posttrain.errors import UserError
from posttrain.feedback import Filters, frozen
from posttrain.pipeline import Inputs, Runtime
from posttrain.recipe import load
from posttrain.rows import Pair, read_jsonl
from posttrain.stages.feedback import Feedback
from posttrain.store.chain import expected

pytest.importorskip("sqlalchemy", reason="the store needs posttrain[label]")
from posttrain.store import SYSTEM, Answer, ProjectSettings, Store

ITEMS = [item(f"q{n}", answers=(f"yes {n}", f"no {n}"), asks=f"Question {n}?") for n in range(24)]
GOLD = [item(f"g{n}", answers=("right", "wrong"), asks=f"Gold {n}?", gold={"choice": "first"}) for n in range(4)]
PREFERS = "yes"  # what the two careful people like


def vote_on(store, person, slug, prefers, seed=0):
    """Answer tasks until none is left: the answer that begins as preferred."""
    draw = random.Random(seed)
    while task := store.next_task(person, slug):
        likes = next(n for n, text in enumerate(task.answers) if text.startswith((prefers, "right")))
        store.submit(person, task.id, Answer(choice="ab"[likes], strength=draw.randint(2, 4), seconds=5.0))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store with one project, three people, 24 items; a tiny model; a recipe that trains on the votes."""
    home = tmp_path_factory.mktemp("feedback")
    url = f"sqlite:///{home}/feedback.db"
    store = Store.open(url)
    settings = ProjectSettings(kind="pair", title="Which?", labels_per_item=3, gold_share=0.2, seed=1)
    store.create_project(SYSTEM, "taste", settings)
    store.add_items(SYSTEM, "taste", ITEMS[:12])
    store.add_items(SYSTEM, "taste", ITEMS[12:] + GOLD)
    admin = store.accept(store.first_admin_link(), "ada", "correct horse battery")
    people = [
        store.accept(store.invite(admin, project="taste", role="annotator"), n, f"password of {n}") for n in "bcd"
    ]
    for n, person in enumerate(people):
        vote_on(store, person, "taste", PREFERS if n < 2 else "no", seed=n)
    store.undo(people[0], "taste")
    vote_on(store, people[0], "taste", PREFERS)
    store.close()
    tiny.folder(home / "model")
    training = {"lr": 0.001, "steps": 2, "batch_tokens": 512, "micro_tokens": 512, "max_tokens": 200}
    stages = {
        "base": {"type": "base_model", "model": str(home / "model")},
        "votes": {"type": "feedback", "db": url, "project": "taste", "holdout": 0.2},
        "dpo": {"type": "preference", "policy": "base", "pairs": "votes"} | training,
        "release": {"type": "release", "policy": "dpo"},
    }
    runtime = {"precision": "fp32", "compile": "off"}
    (home / "taste.yaml").write_text(yaml.safe_dump({"runtime": runtime, "stages": stages}, sort_keys=False))
    return home


@pytest.fixture(scope="module")
def whole(home):
    recipe = load(str(home / "taste.yaml"))
    outcome = pipeline.run(recipe.stages, home / "runs", Runtime(precision="fp32", compile="off"))
    return {name: folder for name, folder in outcome.folders.items()}


def stage(home, **knobs):
    return Feedback(db=f"sqlite:///{home}/feedback.db", project="taste", **knobs)


def test_the_artefact_stands_alone(whole):
    """Rows, ledger, report, the frozen votes and their chain; the record counts them.

    Of three people one always says the opposite: 48 first, 24 second; observed disagreement 2/3, expected
    2 * 48 * 24 / (72 * 71) = 0.4507, so alpha = 1 - 0.6667 / 0.4507 = -0.479.
    """
    folder = whole["votes"]
    rows = [r for name in ("train", "holdout") for r in read_jsonl(folder / f"{name}.jsonl", Pair)]
    record = pipeline.Record.read(folder)
    assert record.makes == "pairs" and record.metrics["rows"] == len(rows) == 24 and record.metrics["people"] == 3
    assert all(r.chosen.content.startswith(PREFERS) for r in rows)
    assert all(r.meta["snapshot"] == record.identity["snapshot"] for r in rows)
    found = frozen.read(folder)
    told = json.loads((folder / "report.json").read_text())
    assert told["gold_votes"] == sum(v.gold for v in found.votes) > 0 and told["seconds"]["median"] == 5.0
    assert record.metrics["alpha.preference"] == pytest.approx(-0.479, abs=5e-4)
    assert found.problems() == [] and found.settings.title == "Which?" and len(found.items) == 28
    assert any(e.kind == "undo" for e in found.events)
    card = (folder / "README.md").read_text()
    assert "- config_name: pairs" in card and "path: train.jsonl" in card and record.identity["snapshot"] in card


def test_identity_is_the_snapshot(home, whole):
    """The same votes are the same artefact, from the store or from its export; another filter is another."""
    (votes,) = [s for s in pipeline.plan({"votes": stage(home, holdout=0.2)}, home / "runs") if s.name == "votes"]
    assert votes.state == "done" and votes.folder == whole["votes"]
    exported = Feedback(path=str(whole["votes"]), project="taste", holdout=0.2)
    assert pipeline.plan({"votes": exported}, home / "runs")[0].state == "done"
    plain = Feedback(db=f"{home}/feedback.db", project="taste", holdout=0.2)
    assert pipeline.plan({"votes": plain}, home / "runs")[0].state == "done"
    named = stage(home, holdout=0.2, snapshot=frozen.read(whole["votes"]).snapshot.digest)
    assert pipeline.plan({"votes": named}, home / "runs")[0].state == "done"
    soft = stage(home, holdout=0.2, filters=Filters(conflicts="soft"))
    assert "filters" in pipeline.plan({"votes": soft}, home / "runs")[0].why


def test_a_vote_between_plan_and_run_changes_nothing(home, tmp_path):
    """`latest` is settled once: what came in since is not in the rows, and the record says what the plan said."""
    shutil.copy(home / "feedback.db", tmp_path / "feedback.db")
    late = Feedback(db=f"sqlite:///{tmp_path}/feedback.db", project="taste")
    before = late.identity()
    store = Store.open(late.db)
    store.add_items(SYSTEM, "taste", [item("later", asks="Later?")])
    store.close()
    assert late.identity() == before
    late.run(Inputs({}), tmp_path, Runtime())
    assert "later" not in {i.id for i in frozen.read(tmp_path).items}
    assert Feedback(db=late.db, project="taste").identity() != before


def test_hashes_are_those_of_the_store(home, whole):
    store = Store.open(f"sqlite:///{home}/feedback.db")
    assert store.verify("taste").ok
    events = store.events("taste")
    store.close()
    assert [expected(e) for e in events] == [e.hash for e in events]


def test_the_chain_is_printed_from_weights_to_votes(home, whole, capsys, monkeypatch):
    found = frozen.read(whole["votes"])
    monkeypatch.setattr(sys, "argv", ["posttrain", "show", str(whole["release"])])
    with pytest.raises(SystemExit) as end:
        main()
    out = capsys.readouterr().out
    assert end.value.code in (0, None)
    names = [whole["release"].name, whole["dpo"].name, found.snapshot.digest, found.snapshot.head_hash[:12]]
    says = [f"{len(found.votes)} votes on 28 items by 3 people", "verified: yes", "released files: as released"]
    for part in names + says:
        assert part in out, part
    assert trace.weights(trace.Node(whole["dpo"], pipeline.Record.read(whole["dpo"])))[:12] in out


def test_a_vote_is_followed_to_the_weights(home, whole):
    """A trained vote reaches dpo and the release; one of a held-out row none; an unknown one is refused."""
    rows = {name: next(read_jsonl(whole["votes"] / f"{name}.jsonl", Pair)) for name in ("train", "holdout")}
    told = {name: "\n".join(trace.vote(home / "runs", row.meta["votes"][0][:16])) for name, row in rows.items()}
    assert f"trained {whole['dpo'].name}" in told["train"] and whole["release"].name in told["train"]
    assert "held out, it measures and trains nothing" in told["holdout"] and "trained " not in told["holdout"]
    back = "\n".join(trace.row(whole["dpo"], rows["train"].id))  # a stage's folder stands for its run
    assert all(v[:12] in back for v in rows["train"].meta["votes"]) and f"trained {whole['dpo'].name}" in back
    gold = next(v for v in frozen.read(whole["votes"]).votes if v.gold)
    assert "left out, gold item" in "\n".join(trace.vote(home / "runs", str(gold.event)))
    for ask, says in ((trace.vote, "no vote of this run"), (trace.row, "no row of this run")):
        with pytest.raises(UserError, match=says):
            ask(home / "runs", "ffffffff")


def spoil_line(path, change):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


@pytest.mark.parametrize(
    "file, change, says",
    [
        ("votes.jsonl", lambda x: x[3].update(choice="tie", strength=None), "not what the chain says"),
        ("votes.jsonl", lambda x: x.pop(), "the chain tells of"),
        ("events.jsonl", lambda x: x[5].update(at=1.0), "not what its hash says"),
        ("events.jsonl", lambda x: x.pop(7), "does not follow"),
        ("events.jsonl", lambda x: x.pop(), "the chain ends in"),
        ("items.jsonl", lambda x: x[0]["answers"][0].update(text="other"), "items of event"),
        ("train.jsonl", lambda x: x[0]["chosen"].update(content="other"), "train.jsonl is not what these votes make"),
        ("holdout.jsonl", lambda x: x.pop(), "holdout.jsonl is not what these votes make"),
    ],
)  # fmt: skip
def test_tampering_shows(whole, tmp_path, file, change, says):
    folder = tmp_path / whole["votes"].name
    shutil.copytree(whole["votes"], folder)
    spoil_line(folder / file, change)
    node = trace.Node(folder, pipeline.Record.read(folder))
    assert any(says in problem for problem in trace.Votes(node).problems)
    assert "verified: NO" in "\n".join(trace.chain(folder))


def test_a_rewritten_chain_is_found_by_the_snapshots_name(whole, tmp_path):
    """Whoever recomputes every hash changes the head, hence the digest that the recipe and the rows name."""
    folder = tmp_path / "copy"
    shutil.copytree(whole["votes"], folder)
    found = frozen.read(folder)
    events = found.events[:-1]
    head = found.snapshot.model_copy(update={"head_hash": events[-1].hash, "events": events[-1].number})
    assert any("is called" in p for p in found._replace(events=events, snapshot=head).problems())


@pytest.mark.parametrize(
    "knobs, says",
    [
        ({"project": "nobody"}, "nobody"),
        ({"db": "sqlite:////nowhere/feedback.db", "project": "taste"}, "no such feedback store"),
        ({"project": "taste", "snapshot": "0123456789abcdef"}, "no such snapshot"),
        ({"path": "/nowhere"}, "no exported snapshot"),
        ({"project": "taste", "rows": "ratings"}, "make no ratings"),
        ({"project": "taste", "filters": Filters(min_votes=9)}, "no row is left"),
    ],
)
def test_bad_input_is_one_message(home, tmp_path, knobs, says):
    where = {"db": f"sqlite:///{home}/feedback.db"} | knobs
    with pytest.raises(UserError, match=says):
        made = Feedback(**where)
        made.identity()
        made.run(Inputs({}), tmp_path, Runtime())
    assert not (tmp_path / "feedback.db").exists()


def test_recipes_are_checked_before_any_work(tmp_path):
    """Without project or path, with a wrong filter, or where the rows do not fit the edge: one message each."""
    base = "stages:\n  base: {type: base_model, model: bundled}\n"
    (tmp_path / "a.yaml").write_text(base + "  votes: {type: feedback}\n")
    with pytest.raises(UserError, match="project"):
        load(str(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").write_text(base + "  votes: {type: feedback, project: p, filters: {conflict: soft}}\n")
    with pytest.raises(UserError, match="conflict"):
        load(str(tmp_path / "b.yaml"))
    text = base + "  votes: {type: feedback, project: p, rows: ratings}\n"
    (tmp_path / "c.yaml").write_text(text + "  dpo: {type: preference, policy: base, pairs: votes}\n")
    with pytest.raises(UserError, match="makes a set of ratings"):
        pipeline.check(load(str(tmp_path / "c.yaml")).stages)


def test_the_page_tells_of_the_votes(home, whole):
    page = report.write(home / "runs", "taste", "", whole, None, 0.0).read_text()
    snapshot = frozen.read(whole["votes"]).snapshot
    for part in (snapshot.digest, snapshot.head_hash[:12], "alpha, which answer", "the answer shown first won",
                 "items with votes", "votes an item"):  # fmt: skip
        assert part in page, part


def test_no_password_in_records():
    made = Feedback(db="postgresql://ann:secret@host/votes", project="p")
    assert made.knobs()["db"] == "postgresql://ann:***@host/votes"
