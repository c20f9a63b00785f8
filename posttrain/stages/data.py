"""Rows from files: read, drop what cannot be used, take out duplicates and leaks, hold some out, audit, write.

An artefact of demos, pairs or prompts is train.jsonl and holdout.jsonl (rows), ledger.jsonl (every row left out, with
its reason and its place) and audit.json. Left out on purpose: making rows (stages/sample.py), token counts (they need a
tokenizer: preflight.py). Importing this file does not import torch.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from posttrain import bundled, files, formats
from posttrain.dataset import audit as audits
from posttrain.dataset.clean import Dedupe, Twin, duplicates, held_out, leaks
from posttrain.dataset.text import AnyRow, answer, answers, group, parts, question, words
from posttrain.errors import UserError
from posttrain.formats import BadRows, Drop, KindName
from posttrain.pipeline import Inputs, Kind, Metrics, Runtime, Stage, write_text
from posttrain.rows import Demo, Pair, Prompt, Ranking, Thumb, write_jsonl


class Source(BaseModel):
    """A file among several. weight: how often its training rows count (0.5: every other one); limit: rows taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    weight: float = Field(default=1.0, gt=0)
    limit: int | None = Field(default=None, ge=1)


class Entry(NamedTuple):
    """A row, where it was read, how often it counts."""

    row: AnyRow
    where: str
    weight: float = 1.0


class Data(Stage):
    """path: a file, a folder, bundled:name, a hub id, or several of them. decontaminate: suites or files of items that
    training must not contain. ngram: words in a row that count as containing. limit: rows kept, drawn by the seed.
    """

    path: str | tuple[str | Source, ...]
    holdout: float = Field(default=0.05, ge=0, lt=1)
    dedupe: Dedupe = "near"
    decontaminate: tuple[str, ...] = ()
    ngram: int = Field(default=13, ge=3)
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    bad_rows: BadRows = "error"

    places: ClassVar[frozenset[str]] = frozenset({"path"})
    reads: ClassVar[KindName]

    def sources(self) -> tuple[Source, ...]:
        paths = (self.path,) if isinstance(self.path, str) else self.path
        return tuple(p if isinstance(p, Source) else Source(path=p) for p in paths)

    def identity(self) -> dict[str, str]:
        """Digests of the files read; a hub id stands for itself."""
        found = {
            f"file {n}": f"{files.identity(s.path)} x{s.weight:g} {s.limit or ''}".strip()
            for n, s in enumerate(self.sources(), 1)
        }
        return found | {f"suite {name}": files.identity(suite(name)) for name in self.decontaminate}

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain.stages import large

        if runtime.rows == "mapped" or (runtime.rows == "auto" and large.is_large(self)):
            return large.run(self, out, runtime)
        ledger: list[Drop] = []
        shapes: Counter[str] = Counter()
        entries = [e for s in self.sources() for e in read(s, self.reads, self.bad_rows, self.seed, ledger, shapes)]
        entries = drop(entries, usable(entries), ledger)
        entries, twins = unique(entries, self.dedupe, ledger)
        entries = drop(entries, self._leaks(entries, runtime), ledger)
        if not entries:
            raise UserError("no row is left", remedy="the reasons: " + _reasons(ledger))
        entries = sample(entries, self.limit, self.seed)
        out_of = held_out([group(e.row) for e in entries], self.holdout, self.seed)
        train = [r for e, held in zip(entries, out_of) if not held for r in repeated(e, self.seed)]
        write_jsonl(out / "train.jsonl", train)
        held_rows = write_jsonl(out / "holdout.jsonl", (e.row for e, held in zip(entries, out_of) if held))
        write_jsonl(out / "ledger.jsonl", ledger)
        self.look_at([e.row for e in entries], twins, shapes, out, runtime)
        return counted(len(entries), len(train), held_rows, Counter(why(d) for d in ledger))

    def _leaks(self, entries: Sequence[Entry], runtime: Runtime) -> dict[int, str]:
        found = leaking(entries, [item for name in self.decontaminate for item in suite_texts(name)], self.ngram)
        if found:
            runtime.progress.say(f"  {len(found)} rows hold an evaluation item and are left out, see ledger.jsonl")
        return found

    def look_at(self, rows: Sequence[AnyRow], twins: int, shapes: Counter[str], out: Path, runtime: Runtime) -> None:
        """Write audit.json and say what is serious."""
        rows = [r for r in rows if not isinstance(r, Thumb) or r.label]  # what nobody likes need not be good
        near = duplicates([parts(r) for r in rows]) if self.dedupe != "near" and self.reads != "prompts" else {}
        found = audits.audit(rows, near) if self.reads != "prompts" else {"rows": len(rows), "warnings": []}
        found["read_as"], found["duplicates_left_out"] = dict(shapes), twins
        write_text(out / "audit.json", json.dumps(found, indent=2, ensure_ascii=False))
        for line in audits.plain_words(found):
            runtime.progress.say(f"  warning: {line}")


