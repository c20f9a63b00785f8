"""Tokenised documents on the disk: rows that do not fit in memory become memory-mapped arrays, once, by all cores.

The arrays lie in the user's cache under a hash of what they depend on: the rows' bytes, the template, the tokenizer,
what is trained on. A second training on the same rows starts at once. What is held in memory is some fifty bytes a
document (where it is, its size and its number of targets); packing plans from these, and a document is read when its
micro-batch is built.
From there on nothing differs: the same documents in the same packs give the same weights, bit for bit.
Left out on purpose: deleting old caches (five bytes a token); pairs and rankings, whose losses hold a row each.
"""

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posttrain import bundled, packing, preflight
from posttrain.dataset.lines import Lazy, Lines
from posttrain.errors import UserError
from posttrain.files import digest_of_file
from posttrain.packing import Branch, Doc
from posttrain.preflight import AnyRow, Preflight, TooLong
from posttrain.progress import Progress
from posttrain.render import Chat, TrainOn

VERSION = 1  # raise it when the arrays change their meaning
CHUNK = 2048  # rows that a worker is given at once
SAMPLED = 1000  # rows, evenly drawn, in which one and the same answer is looked for


class Arrays(NamedTuple):
    """Documents end to end. A document is its prefix and its branches, each a segment; the prefix may be empty."""

    ids: np.ndarray  # int32, tokens
    mask: np.ndarray  # bool, tokens
    segments: np.ndarray  # int32, tokens of each segment
    docs: np.ndarray  # int32, segments of each document
    targets: np.ndarray  # int32, targets of each document


class Docs(Lazy[Doc]):
    """The documents `numbers` of a cache folder; `cuts`: shorter versions of some, by number."""

    def __init__(self, folder: Path, numbers: np.ndarray | None = None, cuts: dict[int, Doc] | None = None):
        whole = Arrays(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Arrays._fields))
        self._ids, self._mask, self._cuts = whole.ids, whole.mask, cuts or {}
        self._ends = np.concatenate([[0], np.cumsum(whole.segments, dtype=np.int64)])  # token where a segment begins
        self._first = np.concatenate([[0], np.cumsum(whole.docs, dtype=np.int64)])  # segment where a document begins
        self.numbers = np.arange(len(whole.docs)) if numbers is None else numbers
        starts = self._ends[self._first]
        self.sizes = self._column(np.diff(starts), {n: packing.size(d) for n, d in self._cuts.items()})
        self.targets = self._column(whole.targets, {n: trained(d) for n, d in self._cuts.items()})

    def _column(self, whole: np.ndarray, changed: dict[int, int]) -> "array[int]":
        found = whole.astype(np.int64)
        for n, value in changed.items():
            found[n] = value
        return array("q", found[self.numbers].tobytes())  # reads faster, one by one, than numpy does

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, n: int) -> Doc:
        n = int(self.numbers[n])
        if n in self._cuts:
            return self._cuts[n]
        ends = self._ends[self._first[n] : self._first[n + 1] + 1].tolist()
        pieces = [(self._ids[a:b].tolist(), self._mask[a:b].tolist()) for a, b in pairwise(ends)]
        return Doc(pieces[0][0], [Branch(ids, mask) for ids, mask in pieces[1:]])


class Names(Lazy[str]):
    """What documents are called, read from their rows when somebody asks."""

    def __init__(self, rows: Sequence[AnyRow], numbers: Sequence[int] | np.ndarray):
        self.rows, self.numbers = rows, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, n: int) -> str:
        n = int(self.numbers[n])
        return self.rows[n].id or f"row {n}"


def sizes(docs: Sequence[Doc]) -> Sequence[int]:
    """Tokens that each document takes up in a pack."""
    return docs.sizes if isinstance(docs, Docs) else [packing.size(d) for d in docs]


def targets(docs: Sequence[Doc]) -> Sequence[float]:
    """Tokens of each document that carry loss."""
    return docs.targets if isinstance(docs, Docs) else [float(trained(d)) for d in docs]


def trained(doc: Doc) -> int:
    return sum(b.mask.count(True) for b in doc.branches)


def check(
    rows: Sequence[AnyRow],
    chat: Chat,
    *,
    max_tokens: int,
    too_long: TooLong = "error",
    train_on: TrainOn = "assistant",
    progress: Progress | None = None,
) -> Preflight:
    """preflight.preflight for rows in memory; for rows on the disk the same checks, chunk by chunk, over the cache."""
    if not isinstance(rows, Lines) or not len(rows):
        return preflight.preflight(rows, chat, max_tokens=max_tokens, too_long=too_long, train_on=train_on)
    progress = progress or Progress("silent")
    docs = Docs(tokenised(rows, chat, train_on, progress))
    long = np.flatnonzero(np.asarray(docs.sizes) > max_tokens).tolist()
    cuts, ledger = preflight.shortened(docs, Names(rows, docs.numbers), docs.sizes, long, max_tokens, too_long)
    kept = np.setdiff1d(docs.numbers, [n for n in long if n not in cuts])
    used = Docs(docs_folder(rows, chat, train_on), kept, cuts) if long else docs
    facts = preflight.facts(used.sizes, sum(used.targets), ledger, len(docs))
    return Preflight(used, Names(rows, kept), ledger, facts, kept)  # type: ignore[arg-type]


