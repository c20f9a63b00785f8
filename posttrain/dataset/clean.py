"""Which rows to leave out: duplicates, and rows that hold evaluation items; and which to hold out.

Near-duplicates: MinHash over 5-word shingles (Broder 1997), candidates by banding (Leskovec, Rajaraman, Ullman,
Mining of Massive Datasets, ch. 3), each candidate then compared exactly. Leaks: shared 13-grams, as in Brown et al.
2020 (arXiv:2005.14165, appendix C), short items by their exact text.
Left out on purpose: semantic similarity, files.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from posttrain.dataset.text import BASE, Hashes, ngrams, plain, words

Places = NDArray[np.float64]
Chosen = NDArray[np.bool_]
Dedupe = Literal["exact", "near", "off"]
SHINGLE = 5  # words
ALIKE = 0.8  # Jaccard similarity of shingle sets from which texts count as near-duplicates
BANDS, ROWS = 20, 5  # P(candidate at similarity 0.8) = 1 - (1 - 0.8**5)**20 = 0.9996
SHORTEST_PART = 8  # evaluation items of fewer words leak only as a whole message


class Twin(NamedTuple):
    """The earlier row that a row repeats, and how alike they are (1.0: equal but for case, blanks, end punctuation)."""

    of: int
    alike: float


def duplicates(rows: Sequence[Sequence[str]], how: Dedupe = "near") -> dict[int, Twin]:
    """Row number -> the earlier kept row it repeats. A row is given as its parts (conversation, answers).

    Near-duplicates are alike in every part; parts shorter than a shingle must be equal. A row whose answer is that
    short must be equal as a whole: two questions on one passage, both answered "Yes.", are different rows.
    """
    found: dict[int, Twin] = {}
    if how == "off":
        return found
    seen: dict[tuple[str, ...], int] = {}
    for n, row in enumerate(rows):
        first = seen.setdefault(tuple(map(plain, row)), n)
        if first != n:
            found[n] = Twin(first, 1.0)
    return found if how == "exact" else found | _near(rows, found)


def fingerprint(row: Sequence[str], how: Dedupe) -> Hashes:
    """Numbers of which two rows share one, at the same place, if `duplicates` may find them to be twins: so whoever
    cannot hold all rows compares only those. 0 is shared with nobody."""
    exact = blake2b("\0".join(map(plain, row)).encode(), digest_size=8).digest()
    found = np.frombuffer(exact, np.uint64) | np.uint64(1)
    if how != "near":
        return found
    sets = _shingles(row)
    bands = np.zeros(BANDS, np.uint64)
    if sets:
        with np.errstate(over="ignore"):
            for n, band in _bands(np.concatenate(sets), _hashing()):
                bands[n] = (np.frombuffer(band, np.uint64) * BASE ** np.arange(1, ROWS + 1, dtype=np.uint64)).sum()
        bands |= np.uint64(1)
    return np.concatenate([found, bands])


def _shingles(row: Sequence[str]) -> list[Hashes]:
    """The shingle set of each part; none when the row is only to be compared as a whole."""
    tokens = [words(part) for part in row]
    if any(len(t) < SHINGLE for t in tokens[1:]) or not tokens[0]:
        return []
    return [np.unique(ngrams(t, min(SHINGLE, len(t)))) for t in tokens]


def _near(rows: Sequence[Sequence[str]], skip: Mapping[int, Twin]) -> dict[int, Twin]:
    found: dict[int, Twin] = {}
    kept: dict[int, list[Hashes]] = {}
    buckets: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    hashing = _hashing()
    for n, row in enumerate(rows):
        sets = [] if n in skip else _shingles(row)
        if not sets:
            continue
        keys = _bands(np.concatenate(sets), hashing)
        candidates = sorted({other for key in keys for other in buckets[key]})
        twin = next((Twin(o, a) for o in candidates if (a := _alike(sets, kept[o])) >= ALIKE), None)
        if twin:
            found[n] = twin
            continue
        kept[n] = sets
        for key in keys:
            buckets[key].append(n)
    return found


@cache
def _hashing() -> tuple[Hashes, Hashes]:
    """Multipliers (odd) and offsets of BANDS x ROWS hash functions, the same in every run."""
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 2**63, (2, BANDS * ROWS), dtype=np.uint64)
    return a | np.uint64(1), b


def _bands(shingles: Hashes, hashing: tuple[Hashes, Hashes]) -> list[tuple[int, bytes]]:
    """The signature's bands: rows that share one are compared."""
    a, b = hashing
    with np.errstate(over="ignore"):
        mixed = (a[:, None] * shingles[None, :] + b[:, None]) >> np.uint64(32)
    return [(n, band.tobytes()) for n, band in enumerate(mixed.min(1).reshape(BANDS, ROWS))]


def _alike(a: Sequence[Hashes], b: Sequence[Hashes]) -> float:
    """The smallest Jaccard similarity over the parts."""
    found = 1.0
    for x, y in zip(a, b):
        shared = len(np.intersect1d(x, y, assume_unique=True))
        found = min(found, shared / max(1, len(x) + len(y) - shared))
    return found


def leaks(rows: Sequence[Sequence[str]], items: Sequence[str], ngram: int = 13) -> dict[int, tuple[int, str]]:
    """Row number -> (number of an evaluation item it holds, how: 'n words in a row' or 'the whole item').

    rows: each as its messages; items: texts. An item of 8 to `ngram` words counts as one n-gram of its own length; a
    shorter one only when a whole message equals it but for case, blanks and end punctuation.
    """
    whole: dict[str, int] = {}
    grams: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for number, text in enumerate(items):
        found = words(text)
        if plain(text):
            whole.setdefault(plain(text), number)
        if len(found) >= SHORTEST_PART:
            n = min(ngram, len(found))
            for gram in ngrams(found, n).tolist():
                grams[n].setdefault(gram, number)
    hits = {n: _leak(messages, whole, grams) for n, messages in enumerate(rows)}
    return {n: hit for n, hit in hits.items() if hit}


def _leak(
    messages: Sequence[str], whole: Mapping[str, int], grams: Mapping[int, Mapping[int, int]]
) -> tuple[int, str] | None:
    for message in messages:
        if (item := whole.get(plain(message))) is not None:
            return item, "the whole item"
        found = words(message)
        for n, table in grams.items():
            shared = next((g for g in ngrams(found, n).tolist() if g in table), None)
            if shared is not None:
                return table[shared], f"{n} words in a row"
    return None


def held_out(groups: Sequence[str], share: float, seed: int = 0) -> list[bool]:
    """Which rows to hold out: whole groups, by the group's hash alone, so that adding rows moves no other row.

    About `share` of the groups; at least one when there are two and share > 0, and never all.
    """
    return list(by_place(np.array([place(g, seed) for g in groups]), share).tolist())


def by_place(places: Places, share: float) -> Chosen:
    """The same from the groups' places alone."""
    out = places < share
    if share > 0 and len(places):
        if not out.any():
            out = places == places.min()
        out &= places != places.max()
    return out


def place(group: str, seed: int) -> float:
    """A number in [0, 1) that depends on the group and the seed only."""
    return int.from_bytes(blake2b(f"{seed}\n{group}".encode(), digest_size=8).digest(), "big") / 2**64
