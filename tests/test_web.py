"""The labelling application over HTTP: who may do what, what is refused and in which words, what annotators never see.

Kinds: refusals (the security list), hand values (a form becomes this vote), properties over every route.
"""

import hashlib
import io
import json
import re
import sqlite3
import subprocess
import sys
import zipfile
from html import escape
from typing import Any

import pytest
from fastapi.routing import APIRoute
from made_project import KINDS, PASSWORD, SECRETS, Browser, good, item, open_store, person, vote

from posttrain.errors import UserError
from posttrain.feedback import frozen
from posttrain.rows import Message, Pair, Ranking
from posttrain.store import SYSTEM, Answer, Candidate, ProjectSettings, Store, TaskItem, Unavailable
from posttrain.web import words
from posttrain.web.work import answer_of


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def bea(store):
    return Browser(store, "bea")


def routes(app, method: str, *, pages: bool) -> list[str]:
    """Addresses of the application's own routes, with this project's name in them."""
    fill = {
        "slug": "pair",
        "file": "pairs.jsonl",
        "task_id": "nothing",
        "person_id": "nobody",
        "token_id": "none",
        "token": "x",
    }
    found = []
    for route in all_routes(app):
        if method in route.methods and route.path.startswith("/api/v1") != pages:
            found.append(re.sub(r"{(\w+)}", lambda m: fill[m.group(1)], route.path))
    return found


def all_routes(app) -> list[APIRoute]:
    from posttrain.web import api, api_lead, lead, pages, work

    return [r for part in (api, api_lead, work, lead, pages) for r in part.router.routes if isinstance(r, APIRoute)]


# ---- signing in ------------------------------------------------------------------------------------------------------


def test_sign_in_gives_a_cookie_that_scripts_cannot_read(store):
    client = Browser(store)
    answer = client.post("/sign-in", {"name": "bea", "password": PASSWORD, "next": "/p/pair"}, page="/sign-in")
    cookie = answer.headers["set-cookie"]
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/pair")
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert client.get("/p/pair").status_code == 200


def test_wrong_password_and_unknown_name_are_told_alike(store):
    client = Browser(store)
    told = []
    for name in ("bea", "nobody at all"):
        answer = client.post("/sign-in", {"name": name, "password": "wrong"}, page="/sign-in")
        assert answer.status_code == 403 and "session=" not in answer.headers.get("set-cookie", "")
        told.append(re.sub(r'value="[^"]*"|content="\w+"', "", answer.text))
    assert told[0] == told[1] and "wrong" in told[0].lower()


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_sign_in_leads_to_this_site_only(store, target):
    answer = Browser(store).post("/sign-in", {"name": "bea", "password": PASSWORD, "next": target}, page="/sign-in")
    assert answer.headers["location"] == "/"


def test_sign_in_is_limited_by_address(store):
    client = Browser(store, sign_in_failures=3)
    codes = [
        client.post("/sign-in", {"name": f"x{i}", "password": "no"}, page="/sign-in").status_code for i in range(4)
    ]
    assert codes == [403, 403, 403, 429]
    refused = client.http.post("/api/v1/sign-in", json={"name": "bea", "password": PASSWORD})
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 100
    assert "wait" in refused.json()["error"]["remedy"]


def test_sign_in_is_limited_by_name(store):
    client = Browser(store)
    codes = {client.post("/sign-in", {"name": "bea", "password": "no"}, page="/sign-in").status_code for _ in range(7)}
    assert codes == {403, 429}


def test_sign_out_ends_the_session(bea):
    session = bea.http.cookies["session"]
    bea.post("/sign-out")
    bea.http.cookies.set("session", session)
    assert bea.get("/p/pair").headers["location"].startswith("/sign-in")


def test_an_invitation_makes_a_person_once(store):
    token = store.invite(person(store, "lea"), project="pair", role="annotator")
    new = Browser(store)
    assert "Choose a name" in new.get(f"/join/{token}").text
    short = new.post(f"/join/{token}", {"name": "dan", "password": "short"}, page=f"/join/{token}")
    assert short.status_code == 422 and "at least 8" in short.text
    taken = new.post(f"/join/{token}", {"name": "Bea", "password": PASSWORD}, page=f"/join/{token}")
    assert taken.status_code == 409 and "taken" in taken.text
    assert new.post(f"/join/{token}", {"name": "dan", "password": PASSWORD}, page=f"/join/{token}").status_code == 303
    assert "Project pair" in new.get("/").text
    again = Browser(store).post(f"/join/{token}", {"name": "eve", "password": PASSWORD}, page="/sign-in")
    assert again.status_code == 410 and "ask for a new one" in again.text


def test_an_account_takes_up_an_invitation_by_a_form_not_by_a_link(store):
    token = store.invite(SYSTEM, project="other", role="annotator")
    bea = Browser(store, "bea")
    assert "signed in as bea" in bea.get(f"/join/{token}").text
    assert bea.get("/p/other").status_code == 404  # opening the link did nothing
    bea.post(f"/join/{token}")
    assert bea.get("/p/other").status_code == 200


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_forged_session_is_nobody(store):
    client = Browser(store)
    client.http.cookies.set("session", "f" * 43)
    pages = [p for p in routes(client.app, "GET", pages=True) if p not in ("/sign-in", "/join/x", "/api")]
    assert len(pages) > 8
    for path in pages:
        answer = client.get(path)
        assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in"), path


def test_the_api_wants_somebody(store):
    client = Browser(store)
    for headers in ({}, {"authorization": "Bearer forged"}, {"cookie": "session=forged"}):
        for path in routes(client.app, "GET", pages=False):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["remedy"], path


