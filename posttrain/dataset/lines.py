"""Rows of JSON-lines files that stay on the disk: a sequence that reads a row when it is asked for.

Only the places where lines begin are held in memory, eight bytes a row; the files are memory maps, so what was read
lately is in the system's cache and gives way when something else needs the room.
Left out on purpose: writing, files of other people (files.py), tokens (posttrain/mapped.py).
"""

import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
from pydantic import ValidationError

from posttrain.errors import UserError
from posttrain.rows import Row, explain

T = TypeVar("T")
R = TypeVar("R", bound=Row)
MAPPED_FROM = 64 << 20  # bytes of JSON lines from which rows stay on the disk: held in memory they take 20 times that
BLOCK = 1 << 24


class Lazy(Sequence[T], Generic[T]):
    """A sequence whose elements are made when they are asked for, by `at`; a slice is a list."""

    def at(self, n: int) -> T:
        """Element n, 0 to len - 1."""
        raise NotImplementedError

    @overload
    def __getitem__(self, n: int) -> T: ...
    @overload
    def __getitem__(self, n: slice) -> Sequence[T]: ...
    def __getitem__(self, n: int | slice) -> T | Sequence[T]:
        return [self.at(i) for i in range(len(self))[n]] if isinstance(n, slice) else self.at(range(len(self))[n])

    def __iter__(self) -> Iterator[T]:
        return map(self.at, range(len(self)))


class Lines(Lazy[R]):
    """Rows of one kind in files that this project wrote, in the files' order. Raises UserError for a bad line."""

    def __init__(self, paths: Sequence[Path], kind: type[R]):
        self.paths, self.kind = [p for p in paths if p.exists() and p.stat().st_size], kind
        self._starts = [line_starts(p) for p in self.paths]
        self._first = np.cumsum([0, *(len(s) - 1 for s in self._starts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def at(self, n: int) -> R:
        file = int(np.searchsorted(self._first, n, side="right")) - 1
        line = n - int(self._first[file])
        start, stop = (int(x) for x in self._starts[file][line : line + 2])
        try:
            return self.kind.model_validate_json(self._maps[file][start:stop])
        except ValidationError as error:
            raise UserError(explain(error), where=f"{self.paths[file]}:{line + 1}") from None

    @cached_property
    def _maps(self) -> list[mmap.mmap]:
        return [opened(p) for p in self.paths]

    def __getstate__(self) -> dict[str, Any]:  # a process that is given the rows opens its own maps
        return {k: v for k, v in vars(self).items() if k != "_maps"}


def opened(path: Path) -> mmap.mmap:
    with path.open("rb") as f:
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)


def line_starts(path: Path) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Where each line that is not empty begins, and where the last one ends."""
    found, at = [np.zeros(1, np.int64)], 0
    with path.open("rb") as f:
        while block := f.read(BLOCK):
            found.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + at + 1)
            at += len(block)
    starts = np.concatenate(found)
    if starts[-1] != at:  # the last line has no end
        starts = np.append(starts, at)
    return starts
