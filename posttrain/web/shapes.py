"""What the REST API sends and takes, beside the store's own rows. What an annotator may see is decided by these shapes.

Left out on purpose: fields that tell an annotator more than the page does (item ids, models, gold, how it was drawn).
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from posttrain.rows import Message
from posttrain.store import Kind, Role


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(Shape):
    """What is wrong, where, and what to do about it."""

    what: str
    where: str = ""
    remedy: str = ""


class Problem(Shape):
    error: Error


class SignIn(Shape):
    name: str = Field(max_length=200)
    password: str = Field(max_length=1000)
    label: str = Field(default="api", max_length=100, description="What the token is for")


class Join(SignIn):
    invitation: str = Field(max_length=200, description="The last part of the invitation link")


class Me(Shape):
    id: str = Field(description="The pseudonym under which the data knows you")
    name: str
    admin: bool


class SignedIn(Shape):
    token: str = Field(description="Send it as 'Authorization: Bearer ...'; it is shown once")
    person: Me


class NewToken(Shape):
    label: str = Field(min_length=1, max_length=100)


class Token(Shape):
    token: str


class ProjectOut(Shape):
    slug: str
    title: str
    kind: Kind
    instructions: str
    role: Role
    closed: bool
    items: int
    done: int


class TaskOut(Shape):
    """A task as its annotator sees it: answers in presented order."""

    id: str
    project: str
    kind: Kind
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    instructions: str
    lease_until: float


class Receipt(Shape):
    """The vote is on disk: number and hash of its event in the project's chain."""

    event: int
    hash: str
    at: float


class SkipIn(Shape):
    reason: str = Field(default="", max_length=200)


class Undone(Shape):
    """event: the event that records the undoing; None when there was nothing to undo."""

    event: int | None


class HistoryEntry(Shape):
    """One of my answers, as I saw it. said: the answer in words; marks: one for each of several answers."""

    event: int
    at: float
    seconds: float
    said: str
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    marks: tuple[str, ...]
    text: str
    reason: str


class Added(Shape):
    """leaks: ids of those items in which an answer seems to name its model."""

    added: int
    leaks: tuple[str, ...] = ()


class InviteIn(Shape):
    role: Literal["lead", "annotator", "viewer"] = "annotator"


class Invitation(Shape):
    """token: for POST /api/v1/join; link: for a browser. Works once, expires."""

    token: str
    link: str


class MemberOut(Shape):
    id: str
    name: str
    role: Role
    votes: int
    skips: int


class RoleIn(Shape):
    role: Literal["lead", "annotator", "viewer"] | None = Field(description="null removes the person from the project")