def test_a_form_without_its_csrf_token_changes_nothing(store):
    ada = Browser(store, "ada")
    ada.get("/p/pair")
    before = {slug: len(store.events(slug)) for slug in (*KINDS, "other")}
    token = ada.csrf()
    for path in routes(ada.app, "POST", pages=True):
        for headers, data in (
            ({}, {}),
            ({}, {"csrf": "0" * 64}),
            ({"x-csrf-token": ""}, {"csrf": ""}),
            ({"origin": "https://evil.example"}, {"csrf": token}),
        ):
            answer = ada.http.post(path, data=data, headers=headers)
            assert answer.status_code == 403, (path, headers, data)
    assert before == {slug: len(store.events(slug)) for slug in before}
    assert ada.http.post("/sign-out", data={"csrf": token}).status_code == 303  # the token itself was right


def test_the_api_with_a_cookie_wants_the_csrf_header(store):
    lea = Browser(store, "lea")
    for method in ("POST", "PUT", "DELETE"):
        for path in routes(lea.app, method, pages=False):
            if path not in ("/api/v1/sign-in", "/api/v1/join"):
                assert lea.http.request(method, path, json={}).status_code in (403, 422), path
    assert store.project("pair").closed is False
    answer = lea.http.post("/api/v1/projects/pair/close", headers={"x-csrf-token": lea.csrf()})
    assert answer.status_code == 200 and store.project("pair").closed
    bearer = {"authorization": f"Bearer {store.api_token(person(store, 'lea'), 'test')}"}
    assert Browser(store).http.post("/api/v1/projects/pair/reopen", headers=bearer).status_code == 200


def test_another_annotators_task_does_not_exist(store, bea):
    task, cem = bea.task(), Browser(store, "cem")
    assert cem.post("/p/pair/vote", {"task": task, "vote": "a3"}).status_code == 404
    assert cem.post("/p/pair/skip", {"task": task}).status_code == 404
    answer = cem.http.post(f"/api/v1/tasks/{task}/answer", json={"choice": "a"}, headers={"x-csrf-token": cem.csrf()})
    assert answer.status_code == 404 and answer.json()["error"]["what"] == "there is no such task"
    assert store.votes("pair") == []


def test_another_project_does_not_exist(store):
    """A project that is there and one that is not are told alike, on every address."""
    otto = Browser(store, "otto")
    for method, pages in (("GET", True), ("GET", False), ("POST", True)):
        for path in routes(otto.app, method, pages=pages):
            if "/pair" not in path or (path.endswith("/pairs.jsonl") and "/pair/" not in path):
                continue
            send = otto.get if method == "GET" else otto.post
            there, nowhere = send(path), send(path.replace("/pair", "/nowhere", 1))
            assert there.status_code == nowhere.status_code == 404, path
            assert re.sub("pair|nowhere", "", there.text) == re.sub("pair|nowhere", "", nowhere.text)


def test_a_viewer_looks_and_does_not_touch(store):
    lea_task = Browser(store, "lea").task()
    vera = Browser(store, "vera")
    for path in ("/p/pair/quality", "/p/pair/review", "/api/v1/projects/pair/progress"):
        assert vera.get(path).status_code == 200
    assert vera.get("/p/pair").headers["location"] == "/p/pair/quality"
    for path in ("invite", "members", "import", "snapshot", "close", "reopen", "undo"):
        assert vera.post(f"/p/pair/{path}", {"role": "annotator"}).status_code == 403, path
    assert vera.post("/p/pair/vote", {"task": lea_task, "vote": "a3"}).status_code == 404
    assert vera.get("/api/v1/projects/pair/tasks/next").status_code == 403
    assert store.votes("pair") == [] and not store.project("pair").closed


def test_an_annotator_does_not_lead(store, bea):
    for path in ("/p/pair/manage", "/p/pair/review", "/p/pair/quality", "/admin"):
        assert bea.get(path).status_code == 403, path
    for what in ("items", "members", "quality", "disagreements", "events", "exports/pairs.jsonl", "settings"):
        assert bea.get(f"/api/v1/projects/pair/{what}").status_code == 403, what
    assert bea.post("/admin/projects", {"slug": "mine", "title": "Mine", "kind": "pair"}).status_code == 403
    assert bea.get("/api/v1/people").status_code == 403
    lea = Browser(store, "lea")
    assert lea.get("/admin").status_code == 403 and lea.get("/p/pair/manage").status_code == 200


def test_bodies_have_a_limit(store, bea):
    big = "x" * (2**20 + 1)
    answer = bea.post("/p/pair/vote", {"task": "t", "reason": big})
    assert answer.status_code == 413 and "larger than 1 MiB" in answer.text

    def chunks():  # no content-length: counted while it comes
        for _ in range(20):
            yield b"x" * 100_000

    assert bea.http.post("/api/v1/sign-in", content=chunks()).status_code == 413
    lea = Browser(store, "lea", limit=1000, import_limit=3000)
    line = json.dumps({"prompt": "p", "answers": ["a", "b" * 1500]}) + "\n"
    send = {"headers": {"x-csrf-token": lea.csrf()}}
    assert lea.http.post("/api/v1/projects/pair/items", content=line, **send).json() == {"added": 1, "leaks": []}
    assert lea.http.post("/api/v1/projects/pair/items", content=line * 2, **send).status_code == 413
    assert Browser(store, limit=1000).http.post("/api/v1/projects/pair/items", content=line).status_code == 413


NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"


