"""Text of rows and what it is compared by: words, hashed n-grams, the exact form.

Left out on purpose: stemming, embeddings, tokenizers.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from posttrain.rows import Demo, Messages, Pair, Prompt, Ranking, Rating, Thumb

Hashes = NDArray[np.uint64]
AnyRow = Demo | Pair | Prompt | Ranking | Rating | Thumb
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing modulo 2**64
# scripts without blanks between words: one character is one word
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def plain(text: str) -> str:
    """Case folded, forms unified (NFKC), blanks single, outer punctuation off. '3 + 4' and '3 - 4' stay apart."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(" .,;:!?\"'`*")


def words(text: str) -> list[str]:
    """Case-folded words without punctuation."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def ngrams(found: Sequence[str], n: int) -> Hashes:
    """One 64-bit hash for each n words in a row; empty when there are fewer. The same on every machine."""
    if len(found) < n:
        return np.empty(0, np.uint64)
    w = np.fromiter((_hash(x) for x in found), np.uint64, len(found))
    with np.errstate(over="ignore"):
        total = np.zeros(len(found) - n + 1, np.uint64)
        for i in range(n):
            total = total * BASE + w[i : len(found) - n + 1 + i]
    return total


@lru_cache(maxsize=200_000)
def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def question(row: AnyRow) -> Messages:
    """The conversation before the answer that is trained."""
    if isinstance(row, Demo | Thumb):
        return row.messages[:-1]
    return row.messages if isinstance(row, Prompt) else row.prompt


def asked(row: AnyRow) -> str:
    """The last thing the user said."""
    return next((m.content for m in reversed(question(row)) if m.role == "user"), "")


def answer(row: AnyRow) -> str:
    """The answer that training makes likelier; '' for prompts."""
    if isinstance(row, Demo):
        return row.messages[-1].content
    found = answers(row)
    return found[0].content if found else ""


def answers(row: AnyRow) -> Messages:
    """The answers that stand for comparison, the best one first; a demo's answer; () for prompts."""
    if isinstance(row, Pair):
        return row.chosen, row.rejected
    if isinstance(row, Ranking):
        return tuple(a for _, a in sorted(zip(row.ranks, row.answers), key=lambda x: x[0]))
    if isinstance(row, Rating):
        return (row.answer,)
    return row.messages[-1:] if isinstance(row, Demo | Thumb) else ()


def parts(row: AnyRow) -> tuple[str, ...]:
    """What has to be alike for two rows to be alike: the conversation, and each answer."""
    asking = "\n".join(m.content for m in question(row))
    label = [str(row.label)] if isinstance(row, Thumb) else []  # nearly the same answer, liked and disliked, says a lot
    return asking, *(a.content for a in answers(row)), *label


def group(row: AnyRow) -> str:
    """Rows of one group begin with the same request, so they stay on one side of a split."""
    return plain(next((m.content for m in question(row) if m.role == "user"), ""))
