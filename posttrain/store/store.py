"""class Store: the one door to people, projects, work, events and snapshots. Every method is one call of a module.

Who may do what is decided here below, not by the caller: a person who is not a member of a project gets Missing, a
member without the right Forbidden. Methods that take no person (votes, items, quality ...) are for code that has
checked already. Times are Unix seconds.
"""

import time
from collections.abc import Callable, Iterable
from typing import Self

from posttrain.store import assign, cast, events, people, projects, quality, snapshots, work
from posttrain.store.database import Database
from posttrain.store.rows import (
    Answer,
    ApiToken,
    ChainReport,
    Disagreement,
    Event,
    Member,
    Person,
    Progress,
    Project,
    ProjectSettings,
    Quality,
    Role,
    Snapshot,
    Task,
    TaskItem,
    Vote,
)  # fmt: skip
from posttrain.store.together import Together


class Store:
    def __init__(self, db: Database):
        self.db = db
        self._memory = assign.Memory()
        self._cast: Together[cast.Ballot, Event] = Together(lambda ballots: cast.cast(db, ballots))
        self._quality: dict[str, Quality] = {}

    @classmethod
    def open(
        cls, url: str = "sqlite:///feedback.db", *, now: Callable[[], float] = time.time, patience: float = 3.0
    ) -> Self:
        """Open or create; an older database is upgraded, a newer one refused. A plain path means SQLite.

        patience: seconds to wait for another program's lock, at each of four tries.
        """
        return cls(Database.open(url, now, patience))

    def close(self) -> None:
        self.db.close()

    def now(self) -> float:
        """Unix seconds; never runs backwards."""
        return self.db.clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- people and sessions

    def first_admin_link(self) -> str | None:
        """A one-time token for accept(), while there is no administrator; earlier such tokens stop working."""
        return people.first_admin_link(self.db)

    def invite(self, by: Person, *, project: str | None, role: Role, name: str = "") -> str:
        """A one-time token for accept() or join(); it lives a week."""
        return projects.invite(self.db, by, project, role, name)

    def reset_link(self, by: Person, person_id: str) -> str:
        """A one-time token with which accept() sets a new password."""
        return people.reset_link(self.db, by, person_id)

    def whose_password(self, token: str) -> Person | None:
        """Who sets a new password by this link; None: it is an invitation. Closed: used up, too old, or no link."""
        return people.whose_password(self.db, token)

    def accept(self, token: str, name: str, password: str) -> Person:
        """Makes the person, or sets the password (reset). Closed: used or too old; Conflict: the name is taken."""
        return people.accept(self.db, token, name, password)

    def join(self, token: str, person: Person) -> Person:
        """Takes up an invitation with an account that exists."""
        return people.join(self.db, token, person)

    def sign_in(self, name: str, password: str) -> str:
        """A session token. Forbidden: wrong name or password; TooMany: after several failures."""
        return people.sign_in(self.db, name, password)

    def person_of(self, session: str) -> Person | None:
        return people.of_secret(self.db, "session", session)

    def sign_out(self, session: str) -> None:
        people.sign_out(self.db, session)

    def api_token(self, person: Person, label: str) -> str:
        return people.api_token(self.db, person, label)

    def person_of_token(self, token: str) -> Person | None:
        return people.of_secret(self.db, "api", token)

    def api_tokens(self, person: Person) -> list[ApiToken]:
        return people.api_tokens(self.db, person)

    def every_api_token(self, by: Person) -> list[tuple[Person, ApiToken]]:
        """Everybody's tokens with their owners, for administrators."""
        return people.every_api_token(self.db, by)

    def revoke_token(self, person: Person, token_id: str) -> None:
        people.revoke_token(self.db, person, token_id)

    def people(self) -> list[Person]:
        """Everybody, the erased too, in the order they came."""
        return people.everybody(self.db)

    def erase_person(self, by: Person, person_id: str) -> None:
        """Name, password, sessions, tokens and roles go. The pseudonym and the votes stay, and the chain verifies."""
        people.erase(self.db, by, person_id)

    # ---- projects

    def create_project(self, by: Person, slug: str, settings: ProjectSettings) -> Project:
        return projects.create(self.db, by, slug, settings)

    def change_settings(self, by: Person, slug: str, settings: ProjectSettings) -> Project:
        """Everything but kind and seed; what each item needs is counted anew."""
        return projects.change(self.db, by, slug, settings)

    def project(self, slug: str) -> Project:
        return self.db.read(lambda conn: projects.get(conn, slug))

    def compares_models(self, slug: str) -> bool:
        """Whether some item says which different models it compares: what order "active" goes by."""
        return self.db.read(lambda conn: projects.compares_models(conn, slug))

    def projects_of(self, person: Person) -> list[Project]:
        return self.db.read(lambda conn: projects.of_person(conn, person))

    def close_project(self, by: Person, slug: str) -> Project:
        return projects.set_closed(self.db, by, slug, True)

    def reopen_project(self, by: Person, slug: str) -> Project:
        return projects.set_closed(self.db, by, slug, False)

    def members(self, slug: str) -> list[Member]:
        return self.db.read(lambda conn: projects.of_project(conn, slug))

    def set_role(self, by: Person, slug: str, person_id: str, role: Role | None) -> None:
        projects.set_role(self.db, by, slug, person_id, role)

    def role_of(self, person: Person, slug: str) -> Role | None:
        """'admin' for administrators in every project; None for strangers and where there is no such project."""
        return self.db.read(lambda conn: projects.role(conn, person, slug))

    def add_items(self, by: Person, slug: str, items: Iterable[TaskItem]) -> int:
        """All or none, as one event. Conflict names the ids that occur twice."""
        return projects.add_items(self.db, by, slug, items)

    # ---- work: Closed for a closed project, Forbidden for a viewer, Missing for a stranger

    def next_task(self, person: Person, slug: str) -> Task | None:
        """Takes a lease, or shows the task whose lease the person holds. None: nothing left for this person now."""
        return assign.give(self.db, self._memory, person, slug, 0).task

    def peek_task(self, person: Person, slug: str) -> Task | None:
        """The task after the current one, leased too, so that it can be loaded ahead."""
        return assign.give(self.db, self._memory, person, slug, 1).task

    def offer(self, person: Person, slug: str, ahead: int) -> assign.Offer:
        """next_task (ahead 0) or peek_task (1), and how far the project is: what a page asks after every answer."""
        return assign.give(self.db, self._memory, person, slug, ahead)

    def submit(self, person: Person, task_id: str, answer: Answer) -> Event:
        """When this returns, the vote is on the disk. The same answer twice is one event; another one a Conflict."""
        return self._cast(cast.Ballot(person, task_id, answer))

    def skip(self, person: Person, task_id: str, reason: str) -> Event:
        return work.skip(self.db, person, task_id, reason)

    def undo(self, person: Person, slug: str, event: int | None = None) -> Event | None:
        """Undoes the person's last vote or skip, or that of event number `event`. None: there is none."""
        return work.undo(self.db, person, slug, event)

    def history(self, person: Person, slug: str, limit: int = 50, before: int | None = None) -> list[Vote]:
        """The person's valid votes, newest first; before: an event number, to page on."""
        return self.db.read(lambda conn: work.history(conn, person, slug, limit, before))

    # ---- looking

    def skip_reasons(self, slug: str) -> list[tuple[str, int]]:
        """Why people skipped, the most frequent reason first."""
        self.project(slug)
        return self.db.read(lambda conn: work.skip_reasons(conn, slug))

    def votes(self, slug: str, *, include_undone: bool = False) -> list[Vote]:
        """In the order they were cast."""
        self.project(slug)
        return self.db.read(lambda conn: work.votes(conn, slug, None, include_undone))

    def items(self, slug: str) -> list[TaskItem]:
        self.project(slug)
        return self.db.read(lambda conn: snapshots.items_of(conn, slug))

    def item(self, slug: str, item_id: str) -> TaskItem:
        return self.db.read(lambda conn: snapshots.item(conn, slug, item_id))

    def progress(self, slug: str) -> Progress:
        return self.db.read(lambda conn: quality.progress(conn, slug, self.now()))

    def finished(self, slug: str) -> tuple[int, int]:
        """(items, gold apart; those with all the labels they need)."""
        return self.db.read(lambda conn: quality.finished(conn, slug))

    def disagreements(self, slug: str, limit: int = 50) -> list[Disagreement]:
        """Items on which people differ, the least agreed upon first."""
        return self.db.read(lambda conn: quality.disagreements(conn, slug, limit))

    def quality(self, slug: str) -> Quality:
        """Computed once per state of the project."""
        old = self._quality.get(slug)
        if old is None or old.head != self.project(slug).head:
            old = self.db.read(lambda conn: quality.quality(conn, slug))
            self._quality[slug] = old
        return old

    # ---- events and snapshots

    def events(self, slug: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with numbers above `after`; slug '' is the chain of people."""
        return self.db.read(lambda conn: events.page(conn, slug, after, limit))

    def verify(self, slug: str | None = None) -> ChainReport:
        """Recomputes every hash of a project, or of all and of the people."""
        return self.db.read(lambda conn: events.verify(conn, slug))

    def snapshot(self, by: Person, slug: str) -> Snapshot:
        """Freezes the project as it is now. The same state has the same digest."""
        return snapshots.take(self.db, by, slug)

    def snapshots(self, slug: str) -> list[Snapshot]:
        """Oldest first."""
        return self.db.read(lambda conn: snapshots.of_project(conn, slug))

    def read_snapshot(self, digest: str) -> tuple[Snapshot, Project, list[TaskItem], list[Vote]]:
        """By its digest or 8 and more digits of it. The chain is verified first."""
        return self.db.read(lambda conn: snapshots.read(conn, digest))
