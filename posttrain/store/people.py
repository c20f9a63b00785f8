"""Accounts, sessions, tokens, invitations. Names and password hashes live here and nowhere else.

Passwords are hashed by argon2; of sessions, tokens and invitations only the SHA-256 is stored, which is enough for
256 random bits. After five wrong passwords a name must wait, twice as long each time, at most a quarter of an hour.
Left out on purpose: e-mail, single sign-on, password rules beyond a length.
"""

import hashlib
import secrets as random
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError

from posttrain.errors import UserError
from posttrain.store import events
from posttrain.store.database import Database
from posttrain.store.errors import Closed, Conflict, Forbidden, Missing, TooMany
from posttrain.store.prepared import Prepared
from posttrain.store.rows import ApiToken, Person, Role
from posttrain.store.schema import members, people, secrets, throttle

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SESSION_SECONDS, INVITATION_SECONDS = 14 * 86400, 7 * 86400
FREE_FAILURES, LONGEST_WAIT = 5, 900
SHORTEST_PASSWORD = 8
FIRST = "first administrator"
DEAD = "this link is used up or too old"


# ---- links -----------------------------------------------------------------------------------------------------------


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _issue(conn: Connection, kind: str, now: float, **fields: Any) -> str:
    """A new random token; the table keeps its hash."""
    token = random.token_urlsafe(32)
    conn.execute(
        secrets.insert().values(hash=_hash(token), id=random.token_hex(8), kind=kind, created=now, **fields),
    )
    return token


def first_admin_link(db: Database) -> str | None:
    """A token that makes an administrator, while there is none; earlier ones of its kind die."""

    def work(conn: Connection) -> str | None:
        if _admins(conn):
            return None
        conn.execute(delete(secrets).where(secrets.c.kind == "invitation", secrets.c.label == FIRST))
        now = db.clock()
        return _issue(conn, "invitation", now, role="admin", label=FIRST, expires=now + INVITATION_SECONDS)

    return db.write(work)


def _admins(conn: Connection) -> list[str]:
    return list(conn.scalars(select(people.c.id).where(people.c.admin, people.c.erased.is_(None))))


def invite(db: Database, project: str | None, role: Role, name: str) -> str:
    """The caller has checked that the inviter may."""
    now = db.clock()
    label = _name(name) if name else ""
    return db.write(
        lambda conn: _issue(
            conn, "invitation", now, project=project, role=role, label=label, expires=now + INVITATION_SECONDS
        )
    )


def reset_link(db: Database, by: Person, person_id: str) -> str:
    if not by.admin:
        raise Forbidden("only an administrator may let a password be set anew")

    def work(conn: Connection) -> str:
        _known(conn, person_id)
        now = db.clock()
        return _issue(conn, "reset", now, person=person_id, expires=now + INVITATION_SECONDS)

    return db.write(work)


def whose_password(db: Database, token: str) -> Person | None:
    """Who sets a new password by this link; None: it is an invitation. Closed: used up, too old, or no link at all."""

    def work(conn: Connection) -> Person | None:
        link = conn.execute(_usable(db.clock(), token, ("invitation", "reset"))).one_or_none()
        if link is None:
            raise Closed(DEAD, remedy="ask for a new one")
        return _known(conn, link.person) if link.kind == "reset" else None

    return db.read(work)


def accept(db: Database, token: str, name: str, password: str) -> Person:
    mine = whose_password(db, token)  # before the hash, which costs more than a stranger may ask for
    name, hashed = mine.name if mine else _name(name), _hasher().hash(_password(password))

    def work(conn: Connection) -> Person:
        link = _link(conn, db.clock(), token, ("invitation", "reset"))
        if link.kind == "reset":
            conn.execute(update(people).where(people.c.id == link.person).values(password=hashed))
            conn.execute(delete(secrets).where(secrets.c.person == link.person, secrets.c.kind == "session"))
            return _known(conn, link.person)
        person = Person(id="p" + random.token_hex(6), name=name, admin=link.role == "admin")
        conn.execute(
            people.insert().values(
                id=person.id, name=name, key=_key(name), password=hashed, admin=person.admin, created=db.clock()
            )
        )
        events.append(conn, db.clock(), "", "person", person, {"person": person.id, "admin": person.admin})
        _enter(conn, db, link, person)
        return person

    try:
        return db.write(work, again=False)
    except IntegrityError:
        raise Conflict(f"the name {name!r} is taken", where="name", remedy="choose another") from None


