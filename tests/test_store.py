"""The feedback store, on SQLite here and on PostgreSQL in test_store_postgres.py: the same tests, another `url`."""

import itertools
import shutil
import threading
from collections import Counter
from contextlib import suppress

import pytest
from argon2 import PasswordHasher
from feedback_store import Clock, item, person, project, recount, rows, seen, vote
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from posttrain.errors import UserError
from posttrain.store import (
    SYSTEM,
    Answer,
    Candidate,
    Closed,
    Conflict,
    Forbidden,
    Missing,
    ProjectSettings,
    Store,
    TooMany,
    cast,
    people,
    schema,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cheap_passwords():
    """argon2 with the smallest cost: these tests make hundreds of people."""
    with pytest.MonkeyPatch.context() as patch:
        hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(people, "_hasher", lambda: hasher)
        yield


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """An empty store, made once by the migrations and copied for each test."""
    path = tmp_path_factory.mktemp("blank") / "feedback.db"
    Store.open(str(path)).close()
    return path


@pytest.fixture
def url(blank, tmp_path):
    shutil.copy(blank, tmp_path / "feedback.db")
    return f"sqlite:///{tmp_path}/feedback.db"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(url, clock):
    with Store.open(url, now=clock) as opened:
        yield opened


def sql(store, *statements):
    """Straight into the database, as somebody with its password could."""
    for statement in statements:
        store.db.write(lambda conn, s=statement: conn.execute(text(s)))


# ---- tasks and votes -------------------------------------------------------------------------------------------------


def test_a_vote_is_kept_in_item_order(store):
    """Whatever the order shown, 'the answer shown first' is translated back by the stored permutation."""
    project(store, 30)
    who, orders = person(store), Counter()
    for _ in range(30):
        task = store.next_task(who, "p")
        n = task.prompt[0].content.removeprefix("question ")
        shown = [f"answer {k} to {n}" for k in (0, 1)]
        order = tuple(shown.index(a) for a in task.answers)
        event = store.submit(who, task.id, Answer(choice="a", strength=3, reason="clearer", seconds=2.5))
        cast = store.votes("p")[-1]
        assert (cast.item, cast.presented, cast.event, cast.id) == (n, order, event.number, event.hash)
        assert cast.choice == ("first", "second")[order[0]]
        assert (cast.strength, cast.reason, cast.seconds, cast.person) == (3, "clearer", 2.5, who.id)
        orders[order] += 1
    assert store.next_task(who, "p") is None
    assert min(orders.values()) >= 5  # of 30 fair coins; P(fewer than 5 on a side) < 1e-4
    recount(store)


def test_ranks_and_bins_come_back_in_item_order(store):
    project(store, [item(n, answers=4) for n in range(6)], kind="ranking")
    who = person(store)
    while task := store.next_task(who, "p"):
        order = [int(a.split()[1]) for a in task.answers]
        store.submit(who, task.id, Answer(ranks=(7, 2, 2, 5), safety=("safe", "unsafe", "safe", "borderline")))
        cast = store.votes("p")[-1]
        assert [cast.ranks[n] for n in order] == [2, 0, 0, 1]  # dense: 2, 2 -> 0, 5 -> 1, 7 -> 2
        assert [cast.safety[n] for n in order] == ["safe", "unsafe", "safe", "borderline"]
    recount(store)


@pytest.mark.parametrize(
    ("kind", "answers", "said", "kept"),
    [
        ("rating", 1, {"rating": 6, "flags": ["opinion", "hallucination"]}, {"flags": ("hallucination", "opinion")}),
        ("thumb", 1, {"thumb": False}, {"thumb": False}),
        ("rewrite", 1, {"text": "better"}, {"text": "better", "which": "first"}),
        ("demo", 0, {"text": "an answer"}, {"text": "an answer", "which": None}),
        ("safety", 1, {"safety": "unsafe"}, {"safety": ("unsafe",)}),
        ("pair", 2, {"choice": "both_bad"}, {"choice": "both_bad", "strength": None}),
    ],
)
def test_every_kind_of_task(store, kind, answers, said, kept):
    project(store, [item(1, answers=answers)], kind=kind)
    who = person(store)
    store.submit(who, store.next_task(who, "p").id, Answer.model_validate(said))
    cast = store.votes("p")[0]
    assert {k: getattr(cast, k) for k in kept} == kept
    assert store.snapshot(SYSTEM, "p").votes == 1


@pytest.mark.parametrize(
    ("kind", "answers", "said", "field"),
    [
        ("pair", 2, {}, "choice"),
        ("pair", 2, {"choice": "tie", "strength": 2}, "strength"),
        ("pair", 2, {"choice": "a", "rating": 3}, "rating"),
        ("pair", 2, {"choice": "a", "text": "new"}, "which"),
        ("pair", 2, {"choice": "a", "which": "a"}, "which"),
        ("pair", 2, {"choice": "a", "safety": ("safe",)}, "safety"),
        ("ranking", 3, {"ranks": (0, 1)}, "ranks"),
        ("ranking", 3, {"ranks": (0, 1, -1)}, "ranks"),
        ("rewrite", 1, {"text": " "}, "text"),
        ("rewrite", 1, {"text": "answer 0 to 1"}, "text"),
        ("rewrite", 1, {"text": "x", "which": "b"}, "which"),
        ("demo", 0, {"text": "x", "flags": ("opinion",)}, "flags"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_changes_nothing(store, kind, answers, said, field):
    project(store, [item(1, answers=answers)], kind=kind)
    who = person(store)
    task = store.next_task(who, "p")
    with pytest.raises(UserError) as error:
        store.submit(who, task.id, Answer.model_validate(said))
    assert error.value.where == f"answer.{field}"
    assert store.votes("p") == [] and store.next_task(who, "p") == task


def test_an_annotator_sees_neither_models_nor_gold_nor_ids(store):
    gold = item(1, gold={"choice": "first"}, category="secret-category", meta={"from": "secret-run"})
    project(store, [gold.model_copy(update={"id": "the-id"})])
    task = store.next_task(person(store), "p")
    for secret in ("model-x", "model-y", "gold", "secret", "the-id"):
        assert secret not in seen(task)


def test_nobody_labels_his_own_text(store):
    project(store, 0)
    writer, other = person(store), person(store)
    mine = item(1).model_copy(update={"answers": (Candidate(text="by me", author=writer.id), Candidate(text="other"))})
    store.add_items(SYSTEM, "p", [mine])
    assert store.next_task(writer, "p") is None
    assert store.next_task(other, "p") is not None


# ---- who gets what ---------------------------------------------------------------------------------------------------


def test_the_same_task_again_while_the_lease_holds_and_the_next_one_is_leased_ahead(store):
    project(store, 3)
    who, other = person(store), person(store)
    first = store.next_task(who, "p")
    ahead = store.peek_task(who, "p")
    assert store.next_task(who, "p") == first and store.peek_task(who, "p") == ahead and ahead.id != first.id
    assert store.next_task(other, "p").prompt[0].content == "question 2"
    assert store.progress("p").open_leases == 3
    store.submit(who, first.id, Answer(choice="a"))
    assert store.next_task(who, "p") == ahead
    recount(store)


def test_a_lease_that_ran_out_gives_the_item_to_others_and_comes_back(store, clock):
    project(store, 1, lease_seconds=60)
    who, other = person(store), person(store)
    task = store.next_task(who, "p")
    assert store.next_task(other, "p") is None
    clock.at += 61
    late = store.next_task(other, "p")
    assert late is not None and late.prompt == task.prompt
    with pytest.raises(Conflict, match="ran out"):
        store.submit(who, task.id, Answer(choice="a"))  # its place is taken
    clock.at += 61
    assert store.next_task(who, "p").id == task.id  # the same order of answers again
    store.submit(who, task.id, Answer(choice="a"))
    with pytest.raises(Conflict, match="ran out"):
        store.submit(other, late.id, Answer(choice="a"))
    recount(store)


def test_a_late_answer_is_kept_where_there_is_room(store, clock):
    project(store, 2, lease_seconds=60)
    who, other = person(store), person(store)
    task = store.next_task(who, "p")
    clock.at += 61
    store.next_task(other, "p")  # sweeps; takes item 0 or 1
    clock.at += 61
    store.next_task(other, "p")
    event = store.submit(who, task.id, Answer(choice="a"))
    assert event.kind == "vote"
    recount(store)


def test_overlap_is_exact_and_no_item_comes_twice_to_one_person(store):
    project(store, 7, labels_per_item=3)
    crowd = [person(store) for _ in range(5)]
    while any([vote(store, who) for who in crowd]):
        pass
    votes = store.votes("p")
    assert Counter(v.item for v in votes) == {str(n): 3 for n in range(7)}
    assert max(Counter((v.item, v.person) for v in votes).values()) == 1
    assert store.progress("p").done == 7
    recount(store)


def test_items_on_which_people_differ_get_more_labels(store):
    """Two must agree, four at most: a b -> a third; a b tie -> a fourth; then the cap. a a -> done after two."""
    project(store, 2, labels_per_item=2, max_labels=4)
    crowd = [person(store) for _ in range(6)]
    says = {"0": ["first", "second", "tie", "both_bad"], "1": ["first", "first"]}
    for who in crowd:
        while task := store.next_task(who, "p"):
            name = task.prompt[0].content.removeprefix("question ")
            want = says[name].pop(0)
            if want in ("first", "second"):
                place = [a.split()[1] for a in task.answers].index("0" if want == "first" else "1")
                want = "ab"[place]
            store.submit(who, task.id, Answer(choice=want))
    assert says == {"0": [], "1": []}
    assert [d.item.id for d in store.disagreements("p")] == ["0"]
    assert store.disagreements("p")[0].agreement == 0.25 and len(store.disagreements("p")[0].votes) == 4
    recount(store)


def test_gold_comes_at_its_share_unasked_for_and_never_twice(store):
    golden = [item(f"g{n}", gold={"choice": "first"}) for n in range(60)]
    project(store, [*golden, *[item(n) for n in range(200)]], gold_share=0.25, seed=3)
    who = person(store)
    for _ in range(100):
        vote(store, who)
    cast = store.votes("p")
    share = sum(v.gold for v in cast) / 100
    assert 0.1 < share < 0.4  # 100 draws at 0.25: 3.5 standard deviations of 0.043
    assert len({v.item for v in cast}) == 100
    assert {v.drawn for v in cast if v.gold} == {"gold"}
    assert store.progress("p").done == 100 - sum(v.gold for v in cast)
    recount(store)


def test_gold_alone_does_not_keep_people_busy_but_a_project_of_gold_does(store):
    project(store, [item("g", gold={"choice": "first"}), item(1)], slug="mixed")
    project(store, [item(n, gold={"choice": "first"}) for n in range(3)], slug="test")
    who = person(store, slug="mixed")
    store.set_role(SYSTEM, "test", who.id, "annotator")
    assert [v.gold for v in [vote(store, who, slug="mixed") and store.votes("mixed")[-1]]] == [False]
    assert store.next_task(who, "mixed") is None
    assert sum(vote(store, who, slug="test") is not None for _ in range(5)) == 3


def test_a_cap_per_person(store):
    project(store, 10, per_person_cap=2)
    who = person(store)
    task = store.next_task(who, "p")
    assert store.peek_task(who, "p") is not None
    store.submit(who, task.id, Answer(choice="a"))
    assert store.peek_task(who, "p") is None
    vote(store, who)
    assert store.next_task(who, "p") is None
    store.undo(who, "p")
    assert vote(store, who) is not None


def test_active_order_asks_about_the_models_least_known(store):
    """20 votes between a and b say much about them and nothing about c: p(1-p)var is largest for a pair with c."""
    known = [item(f"ab{n}", models=("a", "b")) for n in range(40)]
    rest = [item(f"ac{n}", models=("c", "a")) for n in range(40)]
    project(store, known, order="active", random_share=0.0)
    who = person(store)
    for _ in range(25):
        vote(store, who)
    store.add_items(SYSTEM, "p", rest)
    for _ in range(20):  # until the strengths are estimated anew
        vote(store, who)
    later = [vote(store, who) for _ in range(10)]
    assert {e.body["drawn"] for e in later} == {"active"}
    assert sum(e.body["item"].startswith("ac") for e in later) >= 8
    recount(store)


def test_the_random_share_of_the_active_order_is_random(store):
    project(store, 300, order="active", random_share=0.4)
    who = person(store)
    drawn = Counter(vote(store, who).body["drawn"] for _ in range(160))
    assert set(drawn) == {"random", "active"}
    assert 0.2 < drawn["random"] / 160 < 0.6  # 0.4 +- five standard deviations of 0.039


# ---- answering, skipping, undoing ------------------------------------------------------------------------------------


def test_an_answer_sent_twice_is_one_event(store):
    project(store, 2)
    who = person(store)
    task = store.next_task(who, "p")
    event = store.submit(who, task.id, Answer(choice="a", seconds=1.0))
    assert store.submit(who, task.id, Answer(choice="a", seconds=9.0)) == event
    with pytest.raises(Conflict):
        store.submit(who, task.id, Answer(choice="b"))
    with pytest.raises(Conflict):
        store.skip(who, task.id, "hard")
    assert len(store.votes("p")) == 1
    other = store.next_task(who, "p")
    assert store.skip(who, other.id, "hard") == store.skip(who, other.id, "hard")
    recount(store)


def test_undo_is_an_event_and_the_task_comes_back_first(store):
    project(store, 5)
    who = person(store)
    first = store.next_task(who, "p")
    one = store.submit(who, first.id, Answer(choice="a"))
    second = store.next_task(who, "p")
    store.peek_task(who, "p")
    store.skip(who, second.id, "no idea")
    assert store.undo(who, "p").kind == "undo"
    assert store.next_task(who, "p").model_copy(update={"lease_until": 0}) == second.model_copy(
        update={"lease_until": 0}
    )
    assert store.undo(who, "p").body["event"] == one.number
    assert store.next_task(who, "p").answers == first.answers
    assert store.undo(who, "p") is None
    assert store.votes("p") == [] and [v.undone for v in store.votes("p", include_undone=True)] == [True]
    again = store.submit(who, first.id, Answer(choice="b"))
    assert again.number == one.number + 4 and [v.event for v in store.votes("p")] == [again.number]
    assert store.undo(who, "p", again.number).body["event"] == again.number
    with pytest.raises(Missing):
        store.undo(who, "p", one.number)
    recount(store)


def test_history_is_ones_own_newest_first_and_pages(store):
    project(store, 12)
    who, other = person(store), person(store)
    mine = [vote(store, who).number for _ in range(6)]
    vote(store, other)
    store.undo(who, "p")
    assert [v.event for v in store.history(who, "p", limit=3)] == mine[4:1:-1]
    assert [v.event for v in store.history(who, "p", before=mine[2])] == mine[1::-1]


def test_who_may_do_what(store):
    project(store, 5)
    lead, worker, viewer = person(store, "lead"), person(store), person(store, "viewer")
    stranger = person(store, "annotator", slug=project(store, 1, slug="other"))
    task = store.next_task(worker, "p")
    for act in (lambda: store.next_task(stranger, "p"), lambda: store.submit(stranger, task.id, Answer(choice="a")),
                lambda: store.history(stranger, "p"), lambda: store.add_items(stranger, "p", [item(99)]),
                lambda: store.snapshot(stranger, "p"),
                lambda: store.set_role(stranger, "p", stranger.id, "lead")):  # fmt: skip
        with pytest.raises(Missing):
            act()
    for act in (lambda: store.next_task(viewer, "p"), lambda: store.undo(viewer, "p"),
                lambda: store.add_items(worker, "p", [item(99)]), lambda: store.close_project(worker, "p"),
                lambda: store.invite(worker, project="p", role="lead"),
                lambda: store.invite(lead, project=None, role="admin"),
                lambda: store.create_project(lead, "mine", ProjectSettings(kind="pair", title="x")),
                lambda: store.erase_person(lead, worker.id), lambda: store.reset_link(lead, worker.id)):  # fmt: skip
        with pytest.raises(Forbidden):
            act()
    with pytest.raises(Missing):
        store.submit(lead, task.id, Answer(choice="a"))  # another's task, though he leads the project
    assert store.role_of(lead, "p") == "lead" and store.role_of(stranger, "p") is None
    assert [p.slug for p in store.projects_of(worker)] == ["p"]
    store.set_role(lead, "p", worker.id, None)
    with pytest.raises(Missing):
        store.submit(worker, task.id, Answer(choice="a"))


def test_a_closed_project_takes_nothing_until_it_is_opened_again(store):
    project(store, 3)
    who = person(store)
    task = store.next_task(who, "p")
    done = store.submit(who, task.id, Answer(choice="a"))
    task = store.next_task(who, "p")
    store.close_project(SYSTEM, "p")
    assert store.project("p").closed
    for act in (lambda: store.submit(who, task.id, Answer(choice="a")), lambda: store.next_task(who, "p"),
                lambda: store.undo(who, "p"), lambda: store.skip(who, task.id, ""),
                lambda: store.add_items(SYSTEM, "p", [item(77)])):  # fmt: skip
        with pytest.raises(Closed):
            act()
    assert store.submit(who, _task_of(store, done), Answer(choice="a")) == done  # it was acknowledged before
    store.reopen_project(SYSTEM, "p")
    assert store.submit(who, task.id, Answer(choice="a")).kind == "vote"
    assert [e.kind for e in store.events("p")][-3:] == ["closed", "reopened", "vote"]


def _task_of(store, event) -> str:
    return next(t.id for t in rows(store, schema.tasks) if t.event == event.number)


def test_new_settings_count_anew_what_items_need(store):
    project(store, 4, labels_per_item=1)
    crowd = [person(store) for _ in range(3)]
    for choice, who in zip("aab", crowd):
        for _ in range(2):
            vote(store, who, choice)
    assert store.progress("p").done == 4
    wider = store.project("p").settings.model_copy(update={"labels_per_item": 2})
    store.change_settings(SYSTEM, "p", wider)
    assert store.progress("p").done == 0
    assert vote(store, crowd[0]) is not None
    recount(store)
    with pytest.raises(Conflict, match="seed"):
        store.change_settings(SYSTEM, "p", wider.model_copy(update={"seed": 9}))


def test_imports_are_all_or_nothing(store):
    project(store, 3)
    before = store.events("p")
    for bad, words in [
        ([item(7), item(7)], "'7' occurs twice"),
        ([item(8), item(1)], "has already: '1'"),
        ([item(9), item(10, answers=3)], "expected 2 answers for kind pair, got 3"),
        ([item(9, gold={"choice": "a"})], '"first", "second"'),
        ([item(9, meta={"x": float("nan")})], "JSON can hold"),
        ([item(9, meta={"x": "\ud800"})], "JSON can hold"),
        ([item("a\x00b")], "printable"),
    ]:
        with pytest.raises(UserError) as error:
            store.add_items(SYSTEM, "p", bad)
        assert words in str(error.value)
    same = item(9).model_copy(update={"answers": (Candidate(text="same"), Candidate(text=" same"))})
    with pytest.raises(UserError, match="nothing to compare"):
        store.add_items(SYSTEM, "p", [same])
    assert store.events("p") == before and len(store.items("p")) == 3


# ---- chain and snapshots ---------------------------------------------------------------------------------------------


def _busy(store):
    project(store, [*(item(n) for n in range(8)), item("g", gold={"choice": "first"})], labels_per_item=2)
    crowd = [person(store), person(store)]
    for who, choice in itertools.product(crowd, "aab"):
        vote(store, who, choice)
    store.undo(crowd[0], "p")
    return crowd


def test_events_can_neither_change_nor_go(store):
    _busy(store)
    for statement in ("UPDATE events SET at = 0 WHERE number = 3", "DELETE FROM events WHERE number = 5"):
        with pytest.raises(Exception, match="append-only"):
            sql(store, statement)
    assert store.verify().ok


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE events SET body = replace(body, 'first', 'second') WHERE project = 'p' AND number = 6", "p:6"),
        ("UPDATE events SET person = 'somebody' WHERE project = 'p' AND number = 7", "p:7"),
        ("UPDATE events SET at = at + 1 WHERE project = 'p' AND number = 7", "p:7"),
        ("DELETE FROM events WHERE project = 'p' AND number = 8", "p:8"),
        ("DELETE FROM events WHERE project = 'p' AND number = 11", "p:11"),
        ("UPDATE items SET body = replace(body, 'answer 0', 'answer 9') WHERE id = '3'", "p:2"),
        ("DELETE FROM items WHERE id = '3'", "p:2"),
        ("UPDATE heads SET hash = 'x' WHERE project = 'p'", "p:11"),
        ("UPDATE snapshots SET head_hash = 'x'", "p:11"),
    ],
)
def test_every_change_behind_the_stores_back_is_found(store, statement, first_bad):
    _busy(store)
    store.snapshot(SYSTEM, "p")
    assert store.verify("p").events == 11 and store.verify().ok
    gone = ["DROP TRIGGER events_no_update", "DROP TRIGGER events_no_delete"]
    if not store.db.sqlite:
        gone = ["DROP TRIGGER events_append_only ON events"]
    sql(store, *gone, _first_to_second(store, statement))
    report = store.verify()
    assert not report.ok and report.first_bad == first_bad and report.problem


def _first_to_second(store, statement: str) -> str:
    """Event 6 is a vote; swap whichever side it is for."""
    said = store.events("p", after=5, limit=1)[0].body["choice"]
    return statement if said == "first" else statement.replace("'first', 'second'", "'second', 'first'")


def test_a_snapshot_stays_what_it_was(store):
    crowd = _busy(store)
    taken = store.snapshot(SYSTEM, "p")
    assert store.snapshot(SYSTEM, "p") == taken
    frozen = store.read_snapshot(taken.digest)
    assert (taken.votes, taken.items, len(frozen[2]), len(frozen[3])) == (5, 9, 9, 5)
    store.undo(crowd[1], "p")
    vote(store, crowd[0])
    store.add_items(SYSTEM, "p", [item("later")])
    store.close_project(SYSTEM, "p")
    assert store.read_snapshot(taken.digest[:8]) == frozen
    assert store.snapshot(SYSTEM, "p").digest != taken.digest
    assert store.snapshots("p")[0].digest == taken.digest
    with pytest.raises(Missing):
        store.read_snapshot("0123456789abcdef")
    with pytest.raises(Missing):
        store.read_snapshot(taken.digest[:4])
    assert not frozen[1].closed


def test_erasure_takes_the_name_and_leaves_chain_and_votes(store):
    crowd = _busy(store)
    crowd[0] = person(store, name="Zebediah Quux", invited_as="Zebediah Quux")
    vote(store, crowd[0])
    with pytest.raises(Forbidden):
        store.sign_in("Zebediah Quux", "wrong")
    session = store.sign_in(crowd[0].name, "correct horse")
    token = store.api_token(crowd[0], "laptop")
    admin = person(store, "admin")
    before = store.votes("p")
    store.erase_person(admin, crowd[0].id)
    assert store.person_of(session) is None and store.person_of_token(token) is None
    assert store.votes("p") == before and store.verify().ok
    assert "zebediah" not in str([rows(store, t) for t in schema.meta.sorted_tables]).lower()
    assert {p.id: (p.name, p.erased) for p in store.people()}[crowd[0].id] == ("", True)
    with pytest.raises(Forbidden):
        store.sign_in(crowd[0].name, "correct horse")
    with pytest.raises(Conflict, match="last administrator"):
        store.erase_person(admin, admin.id)
    assert [e.kind for e in store.events("")][-1] == "erased"
    store.accept(store.invite(SYSTEM, project="p", role="viewer"), crowd[0].name, "another one")  # the name is free


def test_names_are_nowhere_but_with_the_people(store):
    _busy(store)
    who = person(store, name="Zebediah Quux")
    vote(store, who)
    others = [t for t in schema.meta.sorted_tables if t.name != "people"]
    assert "Zebediah" not in str([rows(store, t) for t in others])


def test_time_never_runs_backwards(store, clock):
    project(store, 6, lease_seconds=600)
    who, other = person(store), person(store)
    vote(store, who)
    clock.at -= 86_400
    vote(store, who)
    held = store.next_task(who, "p")
    assert held.lease_until >= store.votes("p")[0].at + 600
    clock.at += 601  # ten minutes pass on the wrong clock: the lease runs out all the same
    store.next_task(other, "p")
    assert held.id not in {t.id for t in rows(store, schema.tasks) if t.state == "leased" and t.person == who.id}
    at = [e.at for e in store.events("p")]
    assert at == sorted(at) and store.verify().ok


def test_a_store_opened_under_an_earlier_clock_goes_on_from_its_last_event(store, url, clock):
    project(store, 3)
    who = person(store)
    last = vote(store, who).at
    early = Clock(clock.at - 1e6)
    with Store.open(url, now=early) as again:
        assert again.now() >= last
        assert vote(again, who).at >= last
        assert again.verify().ok


# ---- people ----------------------------------------------------------------------------------------------------------


def test_the_first_administrator_and_the_rest(store):
    old = store.first_admin_link()
    link = store.first_admin_link()
    with pytest.raises(Closed):
        store.accept(old, "Ada", "long enough")
    with pytest.raises(UserError, match="at least 8"):
        store.accept(link, "Ada", "short")
    ada = store.accept(link, "Ada", "long enough")
    assert ada.admin and store.first_admin_link() is None
    with pytest.raises(Closed):
        store.accept(link, "Eve", "long enough")
    project(store, 1, by=ada)
    invitation = store.invite(ada, project="p", role="annotator", name="Bob")
    with pytest.raises(Conflict, match="taken"):
        store.accept(invitation, "ADA ", "long enough")
    bob = store.accept(invitation, "Bob", "long enough")
    assert store.role_of(bob, "p") == "annotator" and not bob.admin
    project(store, 1, slug="q", by=ada)
    store.join(store.invite(ada, project="q", role="lead"), bob)
    assert store.role_of(bob, "q") == "lead"
    assert [(m.person.name, m.role) for m in store.members("q")] == [("Bob", "lead")]


def test_sessions_and_tokens(store, clock):
    project(store, 1)
    who = person(store, name="Grace")
    session = store.sign_in("grace", "correct horse")
    assert store.person_of(session) == who and store.person_of(session + "x") is None
    token = store.api_token(who, "laptop")
    assert store.person_of_token(token) == who and store.person_of(token) is None
    secrets = str(rows(store, schema.secrets))
    assert session not in secrets and token not in secrets
    store.sign_out(session)
    assert store.person_of(session) is None
    session = store.sign_in("Grace", "correct horse")
    clock.at += people.SESSION_SECONDS + 1
    assert store.person_of(session) is None
    (mine,) = store.api_tokens(who)
    with pytest.raises(Missing):
        store.revoke_token(person(store), mine.id)
    store.revoke_token(who, mine.id)
    assert store.person_of_token(token) is None and store.api_tokens(who) == []


def test_guessing_passwords_becomes_slow(store, clock):
    project(store, 1)
    person(store, name="Alan")
    for name in ("alan", "nobody of that name"):
        for _ in range(people.FREE_FAILURES):
            with pytest.raises(Forbidden, match="name or password"):
                store.sign_in(name, "wrong")
        with pytest.raises(TooMany) as error:
            store.sign_in(name, "correct horse")
        assert error.value.seconds == pytest.approx(10)
    clock.at += 10.1
    with pytest.raises(Forbidden):
        store.sign_in("Alan", "wrong")
    clock.at += 10.1
    with pytest.raises(TooMany):
        store.sign_in("Alan", "correct horse")  # twice as long now
    clock.at += 10.1
    assert store.sign_in("Alan", "correct horse")


def test_a_new_password_ends_old_sessions(store):
    project(store, 1)
    who, admin = person(store, name="Edsger"), person(store, "admin")
    session = store.sign_in("Edsger", "correct horse")
    assert store.accept(store.reset_link(admin, who.id), "ignored", "a new password") == who
    assert store.person_of(session) is None
    with pytest.raises(Forbidden):
        store.sign_in("Edsger", "correct horse")
    assert store.sign_in("Edsger", "a new password")


# ---- quality ---------------------------------------------------------------------------------------------------------


def test_quality_by_hand(store):
    """Four items, two people, who agree on three: raw 3/4.

    A says first on all four, B first on three and second on the last. Fleiss: P = 3/4, shares 7/8 and 1/8, so
    Pe = 50/64, kappa = (48/64 - 50/64) / (14/64) = -1/7. Gold: A right of 1, Jeffreys mean 1.5 / 2.
    """
    project(store, [*(item(n) for n in range(4)), item("g", gold={"choice": "first"})], labels_per_item=2)
    a, b = person(store), person(store)
    for who, says in ((a, "0000"), (b, "0001")):
        for n in range(4):
            _prefer(store, who, f"question {n}", says[n])
    gold = store.project("p").settings.model_copy(update={"gold_share": 1.0})
    store.change_settings(SYSTEM, "p", gold)
    _prefer(store, a, "question g", "0")
    q = store.quality("p")
    assert (q.votes, q.annotators, q.multiply_labelled) == (9, 2, 4)
    assert q.raw.value == pytest.approx(0.75) and q.fleiss.value == pytest.approx(-1 / 7)
    assert q.gold.n == 1 and q.gold.value == pytest.approx(0.75)
    assert q.tie_share.value == 0.0 and 0.0 <= q.first_share.value <= 1.0
    mine = {p.person: p for p in q.people}
    assert mine[a.id].votes == 5 and mine[a.id].gold.n == 1 and mine[b.id].gold.n == 0
    assert mine[a.id].peers.n == 4
    assert store.quality("p") is q  # nothing has happened since
    vote(store, b)
    assert store.quality("p") is not q


def _prefer(store, who, question, answer):
    """Prefers the answer of that item index, wherever it is shown."""
    task = store.next_task(who, "p")
    assert task.prompt[0].content == question
    place = [x.split()[1] for x in task.answers].index(answer)
    store.submit(who, task.id, Answer(choice="ab"[place]))


@pytest.mark.parametrize(("kind", "answers", "said"), [
    ("ranking", 3, [{"ranks": (0, 1, 2)}, {"ranks": (0, 0, 1)}]), ("rating", 1, [{"rating": 2}, {"rating": 7}]),
    ("thumb", 1, [{"thumb": True}, {"thumb": False}]), ("demo", 0, [{"text": "one"}, {"text": "two"}]),
    ("safety", 1, [{"safety": "safe"}, {"safety": "unsafe"}]), ("rewrite", 1, [{"text": "one"}, {"text": "two"}]),
])  # fmt: skip
def test_quality_of_every_kind(store, kind, answers, said):
    project(store, [item(n, answers=answers) for n in range(5)], kind=kind, labels_per_item=2)
    for who, answer in zip((person(store), person(store)), said):
        while task := store.next_task(who, "p"):
            store.submit(who, task.id, Answer.model_validate(answer))
    q = store.quality("p")
    assert q.votes == 10 and q.annotators == 2
    assert (q.raw.value is None) == (kind in ("demo", "rewrite"))
    assert len(store.disagreements("p")) == (0 if kind in ("demo", "rewrite") else 5)
    assert store.quality(project(store, 0, slug="empty")).votes == 0


# ---- many at once ----------------------------------------------------------------------------------------------------


def test_eight_people_at_once(store):
    """Every item gets its labels, nobody an item twice, every acknowledged vote is in a chain that verifies."""
    project(store, 20, labels_per_item=2, max_labels=3)
    crowd = [person(store) for _ in range(8)]
    acknowledged, failures = [], []

    def work(who, n):
        try:
            step = 0
            while task := store.next_task(who, "p"):
                store.peek_task(who, "p")
                step += 1
                if (step + n) % 9 == 0:
                    store.skip(who, task.id, "unsure")
                    with suppress(Conflict):  # somebody else may have taken it by then
                        store.undo(who, "p")
                    continue
                acknowledged.append(store.submit(who, task.id, Answer(choice="aab"[(step + n) % 3])).hash)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(who, n)) for n, who in enumerate(crowd)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for n, who in enumerate(crowd):  # the last two may have differed when everybody else had gone
        work(who, n)
    assert not failures, failures
    votes = store.votes("p")
    assert {v.id for v in votes} == set(acknowledged) and len(votes) == len(acknowledged)
    assert max(Counter((v.item, v.person) for v in votes).values()) == 1
    assert {2, 3} >= set(Counter(v.item for v in votes).values()) and len({v.item for v in votes}) == 20
    assert store.verify().ok and store.progress("p").done == 20
    recount(store)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["vote", "vote", "vote", "skip", "undo", "peek", "wait", "add", "close", "role", "settings"]),
        st.integers(0, 2),
        st.sampled_from(["a", "b", "tie", "both_bad"]),
    ),
    max_size=25,
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(actions=ACTIONS, per_item=st.integers(1, 2), more=st.none() | st.integers(2, 3))
def test_whatever_people_do_the_chain_verifies_and_the_counters_are_a_recount(store, clock, actions, per_item, more):
    slug = f"p{next(SLUGS)}"
    golden = [item("g", gold={"choice": "tie"})]
    project(store, [*(item(n) for n in range(3)), *golden], slug, labels_per_item=per_item, max_labels=more,
            gold_share=0.3, lease_seconds=60)  # fmt: skip
    crowd = [person(store, slug=slug) for _ in range(3)]
    for n, (what, who, choice) in enumerate(actions):
        clock.at += 7
        with suppress(Closed, Missing, Conflict):
            _act(store, slug, what, crowd[who], choice, n, clock)
    recount(store, slug)
    report = store.verify(slug)
    assert report.ok and report.events == len(store.events(slug))
    assert store.read_snapshot(store.snapshot(SYSTEM, slug).digest)[3] == store.votes(slug)


