"""What data is: frozen, strict rows, one JSON line each. Shapes of other people's files are read in formats.py.

Left out on purpose: tokens (render.py), anything about files other than JSON lines, and any dependency on torch.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from posttrain.errors import UserError

Role = Literal["system", "user", "assistant", "tool"]
Source = Literal["human", "judge", "constitution", "rule", "import", "authored", "template"]


class Row(BaseModel):
    """Base of all rows: immutable, no unknown fields, hashable by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)

    def digest(self) -> str:
        """Content hash, 16 hex digits: equal rows have equal digests on every machine."""
        return digest(self.model_dump(mode="json", exclude_defaults=True))


class Message(Row):
    role: Role
    content: str


Messages = tuple[Message, ...]


def _ends_with_assistant(messages: Messages, field: str) -> None:
    if not messages or messages[-1].role != "assistant":
        raise ValueError(f"{field} must end with an assistant message")


class Prompt(Row):
    """A conversation that waits for an answer."""

    id: str = ""
    messages: Messages = Field(min_length=1)
    category: str = ""
    meta: dict[str, Any] = {}


class Demo(Row):
    """A conversation to imitate: ends with an assistant message."""

    id: str = ""
    messages: Messages = Field(min_length=1)
    category: str = ""
    source: Source = "import"
    meta: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ends_with_assistant(self.messages, "messages")
        return self


class Pair(Row):
    """Two answers to one prompt, the first preferred. margin: how much better; soft: P(chosen is better)."""

    id: str = ""
    prompt: Messages = Field(min_length=1)
    chosen: Message
    rejected: Message
    margin: float | None = None
    soft: float | None = Field(default=None, ge=0.0, le=1.0)
    source: Source = "import"
    annotator: str | None = None
    reason: str = ""
    category: str = ""
    meta: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.chosen.role != "assistant" or self.rejected.role != "assistant":
            raise ValueError("chosen and rejected must be assistant messages")
        return self


class Thumb(Row):
    """One answer with a thumb: label True is up."""

    id: str = ""
    messages: Messages = Field(min_length=1)
    label: bool
    source: Source = "import"
    meta: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ends_with_assistant(self.messages, "messages")
        return self


class Ranking(Row):
    """K answers to one prompt; ranks[i] is the rank of answers[i], 0 is best, equal numbers are ties."""

    id: str = ""
    prompt: Messages = Field(min_length=1)
    answers: Messages = Field(min_length=2)
    ranks: tuple[int, ...]
    source: Source = "import"
    annotator: str | None = None
    meta: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.ranks) != len(self.answers):
            raise ValueError(f"{len(self.answers)} answers but {len(self.ranks)} ranks")
        return self


class Rating(Row):
    """One answer on a scale of whole or broken numbers; scale: its two ends, the better one last."""

    id: str = ""
    prompt: Messages = Field(min_length=1)
    answer: Message
    value: float
    scale: tuple[float, float] = (1.0, 7.0)
    source: Source = "import"
    annotator: str | None = None
    meta: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.answer.role != "assistant":
            raise ValueError("answer must be an assistant message")
        if not self.scale[0] <= self.value <= self.scale[1]:
            raise ValueError(f"value {self.value:g} is outside the scale {self.scale[0]:g} to {self.scale[1]:g}")
        return self


Termination = Literal["stop", "length", "malformed"]


class Sample(Row):
    """One sampled answer. logps are natural logs under the distribution really sampled from, one per id.

    ids include the stop token when the answer ended by itself (`ended == "stop"`); text does not.
    """

    text: str
    ids: tuple[int, ...]
    logps: tuple[float, ...]
    ended: Termination
    version: int = 0


class Verdict(Row):
    """What a judge says of one item. score None means it abstained."""

    score: float | None
    detail: dict[str, Any] = {}


class Item(Row):
    """One question of an evaluation suite; a right answer is told by extra fields that its scorer reads."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    cluster: str
    messages: Messages = ()

    def __getattr__(self, name: str) -> Any:  # extra fields, typed for readers and type checkers alike
        return super().__getattr__(name)  # type: ignore[misc]


R = TypeVar("R", bound=Row)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spare blanks: the form that gets hashed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def set_aside(text: str, share: float) -> bool:
    """Whether what `text` identifies falls into the held-out share, by its own hash: the same in every run."""
    return int(digest(text), 16) % 1000 < 1000 * share


def dump(row: Row) -> str:
    """One JSON line, fields that hold their default left out."""
    return json.dumps(row.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Write rows to a temporary file, sync, rename: the file appears whole or not at all. Returns the row count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, count = path.with_name(path.name + ".part"), 0
    with part.open("w", encoding="utf-8") as f:
        for row in rows:
            f.write(dump(row) + "\n")
            count += 1
        f.flush()
        os.fsync(f.fileno())
    part.rename(path)
    return count


def write_split(folder: Path, rows: Iterable[Any], share: float) -> None:
    """train.jsonl and holdout.jsonl of rows with an id, which says on which side a row falls."""
    found = [(row, set_aside(row.id, share)) for row in rows]
    write_jsonl(folder / "train.jsonl", (row for row, held in found if not held))
    write_jsonl(folder / "holdout.jsonl", (row for row, held in found if held))


def read_jsonl(path: Path, kind: type[R]) -> Iterator[R]:
    """Rows of a file this project wrote. Raises UserError with line and field where a line is not a `kind`."""
    with path.open(encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            if line.strip():
                try:
                    yield kind.model_validate_json(line)
                except ValidationError as error:
                    raise UserError(explain(error), where=f"{path}:{number}") from None


def explain(error: ValidationError) -> str:
    """'field: what was expected, got ...' for the first mistake of a validation error."""
    first = error.errors()[0]
    field = ".".join(str(x) for x in first["loc"]) or "row"
    got = repr(first.get("input"))
    return f"{field}: {first['msg']}, got {got if len(got) <= 80 else got[:77] + '...'}"
