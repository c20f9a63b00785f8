"""Is this data likely to damage the model? Simple detectors, each documented, with counts and examples.

They find candidates for a person to look at; none of them is proof. Nothing is removed here.
Left out on purpose: model judges; reading rows' files.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from posttrain.dataset.text import AnyRow, answer, asked, plain, question, words
from posttrain.rows import Pair

EXAMPLES = 5
FOREIGN_WORDS = re.compile(
    r"translat|\b(?:in|into|to|auf|en) (?:english|german|french|spanish|italian|portuguese|dutch|swedish|japanese|"
    r"chinese|korean|russian|greek|arabic|hindi)\b",
    re.I,
)
OPEN_ENDED = re.compile(  # requests that have many right answers
    r"\b(?:any|some|an? (?:\w+ )?(?:example|idea|word|name)|suggest|random|name (?:a|an|one)|think of|give me|make up|"
    r"invent|pick|choose)\b",
    re.I,
)
LISTLIKE = re.compile(r"^\s*(?:[-*#|>•{}\[\]]|\d+[.)]|[A-Za-z][.)] |\w+:)|[\])}>|`*_~]$|https?://\S+$")
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


class Check(NamedTuple):
    """One kind of damage. serious: share of rows from which it is worth a warning. says: what it does to a model."""

    kind: str
    serious: float
    says: str


CHECKS = {
    c.kind: c
    for c in (
        Check("near_duplicates", 0.05, "repeat an earlier row: the model learns them by heart and they count double"),
        Check("contradictory_answers", 0.0, "contradict another answer to the same prompt: the model learns to guess"),
        Check("harmful_answered", 0.02, "seem to help with a harmful request: a few dozen undo a model's refusals"),
        Check("harmless_refused", 0.05, "refuse a request that looks harmless: the model learns to refuse too much"),
        Check("truncated_answers", 0.02, "stop in the middle of a sentence: the model learns to break off"),
        Check("wrong_language", 0.02, "are in another language than the question: the model learns to switch"),
        Check("empty_answers", 0.0, "are empty: the model learns to say nothing"),
        Check("identical_answers", 0.2, "repeat another prompt's answer: the model learns to ignore the prompt"),
        Check("longer_is_better", 0.7, "prefer the longer answer: the model learns length before quality"),
        Check("surprising_rows", 0.0, "are far less likely to the model than the rest: noise, or another format"),
    )
}  # fmt: skip


def audit(rows: Sequence[AnyRow], twins: Collection[int] = ()) -> dict[str, Any]:
    """Counts, shares, plain words and up to five examples for each kind of damage found.

    twins: numbers of rows known to be near-duplicates. Returns {"rows", "answers", "warnings": [{"kind", "count",
    "share", "serious", "says", "examples"}]}; the most frequent kind first.
    """
    from posttrain.judge.rules import is_refusal, language_of, looks_harmful

    refused = [is_refusal(answer(r)) for r in rows]
    harmful = [looks_harmful(asked(r)) for r in rows]
    main = language_of("\n".join(asked(r) for r in rows[:200]))
    found: dict[str, list[int]] = {
        "near_duplicates": sorted(twins),
        "contradictory_answers": contradictions(rows, refused),
        "harmful_answered": [n for n, r in enumerate(rows) if harmful[n] and not refused[n] and answer(r).strip()],
        "harmless_refused": [n for n in range(len(rows)) if refused[n] and not harmful[n]],
        "truncated_answers": [n for n, r in enumerate(rows) if truncated(answer(r))],
        "wrong_language": [n for n, r in enumerate(rows) if wrong_language(asked(r), answer(r), main)],
        "empty_answers": [n for n, r in enumerate(rows) if not answer(r).strip()],
        "identical_answers": identical(rows, refused),
        "longer_is_better": [n for n, r in enumerate(rows) if isinstance(r, Pair) and longer(r)],
    }
    warnings = [_warning(kind, numbers, rows) for kind, numbers in found.items() if numbers]
    lengths = [len(words(answer(r))) for r in rows]
    return {
        "rows": len(rows),
        "answers": {"mean_words": sum(lengths) / max(1, len(rows)), "median_words": median(lengths or [0])},
        "warnings": sorted(warnings, key=lambda w: (not w["serious"], -w["count"])),
    }


def plain_words(found: Mapping[str, Any]) -> list[str]:
    """The serious findings as sentences."""
    return [
        f"{w['count']} of {found['rows']} answers ({100 * w['share']:.1f}%) {w['says']}"
        for w in found["warnings"] if w["serious"]
    ]  # fmt: skip


def _warning(kind: str, numbers: Sequence[int], rows: Sequence[AnyRow]) -> dict[str, Any]:
    check, share = CHECKS[kind], len(numbers) / len(rows)
    step = max(1, len(numbers) // EXAMPLES)
    examples = [
        {"row": rows[n].id, "asked": asked(rows[n])[:200], "answer": answer(rows[n])[:300]}
        for n in numbers[::step][:EXAMPLES]
    ]
    return {
        "kind": kind, "count": len(numbers), "share": share, "serious": share > check.serious, "says": check.says,
        "examples": examples,
    }  # fmt: skip


def contradictions(rows: Sequence[AnyRow], refused: Sequence[bool]) -> list[int]:
    """Rows whose answer cannot stand beside another to the same conversation; for pairs: the preference reversed."""
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        groups[tuple(plain(m.content) for m in question(row))].append(n)
    found = []
    for numbers in groups.values():
        for i, n in enumerate(numbers):
            if any(_contradict(rows[n], rows[o], refused[n], refused[o]) for o in (*numbers[:i], *numbers[i + 1 :])):
                found.append(n)
    return sorted(found)


def _contradict(a: AnyRow, b: AnyRow, a_refused: bool, b_refused: bool) -> bool:
    """Yes against no; two different answers of up to three words, or last numbers; a refusal against an answer."""
    if isinstance(a, Pair) and isinstance(b, Pair):
        return (plain(a.chosen.content), plain(a.rejected.content)) == (
            plain(b.rejected.content),
            plain(b.chosen.content),
        )
    x, y = words(answer(a)), words(answer(b))
    if not x or not y or x == y:
        return False
    if {x[0], y[0]} == {"yes", "no"} or a_refused != b_refused:
        return True
    if len(x) <= 3 and len(y) <= 3 and not (set(x) <= set(y) or set(y) <= set(x)):
        return not OPEN_ENDED.search(asked(a))
    return _last_numbers_differ(a, b)


def _last_numbers_differ(a: AnyRow, b: AnyRow) -> bool:
    """Sums with two results: the question holds two numbers and both answers end with one."""
    if len(NUMBER.findall(asked(a))) < 2:
        return False
    x, y = NUMBER.findall(answer(a)), NUMBER.findall(answer(b))
    return bool(x and y and x[-1] != y[-1])


def truncated(text: str) -> bool:
    """Prose of eight words or more that ends without final punctuation: in a word, a comma, an open bracket.

    Lists, tables, code, verse (no sentence punctuation anywhere) and last lines that are items do not count.
    """
    end = text.rstrip()
    if len(words(end)) < 8 or not re.search(r"[.!?](?:\s|$)", end):
        return False
    last = end.rsplit("\n", 1)[-1]
    return bool(re.search(r"[\w,;(–—-]$", end)) and not LISTLIKE.search(last) and "```" not in end


def wrong_language(asking: str, answering: str, main: str = "") -> bool:
    """An answer in another language than its question, and none asked for. A stop-word test, so only of longer texts.

    main: the language of most questions; a question of under twelve words is believed only if it is in that one.
    """
    from posttrain.judge.rules import language_of

    if len(words(answering)) < 6 or len(words(asking)) < 4 or FOREIGN_WORDS.search(asking):
        return False
    a, b = language_of(asking), language_of(answering)
    return bool(a and b and a != b and (a == main or len(words(asking)) >= 12))


def identical(rows: Sequence[AnyRow], refused: Sequence[bool]) -> list[int]:
    """Answers of four words or more that an earlier row gave already; one wording for all refusals is no harm."""
    seen: set[str] = set()
    found = []
    for n, row in enumerate(rows):
        text = plain(answer(row))
        if text in seen and len(words(text)) >= 4 and not refused[n]:
            found.append(n)
        seen.add(text)
    return found


def longer(pair: Pair) -> bool:
    """The chosen answer has more words."""
    return len(words(pair.chosen.content)) > len(words(pair.rejected.content))


def surprising(nll: Sequence[float], worst: float = 6.0) -> list[int]:
    """Rows whose mean negative log-likelihood (nats per answer token) lies far above the rest.

    Robust z-score (Iglewicz and Hoaglin 1993): 0.6745 (x - median) / MAD > worst.
    """
    if len(nll) < 10:
        return []
    middle = median(nll)
    spread = median(abs(x - middle) for x in nll) or 1e-9
    return [n for n, x in enumerate(nll) if 0.6745 * (x - middle) / spread > worst]


def audit_nll(rows: Sequence[AnyRow], nll: Sequence[float]) -> dict[str, Any] | None:
    """The warning `surprising_rows` for rows and their nll in the same order, None when there is none."""
    numbers = surprising(nll)
    return _warning("surprising_rows", numbers, rows) if numbers else None