SLUGS = itertools.count()


def _act(store, slug, what, who, choice, n, clock):
    if what in ("vote", "skip") and (task := store.next_task(who, slug)):
        if what == "vote":
            store.submit(who, task.id, Answer(choice=choice))
        else:
            store.skip(who, task.id, choice)
    elif what == "undo":
        store.undo(who, slug)
    elif what == "peek":
        store.peek_task(who, slug)
    elif what == "wait":
        clock.at += 61 if choice != "b" else -3600
    elif what == "add":
        store.add_items(SYSTEM, slug, [item(f"new {n}")])
    elif what == "close":
        (store.reopen_project if store.project(slug).closed else store.close_project)(SYSTEM, slug)
    elif what == "role":
        store.set_role(SYSTEM, slug, who.id, "annotator" if store.role_of(who, slug) is None else None)
    elif what == "settings":
        old = store.project(slug).settings
        store.change_settings(SYSTEM, slug, old.model_copy(update={"labels_per_item": 1 + n % 2}))


def test_what_a_database_cannot_hold_is_refused_in_words(store):
    """PostgreSQL keeps no NUL in a text; SQLite does, and finds nothing under it."""
    project(store, 2)
    who = person(store)
    for act in (lambda: store.submit(who, "a\0b", Answer(choice="a")), lambda: store.skip(who, "a\0b", ""),
                lambda: store.next_task(who, "a\0b"), lambda: store.sign_in("a\0b", "a\0b")):  # fmt: skip
        with pytest.raises(UserError):
            act()
    assert vote(store, who) is not None and store.verify().ok


def test_votes_cast_together_are_each_taken_or_refused_alone(store):
    """One transaction: two people on one item, an answer sent twice, one that does not fit, somebody else's task."""
    project(store, 1, labels_per_item=2, max_labels=3)
    bea, carl = person(store), person(store)
    one, two = store.next_task(bea, "p"), store.next_task(carl, "p")
    before = len(store.events("p"))
    a, same, other, bad, stolen, differs = cast.cast(
        store.db,
        [
            cast.Ballot(bea, one.id, Answer(choice="tie")),
            cast.Ballot(bea, one.id, Answer(choice="tie", seconds=3)),
            cast.Ballot(bea, one.id, Answer(choice="a")),
            cast.Ballot(carl, two.id, Answer(rating=3)),
            cast.Ballot(carl, one.id, Answer(choice="tie")),
            cast.Ballot(carl, two.id, Answer(choice="both_bad")),
        ],
    )
    assert a == same and isinstance(other, Conflict) and isinstance(stolen, Missing)
    assert isinstance(bad, UserError) and bad.where == "answer.choice"
    assert [e.hash for e in store.events("p")[before:]] == [a.hash, differs.hash]
    assert store.progress("p").done == 0 and store.verify("p").ok  # they differ, so a third is asked
    recount(store)
