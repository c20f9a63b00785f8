"""Verifiable instructions: 25 kinds of constraint on the form of an answer, each a small pure predicate.

The idea, and the strict and loose verdicts, are those of IFEval (Zhou et al. 2023, arXiv:2311.07911); names, wording
and edge cases are this project's. A constraint is a mapping: {"kind": "bullets", "n": 3}. The keyword parameters of a
kind's function are its fields, so the signature is the schema. Where IFEval's checker counts otherwise, a field says
so (`match: part`, `single: yes`, ...); ifeval.py uses them to read IFEval's own files.
Left out on purpose: constraints that need a model to judge (tone, style).
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from posttrain.errors import nearest
from posttrain.judge.language import code_of, language_of

Relation = Literal["at_least", "at_most", "exactly"]
Match = Literal["word", "part"]  # as whole words, or also inside other words

ABBREVIATIONS = ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "no", "a.m", "p.m", "u.s", "approx")
_ENDS = re.compile(r"[.!?]+[\"'”’)\]*]*(?=\s|$)")
_FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.S | re.I)


def related(count: int, relation: str, n: int) -> bool:
    """count >= n, count <= n or count == n."""
    if relation == "at_least":
        return count >= n
    return count <= n if relation == "at_most" else count == n


def words_of(text: str) -> list[str]:
    """Words; an apostrophe or hyphen inside a word does not split it ("well-known" is one)."""
    return re.findall(r"\w+(?:['’-]\w+)*", text)


def paragraphs_of(text: str) -> list[str]:
    """Pieces between blank lines."""
    return [p.strip() for p in re.split(r"\n\s*\n", text) if p.strip()]


def sentences_of(text: str) -> list[str]:
    """Sentences: a line break, or . ! ? before a blank, ends one; abbreviations, initials and list numbers do not."""
    found: list[str] = []
    for line in text.splitlines():
        line, start = re.sub(r"^\s*(?:[-*]|\d+[.)])\s+", "", line), 0
        for end in _ENDS.finditer(line):
            last = re.search(r"\S+$", line[start : end.start()])
            if end.group()[0] == "." and last and _abbreviated(last.group().lower().lstrip("(\"'"), line[end.end() :]):
                continue
            found.append(line[start : end.end()].strip())
            start = end.end()
        found.append(line[start:].strip())
    return [s for s in found if re.search(r"\w", s)]


def _abbreviated(word: str, rest: str) -> bool:
    """ "No." is an abbreviation before a number only, else it is a sentence."""
    if word == "no":
        return re.match(r"\s*\d", rest) is not None
    return word in ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i")


def occurrences(word: str, text: str, match: Match = "word") -> int:
    """How often a word or phrase stands in the text, upper and lower case alike."""
    edges = ("", "") if match == "part" else (r"(?<!\w)", r"(?!\w)")
    return len(re.findall(edges[0] + re.escape(word) + edges[1], text, re.I))


def keywords_include(answer: str, *, words: Sequence[str], match: Match = "word") -> bool:
    return all(occurrences(w, answer, match) for w in words)


def keyword_count(answer: str, *, word: str, n: int, relation: Relation = "at_least", match: Match = "word") -> bool:
    return related(occurrences(word, answer, match), relation, n)


def words_forbidden(answer: str, *, words: Sequence[str]) -> bool:
    return not any(occurrences(w, answer) for w in words)


def letter_count(answer: str, *, letter: str, n: int, relation: Relation = "at_least") -> bool:
    return related(answer.lower().count(letter.lower()), relation, n)


def language(answer: str, *, language: str) -> bool:
    return language_of(answer) == code_of(language)


def paragraphs(answer: str, *, n: int, relation: Relation = "exactly", separator: str = "") -> bool:
    """separator: what stands between paragraphs, such as ***; blank lines if not given. None may be empty inside."""
    if not separator:
        return related(len(paragraphs_of(answer)), relation, n)
    pieces = [piece.strip() for piece in answer.split(separator)]
    inner = pieces[not pieces[0] : len(pieces) - (not pieces[-1])]
    return all(inner) and related(len(inner), relation, n)


def words(answer: str, *, n: int, relation: Relation, hyphens: Literal["join", "split"] = "join") -> bool:
    """hyphens: whether "well-known" and "it's" are one word or two."""
    found = words_of(answer) if hyphens == "join" else re.findall(r"\w+", answer)
    return related(len(found), relation, n)


def sentences(answer: str, *, n: int, relation: Relation) -> bool:
    return related(len(sentences_of(answer)), relation, n)


def nth_paragraph_starts(answer: str, *, n: int, total: int, word: str) -> bool:
    """Exactly `total` paragraphs, the n-th (from 1) of which begins with `word`."""
    pieces = paragraphs_of(answer)
    first = words_of(pieces[n - 1])[:1] if len(pieces) == total and n <= total else []
    return [w.lower() for w in first] == [word.lower()]


def postscript(answer: str, *, marker: str, place: Literal["line", "anywhere"] = "line") -> bool:
    """A line that begins with the marker and says something after it; or the marker anywhere. Blanks do not matter."""
    spelled = r"\s?".join(re.escape(letter) for letter in marker.replace(" ", ""))
    pattern = spelled if place == "anywhere" else rf"^\s*{spelled}[^\w\n]*\w"
    return re.search(pattern, answer, re.M | re.I) is not None


def placeholders(answer: str, *, n: int, relation: Relation = "at_least") -> bool:
    return related(len(re.findall(r"\[[^\[\]\n]*\w[^\[\]\n]*\]", answer)), relation, n)


def bullets(answer: str, *, n: int, relation: Relation = "exactly") -> bool:
    return related(len(re.findall(r"^\s*[-*] +\S", answer, re.M)), relation, n)


def title(answer: str) -> bool:
    """Some line wraps a title in << >>."""
    return re.search(r"<<[^\n]*\w[^\n]*>>", answer) is not None


def choose_from(answer: str, *, options: Sequence[str], place: Literal["alone", "anywhere"] = "alone") -> bool:
    """The answer is one of the options and nothing else; case, quotes and outer punctuation do not matter.

    anywhere: an option stands in the answer, letter for letter, whatever else is there.
    """
    if place == "anywhere":
        return any(option in answer for option in options)
    return _bare(answer) in {_bare(option) for option in options}


def _bare(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" .!\"'*“”").lower()


def highlighted(answer: str, *, n: int, relation: Relation = "at_least") -> bool:
    """*text* or **text**; a bullet's asterisk is followed by a blank and does not count."""
    return related(len(re.findall(r"(?<!\*)\*{1,2}(?=[^\s*])[^*\n]*(?<=\S)\*{1,2}", answer)), relation, n)