class Demos(Data):
    """Demonstrations: conversations to imitate, from files of any usual shape."""

    makes: ClassVar[Kind] = "demos"
    reads: ClassVar[KindName] = "demos"
    type: Literal["demos"] = "demos"


class PairsFile(Data):
    """Preference pairs from files: two answers to one prompt, the better one known."""

    makes: ClassVar[Kind] = "pairs"
    reads: ClassVar[KindName] = "pairs"
    type: Literal["pairs"] = "pairs"


class RankingsFile(Data):
    """Rankings from files: several answers to one prompt in order; trees of OpenAssistant, answers with ranks."""

    makes: ClassVar[Kind] = "rankings"
    reads: ClassVar[KindName] = "rankings"
    type: Literal["rankings"] = "rankings"


class RatingsFile(Data):
    """Ratings from files: answers with a number, and the scale's two ends where it is not 1 to 7."""

    makes: ClassVar[Kind] = "ratings"
    reads: ClassVar[KindName] = "ratings"
    type: Literal["ratings"] = "ratings"


class ThumbsFile(Data):
    """Thumbs from files: single answers that somebody liked or did not; of a pair both answers, one each way."""

    makes: ClassVar[Kind] = "thumbs"
    reads: ClassVar[KindName] = "thumbs"
    type: Literal["thumbs"] = "thumbs"


class Prompts(Data):
    """Prompts from files: conversations that wait for an answer."""

    makes: ClassVar[Kind] = "prompts"
    reads: ClassVar[KindName] = "prompts"
    type: Literal["prompts"] = "prompts"
    holdout: float = Field(default=0.0, ge=0, lt=1)


def counted(rows: int, train: int, held: int, dropped: Counter[str]) -> Metrics:
    return {
        "rows": float(rows), "train": float(train), "holdout": float(held), "dropped": float(dropped.total()),
        **{f"dropped.{k}": float(v) for k, v in dropped.most_common(12)},
    }  # fmt: skip


def why(drop: Drop) -> str:
    """The kind of reason, as a metric is called."""
    return re.sub(r"\W+", "_", drop.reason.split(":")[0])


def read(
    source: Source, kind: KindName, bad_rows: BadRows, seed: int, ledger: list[Drop], shapes: Counter[str]
) -> list[Entry]:
    """Rows of one source with their places; bad rows and shapes are added to the ledger and the counter."""
    loaded = formats.load(source.path, kind, bad_rows=bad_rows)
    ledger += loaded.ledger
    shapes.update(loaded.shapes)
    entries = [Entry(row, where, source.weight) for row, where in zip(loaded.rows, loaded.where)]
    return sample(entries, source.limit, seed)


def leaking(entries: Sequence[Entry], items: Sequence[tuple[str, str]], ngram: int) -> dict[int, str]:
    """Number -> reason of rows that hold an evaluation item. items: (name, text)."""
    rows = [[m.content for m in (*question(e.row), *answers(e.row)) if m.role != "system"] for e in entries]
    found = leaks(rows, [text for _, text in items], ngram)
    return {n: f"holds an evaluation item: {items[item][0]} ({how})" for n, (item, how) in found.items()}


def sample(entries: list[Entry], limit: int | None, seed: int) -> list[Entry]:
    """At most `limit` entries, drawn without replacement, in their old order."""
    if limit is None or limit >= len(entries):
        return entries
    chosen = sorted(random.Random(seed).sample(range(len(entries)), limit))
    return [entries[n] for n in chosen]


