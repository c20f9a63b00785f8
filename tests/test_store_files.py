"""The feedback store and its file: killed, locked, gone, old, new, foreign; and what is imported into it."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from feedback_store import item, person, project, recount, survives_a_kill, vote
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import UserError
from posttrain.store import SYSTEM, Store, Unavailable, database, labels, parse_items, read_items, schema, upgrade
from posttrain.store.clock import Clock
from posttrain.store.leaks import leak


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feedback.db"


@pytest.fixture
def store(path):
    with Store.open(str(path), patience=0.05) as opened:
        yield opened


# ---- the file --------------------------------------------------------------------------------------------------------


def test_a_killed_process_loses_no_acknowledged_vote(store, path):
    survives_a_kill(store, f"sqlite:///{path}")


def _hold(path, seconds):
    """Another program writes for a while. Returns once it does."""
    begun = threading.Event()

    def work():
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            begun.set()
            time.sleep(seconds)
            other.execute("ROLLBACK")

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    return thread


def test_a_lock_that_passes_is_waited_for(store, path):
    project(store, 3)
    who = person(store)
    other = _hold(path, 0.4)
    assert vote(store, who) is not None
    other.join()


def test_a_lock_that_stays_is_told_and_nothing_is_lost(store, path):
    project(store, 3)
    who = person(store)
    kept = vote(store, who)
    task = store.next_task(who, "p")
    other = _hold(path, 3.0)
    with pytest.raises(Unavailable, match="is locked") as error:
        vote(store, who)
    assert "another program" in error.value.remedy
    assert [v.id for v in store.votes("p")] == [kept.hash]  # reading goes on meanwhile
    other.join()
    assert store.next_task(who, "p") == task and vote(store, who) is not None
    recount(store)


def test_a_file_that_is_gone_takes_no_votes_into_the_void(store, path, monkeypatch):
    monkeypatch.setattr(database, "BACKOFF", (0.01,))
    project(store, 3)
    who = person(store)
    vote(store, who)
    task = store.next_task(who, "p")
    away = path.with_name("elsewhere")
    path.rename(away)
    with pytest.raises(Unavailable, match="gone"):
        vote(store, who)
    shutil.copy(away, path)  # another file of that name is not the one either
    with pytest.raises(Unavailable, match="gone"):
        vote(store, who)
    away.rename(path)
    assert store.next_task(who, "p") == task and vote(store, who) is not None and store.verify().ok


def test_an_erased_name_is_not_in_the_bytes_of_the_file(store, path):
    project(store, 2)
    who = person(store, name="Zebediah Quux", invited_as="Zebediah Quux")
    vote(store, who)
    log = path.with_name(path.name + "-wal")
    assert b"Zebediah" in path.read_bytes() + log.read_bytes()
    store.erase_person(SYSTEM, who.id)
    assert b"zebediah" not in (path.read_bytes() + log.read_bytes()).lower()
    assert store.verify().ok


def test_an_older_file_is_upgraded_with_all_that_is_in_it(store, path, tmp_path):
    """A file of revision 0001: made by that migration alone, filled with a store's rows."""
    project(store, 4)
    who = person(store)
    for _ in range(3):
        vote(store, who)
    old = tmp_path / "old.db"
    made = database.Database(str(old), 1.0)
    made.write(lambda conn: upgrade.upgrade(conn, "old", to="0001"))
    made.close()
    with sqlite3.connect(old) as conn:
        assert conn.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (0,)
        conn.execute("DELETE FROM heads")
        conn.execute("ATTACH ? AS new", (str(path),))
        for table in schema.meta.sorted_tables:
            conn.execute(f"INSERT INTO {table.name} SELECT * FROM new.{table.name}")
    conn.close()
    with Store.open(str(old)) as again:
        assert again.votes("p") == store.votes("p") and again.verify().ok
        assert vote(again, who) is not None
        recount(again)
    with sqlite3.connect(old) as conn, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        conn.execute("DELETE FROM events")
    conn.close()


