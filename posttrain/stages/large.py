"""The data stages for files that do not fit in memory: the same rows in the same files, made in passes over the disk.

Rows are read once into a spool beside the output; what is held of each is a few numbers: where it stands, its place in
the split, its fingerprint. Only rows that share a fingerprint are compared as duplicates, so memory grows with these
and with what is left out, not with the data. The audit looks at AUDITED rows, evenly drawn.
Left out on purpose: flat message trees, which must be put together first, so their messages are held.
"""

import mmap
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posttrain import files, formats
from posttrain.dataset import clean
from posttrain.dataset.lines import MAPPED_FROM, line_starts, opened
from posttrain.dataset.text import group, parts
from posttrain.errors import UserError
from posttrain.formats import Drop
from posttrain.pipeline import Metrics, Runtime
from posttrain.rows import dump, write_jsonl

if TYPE_CHECKING:
    from posttrain.stages.data import Data, Entry

AUDITED = 10_000
CHUNK = 4096  # rows looked through for evaluation items at once


def is_large(stage: "Data") -> bool:
    """Whether the files of the stage are too large to be held as rows."""
    found = [files.resolve(s.path) for s in stage.sources()]
    return sum(p.stat().st_size for paths in found if not isinstance(paths, str) for p in paths) >= MAPPED_FROM


class Spool:
    """Every row read, by number, with where it was read. kind: of the rows."""

    def __init__(self, path: Path, kind: type[Any], weights: Sequence[float], source: "array[int]"):
        self.kind, self.weights, self.source = kind, weights, source
        self.starts, self.bytes = line_starts(path), opened(path) if path.stat().st_size else mmap.mmap(-1, 1)

    def __getitem__(self, n: int) -> "Entry":
        from posttrain.stages.data import Entry

        where, row = self._line(n)
        return Entry(self.kind.model_validate_json(row), where, self.weights[self.source[n]])

    def where(self, n: int) -> str:
        return self._line(n)[0]

    def _line(self, n: int) -> tuple[str, str]:
        start, stop = (int(x) for x in self.starts[n : n + 2])
        where, _, row = self.bytes[start:stop].decode().partition("\t")
        return where, row


class Columns:
    """What is held of each row: its place in the split, its fingerprint, whether it is still in."""

    def __init__(self, stage: "Data"):
        self.stage = stage
        self.source, self.places = array("h"), array("d")
        self.prints = bytearray()
        self.unusable: dict[int, str] = {}

    def add(self, entry: "Entry", source: int) -> None:
        from posttrain.stages.data import usable

        if reason := usable([entry]):
            self.unusable[len(self.source)] = reason[0]
        self.source.append(source)
        self.places.append(clean.place(group(entry.row), self.stage.seed))
        if self.stage.dedupe != "off":
            self.prints += clean.fingerprint(parts(entry.row), self.stage.dedupe).tobytes()