def sections(answer: str, *, marker: str, n: int, relation: Relation = "exactly") -> bool:
    """Lines "MARKER 1" to "MARKER n", in this order, each once. With another relation only their number counts."""
    if relation != "exactly":
        return related(len(re.findall(rf"{re.escape(marker)}\s?\d+", answer)), relation, n)
    found = re.findall(rf"^[\s*#]*{re.escape(marker)}\s+(\d+)\b", answer, re.M | re.I)
    return [int(x) for x in found] == list(range(1, n + 1))


def is_json(answer: str) -> bool:
    """The whole answer is a JSON object or array; a Markdown fence around it is allowed."""
    text = answer.strip()
    fenced = _FENCE.match(text)
    try:
        return isinstance(json.loads(fenced.group(1) if fenced else text), dict | list)
    except (ValueError, RecursionError):
        return False


def repeat_prompt(answer: str, *, text: str) -> bool:
    """The answer begins with the text, word for word, and goes on."""
    given, wanted = " ".join(answer.split()).lower(), " ".join(text.split()).lower()
    return given.startswith(wanted) and len(given) > len(wanted)


def two_responses(answer: str) -> bool:
    """Two different responses with ****** between them; one more such line before or after them does no harm."""
    pieces = [p.strip() for p in re.split(r"\*{6,}", answer)]
    inner = pieces[not pieces[0] : len(pieces) - (not pieces[-1])]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