def test_migrations_make_the_tables_of_the_schema(store):
    difference = store.db.read(lambda conn: compare_metadata(MigrationContext.configure(conn), schema.meta))
    assert difference == []
    files = sorted((upgrade.FOLDER / "versions").glob("v*.py"))
    assert files[-1].name.startswith(f"v{upgrade.HEAD}_")


def _newer(path):
    Store.open(str(path)).close()
    with sqlite3.connect(path) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    conn.close()


def _foreign(path):
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE people (id TEXT)")
    conn.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_newer, "made by a newer posttrain"),
        (_foreign, "other people's tables"),
        (lambda path: path.write_text("no database, but a text of some length " * 50), "not a database"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_a_file_that_is_not_a_store_of_ours_is_refused(path, make, words):
    make(path)
    with pytest.raises(UserError, match=words) as error:
        Store.open(str(path))
    assert str(path) in error.value.where


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/name", "mysql is not supported"),
        ("sqlite://", "not memory"),
        ("sqlite:////nowhere/at/all.db", "no such folder"),
        ("postgresql:/oops://", "not a database URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url, words):
    with pytest.raises(UserError, match=words):
        Store.open(url)


def test_two_processes_may_open_a_new_file_at_once(path):
    code = "import sys; from posttrain.store import Store; Store.open(sys.argv[1]).close()"
    both = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]


def test_without_the_extra_the_message_says_what_to_install():
    code = """
import sys
sys.modules["sqlalchemy"] = None
from posttrain.errors import UserError
from posttrain.store import Answer, read_items
try:
    from posttrain.store import Store
except UserError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "needs sqlalchemy" in said and "pip install 'posttrain[label]'" in said


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 1e6))
def test_the_clock_never_runs_backwards_and_never_stands_still_when_time_passes(steps, start):
    wall = 1000.0
    clock = Clock(lambda: wall, start)
    last = clock()
    for step in steps:
        wall += step
        now = clock()
        assert now >= max(last, wall)
        if step > 0:
            assert now >= last + step or now == wall or now == pytest.approx(last + step)
        last = now


# ---- votes as values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said", "agree"),
    [
        ("pair", ['"first"', '"second"', '"first"'], 2),
        ("rating", ["2", "5", "3", "6", "6"], 3),  # 5, 6, 6 lie within a point
        ("ranking", ["[0,1,2]", "[0,1,2]", "[0,0,1]"], 2),
        ("demo", ['"x"', '"y"'], 2),
        ("pair", [], 0),
    ],
)
def test_how_many_agree(kind, said, agree):
    assert labels.concord(kind, said) == agree


@given(st.lists(st.sampled_from(['"first"', '"second"', '"tie"']), max_size=8), st.integers(1, 4), st.integers(0, 4))
def test_more_labels_are_asked_until_enough_agree_and_never_above_the_cap(said, per_item, extra):
    most = per_item + extra
    need = labels.wanted("pair", said, per_item, most)
    if labels.concord("pair", said) >= per_item:
        assert need <= len(said) or need == most
    elif len(said) < most:
        assert need > len(said)
    assert need <= most
    assert labels.wanted("pair", said, per_item, None) == per_item


@pytest.mark.parametrize(
    ("kind", "gold", "said", "right"),
    [
        ("pair", {"choice": "first"}, {"choice": "first"}, True),
        ("pair", {"choice": "first"}, {"choice": "tie"}, False),
        ("rating", {"rating": 5}, {"rating": 6}, True),
        ("rating", {"rating": 5}, {"rating": 7}, False),
        ("ranking", {"ranks": [0, 1, 1]}, {"ranks": [0, 2, 1]}, True),
        ("ranking", {"ranks": [0, 1, 1]}, {"ranks": [1, 0, 2]}, False),
        ("thumb", {"thumb": False}, {"thumb": False}, True),
        ("safety", {"safety": ["safe"]}, {"safety": ["unsafe"]}, False),
    ],
)
def test_what_is_right_on_gold(kind, gold, said, right):
    assert labels.right(kind, gold, said) is right


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("As Claude, I cannot say.", "As Claude"),
        ("Hello! I am ChatGPT, how can I help?", "I am ChatGPT"),
        ("I'm an AI assistant called Gemini.", "called Gemini"),
        ("I am an AI developed by Anthropic.", "developed by Anthropic"),
        ("I was trained by OpenAI to help.", "trained by OpenAI"),
        ("I’m GPT-4.", "GPT-4"),
        ("Claude Monet was a painter; the llama is an animal.", None),
        ("OpenAI released a model in 2022.", None),
        ("As a large mammal, the llama eats grass.", None),
        ("I like Google.", None),
    ],
)
def test_answers_that_name_their_model(text, says):
    found = leak(text)
    assert (found is None) if says is None else says in (found or "")


def test_the_compared_models_names_are_leaks_unless_they_are_plain_words():
    assert leak("This is from qwen3-0.6b.", ("org/Qwen3-0.6B",)) == "qwen3-0.6b"
    assert leak("All your base are ours, sft.", ("base", "sft")) is None


# ---- imports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "row", "texts"),
    [
        ("pair", {"prompt": "q", "answers": ["x", "y"]}, ["x", "y"]),
        ("pair", {"question": "q", "response_a": "x", "response_b": "y"}, ["x", "y"]),
        ("pair", {"prompt": "q", "chosen": "x", "rejected": "y"}, ["x", "y"]),
        ("pair", {"prompt": [{"role": "user", "content": "q"}], "chosen": {"role": "assistant", "content": "x"},
                  "rejected": [{"role": "assistant", "content": "y"}]}, ["x", "y"]),
        ("pair", {"chosen": "\n\nHuman: q\n\nAssistant: x", "rejected": "\n\nHuman: q\n\nAssistant: y"}, ["x", "y"]),
        ("ranking", {"messages": [{"role": "user", "content": "q"}], "responses": ["x", {"text": "y"}, "z"]},
         ["x", "y", "z"]),
        ("rating", {"prompt": "q", "response": "x"}, ["x"]),
        ("thumb", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}]}, ["x"]),
        ("demo", {"prompt": "q"}, []),
        ("demo", {"prompt": "q", "completion": "x"}, []),
        ("safety", {"prompt": "q", "answers": ["x", "y"]}, ["x", "y"]),
        ("rewrite", {"instruction": "q", "output": "x"}, ["x"]),
    ],
)  # fmt: skip
def test_shapes_that_are_read(kind, row, texts):
    (read,) = parse_items(json.dumps(row), "up.jsonl", kind)
    assert [c.text for c in read.answers] == texts and [m.content for m in read.prompt] == ["q"]
    assert read.id == parse_items(json.dumps(row), "other.jsonl", kind)[0].id  # named by what it holds


def test_models_authors_gold_and_the_rest_are_kept():
    rows = [
        {"id": 7, "prompt": "q", "answers": ["x", "y"], "models": ["m1", "m2"], "gold": "b", "category": "c"},
        {"id": "8", "prompt": "q", "answers": ["x", "y"], "model_a": "m1", "model_b": "m2", "gold": {"choice": "tie"}},
        {"prompt": "q", "chosen": "x", "rejected": "y", "gold": True, "model": "m", "meta": {"k": 1}},
        {"prompt": "r", "answers": [{"text": "x", "model": "m3", "author": "p1"}, "y"]},
    ]
    read = parse_items("\n".join(map(json.dumps, rows)), "up", "pair")
    assert [(i.id, [c.model for c in i.answers], i.gold) for i in read[:2]] == [
        ("7", ["m1", "m2"], {"choice": "second"}), ("8", ["m1", "m2"], {"choice": "tie"}),
    ]  # fmt: skip
    assert read[0].category == "c" and read[2].gold == {"choice": "first"} and read[2].meta == {"k": 1}
    assert (read[3].answers[0].model, read[3].answers[0].author) == ("m3", "p1")
    assert parse_items(json.dumps(rows), "up", "pair") == read  # one JSON array is as good


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        ("pair", "{oops", "up:2: row: not valid JSON"),
        ("pair", '["list"]', "up:2: row: expected an object"),
        ("pair", {"answers": ["x", "y"]}, "up:2: prompt: expected prompt"),
        ("pair", {"prompt": "q"}, "up:2: answers: expected answers for kind pair"),
        ("pair", {"prompt": "q", "answers": ["x"]}, "up:2: answers: expected 2 answers for kind pair, got 1"),
        ("pair", {"prompt": "q", "answers": ["x", " x"]}, "up:2: answers: answers 1 and 2 are equal"),
        ("pair", {"prompt": "q", "answers": ["x", ""]}, "up:2: answers: answer 2 is empty"),
        ("pair", {"prompt": "q", "answers": "x"}, "up:2: answers: expected a list, got 'x'"),
        ("pair", {"prompt": "q", "answers": ["x", 5]}, "up:2: answers.1"),
        ("pair", {"prompt": 5, "answers": ["x", "y"]}, "up:2: prompt: expected a list of messages, got 5"),
        ("pair", {"prompt": "q", "answers": ["x", "y"], "models": ["m"]}, "up:2: models: expected 2 names"),
        ("pair", {"prompt": "q", "answers": ["x", "y"], "gold": "best"}, "up:2: gold: expected first, second"),
        ("pair", {"prompt": "q", "answers": ["x", "y"], "id": ["a"]}, "up:2: id: expected a text"),
        ("pair", {"prompt": "q", "answers": ["x", "y"], "id": "one"}, "up:2: id: 'one' is on line 1 already"),
        ("pair", {"prompt": "q", "answers": ["x", "y"], "meta": 3}, "up:2: meta: expected an object"),
        ("ranking", {"prompt": "q", "answers": ["x"]}, "expected 3 to 9 answers for kind ranking, got 1"),
        ("ranking", {"prompt": "q", "answers": ["x", "y", "z"], "gold": [0, 1]}, "up:2: gold: expected"),
        ("rating", {"prompt": "q", "answer": "x", "gold": 9}, "up:2: gold: expected"),
        ("demo", {"prompt": "q", "gold": "x"}, "up:2: gold: a demo has no right answer"),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_field(kind, row, words):
    shown = {"pair": 2, "ranking": 3, "demo": 0}.get(kind, 1)
    good = {"id": "one", "prompt": "q", "answers": ["x", "y", "z"][:shown]}
    text = json.dumps(good) + "\n" + (row if isinstance(row, str) else json.dumps(row))
    with pytest.raises(UserError, match=re.escape(words)):
        parse_items(text, "up", kind)


def test_a_file_is_read_and_imported_and_the_number_of_bad_lines_told(tmp_path, store):
    good = tmp_path / "pairs.jsonl"
    good.write_text("".join(json.dumps({"prompt": f"q{n}", "answers": ["x", "y"]}) + "\n" for n in range(5)))
    project(store, 0)
    assert store.add_items(SYSTEM, "p", read_items(good, "pair")) == 5
    good.write_text('{"prompt": "q"}\n' * 3)
    with pytest.raises(UserError, match="and 2 more bad lines"):
        read_items(good, "pair")
    with pytest.raises(UserError, match="no items"):
        parse_items("\n\n", "empty.jsonl", "pair")


def test_items_of_a_project_can_be_imported_into_another(store):
    """What the store keeps is a shape that the importer reads."""
    project(store, [item(n, gold={"choice": "tie"}) for n in range(3)])
    lines = "\n".join(i.model_dump_json(exclude_defaults=True) for i in store.items("p"))
    assert parse_items(lines, "export", "pair") == store.items("p")