def test_a_script_in_an_answer_is_text(store):
    candidates = (Candidate(text=NASTY), Candidate(text="plain"))
    store.create_project(
        SYSTEM, "nasty", ProjectSettings(kind="pair", title=NASTY, instructions=NASTY, labels_per_item=2)
    )
    store.add_items(
        SYSTEM, "nasty", [TaskItem(id="n", prompt=(Message(role="user", content=NASTY),), answers=candidates)]
    )
    for name in ("bea", "cem"):
        store.set_role(SYSTEM, "nasty", person(store, name).id, "annotator")
        client = Browser(store, name)
        task = client.task("nasty")
        assert escape(NASTY) in client.get("/p/nasty").text.replace("&#39;", "&#x27;").replace("&#34;", "&quot;")
        data = {
            "task": task,
            "vote": "a3" if name == "bea" else "b3",
            "reason": NASTY,
            "text": NASTY + "2",
            "which": "a",
        }
        client.post("/p/nasty/vote", data)
    ada = Browser(store, "ada")
    pages = [(ada, f"/p/nasty/{page}") for page in ("review", "quality", "manage")]
    for client, path in (*pages, (ada, "/"), (ada, "/admin"), (Browser(store, "bea"), "/p/nasty/history")):
        html = client.get(path).text
        assert "<script>" not in html and "<img" not in html and "alert(1)" in html, path
        assert "{{ 7*7 }}" in html, path  # nothing is read as a template either


def test_pages_have_no_inline_script_or_style_and_say_so(store):
    """The content security policy allows nothing inline, and no page needs it."""
    ada = Browser(store, "ada")
    for _ in range(3):
        vote(store, "bea"), vote(store, "cem", right=False)
    for path in routes(ada.app, "GET", pages=True):
        if path.startswith("/join"):
            continue
        answer = ada.get(path)
        assert answer.status_code in (200, 303), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text), path
        assert not re.search(r"<[^>]*\s(on\w+|style)=", answer.text), path
        assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", answer.text), path  # nothing from elsewhere


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE people; --", '" OR 1=1 --', "%' UNION SELECT * FROM people --", "\x00"]
)
def test_sql_in_a_field_is_text(store, text):
    bea, anybody = Browser(store, "bea"), Browser(store)
    assert anybody.post("/sign-in", {"name": text, "password": text}, page="/sign-in").status_code in (403, 422)
    assert bea.post("/p/pair/vote", {"task": text, "vote": "a1"}).status_code in (404, 422)
    assert bea.post("/p/pair/vote", {"task": bea.task(), "vote": text}).status_code == 422
    assert bea.get("/p/pair/history", params={"before": text}).status_code == 422
    ada = Browser(store, "ada")
    assert ada.post("/admin/projects", {"slug": text, "title": "t", "kind": "pair"}).status_code == 422
    assert ada.get(f"/api/v1/projects/{'pair'}/exports/pairs.jsonl", params={"snapshot": text}).status_code in (
        404,
        422,
    )
    assert {p.name for p in store.people()} == {"ada", "lea", "bea", "cem", "vera", "otto"}
    assert store.verify().ok


# ---- blindness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_for_an_annotator_names_a_model(store, kind):
    """Every address, before and after an answer, with the headers: no model, item id, category, meta or gold mark."""
    bea, seen = Browser(store, "bea"), []
    header = {"x-csrf-token": bea.csrf()}
    text = {"text": "an answer of my own"} if kind in ("rewrite", "demo") else {}
    for round in range(8):
        page = bea.get(f"/p/{kind}")
        seen.append(page)
        fields = {"task": bea.task(kind), "shown": "", **FORMS[kind], **text}
        seen.append(bea.post(f"/p/{kind}/{'skip' if round == 5 else 'vote'}", fields, headers={"x-fragment": "1"}))
        assert seen[-1].status_code == 200, seen[-1].text
    seen.append(bea.http.post(f"/api/v1/projects/{kind}/undo", headers=header))
    task = bea.get(f"/api/v1/projects/{kind}/tasks/next").json()
    seen.append(bea.http.post(f"/api/v1/tasks/{task['id']}/answer", json={"choice": "z"}, headers=header))
    for path in (*routes(bea.app, "GET", pages=True), *routes(bea.app, "GET", pages=False)):
        seen.append(bea.get(path.replace("/pair", f"/{kind}", 1)))
    for answer in seen:
        everything = (answer.text + str(answer.headers)).lower()
        assert not [s for s in SECRETS if s in everything], answer.url
        assert '"gold"' not in everything and '"leak"' not in everything and '"drawn"' not in everything


def test_no_page_names_a_model_even_to_those_who_review(store):
    """Leads may label too, so pages are blind for them as well; exports are for the data."""
    for _ in range(4):
        vote(store, "bea"), vote(store, "cem", right=False)
    lea = Browser(store, "lea")
    assert "2 votes" in lea.get("/p/pair/review").text
    for path in routes(lea.app, "GET", pages=True):
        assert not [s for s in SECRETS[:2] if s in lea.get(path).text], path
    assert SECRETS[0] in lea.get("/api/v1/projects/pair/exports/items.jsonl").text


# ---- answers ---------------------------------------------------------------------------------------------------------

FORMS: dict[str, dict[str, Any]] = {
    "pair": {"vote": "a3"},
    "ranking": {f"rank_{i}": str(i + 1) for i in range(5)},
    "rating": {"rating": "6", "flags": ["opinion", "hallucination"]},
    "thumb": {"thumb": "down"},
    "rewrite": {"text": "better"},
    "demo": {"text": "mine"},
    "safety": {"safety_0": "safe", "safety_1": "unsafe"},
}


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        ({"vote": "a4"}, {"choice": "a", "strength": 4}),
        ({"vote": "b1", "reason": " short ", "seconds": "3.5"},
         {"choice": "b", "strength": 1, "reason": "short", "seconds": 3.5}),
        ({"vote": "tie"}, {"choice": "tie"}),
        ({"vote": "both_bad"}, {"choice": "both_bad"}),
        ({"vote": "a2", "text": "x\r\ny", "which": "b"}, {"choice": "a", "strength": 2, "text": "x\ny", "which": "b"}),
        ({"vote": "a2", "text": "  ", "which": "b"}, {"choice": "a", "strength": 2}),
        ({"rank_0": "2", "rank_1": "5", "rank_2": "2"}, {"ranks": (0, 1, 0)}),
        ({"rating": "7"}, {"rating": 7}),
        ({"thumb": "up"}, {"thumb": True}),
        ({"safety_0": "safe", "safety_1": "borderline"}, {"safety": ("safe", "borderline")}),
    ],
)  # fmt: skip
def test_what_a_form_means(form, answer):
    """By hand: ranks 2, 5, 2 are 0, 1, 0 when made dense with 0 best."""
    assert answer_of(form) == Answer(**answer)


