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

from posttrain.rows import Demo, Messages, Pair, Prompt

Hashes = NDArray[np.uint64]
AnyRow = Demo | Pair | Prompt
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
    if isinstance(row, Demo):
        return row.messages[:-1]
    return row.prompt if isinstance(row, Pair) else row.messages


def asked(row: AnyRow) -> str:
    """The last thing the user said."""
    return next((m.content for m in reversed(question(row)) if m.role == "user"), "")


def answer(row: AnyRow) -> str:
    """The answer that training makes likelier; '' for prompts."""
    if isinstance(row, Demo):
        return row.messages[-1].content
    return row.chosen.content if isinstance(row, Pair) else ""


def parts(row: AnyRow) -> tuple[str, ...]:
    """What has to be alike for two rows to be alike: the conversation, and each answer."""
    asking = "\n".join(m.content for m in question(row))
    if isinstance(row, Pair):
        return asking, row.chosen.content, row.rejected.content
    return (asking, answer(row)) if isinstance(row, Demo) else (asking,)


def group(row: AnyRow) -> str:
    """Rows of one group begin with the same request, so they stay on one side of a split."""
    return plain(next((m.content for m in question(row) if m.role == "user"), ""))
