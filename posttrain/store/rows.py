"""What the feedback store takes and gives: projects, items, tasks, answers, votes, events; frozen and strict.

Two orders occur. PRESENTED order is what one person saw (Task, Answer); ITEM order is the order of `TaskItem.answers`
(Vote, gold). `Vote.presented[i]` is the index in item order of the answer shown at place i.
Left out on purpose: tables (schema.py), and model names or authors in anything that an annotator may see (Task).
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from posttrain.rows import Messages, Row

Kind = Literal["pair", "ranking", "rating", "thumb", "rewrite", "demo", "safety"]
Role = Literal["admin", "lead", "annotator", "viewer"]
Bin = Literal["safe", "borderline", "unsafe"]

FLAGS = (  # what a rating may say beside its number; the list of InstructGPT's appendix
    "fails_instruction", "inappropriate", "hallucination", "sexual", "violent", "encourages_harm", "denigrates",
    "harmful_advice", "opinion", "moral_judgment",
)  # fmt: skip
ANSWERS = {  # how many answers an item of a kind has, at least and at most
    "pair": (2, 2), "ranking": (3, 9), "rating": (1, 1), "thumb": (1, 1), "rewrite": (1, 2), "demo": (0, 0),
    "safety": (1, 9),
}  # fmt: skip
LONGEST = 200_000  # characters of one text; a pasted book is a mistake


class Person(Row):
    """`id` is a pseudonym and the only thing events know; `name` is empty after erasure."""

    id: str
    name: str = ""
    admin: bool = False
    erased: bool = False


SYSTEM = Person(id="system", name="system", admin=True)  # the command line: whoever can open the file


class Member(Row):
    person: Person
    role: Role
    votes: int = 0
    skips: int = 0


class ApiToken(Row):
    """What may be shown of a token: the token itself is told once, when it is made."""

    id: str
    label: str
    created: float


class ProjectSettings(Row):
    """How a project is labelled. labels_per_item: votes that agree which an item needs.

    max_labels: where annotators disagree, more are asked until `labels_per_item` of them agree or this many voted;
    None: exactly `labels_per_item` votes, whatever they say. gold_share: share of tasks drawn from items whose right
    answer is known. order "active": the most informative pair of models first, except a `random_share` of the tasks.
    """

    kind: Kind
    title: str = Field(min_length=1, max_length=200)
    instructions: str = Field(default="", max_length=20_000)
    labels_per_item: int = Field(default=1, ge=1, le=100)
    max_labels: int | None = Field(default=None, ge=1, le=100)
    gold_share: float = Field(default=0.1, ge=0, le=1)
    random_share: float = Field(default=0.2, ge=0, le=1)
    lease_seconds: int = Field(default=1800, ge=10, le=7 * 86400)
    seed: int = 0
    order: Literal["sequential", "active"] = "sequential"
    per_person_cap: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_labels is not None and self.max_labels < self.labels_per_item:
            raise ValueError(f"max_labels {self.max_labels} is below labels_per_item {self.labels_per_item}")
        if self.order == "active" and self.kind not in ("pair", "ranking"):
            raise ValueError(f"order active compares models, so kind must be pair or ranking, not {self.kind}")
        return self


class Project(Row):
    slug: str
    settings: ProjectSettings
    created: float
    closed: bool = False
    items: int = 0
    votes: int = 0
    head: str = ""  # hash of the last event: changes with every change, so caches may use it as their key


class Candidate(Row):
    """One answer. model: who wrote it, never shown; author: id of the person who wrote it, who may not judge it."""

    text: str = Field(max_length=LONGEST)
    model: str = ""
    author: str | None = None


class TaskItem(Row):
    """One thing to label; `id` is unique in its project. gold: the right answer in item order, for instance

    {"choice": "first"}, {"ranks": [0, 1, 2]}, {"rating": 6}, {"thumb": true}, {"safety": ["safe"]}.
    """

    id: str = Field(min_length=1, max_length=200)
    prompt: Messages = Field(min_length=1)
    answers: tuple[Candidate, ...] = ()
    gold: dict[str, Any] | None = None
    category: str = ""
    meta: dict[str, Any] = {}


class Task(Row):
    """What an annotator may see: answers in presented order, nothing that says who wrote them, no item id.

    leak: an answer seems to name its model. It is for leads and never goes to an annotator.
    """

    id: str
    project: str
    kind: Kind
    prompt: Messages
    answers: tuple[str, ...]
    instructions: str
    lease_until: float
    leak: bool = False


class Answer(Row):
    """What a person says of a task, in PRESENTED order; labels.py checks it against the kind of the project.

    strength: 4 significantly, 3 better, 2 slightly, 1 negligibly or unsure. ranks: one per answer, 0 best, equal is
    tied. which: the answer that `text` rewrites. safety: one bin per answer (one bin alone where there is one answer).
    """

    choice: Literal["a", "b", "tie", "both_bad"] | None = None
    strength: int | None = Field(default=None, ge=1, le=4)
    ranks: tuple[int, ...] | None = Field(default=None, max_length=9)
    rating: int | None = Field(default=None, ge=1, le=7)
    flags: tuple[str, ...] = Field(default=(), max_length=len(FLAGS))
    thumb: bool | None = None
    text: str | None = Field(default=None, max_length=LONGEST)
    which: Literal["a", "b"] | None = None
    safety: Bin | tuple[Bin, ...] | None = None
    reason: str = Field(default="", max_length=10_000)
    seconds: float = Field(default=0.0, ge=0, le=1e7, allow_inf_nan=False)

    @field_validator("flags")
    @classmethod
    def _known(cls, flags: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [f for f in flags if f not in FLAGS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a flag; known: {', '.join(FLAGS)}")
        return tuple(f for f in FLAGS if f in flags)


Drawn = Literal["sequence", "random", "active", "gold"]


class Vote(Row):
    """One answer in ITEM order: what agreement and training read. Not undone, unless asked for with the undone ones.

    event, id: number and hash of its event. person: a pseudonym. drawn: why this item came up: estimates of a rate
    under order "active" are unbiased on "random" alone. presented: the permutation (see the top of the file).
    """

    event: int
    id: str
    project: str
    item: str
    person: str
    at: float
    kind: Kind
    choice: Literal["first", "second", "tie", "both_bad"] | None = None
    strength: int | None = None
    ranks: tuple[int, ...] | None = None
    rating: int | None = None
    flags: tuple[str, ...] = ()
    thumb: bool | None = None
    text: str | None = None
    which: Literal["first", "second"] | None = None
    safety: tuple[Bin, ...] | None = None
    reason: str = ""
    seconds: float = 0.0
    presented: tuple[int, ...] = ()
    gold: bool = False
    drawn: Drawn = "sequence"
    undone: bool = False


class Event(Row):
    """One link of a project's chain: hash = SHA-256 of previous + canonical JSON of everything else."""

    number: int
    project: str
    kind: str
    at: float
    person: str
    body: dict[str, Any]
    previous: str
    hash: str