@pytest.mark.parametrize(
    ("form", "field"),
    [({"vote": "a9"}, "strength"), ({"vote": "zz"}, "choice"), ({"rating": "8"}, "rating"), ({"rating": "x"}, "rating"),
     ({"rank_0": "-1"}, "rank"), ({"safety_0": "fine"}, "safety"), ({"vote": "a1", "seconds": "nan"}, "seconds")],
)  # fmt: skip
def test_a_form_that_means_nothing_is_told_by_field(form, field):
    with pytest.raises(UserError, match=field):
        answer_of(form)


def test_the_side_that_was_shown_is_the_side_that_is_kept(store, bea):
    """The answer shown first is item answer presented[0]; 'a' means that one, whatever its number."""
    orders = set()
    for _ in range(12):
        task = store.next_task(person(store, "bea"), "pair")
        place = good(task)
        bea.post("/p/pair/vote", {"task": bea.task(), "vote": f"{'ab'[place]}2"})
        kept = store.history(person(store, "bea"), "pair", limit=1)[0]
        assert (kept.choice, kept.strength) == ("first", 2)
        assert kept.presented == ((0, 1) if place == 0 else (1, 0))
        orders.add(kept.presented)
    assert orders == {(0, 1), (1, 0)}  # 12 fair draws are all alike once in 2048


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_over_the_plain_form(store, kind):
    """Without the script: a page with the form, a post, the next page with another task; the store has it."""
    bea = Browser(store, "bea")
    first = bea.task(kind)
    answer = bea.post(f"/p/{kind}/vote", {"task": first, **FORMS[kind]})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{kind}")
    assert bea.task(kind) != first
    kept = store.votes(kind)[0]
    assert words.said(kept) != "No answer" and kept.person == person(store, "bea").id
    if kind == "rating":
        assert (kept.rating, kept.flags) == (6, ("hallucination", "opinion"))
    if kind == "ranking":
        assert [kept.ranks[i] for i in kept.presented] == [0, 1, 2, 3, 4]


def test_the_script_gets_a_receipt_and_what_comes_next(store, bea):
    shown = bea.task()
    ready = bea.get(f"/p/pair/next?shown={shown}", headers={"x-fragment": "1"}).json()["tasks"]
    assert len(ready) == 1 and ready[0]["task"] != shown and f'data-task="{ready[0]["task"]}"' in ready[0]["html"]
    fields = {"task": shown, "vote": "a1", "shown": ready[0]["task"]}
    told = bea.post("/p/pair/vote", fields, headers={"x-fragment": "1"}).json()
    event = store.events("pair")[-1]
    assert told["receipt"] == {"event": event.number, "hash": event.hash}
    assert told["tasks"][0]["task"] not in (shown, ready[0]["task"])
    again = bea.post("/p/pair/vote", fields, headers={"x-fragment": "1"}).json()
    assert again["receipt"] == told["receipt"] and len(store.votes("pair")) == 1  # sent twice, counted once
    other = bea.post("/p/pair/vote", fields | {"vote": "b1"}, headers={"x-fragment": "1"})
    assert other.status_code == 409 and "undo" in other.json()["error"]["remedy"]


def test_undo_brings_the_task_back_first(store, bea):
    shown = bea.task()
    bea.post("/p/pair/vote", {"task": shown, "vote": "b4"})
    assert "B is significantly better" in bea.get("/p/pair/history").text
    told = bea.post("/p/pair/undo", headers={"x-fragment": "1"}).json()
    assert told["undone"] and told["tasks"][0]["task"] == shown
    assert store.votes("pair") == [] and [e.kind for e in store.events("pair")][-2:] == ["vote", "undo"]
    assert bea.post("/p/pair/undo", headers={"x-fragment": "1"}).json()["undone"] is False


def test_an_older_answer_is_taken_back_from_the_history(store, bea):
    tasks = []
    for choice in ("a1", "b2", "tie"):
        tasks.append(bea.task())
        bea.post("/p/pair/vote", {"task": tasks[-1], "vote": choice})
    first = store.history(person(store, "bea"), "pair")[-1]
    assert f'name="event" value="{first.event}"' in bea.get("/p/pair/history").text
    assert bea.post("/p/pair/undo", {"event": str(first.event)}).headers["location"] == "/p/pair"
    assert bea.task() == tasks[0] and first.id not in {v.id for v in store.votes("pair")}
    cem = Browser(store, "cem")
    others = store.votes("pair")[0].event
    assert cem.post("/p/pair/undo", {"event": str(others)}).status_code == 404


def test_history_shows_answers_as_they_were_shown(store, bea):
    for _ in range(8):
        task = store.next_task(person(store, "bea"), "pair")
        bea.post("/p/pair/vote", {"task": task.id, "vote": "a3"})
        entry = bea.get("/api/v1/projects/pair/history?limit=1").json()[0]
        assert entry["answers"] == list(task.answers) and entry["said"] == "A is better"


