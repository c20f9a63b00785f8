"""The feedback store: who voted what on which answers, append-only and hash-chained, in SQLite or PostgreSQL.

    store = Store.open("sqlite:///feedback.db")          # or postgresql://user@host/name
    store.create_project(SYSTEM, "helpfulness", ProjectSettings(kind="pair", title="Which helps more?"))
    store.add_items(SYSTEM, "helpfulness", read_items("pairs.jsonl", "pair"))

Store lives in store.py and needs the extra `label` (SQLAlchemy, Alembic, argon2); rows, labels, leaks and imports do
not. Left out on purpose: HTTP, pages, and what is learned from the votes (agreement.py, feedback.py).
"""

from typing import TYPE_CHECKING, Any

from posttrain.errors import UserError
from posttrain.store.errors import Closed, Conflict, Forbidden, Missing, TooMany, Unavailable
from posttrain.store.rows import (
    FLAGS,
    SYSTEM,
    Answer,
    ApiToken,
    Candidate,
    ChainReport,
    Disagreement,
    Drawn,
    Estimate,
    Event,
    Kind,
    Member,
    Person,
    PersonQuality,
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

if TYPE_CHECKING:
    from posttrain.store.imports import parse_items, read_items
    from posttrain.store.store import Store

__all__ = [
    "FLAGS", "SYSTEM", "Answer", "ApiToken", "Candidate", "ChainReport", "Closed", "Conflict", "Disagreement", "Drawn",
    "Estimate", "Event", "Forbidden", "Kind", "Member", "Missing", "Person", "PersonQuality", "Progress", "Project",
    "ProjectSettings", "Quality", "Role", "Snapshot", "Store", "Task", "TaskItem", "TooMany", "Unavailable", "Vote",
    "parse_items", "read_items",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Store and the importers are loaded at their first use: SQLAlchemy is an extra, and not light."""
    if name in ("read_items", "parse_items"):
        from posttrain.store import imports

        return getattr(imports, name)
    if name != "Store":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from posttrain.store.store import Store
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "posttrain":
            raise
        raise UserError(
            f"the feedback store needs {error.name}, which is not installed", remedy="pip install 'posttrain[label]'"
        ) from None
    return Store