class ChainReport(Row):
    """ok: every hash was recomputed and fits. first_bad: 'project:number' of the first link that does not."""

    ok: bool
    events: int
    first_bad: str | None = None
    problem: str = ""


class Snapshot(BaseModel):  # not a Row, whose method `digest` the field would hide
    """A frozen state of a project: everything up to event `events`, whose hash is `head_hash`."""

    model_config = Row.model_config

    digest: str
    project: str
    votes: int
    items: int
    events: int
    head_hash: str
    at: float


class Progress(Row):
    """items: to be labelled, gold apart. done: items with all the labels they need. votes: valid, gold included."""

    items: int
    done: int
    votes: int
    skipped: int
    open_leases: int
    gold_items: int = 0


class Disagreement(Row):
    """An item on which people differ. agreement: share of the votes in the largest group that agrees."""

    item: TaskItem
    votes: tuple[Vote, ...]
    agreement: float
    leak: bool = False


class Estimate(Row):
    """A number with its 95% interval; n: items or votes behind it. None: too few to say."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


class PersonQuality(Row):
    """One annotator. gold: share of gold items right. peers: agreement with the majority of the others.

    accuracy: Dawid-Skene. first_share: how often the answer shown first was preferred (0.5: no bias).
    """

    person: str
    votes: int
    skips: int
    seconds: float | None = None  # median per item
    gold: Estimate = Estimate(value=None)
    peers: Estimate = Estimate(value=None)
    accuracy: float | None = None
    first_share: Estimate = Estimate(value=None)


class Quality(Row):
    """A project's numbers. longer_share: how often the longer answer was preferred."""

    project: str
    head: str
    votes: int
    annotators: int
    multiply_labelled: int  # items with at least two votes
    raw: Estimate = Estimate(value=None)  # agreement of two votes on one item, drawn at random
    fleiss: Estimate = Estimate(value=None)
    alpha: Estimate = Estimate(value=None)
    cohen: tuple[tuple[str, str, Estimate], ...] = ()  # (person, person, weighted kappa) of pairs with common items
    gold: Estimate = Estimate(value=None)
    first_share: Estimate = Estimate(value=None)
    longer_share: Estimate = Estimate(value=None)
    tie_share: Estimate = Estimate(value=None)
    people: tuple[PersonQuality, ...] = ()