def test_a_closed_project_takes_nothing_and_says_so(store, bea):
    task = bea.task()
    store.close_project(SYSTEM, "pair")
    late = bea.post("/p/pair/vote", {"task": task, "vote": "a1"})
    assert late.status_code == 410 and "closed" in late.text
    page = bea.get("/p/pair")
    assert page.status_code == 200 and "This project is closed" in page.text
    told = bea.get("/p/pair/next", headers={"x-fragment": "1"}).json()
    assert told["tasks"] == [] and "closed" in told["nothing"]


def test_when_nothing_is_left_the_page_says_so(store, bea):
    store.create_project(SYSTEM, "short", ProjectSettings(kind="pair", title="Short"))
    store.set_role(SYSTEM, "short", person(store, "bea").id, "annotator")
    assert "No items yet" in bea.get("/p/short").text
    store.add_items(SYSTEM, "short", [item("pair", 1)])
    bea.post("/p/short/vote", {"task": bea.task("short"), "vote": "tie"})
    assert "Nothing left to label" in bea.get("/p/short").text


# ---- leads and administrators ----------------------------------------------------------------------------------------


def upload(client: Browser, raw: bytes, name: str = "items.jsonl", slug: str = "pair") -> Any:
    return client.post(f"/p/{slug}/import", files={"file": (name, raw)})


def test_import_tells_file_line_and_field(store):
    lea = Browser(store, "lea")
    good_line = json.dumps({"id": "new-1", "prompt": "Why?", "answers": ["Because.", "Therefore."]})
    assert "1 items imported" in upload(lea, good_line.encode()).text
    bad = (
        (good_line + "\n{broken", "items.jsonl:2"),
        (json.dumps({"prompt": "Why?", "answers": ["one"]}), "items.jsonl:1"),
        (json.dumps({"prompt": "Why?", "answers": ["same", "same"]}), "items.jsonl:1"),
        (good_line, "new-1"),  # a second time
    )
    for text, where in bad:
        answer = upload(lea, text.encode())
        assert answer.status_code in (409, 422) and where in answer.text, text
    assert "items.jsonl:2" in upload(lea, b'{"prompt": "a", "answers": ["b", "c"]}\n\xff').text
    assert "hoose a JSON Lines file" in lea.post("/p/pair/import").text
    assert len(store.items("pair")) == 31


def test_an_import_says_which_answers_name_their_model(store):
    lea = Browser(store, "lea")
    rows = [{"id": f"as-{n}", "prompt": "Who?", "answers": [f"As Claude, I say {n}.", "Nobody."]} for n in range(4)]
    rows.append({"id": "plain", "prompt": "Who?", "answers": ["Somebody.", "Nobody."]})
    text = "".join(json.dumps(r) + "\n" for r in rows)
    html = upload(lea, text.encode()).text
    assert "5 items imported; an answer seems to name its model in as-0, as-1, as-2 and 1 more." in html
    send = {"headers": {"x-csrf-token": lea.csrf(), "content-type": "application/x-ndjson"}}
    again = text.replace('"as-', '"again-').replace('"plain"', '"plain2"')
    told = lea.http.post("/api/v1/projects/pair/items", content=again, **send).json()
    assert told == {"added": 5, "leaks": ["again-0", "again-1", "again-2", "again-3"]}


def test_a_lead_changes_settings_on_the_page(store):
    """The form holds what there is; empty means the default; what is not in the form stays, kind and seed too."""
    lea = Browser(store, "lea")
    before = store.project("pair").settings
    html = lea.get("/p/pair/manage").text
    shown = {
        name: re.search(rf'name="{name}" value="([^"]*)"', html) for name in ("title", "labels_per_item", "gold_share")
    }
    assert all(found and found.group(1) == escape(str(getattr(before, name))) for name, found in shown.items())
    fields = {
        "title": "Which helps?", "instructions": "Read both.", "labels_per_item": "2", "max_labels": "4",
        "per_person_cap": "", "gold_share": "", "lease_seconds": "90", "order": "active", "kind": "demo", "seed": "9",
    }  # fmt: skip
    assert "Settings changed." in lea.post("/p/pair/settings", fields).text
    found = store.project("pair").settings
    assert found == before.model_copy(
        update={
            "title": "Which helps?", "instructions": "Read both.", "labels_per_item": 2, "max_labels": 4,
            "per_person_cap": None, "gold_share": 0.1, "lease_seconds": 90, "order": "active",
        }
    )  # fmt: skip
    assert "items come at random" not in lea.get("/p/pair/manage").text  # these items name their models
    store.create_project(SYSTEM, "bare", before.model_copy(update={"order": "active"}))
    two = (Candidate(text="one"), Candidate(text="another"))
    store.add_items(SYSTEM, "bare", [TaskItem(id="x", prompt=(Message(role="user", content="Why?"),), answers=two)])
    assert "items come at random" in Browser(store, "ada").get("/p/bare/manage").text
    for wrong in ({"labels_per_item": "0"}, {"gold_share": "2"}, {"max_labels": "1"}, {"lease_seconds": "soon"}):
        answer = lea.post("/p/pair/settings", fields | wrong)
        assert answer.status_code == 422 and next(iter(wrong)) in answer.text, wrong
    assert store.project("pair").settings == found
    for name in ("bea", "vera"):
        assert Browser(store, name).post("/p/pair/settings", fields).status_code == 403


def test_a_lead_invites_and_changes_roles(store):
    lea = Browser(store, "lea")
    link = re.search(r'value="(http://[^"]+/join/[^"]+)"', lea.post("/p/pair/invite", {"role": "viewer"}).text)
    assert link
    Browser(store).post(link.group(1), {"name": "newcomer", "password": PASSWORD}, page="/sign-in")
    new = person(store, "newcomer")
    assert store.role_of(new, "pair") == "viewer"
    lea.post("/p/pair/members", {"person": new.id, "role": "annotator"})
    assert store.role_of(new, "pair") == "annotator"
    lea.post("/p/pair/members", {"person": new.id, "role": ""})
    assert store.role_of(new, "pair") is None
    assert lea.post("/p/pair/invite", {"role": "admin"}).status_code == 422