def usable(entries: Sequence[Entry]) -> dict[int, str]:
    """Number -> reason of rows that teach nothing: an empty answer, an empty question, twice the same answer."""
    found = {}
    for n, (row, *_) in enumerate(entries):
        if isinstance(row, Demo | Prompt) and not answers(row) and not any(m.content.strip() for m in question(row)):
            found[n] = "empty prompt"
        if any(not m.content.strip() for m in answers(row)):
            found[n] = "empty answer"
        elif isinstance(row, Pair | Ranking) and len({m.content.strip() for m in answers(row)}) == 1:
            found[n] = "twice the same answer"
    return found


def unique(entries: list[Entry], how: Dedupe, ledger: list[Drop]) -> tuple[list[Entry], int]:
    """(entries without duplicates, number left out)."""
    found = duplicates([parts(e.row) for e in entries], how)
    return drop(entries, {n: repeats(entries[twin.of].where, twin) for n, twin in found.items()}, ledger), len(found)


def repeats(first: str, twin: Twin) -> str:
    """The reason to leave out the twin of the row that stands at `first`."""
    return f"duplicate: of {first}" if twin.alike == 1 else f"near-duplicate: {twin.alike:.0%} of {first}"


def drop(entries: list[Entry], reasons: dict[int, str], ledger: list[Drop]) -> list[Entry]:
    """The entries without those that have a reason to go; these are written down."""
    for n, reason in sorted(reasons.items()):
        ledger.append(dropped(entries[n], reason))
    return [e for n, e in enumerate(entries) if n not in reasons]


def dropped(entry: Entry, reason: str) -> Drop:
    return Drop(where=entry.where, reason=reason, id=entry.row.id, text=_excerpt(entry.row))


def _excerpt(row: AnyRow) -> str:
    asking = question(row)[-1].content if question(row) else ""
    return f"{asking[:120]} -> {answer(row)[:120]}" if answer(row) else asking[:120]


def repeated(entry: Entry, seed: int) -> Iterator[AnyRow]:
    """A row as often as its weight says; the fraction is drawn by the row's own hash. Copies get #2, #3 in their id."""
    whole, part = int(entry.weight), entry.weight % 1
    times = whole + (random.Random(f"{seed}{entry.row.digest()}").random() < part)
    yield from (
        entry.row.model_copy(update={"id": f"{entry.row.id}#{n}"}) if n > 1 else entry.row for n in range(1, times + 1)
    )


def suite(name: str) -> str:
    """A suite's file: bundled, or the user's own."""
    try:
        return str(bundled.rows(name))
    except UserError as error:
        if Path(name).exists():
            return name
        raise UserError(f"there is no suite {name!r}", where="decontaminate", remedy=error.remedy) from None


def suite_texts(name: str) -> Iterator[tuple[str, str]]:
    """(name of the item, text) of what training must not contain.

    The last question, and any earlier text of 8 words. Small talk is no secret: a question of under three words is not
    looked for, nor one of under six that stands in a longer conversation or behind a system message.
    """
    for record in files.records(suite(name)):
        value = record.value
        label = f"{name} {value.get('id', record.line)}" if isinstance(value, dict) else f"{name} {record.line}"
        texts = list(_texts(value))
        alone = len(texts) == 1 and not (isinstance(value, dict) and len(value.get("messages") or ()) > 1)
        for n, text in enumerate(texts):
            least = 8 if n < len(texts) - 1 else 3 if alone else 6
            if len(words(text)) >= least:
                yield label, text


def _texts(value: Any) -> Iterator[str]:
    """An item's user messages, or its own texts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and value.get("messages"):
        yield from (str(m.get("content", "")) for m in value["messages"] if m.get("role") == "user")
    elif isinstance(value, dict):
        keys = ("context", "passage", "input", "text", "prompt", "question", "instruction", "problem")
        yield from (value[k] for k in keys if isinstance(value.get(k), str))


def _reasons(ledger: Sequence[Drop]) -> str:
    counts = Counter(d.reason.split(":")[0] for d in ledger)
    return ", ".join(f"{reason} ({n})" for reason, n in counts.most_common(3)) or "nothing was read"
