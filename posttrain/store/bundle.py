"""Changes of several tables that belong together: one statement for PostgreSQL, one after the other for SQLite.

A statement costs PostgreSQL a message each way, and both sides a wake-up: more than the change of a row by its key.
Each part changes another table, so it does not matter that the parts of one statement do not see each other.
Left out on purpose: what a part returns, and how many rows it met.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Insert, Update


class Bundle:
    """bundle(conn, rows): every part, for every row of parameters. A part takes those that it names."""

    def __init__(self, *parts: Insert | Update):
        *others, last = parts
        self.parts = parts
        self.whole = last.add_cte(*(part.cte(f"part_{n}") for n, part in enumerate(others)))

    def __call__(self, conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        for statement in self.parts if conn.dialect.name == "sqlite" else (self.whole,):
            conn.execute(statement, rows)
