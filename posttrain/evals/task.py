"""A suite of items and how to score them; and what the model did, kept so that it can be scored again.

Left out on purpose: sampling (runner.py), statistics (stats.py), remote data sets; a user's own suite is a JSONL file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from posttrain import bundled
from posttrain.errors import UserError, nearest
from posttrain.evals.suites import (
    arithmetic,
    attacks,
    bias,
    calibration,
    capability,
    diversity,
    facts,
    hygiene,
    instructions,
    multi_turn,
    refusals,
    support,
    tone,
    word_problems,
)
from posttrain.rows import Item, Row, Termination, digest, read_jsonl

SUITES: dict[str, ModuleType] = {
    "instructions": instructions,
    "refusals": refusals,
    "arithmetic": arithmetic,
    "word_problems": word_problems,
    "facts": facts,
    "hygiene": hygiene,
    "capability": capability,
    "calibration": calibration,
    "multi_turn": multi_turn,
    "bias": bias,
    "diversity": diversity,
    "tone": tone,
    "attacks": attacks,
    "support_desk": support,
    "compare": arithmetic,
    "sums_below_100": arithmetic,
}
SPECIAL = ("support_desk", "compare", "sums_below_100")  # asked only by name
GENERAL = tuple(name for name in SUITES if name not in SPECIAL)  # what an assistant is asked when nothing is said
TAKEN = ("all", "pinned")  # what metrics over all suites, and over the cases that red teams pinned, are called by
# For a user's own suite whose first item does not say `scoring: <a bundled suite>`: the field that tells which suite's
# scoring its items want, the most telling first.
TELLTALE = {
    "attack": attacks, "pair": bias, "tone": tone, "check": hygiene, "constraints": instructions, "label": refusals,
    "answerable": facts, "answers": facts, "answer": arithmetic, "choices": capability, "text": capability,
}  # fmt: skip


class Done(Row):
    """What the model did on one item: a sampled answer, or log-likelihoods of given text.

    tokens: sampled, the stop token included.  logps: per continuation, the sum over its tokens in nats; counts: their
    number. For a sampled answer they are empty, or those of the answer itself. One line of samples.jsonl.
    """

    id: str
    suite: str
    text: str = ""
    ended: Termination | None = None
    tokens: int = 0
    logps: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


class Share(NamedTuple):
    """A score counted over parts: 3 of 4 constraints, nats over tokens. The metric is sum of `part` / sum of `of`."""

    part: float
    of: float


Scores = Mapping[str, float | Share]


@dataclass(frozen=True)
class Task:
    """Items with the module that scores them. digest: of the file's bytes."""

    name: str
    items: tuple[Item, ...]
    scoring: ModuleType
    digest: str

    def scores(self, done: "Sequence[Done]") -> "Sequence[Scores]":
        """Each item's scores; a module that needs all answers at once has `score_all`."""
        if hasattr(self.scoring, "score_all"):
            return list(self.scoring.score_all(self.items, done))
        return [self.scoring.score(item, one) for item, one in zip(self.items, done, strict=True)]


def load(name: str, limit: int | None = None, seed: int = 0) -> Task:
    """A bundled suite by name, or a JSONL file by path.

    limit: at most so many items, chosen by hash, so a longer limit contains a shorter one and any order of the file
    gives the same. Raises UserError for an unknown suite, an empty file, items of no known shape or doubled ids.
    """
    return read(find(name), called(name), SUITES.get(name), limit, seed)


def called(name: str) -> str:
    """What a suite's metrics are called by: its name, or its file's."""
    return Path(name).stem


def read(path: Path, name: str, scoring: ModuleType | None = None, limit: int | None = None, seed: int = 0) -> Task:
    """A suite out of any file; scoring: told from the first item's fields if not given."""
    items = list(read_jsonl(path, Item))
    if not items:
        raise UserError("the suite has no items", where=str(path))
    scoring = scoring or _scoring(items[0], path)
    for line, item in enumerate(items, 1):
        if problem := (scoring.GENERATES and _unasked(item)) or scoring.problem(item):
            raise UserError(problem, where=f"{path}, item {line} ({item.id})")
    if doubled := next(_doubled(items), ""):
        raise UserError(f"the id {doubled!r} appears twice", where=str(path), remedy="give each item its own id")
    if limit:
        chosen = {item.id for item in sorted(items, key=lambda item: digest([seed, item.id]))[:limit]}
        items = [item for item in items if item.id in chosen]
    return Task(name, tuple(items), scoring, file_digest(path))


def find(name: str) -> Path:
    """The file of a suite. Raises UserError when there is none."""
    if name in SUITES:
        return bundled.HERE / "suites" / f"{name}.jsonl"
    path = Path(name).expanduser()
    if not path.is_file():
        remedy = f"{nearest(name, SUITES)}; or the path of a JSONL file"
        raise UserError(f"there is no evaluation suite {name!r}", remedy=remedy)
    return path


def file_digest(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file."""
    return sha256(path.read_bytes()).hexdigest()[:16]


def prompt_hash(item: Item) -> str:
    """Hash of what the model was asked: the conversation, or the text whose likelihood counts."""
    extra = item.model_extra or {}
    asked = {k: extra[k] for k in ("context", "choices", "text") if k in extra and not item.messages}
    return digest([[m.model_dump() for m in item.messages], asked])


def _scoring(item: Item, path: Path) -> ModuleType:
    named = (item.model_extra or {}).get("scoring")
    if named is not None:
        if named not in SUITES:
            raise UserError(f"there is no suite {named!r} to score as", where=str(path), remedy=nearest(named, SUITES))
        return SUITES[named]
    for field, module in TELLTALE.items():
        if field in (item.model_extra or {}):
            return module
    raise UserError(
        "cannot tell how to score this suite",
        where=str(path),
        remedy=f"give each item one of the fields {', '.join(TELLTALE)}; or the first one `scoring: <a bundled suite>`",
    )


def _unasked(item: Item) -> str:
    waits = item.messages and item.messages[-1].role != "assistant"
    return "" if waits else "messages must end before the assistant speaks"


def _doubled(items: list[Item]) -> Iterator[str]:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            yield item.id
        seen.add(item.id)