def join(db: Database, token: str, person: Person) -> Person:
    """An invitation taken up with an account that exists."""

    def work(conn: Connection) -> Person:
        link = _link(conn, db.clock(), token, ("invitation",))
        if link.role == "admin":
            conn.execute(update(people).where(people.c.id == person.id).values(admin=True))
            body = {"person": person.id, "admin": True}
            events.append(conn, db.clock(), "", "person", person, body)
        _enter(conn, db, link, person)
        return _known(conn, person.id)

    return db.write(work, again=False)


def _link(conn: Connection, now: float, token: str, kinds: tuple[str, ...]) -> Row[Any]:
    """The unused link, used up by this very call."""
    link = conn.execute(_usable(now, token, kinds).with_for_update()).one_or_none()
    if link is None:
        raise Closed(DEAD, remedy="ask for a new one")
    conn.execute(update(secrets).where(secrets.c.hash == link.hash).values(used=now, label=""))
    return link


def _usable(now: float, token: str, kinds: tuple[str, ...]) -> Any:
    fresh = (secrets.c.used.is_(None)) & (secrets.c.expires > now)
    return select(secrets).where(secrets.c.hash == _hash(token), secrets.c.kind.in_(kinds), fresh)


def _enter(conn: Connection, db: Database, link: Row[Any], person: Person) -> None:
    if link.project is not None:
        set_member(conn, db.clock(), person, link.project, person.id, link.role)


def set_member(conn: Connection, now: float, by: Person, project: str, person_id: str, role: str | None) -> None:
    """The role, and the event that says so; nothing when it is so already."""
    mine = (members.c.project == project) & (members.c.person == person_id)
    old = conn.execute(select(members.c.role).where(mine).with_for_update()).one_or_none()
    if (old.role if old else None) == role:
        return
    if old is None:
        conn.execute(members.insert().values(project=project, person=person_id, role=role))
    else:
        conn.execute(update(members).where(mine).values(role=role))
    events.append(conn, now, project, "role", by, {"person": person_id, "role": role})


# ---- names and passwords ---------------------------------------------------------------------------------------------


def _name(text: str) -> str:
    name = unicodedata.normalize("NFC", text).strip()
    if not 0 < len(name) <= 80 or not name.isprintable():
        raise UserError("expected 1 to 80 printable characters", where="name")
    return name


def _key(name: str) -> str:
    """Names that differ in case or width alone are one name."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _password(text: str) -> str:
    if not SHORTEST_PASSWORD <= len(text) <= 1000:
        raise UserError(f"expected at least {SHORTEST_PASSWORD} characters", where="password")
    return text


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobody() -> str:
    """A hash to check against when there is no such name, so that both refusals take as long."""
    return _hasher().hash(random.token_hex(16))


def sign_in(db: Database, name: str, password: str) -> str:
    from argon2.exceptions import InvalidHashError, VerificationError

    key = _key(name)[:240]
    found = db.read(lambda conn: _account(conn, db.clock(), key))
    try:
        right = _hasher().verify(found.password if found else _nobody(), password) and found is not None
    except (VerificationError, InvalidHashError):
        right = False

    def work(conn: Connection) -> str | None:
        now = db.clock()
        if not right or found is None:
            _failed(conn, now, key)
            return None
        conn.execute(delete(throttle).where(throttle.c.key == key))
        conn.execute(delete(secrets).where(secrets.c.person == found.id, secrets.c.expires <= now))
        return _issue(conn, "session", now, person=found.id, expires=now + SESSION_SECONDS)

    token = db.write(work)
    if token is None:
        raise Forbidden("name or password is wrong")
    return token


def _account(conn: Connection, now: float, key: str) -> Any:
    """Id and password of a name, None where nobody is called so. TooMany while the name must wait."""
    until = conn.scalar(select(throttle.c.until).where(throttle.c.key == key))
    if until is not None and until > now:
        raise TooMany("too many failed attempts to sign in", until - now)
    return conn.execute(select(people.c.id, people.c.password).where(people.c.key == key)).one_or_none()


def _failed(conn: Connection, now: float, key: str) -> None:
    old = conn.execute(select(throttle).where(throttle.c.key == key).with_for_update()).one_or_none()
    failures = 1 if old is None else old.failures + 1
    over = failures - FREE_FAILURES
    until = now + min(LONGEST_WAIT, 10 * 2 ** min(over, 10)) if over >= 0 else now
    conn.execute(delete(throttle).where(throttle.c.key == key))
    conn.execute(throttle.insert().values(key=key, failures=failures, until=until))


# ---- sessions and tokens ---------------------------------------------------------------------------------------------


OWNER = Prepared(
    select(people.c.id, people.c.name, people.c.admin, secrets.c.expires)
    .join(secrets, secrets.c.person == people.c.id)
    .where(secrets.c.hash == bindparam("of"), secrets.c.kind == bindparam("as"), people.c.erased.is_(None))
)


def of_secret(db: Database, kind: str, token: str) -> Person | None:
    """Whose session or API token this is; None: nobody's, or too old."""
    rows = db.read(lambda conn: OWNER(conn, {"of": _hash(token), "as": kind}))
    if not rows or (rows[0].expires is not None and rows[0].expires <= db.clock()):
        return None
    return Person(id=rows[0].id, name=rows[0].name, admin=bool(rows[0].admin))