def run(stage: "Data", out: Path, runtime: Runtime) -> Metrics:
    """Data.run for rows on the disk."""
    from posttrain.stages.data import counted, repeated

    path, ledger, shapes = out / "spool.part", Ledger(out / "ledger.jsonl"), Counter[str]()
    with ledger:
        columns, kept = read(stage, path, ledger, shapes, runtime)
        spool = Spool(path, formats.KINDS[stage.reads], [s.weight for s in stage.sources()], columns.source)
        ledger.drop(spool, {n: r for n, r in columns.unusable.items() if kept[n]}, kept)
        twins = duplicates(stage, spool, columns, kept)
        ledger.drop(spool, twins, kept)
        ledger.drop(spool, leaks(stage, spool, kept, runtime), kept)
        numbers = np.flatnonzero(kept)
        if not len(numbers):
            reasons = ", ".join(f"{reason} ({n})" for reason, n in ledger.counts.most_common(3)) or "nothing was read"
            raise UserError("no row is left", remedy="the reasons: " + reasons)
        numbers = numbers[chosen(len(numbers), stage.limit, stage.seed)]
        held = clean.by_place(np.frombuffer(columns.places)[numbers], stage.holdout)
        train = (r for n in numbers[~held].tolist() for r in repeated(spool[n], stage.seed))
        trained = write_jsonl(out / "train.jsonl", train)
        held_rows = write_jsonl(out / "holdout.jsonl", (spool[n].row for n in numbers[held].tolist()))
        audited = numbers[:: -(-len(numbers) // AUDITED)].tolist()
        stage.look_at([spool[n].row for n in audited], len(twins), shapes, out, runtime)
    path.unlink()
    return counted(len(numbers), trained, held_rows, ledger.counts)


def read(
    stage: "Data", path: Path, ledger: "Ledger", shapes: Counter[str], runtime: Runtime
) -> tuple[Columns, "np.ndarray[Any, np.dtype[np.bool_]]"]:
    """All sources into the spool. Returns the columns, and which rows the sources' limits leave in."""
    from posttrain.stages.data import Entry

    columns, kept = Columns(stage), []
    with path.open("w", encoding="utf-8") as spool, runtime.progress.task("read") as tick:
        for number, source in enumerate(stage.sources()):
            bad: list[Drop] = []
            found = Counter[str]()
            before = len(columns.source)
            for row, where in formats.each(source.path, stage.reads, stage.bad_rows, bad, found):
                spool.write(f"{where.replace(chr(9), ' ')}\t{dump(row)}\n")
                columns.add(Entry(row, where, source.weight), number)
                tick(1)
            ledger.add(bad)
            shapes.update(found)
            count = len(columns.source) - before
            mask = np.zeros(count, bool)
            mask[chosen(count, source.limit, stage.seed)] = True
            kept.append(mask)
    return columns, np.concatenate(kept)


def chosen(count: int, limit: int | None, seed: int) -> list[int]:
    """The numbers that stages.data.sample would keep of so many rows."""
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(random.Random(seed).sample(range(count), limit))


def duplicates(stage: "Data", spool: Spool, columns: Columns, kept: Any) -> dict[int, str]:
    """Number -> reason of the rows that repeat an earlier one; only rows that share a fingerprint are looked at."""
    from posttrain.stages.data import repeats

    if stage.dedupe == "off":
        return {}
    prints = np.frombuffer(columns.prints, np.uint64).reshape(len(kept), -1)
    numbers = np.flatnonzero(kept)
    alike = np.zeros(len(numbers), bool)
    for column in prints.T:
        values, group, counts = np.unique(column[numbers], return_inverse=True, return_counts=True)
        alike |= (counts[group] > 1) & (values[group] != 0)
    suspects = numbers[alike].tolist()
    found = clean.duplicates([parts(spool[n].row) for n in suspects], stage.dedupe)
    return {suspects[n]: repeats(spool.where(suspects[twin.of]), twin) for n, twin in found.items()}


def leaks(stage: "Data", spool: Spool, kept: Any, runtime: Runtime) -> dict[int, str]:
    """Number -> reason of the rows that hold an evaluation item."""
    from posttrain.stages.data import leaking, suite_texts

    items = [item for name in stage.decontaminate for item in suite_texts(name)]
    numbers, found = np.flatnonzero(kept).tolist(), {}
    with runtime.progress.task("decontaminate", total=len(numbers)) as tick:
        for at in range(0, len(numbers) if items else 0, CHUNK):
            here = numbers[at : at + CHUNK]
            found |= {here[n]: r for n, r in leaking([spool[n] for n in here], items, stage.ngram).items()}
            tick(len(here))
    if found:
        runtime.progress.say(f"  {len(found)} rows hold an evaluation item and are left out, see ledger.jsonl")
    return found


class Ledger(ExitStack):
    """ledger.jsonl, written as rows are left out, and how many for which kind of reason."""

    def __init__(self, path: Path):
        super().__init__()
        self.counts = Counter[str]()
        self.file = self.enter_context(path.open("w", encoding="utf-8"))

    def add(self, drops: Iterable[Drop]) -> None:
        from posttrain.stages.data import why

        for drop in drops:
            self.counts[why(drop)] += 1
            self.file.write(dump(drop) + "\n")

    def drop(self, spool: Spool, reasons: dict[int, str], kept: Any) -> None:
        """Take these rows out, in their order."""
        from posttrain.stages.data import dropped

        self.add(dropped(spool[n], reason) for n, reason in sorted(reasons.items()))
        kept[list(reasons)] = False