def test_an_administrator_makes_a_project_and_erases_a_person(store):
    ada = Browser(store, "ada")
    made = ada.post(
        "/admin/projects",
        {"slug": "new-one", "title": "New", "kind": "ranking", "labels_per_item": "3", "max_labels": ""},
    )
    assert made.headers["location"] == "/p/new-one/manage" and store.project("new-one").settings.labels_per_item == 3
    assert (
        ada.post("/admin/projects", {"slug": "x", "title": "X", "kind": "ranking", "labels_per_item": "0"}).status_code
        == 422
    )
    vote(store, "bea")
    bea = person(store, "bea")
    ada.post("/admin/erase", {"person": bea.id})
    assert (
        not re.search(r"\bbea\b", ada.get("/admin").text.replace(bea.id, ""))
        and len(store.votes("pair")) == 1
        and store.verify().ok
    )
    assert Browser(store).post("/sign-in", {"name": "bea", "password": PASSWORD}, page="/sign-in").status_code == 403


def test_a_link_for_a_new_password(store, bea):
    """Whoever opens it sets a password for the account it was made for, whatever name is sent along, and once."""
    ada, who = Browser(store, "ada"), person(store, "bea")
    assert bea.post("/admin/reset", {"person": who.id}).status_code == 403
    html = ada.post("/admin/reset", {"person": who.id}).text
    link = re.search(r'value="http://[^"]+(/join/[^"]+)" aria-label="Link for a new password"', html).group(1)
    for reader in (Browser(store), bea):  # signed in or not
        form = reader.get(link).text
        assert "Set a new password, bea." in form and 'type="text" name="name"' not in form
    new = Browser(store)
    short = new.post(link, {"name": "bea", "password": "short"}, page=link)
    assert short.status_code == 422 and "Set a new password, bea." in short.text
    done = new.post(link, {"name": "somebody else", "password": "another password"}, page=link)
    assert done.status_code == 303 and "bea" in new.get("/account").text
    assert Browser(store).get(link).status_code == 410  # used up
    assert bea.get("/account").status_code == 303  # the old session is over
    assert store.sign_in("bea", "another password")


def test_a_dead_link_costs_no_hash(store, monkeypatch):
    """Hashing a password takes a tenth of a second of processor time, which a stranger may not ask for."""
    from posttrain.store import people

    monkeypatch.setattr(people, "_hasher", lambda: pytest.fail("a password was hashed"))
    client = Browser(store)
    answer = client.post("/join/nothing", {"name": "x", "password": PASSWORD}, page="/sign-in")
    assert answer.status_code == 410
    body = {"invitation": "nothing", "name": "x", "password": PASSWORD}
    assert client.http.post("/api/v1/join", json=body).status_code == 410


def test_tokens_are_shown_once_and_revoked(store, bea):
    html = bea.post("/account/tokens", {"label": "my script"}).text
    secret = re.search(r'value="([\w-]{30,})" aria-label="API token"', html).group(1)
    assert secret not in bea.get("/account").text and "my script" in bea.get("/account").text
    bearer = {"authorization": f"Bearer {secret}"}
    script = Browser(store)
    assert script.get("/api/v1/me", headers=bearer).json()["name"] == "bea"
    bea.post("/account/revoke", {"token": store.api_tokens(person(store, "bea"))[0].id})
    assert script.get("/api/v1/me", headers=bearer).status_code == 401


def test_an_administrator_sees_and_revokes_everybodys_tokens(store, bea):
    ada, who = Browser(store, "ada"), person(store, "bea")
    assert "Nobody has one" in ada.get("/admin").text
    secret = store.api_token(who, "her script")
    html = ada.get("/admin").text
    assert "<td>bea</td><td>her script</td>" in html and secret not in html
    (token,) = store.api_tokens(who)
    assert bea.post("/admin/revoke", {"token": token.id}).status_code == 403
    assert ada.post("/admin/revoke", {"token": token.id}).status_code == 303 and store.person_of_token(secret) is None


def test_the_dashboard_is_worked_out_once_for_each_state(store):
    lea, project = Browser(store, "lea"), lambda: store.project("pair")
    for _ in range(3):
        vote(store, "bea"), vote(store, "cem")
    boards = lea.app.state.dashboards
    first = boards.of(store, project(), names=True)
    assert boards.of(store, project(), names=True) is first
    assert "bea" in lea.get("/p/pair/quality").text
    assert not re.search(r"\bbea\b", Browser(store, "vera").get("/p/pair/quality").text)  # viewers see pseudonyms
    vote(store, "bea")
    assert boards.of(store, project(), names=True) is not first


def test_why_items_were_skipped_is_shown(store, bea):
    lea = Browser(store, "lea")
    assert "why items were skipped</dt><dd>–" in lea.get("/p/pair/quality").text
    for reason in ("Not my language", "Broken or empty", "Broken or empty", "Upsetting"):
        bea.post("/p/pair/skip", {"task": bea.task(), "skip": reason})
    bea.post("/p/pair/undo")
    assert "Broken or empty (2), Not my language (1)</dd>" in lea.get("/p/pair/quality").text


def test_disagreements_are_shown_with_what_was_said(store):
    for _ in range(3):
        vote(store, "bea", right=True), vote(store, "cem", right=False)
    html = Browser(store, "lea").get("/p/pair/review").text
    both = {v.item for v in store.votes("pair") if v.person == person(store, "bea").id}
    both &= {v.item for v in store.votes("pair") if v.person == person(store, "cem").id}
    assert both and html.count("1 × A") == html.count("1 × B") == len(both)


