"""A labelling project as tests need it: people, items whose models have telling names, a client that keeps a session.

Built once in a temporary database, with cheap password hashes, and copied for each test.
Left out on purpose: votes; tests cast their own.
"""

import re
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import argon2
from pytest import MonkeyPatch
from starlette.testclient import TestClient

from posttrain.rows import Message
from posttrain.store import Answer, Candidate, Person, ProjectSettings, Store, Task, TaskItem, people
from posttrain.web import create_app

PASSWORD = "a password of mine"
SECRETS = ("zephyrine-13b", "obsidian-70b", "corpus-of-obsidian", "zephyrine-vs-obsidian")  # must reach no annotator
KINDS = {"pair": 2, "ranking": 5, "rating": 1, "thumb": 1, "rewrite": 1, "demo": 0, "safety": 2}


def item(kind: str, number: int, *, gold: bool = False) -> TaskItem:
    """Item `number`: answers are 'answer 0 to question 7' and so on; the first is the better one."""
    answers = tuple(
        Candidate(text=f"answer {i} to question {number}", model=SECRETS[i % 2]) for i in range(KINDS[kind])
    )
    return TaskItem(
        id=f"{SECRETS[3]}-{kind}-{number}", prompt=(Message(role="user", content=f"Question {number}?"),),
        answers=answers, gold={"choice": "first"} if gold else None, category=SECRETS[2], meta={"from": SECRETS[2]},
    )  # fmt: skip


@cache
def _template() -> tuple[Path, dict[str, str]]:
    """A database with an administrator, two annotators, a viewer, a stranger; a project of each kind;
    `other`, where only the stranger is. With a session of each."""
    path = Path(mkdtemp(prefix="posttrain-web-")) / "template.db"
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with Store.open(f"sqlite:///{path}") as store, MonkeyPatch.context() as patch:
        patch.setattr(people, "_hasher", lambda: cheap)
        admin = store.accept(store.first_admin_link() or "", "ada", PASSWORD)
        for kind in KINDS:
            settings = ProjectSettings(kind=kind, title=f"Project {kind}", labels_per_item=2, gold_share=0.3)  # type: ignore[arg-type]
            store.create_project(admin, kind, settings)
            store.add_items(admin, kind, [item(kind, n, gold=kind == "pair" and n % 5 == 4) for n in range(30)])
        store.create_project(admin, "other", ProjectSettings(kind="pair", title="Other"))
        store.add_items(admin, "other", [item("pair", n) for n in range(3)])
        for name, role in (("lea", "lead"), ("bea", "annotator"), ("cem", "annotator"), ("vera", "viewer")):
            person = store.accept(store.invite(admin, project="pair", role=role), name, PASSWORD)  # type: ignore[arg-type]
            for kind in KINDS:
                store.set_role(admin, kind, person.id, role)  # type: ignore[arg-type]
        store.accept(store.invite(admin, project="other", role="annotator"), "otto", PASSWORD)
        sessions = {p.name: store.sign_in(p.name, PASSWORD) for p in store.people()}
    return path, sessions


def open_store(folder: Path) -> Store:
    """A store of its own for a test."""
    path = folder / "feedback.db"
    shutil.copy(_template()[0], path)
    return Store.open(f"sqlite:///{path}")


def person(store: Store, name: str) -> Person:
    return next(p for p in store.people() if p.name == name)


class Browser:
    """A signed-in client over HTTP: keeps cookies, sends the CSRF token with every form."""

    def __init__(self, store: Store, name: str = "", **settings: Any):
        self.app = create_app(store, **settings)
        self.http = TestClient(self.app, follow_redirects=False, raise_server_exceptions=False)
        self.store = store
        if name:
            self.http.cookies.set("session", _template()[1][name])

    def get(self, path: str, **how: Any) -> Any:
        return self.http.get(path, **how)

    def csrf(self, page: str = "/account") -> str:
        found = re.search(r'name="csrf" content="(\w*)"', self.http.get(page).text)
        return found.group(1) if found else ""

    def post(self, path: str, data: dict[str, Any] | None = None, *, page: str = "/account", **how: Any) -> Any:
        return self.http.post(path, data={"csrf": self.csrf(page), **(data or {})}, **how)

    def task(self, slug: str = "pair") -> str:
        """Id of the task that the labelling page shows."""
        found = re.search(r'data-task="([^"]+)"', self.http.get(f"/p/{slug}").text)
        assert found, "the page shows no task"
        return found.group(1)


def good(task: Task) -> int:
    """The place of the better answer of an item made here."""
    return next(i for i, text in enumerate(task.answers) if text.startswith("answer 0"))


def vote(store: Store, name: str, slug: str = "pair", *, right: bool = True) -> Task:
    """One vote by name through the store; `right` prefers the better answer."""
    who = person(store, name)
    task = store.next_task(who, slug)
    assert task is not None
    place = good(task) if right else 1 - good(task)
    store.submit(who, task.id, Answer(choice="ab"[place], strength=3, seconds=5.0))  # type: ignore[arg-type]
    return task