def all_upper(answer: str) -> bool:
    return answer.isupper()


def all_lower(answer: str) -> bool:
    return answer.islower()


def capital_words(answer: str, *, n: int, relation: Relation = "at_least", single: Literal["no", "yes"] = "no") -> bool:
    """Words in capitals throughout; single: whether "I" and "A" count, which are capitals in any text."""
    least = 1 if single == "yes" else 2
    return related(sum(w.isupper() and len(w) >= least for w in words_of(answer)), relation, n)


def end_phrase(answer: str, *, phrase: str) -> bool:
    """The very last words are the phrase; a closing quotation mark after it is allowed."""
    return answer.strip().strip("\"'”").lower().endswith(phrase.strip().strip("\"'").lower())


def quotation(answer: str) -> bool:
    text = answer.strip()
    return len(text) > 2 and text[0] in '"“' and text[-1] in '"”'


def no_commas(answer: str) -> bool:
    return "," not in answer


KINDS: dict[str, Callable[..., bool]] = {
    f.__name__: f
    for f in (
        keywords_include, keyword_count, words_forbidden, letter_count, language, paragraphs, words, sentences,
        nth_paragraph_starts, postscript, placeholders, bullets, title, choose_from, highlighted, sections,
        repeat_prompt, two_responses, all_upper, all_lower, capital_words, end_phrase, quotation, no_commas,
    )
} | {"json": is_json}  # fmt: skip


def check(constraint: Mapping[str, Any], answer: str) -> bool:
    """Strict verdict: does the answer, as it stands, meet the constraint? An empty answer meets none."""
    fields = {k: v for k, v in constraint.items() if k != "kind"}
    return bool(answer.strip()) and KINDS[constraint["kind"]](answer, **fields)


def loose(constraint: Mapping[str, Any], answer: str) -> bool:
    """Loose verdict: met by the answer, or by it without its first line, last line or both, with or without asterisks.

    It forgives "Sure, here it is:" and Markdown emphasis (IFEval, section 3).
    """
    lines = answer.splitlines()
    cuts = (answer, "\n".join(lines[1:]), "\n".join(lines[:-1]), "\n".join(lines[1:-1]))
    texts = [cut.strip() for cut in cuts] + [cut.replace("*", "").strip() for cut in cuts]
    return check(constraint, answer) or any(check(constraint, text) for text in texts)


def mistakes(constraint: Mapping[str, Any]) -> str:
    """What is wrong with a constraint's shape, in one sentence; "" when nothing is."""
    kind = constraint.get("kind")
    if kind not in KINDS:
        return f"unknown constraint kind {kind!r}; {nearest(str(kind), KINDS)}"
    fields = {p.name: p for p in inspect.signature(KINDS[kind]).parameters.values() if p.kind is p.KEYWORD_ONLY}
    given = set(constraint) - {"kind"}
    if unknown := given - set(fields):
        return f"{kind} has no field {min(unknown)!r}; {nearest(min(unknown), fields or ['(none)'])}"
    if missing := [n for n, p in fields.items() if p.default is p.empty and n not in given]:
        return f"{kind} needs the field {missing[0]!r}"
    wrong = [name for name in given if not _fits(fields[name].annotation, constraint[name])]
    return f"{kind}.{wrong[0]}: {constraint[wrong[0]]!r} does not fit" if wrong else ""


def _fits(annotation: Any, value: Any) -> bool:
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if annotation is str:
        return isinstance(value, str) and bool(value)
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, str) and v for v in value)
