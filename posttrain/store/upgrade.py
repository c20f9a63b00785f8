"""Tables as this version needs them: created, or upgraded by the migrations that ship in the package.

Everything happens in one transaction under a lock, so two processes that open one new database do it once.
Left out on purpose: going back. A database of a newer version is refused.
"""

from pathlib import Path

from sqlalchemy import Connection, func, inspect, select

from posttrain.errors import UserError
from posttrain.store import schema

HEAD = "0002"  # the newest migration; a test compares
FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x705774  # any number that nobody else uses for pg_advisory_xact_lock


def upgrade(conn: Connection, where: str, to: str = HEAD) -> float:
    """Brings the tables to revision `to`. Returns the time of the latest event."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    if (found := _revision(conn, where)) != to:
        _migrate(conn, where, found, to)
    return float(conn.execute(select(func.coalesce(func.max(schema.heads.c.at), 0.0))).scalar_one())


def _revision(conn: Connection, where: str) -> str | None:
    """The database's revision; None for an empty one. UserError where it holds something else."""
    tables = inspect(conn).get_table_names()
    if "alembic_version" in tables:
        return str(conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())
    if set(tables) & set(schema.meta.tables):
        remedy = "give the store a file, or a database, of its own"
        raise UserError("this database holds other people's tables", where=where, remedy=remedy)
    return None


def _migrate(conn: Connection, where: str, found: str | None, to: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    if found is not None and found not in known:
        raise UserError(
            f"the database was made by a newer posttrain (its revision is {found}, this version knows {HEAD})",
            where=where, remedy="pip install --upgrade posttrain",
        )  # fmt: skip
    config.attributes["connection"] = conn
    command.upgrade(config, to)