def sign_out(db: Database, token: str) -> None:
    dead = delete(secrets).where(secrets.c.hash == _hash(token), secrets.c.kind == "session")
    db.write(lambda conn: conn.execute(dead))


def api_token(db: Database, person: Person, label: str) -> str:
    label = _name(label)
    return db.write(lambda conn: _issue(conn, "api", db.clock(), person=person.id, label=label))


def api_tokens(db: Database, person: Person) -> list[ApiToken]:
    query = select(secrets.c.id, secrets.c.label, secrets.c.created).where(
        secrets.c.person == person.id, secrets.c.kind == "api"
    )
    rows = db.read(lambda conn: conn.execute(query.order_by(secrets.c.created)).all())
    return [ApiToken(id=r.id, label=r.label, created=r.created) for r in rows]


def every_api_token(db: Database, by: Person) -> list[tuple[Person, ApiToken]]:
    """Everybody's tokens with their owners, without their secrets; for administrators."""
    if not by.admin:
        raise Forbidden("only an administrator may see other people's tokens")
    columns = secrets.c.id.label("token"), secrets.c.label, secrets.c.created.label("made"), people
    query = select(*columns).join(people, people.c.id == secrets.c.person).where(secrets.c.kind == "api")
    rows = db.read(lambda conn: conn.execute(query.order_by(people.c.key, secrets.c.created)).all())
    return [(_person(r), ApiToken(id=r.token, label=r.label, created=r.made)) for r in rows]


def revoke_token(db: Database, person: Person, token_id: str) -> None:
    mine = delete(secrets).where(secrets.c.id == token_id, secrets.c.kind == "api")
    if not person.admin:
        mine = mine.where(secrets.c.person == person.id)
    if db.write(lambda conn: conn.execute(mine).rowcount) == 0:
        raise Missing("there is no such token")


# ---- people ----------------------------------------------------------------------------------------------------------


def everybody(db: Database) -> list[Person]:
    rows = db.read(lambda conn: conn.execute(select(people).order_by(people.c.created, people.c.id)).all())
    return [_person(row) for row in rows]


def _person(row: Row[Any]) -> Person:
    return Person(id=row.id, name=row.name or "", admin=row.admin, erased=row.erased is not None)


def _known(conn: Connection, person_id: str) -> Person:
    row = conn.execute(select(people).where(people.c.id == person_id, people.c.erased.is_(None))).one_or_none()
    if row is None:
        raise Missing(f"there is no person {person_id!r}")
    return _person(row)


def exists(conn: Connection, person_id: str) -> None:
    """Missing unless there is such a person."""
    _known(conn, person_id)


def erase(db: Database, by: Person, person_id: str) -> None:
    """Name, password, sessions and tokens go; the pseudonym and the votes stay, so the chain does too."""
    if not by.admin and by.id != person_id:
        raise Forbidden("only an administrator may erase another person")

    def work(conn: Connection) -> None:
        person = _known(conn, person_id)
        if person.admin and _admins(conn) == [person_id]:
            raise Conflict("the last administrator cannot be erased", remedy="make another administrator first")
        now = db.clock()
        mine = select(members.c.project).where(members.c.person == person_id, members.c.role.is_not(None))
        for project in conn.scalars(mine.order_by(members.c.project)).all():
            set_member(conn, now, by, project, person_id, None)
        conn.execute(delete(secrets).where(secrets.c.person == person_id))
        conn.execute(delete(throttle).where(throttle.c.key == _key(person.name)[:240]))
        conn.execute(
            update(people)
            .where(people.c.id == person_id)
            .values(name=None, key=None, password=None, admin=False, erased=now)
        )
        events.append(conn, now, "", "erased", by, {"person": person_id})

    db.write(work, again=False)
    db.forget()