def docs_folder(rows: Lines[Any], chat: Chat, train_on: TrainOn) -> Path:
    """Where the cache of these rows is, or will be."""
    parts: list[Any] = [VERSION, rows.kind.__name__, train_on, chat.template, chat.stop_ids, preflight.vocabulary(chat)]
    parts += map(digest_of_file, rows.paths)
    backend = getattr(chat.tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(chat.tokenizer.get_vocab(), sort_keys=True)
    parts.append(sha256(words.encode()).hexdigest())
    return bundled.cache() / "tokens" / sha256(json.dumps(parts).encode()).hexdigest()[:32]


def tokenised(rows: Lines[Any], chat: Chat, train_on: TrainOn, progress: Progress) -> Path:
    """The cache folder of these rows, made if it is not there: whole or absent. Raises UserError for bad rows."""
    folder = docs_folder(rows, chat, train_on)
    if folder.exists():
        return folder
    preflight.refuse_one_answer([rows[n] for n in range(0, len(rows), -(-len(rows) // SAMPLED))])
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        with progress.task("tokenise", total=len(rows)) as tick:
            write(part, (_counted(a, tick) for a in chunks(rows, chat, train_on)))
        part.chmod(0o755)
        part.rename(folder)
    except OSError:
        if not folder.exists():  # another process was faster: its cache is as good
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _counted(found: Arrays, tick: Any) -> Arrays:
    tick(len(found.docs), tokens=len(found.ids))
    return found


def write(folder: Path, found: Iterator[Arrays]) -> None:
    """Append chunk after chunk to raw files, then give each its header: nothing is held but one chunk."""
    kinds = dict(zip(Arrays._fields, (np.int32, np.bool_, np.int32, np.int32, np.int32)))
    files = {name: (folder / f"{name}.raw").open("wb") for name in kinds}
    lengths = dict.fromkeys(kinds, 0)
    for chunk in found:
        for name, values in chunk._asdict().items():
            files[name].write(values.tobytes())
            lengths[name] += len(values)
    for name, raw in files.items():
        raw.close()
        with (folder / f"{name}.npy").open("wb") as out, (folder / f"{name}.raw").open("rb") as again:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kinds[name])), "fortran_order": False}
            np.lib.format.write_array_header_1_0(out, header | {"shape": (lengths[name],)})
            shutil.copyfileobj(again, out, 1 << 22)
        (folder / f"{name}.raw").unlink()


class Work(NamedTuple):
    rows: Lines[Any]
    chat: Chat
    train_on: TrainOn


_work: list[Work] = []  # of a worker process: what it was forked with


def chunks(rows: Lines[Any], chat: Chat, train_on: TrainOn) -> Iterator[Arrays]:
    """Chunks of rows as arrays, in order; by as many processes as there are cores, where processes can be forked."""
    work = Work(rows, chat, train_on)
    spans = [(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
    cores = len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else 1
    if min(cores, len(spans)) < 2:
        yield from map(chunk, repeat(work), spans)
        return
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    try:
        with multiprocessing.get_context("fork").Pool(min(cores, len(spans)), _work.append, (work,)) as pool:
            for found in pool.imap(_in_worker, spans):
                if isinstance(found, tuple) and not isinstance(found, Arrays):
                    raise UserError(found[0], where=found[1], remedy=found[2])
                yield found
    finally:
        os.environ.pop("TOKENIZERS_PARALLELISM")
        if before is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _in_worker(span: tuple[int, int]) -> Arrays | tuple[str, str, str]:
    try:
        return chunk(_work[-1], span)
    except UserError as error:  # exceptions with keyword arguments do not travel between processes
        return error.what, error.where, error.remedy


def chunk(work: Work, span: tuple[int, int]) -> Arrays:
    """The rows of a span, rendered and checked. Raises UserError that names the span where it does not name a row."""
    start, stop = span
    rows = work.rows[start:stop]
    names = [row.id or f"row {n}" for n, row in enumerate(rows, start)]
    try:
        docs = preflight.rendered(rows, names, work.chat, work.train_on)
    except UserError as error:
        where = error.where or f"rows {start} to {stop - 1}"
        raise UserError(error.what, where=where, remedy=error.remedy) from None
    segments = [(s, m) for d in docs for s, m in ((d.prefix, [False] * len(d.prefix)), *d.branches)]
    return Arrays(
        np.array([i for ids, _ in segments for i in ids], np.int32),
        np.array([m for _, mask in segments for m in mask], np.bool_),
        np.array([len(ids) for ids, _ in segments], np.int32),
        np.array([1 + len(d.branches) for d in docs], np.int32),
        np.array([trained(d) for d in docs], np.int32),
    )
