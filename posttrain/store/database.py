"""One database behind the store: SQLite or PostgreSQL, short transactions, tried again when it is busy.

SQLite: write-ahead log, one writer at a time in this process, BEGIN IMMEDIATE, synchronous=FULL: what was committed is
on the disk. Leases (durable=False) need not survive a power cut and are committed without waiting for the disk; the
next vote's sync covers them. PostgreSQL: READ COMMITTED with row locks taken where rows are read to be changed. There
the commit lets go of its locks at once, and a second, empty commit in the same message flushes the log up to it:
whoever appends to one chain waits for the others' work, not for the others' disk (measured: 1.6 times the votes).
Reading opens no transaction there: each statement sees the state of its moment either way, in a third of the trips.
Transactions are begun here, not by the drivers, which would begin late (sqlite3) or for reading too (psycopg).
Left out on purpose: any knowledge of what is stored.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from posttrain.errors import UserError
from posttrain.store.clock import Clock
from posttrain.store.errors import Unavailable
from posttrain.store.prepared import driver

T = TypeVar("T")
BACKOFF = (0.05, 0.2, 0.5)  # seconds before the second, third and fourth try
PASSING = {"40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "53300"}  # PostgreSQL: try again
COMMIT_AND_FLUSH = (  # the second is a transaction of its own: the least that makes a commit flush the log
    "COMMIT; SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'posttrain', '')"
)
POOL = {"pool_size": 16, "max_overflow": 0, "pool_timeout": 20, "pool_use_lifo": True}  # all are kept: opening is dear


class Database:
    """read(work) and write(work): work gets a connection inside a transaction and may be called several times."""

    def __init__(self, url: str, patience: float):
        self.url = _url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.where = self.url.render_as_string(hide_password=True)
        self.clock = Clock(time.time)
        self.engine = _sqlite(self.url, patience) if self.sqlite else _postgres(self.url, patience)
        self._driver: Any = self.engine.dialect.loaded_dbapi
        self._turn = threading.Lock()
        self._file: tuple[Path, int] | None = None

    @classmethod
    def open(cls, url: str, now: Callable[[], float], patience: float = 3.0) -> Self:
        """Connect, create or upgrade the tables, and start the clock where the store left off."""
        from posttrain.store import upgrade

        self = cls(url, patience)
        try:
            latest = self.write(lambda conn: upgrade.upgrade(conn, self.where))
        except BaseException:
            self.engine.dispose()
            raise
        self.clock = Clock(now, start=latest)
        if self.sqlite and self.url.database:
            path = Path(self.url.database).resolve()
            self._file = path, path.stat().st_ino
        return self

    def close(self) -> None:
        self.engine.dispose()

    def read(self, work: Callable[[Connection], T]) -> T:
        """work in a transaction that sees one state (SQLite) or each statement's (PostgreSQL)."""
        return self._insist(lambda: self._look(work), again=True)

    def write(self, work: Callable[[Connection], T], *, durable: bool = True, again: bool = True) -> T:
        """work in a transaction that is committed when this returns.

        again: the work may be repeated although its commit failed in an unknown state: it would see that it was done.
        """
        if not self.sqlite:
            return self._insist(lambda: self._once(work, durable), again=again)

        def alone() -> T:
            with self._turn:
                self._present()
                return self._once(work, durable)

        return self._insist(alone, again=again)

    def forget(self) -> None:
        """SQLite: what was deleted leaves the log too, unless somebody reads just now. PostgreSQL: its vacuum does."""
        if self.sqlite:
            with self._turn, self.engine.connect() as conn:
                driver(conn).execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _look(self, work: Callable[[Connection], T]) -> T:
        with self._connected() as conn, conn.begin():
            if self.sqlite:
                driver(conn).execute("BEGIN")
            return work(conn)

    def _once(self, work: Callable[[Connection], T], durable: bool) -> T:
        saving = False
        try:
            with self._connected() as conn:
                if self.sqlite:
                    _synchronous(conn, "FULL" if durable else "NORMAL")
                with conn.begin():
                    driver(conn).execute("BEGIN IMMEDIATE" if self.sqlite else "BEGIN")
                    result = work(conn)
                    saving = True
                    if durable and not self.sqlite:
                        driver(conn).execute(COMMIT_AND_FLUSH, prepare=False)
        except DBAPIError as error:
            if saving:
                raise _Unsure(error) from None
            raise
        return result

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection. What the driver itself raises (prepared.py) is raised as SQLAlchemy would raise it."""
        with self.engine.connect() as conn:
            try:
                yield conn
            except self._driver.Error as error:
                raise DBAPIError.instance(None, None, error, self._driver.Error, dialect=conn.dialect) from None

    def _insist(self, attempt: Callable[[], T], *, again: bool) -> T:
        """attempt(), repeated with growing pauses while the failure is one that passes."""
        for wait in (*BACKOFF, None):
            try:
                return attempt()
            except _Unsure as unsure:
                if not again:
                    raise Unavailable(
                        "the connection broke while a change was being saved", where=self.where,
                        remedy="look whether it is there before doing it again",
                    ) from unsure.error  # fmt: skip
                self._give_up(unsure.error, wait)
            except (DBAPIError, PoolTimeout, _Gone) as error:
                self._give_up(error, wait)
            time.sleep(wait or 0)
        raise AssertionError("unreachable")

    def _give_up(self, error: Exception, wait: float | None) -> None:
        """Returns when `error` may pass and there is another try; else raises it, in plain words where it is known."""
        if _passing(error) and wait is not None:
            return
        if isinstance(error, DataError):
            raise UserError(f"the database cannot keep this: {_words(error)}", remedy="correct it and send it again")
        if isinstance(error, IntegrityError | ProgrammingError):
            raise error  # a constraint that the caller knows what to do about, or a bug of ours
        raise self._plain(error) from None

    def _plain(self, error: Exception) -> Unavailable:
        text = _words(error)
        if isinstance(error, _Gone):
            return Unavailable("the database file is gone", where=self.where, remedy="put the file back and try again")
        if "locked" in text or "busy" in text:
            remedy = "try again; if it lasts, another program holds the file open for writing"
            return Unavailable("the database is locked", where=self.where, remedy=remedy)
        if self.sqlite:
            return Unavailable(f"the database cannot be used: {text}", where=self.where, remedy="check path and disk")
        return Unavailable(f"the database does not answer: {text}", where=self.where, remedy="is the server running?")

    def _present(self) -> None:
        """A deleted file would take votes for as long as the process lives, and then they would be gone."""
        if self._file is None:
            return
        path, inode = self._file
        try:
            if os.stat(path).st_ino == inode:
                return
        except OSError:
            pass
        raise _Gone(f"{path} is gone")


def _words(error: Exception) -> str:
    """The first line of what the driver says."""
    return str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]


class _Gone(Exception):
    """The file is not there any more, or is another one."""


class _Unsure(Exception):
    """A commit failed: it may have been done or not."""

    def __init__(self, error: DBAPIError):
        self.error = error


def _passing(error: Exception) -> bool:
    """Would trying again help? Locks, deadlocks, lost connections: yes. A full disk, a wrong password: no."""
    if not isinstance(error, DBAPIError):
        return True
    text = str(error.orig)
    state = getattr(error.orig, "sqlstate", None)
    return (
        error.connection_invalidated or state in PASSING
        or "database is locked" in text or "database is busy" in text or "database table is locked" in text
    )  # fmt: skip


def _url(text: str) -> URL:
    """A SQLAlchemy URL; a plain path is an SQLite file."""
    try:
        url = make_url(text if "://" in text else f"sqlite:///{text}")
    except ArgumentError:
        raise UserError(
            "not a database URL", where=text, remedy="sqlite:///feedback.db or postgresql://user:password@host/name"
        ) from None
    kind = url.get_backend_name()
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise UserError(f"{kind} is not supported", remedy="an SQLite file or postgresql://...")
    if not url.database or url.database == ":memory:":
        raise UserError("the store needs a file, not memory", remedy="sqlite:///feedback.db")
    return url


def _sqlite(url: URL, patience: float) -> Engine:
    path = Path(url.database or "")
    if path.is_dir() or not path.resolve().parent.is_dir():
        what = "there is no such folder" if not path.is_dir() else "this is a folder"
        raise UserError(what, where=str(path), remedy="name a file in a folder that exists, for example feedback.db")
    engine = create_engine(
        url, connect_args={"timeout": patience, "isolation_level": None, "check_same_thread": False}, **POOL
    )

    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, record: Any) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY", "secure_delete = ON"):
            dbapi.execute(f"PRAGMA {pragma}")

    return engine


def _synchronous(conn: Connection, level: str) -> None:
    """Sets it where it is not set yet; outside a transaction, where alone it takes effect."""
    if conn.info.get("synchronous", "FULL") != level:
        driver(conn).execute(f"PRAGMA synchronous = {level}")
        conn.info["synchronous"] = level


def _postgres(url: URL, patience: float) -> Engine:
    try:
        return create_engine(url, connect_args={
            "options": f"-c lock_timeout={int(patience * 1000)} -c timezone=UTC -c synchronous_commit=off",
            "connect_timeout": 5,
        }, isolation_level="AUTOCOMMIT", **POOL)  # fmt: skip
    except ModuleNotFoundError:
        raise UserError(
            "PostgreSQL needs the psycopg driver, which is not installed", remedy="pip install 'posttrain[postgres]'"
        ) from None