# ---- exports ---------------------------------------------------------------------------------------------------------


def test_exports_are_rows_and_their_description_fits(store):
    for _ in range(12):
        vote(store, "bea"), vote(store, "cem")
    lea = Browser(store, "lea")
    get = lambda file, **q: lea.get(f"/api/v1/projects/pair/exports/{file}", params=q)  # noqa: E731
    text = get("pairs.jsonl").text
    rows = [Pair.model_validate_json(line) for line in text.splitlines()]
    assert rows and all(r.chosen.content.startswith("answer 0") for r in rows)
    assert not {i.id for i in store.items("pair") if i.gold} & {r.meta["item"] for r in rows}
    about = get("croissant.json").json()
    digests = {f["name"]: f["sha256"] for f in about["distribution"]}
    assert about["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert digests == {"pairs.jsonl": hashlib.sha256(text.encode()).hexdigest()}
    made = lea.http.post("/api/v1/projects/pair/snapshots", headers={"x-csrf-token": lea.csrf()}).json()
    vote(store, "bea")
    kept = get("pairs.jsonl", snapshot=made["digest"])
    assert len(kept.text.splitlines()) == len(rows) and kept.headers["content-disposition"].startswith("attachment")
    assert all(Pair.model_validate_json(line).meta["snapshot"] == made["digest"] for line in kept.text.splitlines())
    assert get("votes.jsonl").text.count("\n") == len(store.votes("pair"))


def test_a_snapshot_exported_whole_verifies_without_the_store(store, tmp_path):
    lea = Browser(store, "lea")
    assert lea.get("/api/v1/projects/pair/exports/snapshot.zip").status_code == 404  # none was named
    vote(store, "bea")
    name = store.snapshot(SYSTEM, "pair").digest
    answer = lea.get(f"/api/v1/projects/pair/exports/snapshot.zip?snapshot={name}")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as z:
        z.extractall(tmp_path)
    found = frozen.read(tmp_path)
    assert found.snapshot.digest == name and found.problems() == []


def test_a_data_set_for_hugging_face(store, tmp_path):
    """A configuration for each kind of row that there is; the library, where it is, reads the rows of the files."""
    lea, address = Browser(store, "lea"), "/api/v1/projects/pair/exports/dataset.zip"
    assert lea.get(address).status_code == 422  # nothing to export yet
    for _ in range(6):
        vote(store, "bea")
    with zipfile.ZipFile(io.BytesIO(lea.get(address).content)) as z:
        assert set(z.namelist()) == {"README.md", "croissant.json", "pairs.jsonl"}
        z.extractall(tmp_path / "set")
    text = (tmp_path / "set" / "README.md").read_text()
    assert text.startswith('---\npretty_name: "Project pair"\nconfigs:\n- config_name: pairs\n')
    assert "\n---\n\n# Project pair\n" in text
    rows = [Pair.model_validate_json(line) for line in (tmp_path / "set" / "pairs.jsonl").read_text().splitlines()]
    assert rows and rows[0].chosen.content.startswith("answer 0")
    library = pytest.importorskip("datasets", reason="datasets is not installed")
    found = library.load_dataset(str(tmp_path / "set"), "pairs", cache_dir=str(tmp_path / "cache"))["train"]
    assert [r["chosen"]["content"] for r in found] == [r.chosen.content for r in rows]


def test_an_export_that_is_not_there_says_what_is(store):
    lea = Browser(store, "lea")
    wrong = lea.get("/api/v1/projects/pair/exports/thumbs.jsonl")
    assert wrong.status_code == 404 and "pairs.jsonl" in wrong.json()["error"]["remedy"]
    assert lea.get("/api/v1/projects/pair/exports/pairs.jsonl?snapshot=0000000000").status_code == 404
    other = store.snapshot(SYSTEM, "other").digest
    assert lea.get(f"/api/v1/projects/pair/exports/pairs.jsonl?snapshot={other}").status_code == 404


def test_rankings_come_out_in_item_order(store):
    bea = Browser(store, "bea")
    task = store.next_task(person(store, "bea"), "ranking")
    ranks = {
        f"rank_{place}": int(text.split()[1]) + 1 for place, text in enumerate(task.answers)
    }  # answer i gets rank i
    bea.post("/p/ranking/vote", {"task": task.id, **ranks})
    line = Browser(store, "lea").get("/api/v1/projects/ranking/exports/rankings.jsonl").text
    row = Ranking.model_validate_json(line)
    by_text = {a.content: r for a, r in zip(row.answers, row.ranks)}
    assert [by_text[t] for t in sorted(by_text)] == [0, 1, 2, 3, 4]


# ---- the API as a whole ----------------------------------------------------------------------------------------------


def test_the_whole_path_over_the_api(store):
    """An administrator makes a project, a newcomer joins and votes; quality, chain, snapshot and export follow."""
    client = Browser(store).http

    def call(method: str, path: str, token: str = "", **how: Any) -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = client.request(method, f"/api/v1{path}", headers=headers, **how)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.content and answer.headers["content-type"] == "application/json" else answer.text

    ada = call("POST", "/sign-in", json={"name": "ada", "password": PASSWORD})["token"]
    call("POST", "/projects", ada, json={"slug": "api", "kind": "pair", "title": "By API"})
    lines = "".join(json.dumps({"id": f"i{n}", "prompt": f"q{n}", "answers": ["yes", "no"]}) + "\n" for n in range(4))
    assert call("POST", "/projects/api/items", ada, content=lines)["added"] == 4
    invited = call("POST", "/projects/api/invitations", ada, json={"role": "annotator"})
    dan = call("POST", "/join", json={"invitation": invited["token"], "name": "dan", "password": PASSWORD})
    token = dan["token"]
    assert call("GET", "/projects", token)[0]["slug"] == "api" and call("GET", "/me", token)["name"] == "dan"
    for n in range(3):
        task = call("GET", "/projects/api/tasks/next", token)
        assert call("GET", "/projects/api/tasks/peek", token)["id"] != task["id"]
        place = "ab"[task["answers"].index("yes")]
        receipt = call(
            "POST", f"/tasks/{task['id']}/answer", token, json={"choice": place, "strength": 3, "seconds": 2.5}
        )
        assert store.events("api")[-1].hash == receipt["hash"], n
    assert call("POST", "/projects/api/undo", token)["event"] > 0
    assert len(call("GET", "/projects/api/history", token)) == 2
    task = call("GET", "/projects/api/tasks/next", token)
    call("POST", f"/tasks/{task['id']}/skip", token, json={"reason": "not sure"})
    assert call("GET", "/projects/api/progress", ada)["skipped"] == 1
    assert call("GET", "/projects/api/verify", ada)["ok"] is True
    assert call("GET", "/projects/api/quality", ada)["votes"] == 2
    assert call("POST", "/projects/api/snapshots", ada)["votes"] == 2
    rows = [json.loads(line) for line in call("GET", "/projects/api/exports/pairs.jsonl", ada).splitlines()]
    assert [r["chosen"]["content"] for r in rows] == ["yes", "yes"]
    call("PUT", f"/projects/api/members/{dan['person']['id']}", ada, json={"role": None})
    assert client.get("/api/v1/projects/api", headers={"authorization": f"Bearer {token}"}).status_code == 404


def test_openapi_describes_every_call(store):
    app = Browser(store).app
    described = app.openapi()["paths"]
    for route in all_routes(app):
        if route.path.startswith("/api/v1"):
            for method in route.methods:
                call = described[route.path][method.lower()]
                assert call["description"] and call["tags"], route.path
                assert call["responses"].get("401") and (call["responses"].get("200") or call["responses"].get("204"))
    page = Browser(store, "bea").get("/api").text
    assert "/api/v1/tasks/{task_id}/answer" in page


# ---- plain words -----------------------------------------------------------------------------------------------------


def test_errors_are_told_in_plain_words_with_what_to_do(store, bea):
    page = bea.get("/no/such/page")
    assert page.status_code == 404 and "Not found" in page.text and "list of projects" in page.text
    told = bea.get("/api/v1/no/such/call")
    assert told.status_code == 404 and told.json()["error"]["remedy"]
    assert bea.get("/p/pair/vote").status_code == 405
    header = {"x-csrf-token": bea.csrf(), "content-type": "application/json"}
    for body in ("{broken", "[]", '{"choice": "c"}', '{"surprise": 1}'):
        answer = bea.http.post("/api/v1/tasks/x/answer", content=body, headers=header)
        assert answer.status_code == 422 and answer.json()["error"]["where"].startswith("body"), body


class Gone:
    """A store whose database went away."""

    def person_of(self, session: str) -> Any:
        raise Unavailable("the database is locked", remedy="try again in a moment")


class Broken:
    def person_of(self, session: str) -> Any:
        raise ZeroDivisionError("a secret detail")


def test_a_database_that_is_gone_is_told_and_may_be_tried_again(store, bea):
    bea.app.state.store = Gone()
    answer = bea.get("/p/pair", headers={"x-fragment": "1"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["what"] == "the database is locked"


def test_a_vote_that_met_a_locked_database_is_sent_again_and_is_one_event(store, tmp_path):
    path = tmp_path / "feedback.db"
    with Store.open(f"sqlite:///{path}", patience=0.01) as impatient:
        bea = Browser(impatient, "bea")
        fields = {"task": bea.task(), "vote": "a3", "csrf": bea.csrf()}
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = bea.http.post("/p/pair/vote", data=fields, headers={"x-fragment": "1"})
        assert refused.status_code == 503 and "locked" in refused.json()["error"]["what"]
        assert refused.headers["retry-after"] == "1" and impatient.votes("pair") == []
        other.close()
        told = [bea.http.post("/p/pair/vote", data=fields, headers={"x-fragment": "1"}).json() for _ in range(2)]
        assert told[0]["receipt"] == told[1]["receipt"]
        assert [v.id for v in impatient.votes("pair")] == [told[0]["receipt"]["hash"]] and impatient.verify().ok


@pytest.mark.parametrize("number", ["-1", str(2**31), "9" * 30, "x"])
def test_a_number_that_no_event_can_have_is_refused(store, number):
    bea, lea = Browser(store, "bea"), Browser(store, "lea")
    assert bea.get("/p/pair/history", params={"before": number}).status_code == 422
    assert bea.get("/api/v1/projects/pair/history", params={"before": number}).status_code == 422
    assert lea.get("/api/v1/projects/pair/events", params={"after": number}).status_code == 422
    header = {"x-csrf-token": bea.csrf()}
    asked = bea.http.post("/api/v1/projects/pair/undo", params={"event_number": number}, headers=header)
    assert asked.status_code == 422 and bea.post("/p/pair/undo", {"event": number}).status_code == 303


def test_a_bug_shows_no_traceback(store, bea):
    bea.app.state.store = Broken()
    for headers in ({}, {"x-fragment": "1"}):
        answer = bea.get("/p/pair", headers=headers)
        assert answer.status_code == 500 and "secret detail" not in answer.text and "Traceback" not in answer.text
        assert "content-security-policy" in answer.headers


def test_the_application_runs_without_torch():
    code = "import sys, posttrain.web, posttrain.label; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
