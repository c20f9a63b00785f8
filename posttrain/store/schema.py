"""The tables, as SQLAlchemy sees them. A database is made by the migrations; a test compares the two.

What happened is in `events` and nowhere else: items' counters, tasks' states, heads and duels can be recounted from
it (tests do). Identity is in `people` and nowhere else: every other table knows pseudonyms.
JSON is kept as text, so that what was hashed is what is read.
Left out on purpose: foreign keys from events, which outlive what they speak of.
"""

from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint, text

meta = MetaData()

people = Table(
    "people", meta,
    Column("id", String(32), primary_key=True),
    Column("name", String(80)),
    Column("key", String(240), unique=True),  # the name case-folded; null after erasure
    Column("password", String(200)),
    Column("admin", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    Column("erased", Float),
)  # fmt: skip

secrets = Table(  # sessions, API tokens, invitations: only the hash of each is kept
    "secrets", meta,
    Column("hash", String(64), primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # session | api | invitation | reset
    Column("person", String(32)),
    Column("project", String(64)),
    Column("role", String(16)),
    Column("label", String(240), nullable=False, server_default=text("''")),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("used", Float),
    Index("secrets_person", "person", "kind"),
)  # fmt: skip

throttle = Table(  # failed sign-ins, by name, whether or not somebody is called so
    "throttle", meta,
    Column("key", String(240), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("until", Float, nullable=False),
)  # fmt: skip

projects = Table(
    "projects", meta,
    Column("slug", String(64), primary_key=True),
    Column("settings", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("closed", Boolean, nullable=False),
)  # fmt: skip

members = Table(  # also people without a role (any more) who have worked: their counters
    "members", meta,
    Column("project", String(64), primary_key=True),
    Column("person", String(32), primary_key=True),
    Column("role", String(16)),
    Column("turns", Integer, nullable=False, server_default=text("0")),  # tasks ever given
    Column("votes", Integer, nullable=False, server_default=text("0")),
    Column("skips", Integer, nullable=False, server_default=text("0")),
    Column("cursor", Integer, nullable=False, server_default=text("0")),  # items before it need not be looked at again
    Index("members_person", "person"),
)  # fmt: skip

items = Table(
    "items", meta,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False),
    Column("id", String(200), nullable=False),
    Column("body", Text, nullable=False),
    Column("event", Integer, nullable=False),  # the event that brought it, whose body holds the digest of its bodies
    Column("position", Integer, nullable=False),
    Column("shuffle", Integer, nullable=False),  # a seeded place in the random order
    Column("pairing", Text, nullable=False),  # the models compared, sorted
    Column("gold", Boolean, nullable=False),
    Column("votes", Integer, nullable=False, server_default=text("0")),
    Column("leases", Integer, nullable=False, server_default=text("0")),
    Column("wanted", Integer, nullable=False),  # labels it needs as things stand
    Column("open", Boolean, nullable=False),  # votes + leases < wanted
    UniqueConstraint("project", "id", name="items_id"),
    UniqueConstraint("project", "position", name="items_position"),
    Index("items_sequence", "project", "gold", "open", "position"),
    Index("items_random", "project", "gold", "open", "shuffle"),
    Index("items_active", "project", "gold", "open", "pairing", "votes", "shuffle"),
)  # fmt: skip

authors = Table(  # who wrote an answer of an item, and so may not judge it
    "authors", meta,
    Column("item", Integer, primary_key=True),
    Column("person", String(32), primary_key=True),
)  # fmt: skip

tasks = Table(  # one item shown to one person: at most once, by the unique constraint
    "tasks", meta,
    Column("id", String(32), primary_key=True),
    Column("project", String(64), nullable=False),
    Column("item", Integer, nullable=False),
    Column("person", String(32), nullable=False),
    Column("state", String(8), nullable=False),  # leased | lapsed | voted | skipped
    Column("turn", Integer, nullable=False),  # the smallest comes first
    Column("lease_until", Float, nullable=False),
    Column("presented", String(40), nullable=False),
    Column("drawn", String(8), nullable=False),
    Column("event", Integer),  # of the vote or skip
    Column("answer", String(64)),  # digest of what was answered, to tell a repeated request from another answer
    Column("label", Text),  # the vote as compared between people (labels.py)
    UniqueConstraint("item", "person", name="tasks_once"),
    Index("tasks_person", "project", "person", "state", "turn"),
    Index("tasks_lease", "project", "state", "lease_until"),
    Index("tasks_event", "project", "event"),
)  # fmt: skip

duels = Table(  # wins between models so far, ties half to each; a is the lesser name
    "duels", meta,
    Column("project", String(64), primary_key=True),
    Column("a", Text, primary_key=True),
    Column("b", Text, primary_key=True),
    Column("a_wins", Float, nullable=False),
    Column("b_wins", Float, nullable=False),
)  # fmt: skip

heads = Table(  # the end of each chain, locked by whoever appends; '' is the chain of people
    "heads", meta,
    Column("project", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("plain_items", Integer, nullable=False, server_default=text("0")),
    Column("gold_items", Integer, nullable=False, server_default=text("0")),
    Column("votes", Integer, nullable=False, server_default=text("0")),
    Column("skips", Integer, nullable=False, server_default=text("0")),
    Column("done", Integer, nullable=False, server_default=text("0")),  # items, gold apart, with votes >= wanted
)  # fmt: skip

events = Table(  # append-only: triggers refuse UPDATE and DELETE
    "events", meta,
    Column("project", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("person", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Index("events_kind", "project", "kind", "number"),
)  # fmt: skip

snapshots = Table(
    "snapshots", meta,
    Column("digest", String(16), primary_key=True),
    Column("project", String(64), nullable=False),
    Column("events", Integer, nullable=False),
    Column("head_hash", String(64), nullable=False),
    Column("votes", Integer, nullable=False),
    Column("items", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("person", String(32), nullable=False),
    Index("snapshots_project", "project", "events"),
)  # fmt: skip
