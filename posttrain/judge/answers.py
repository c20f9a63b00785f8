"""Verifiers of content: numbers, worked sums, short factual answers, "I don't know", and how much a text repeats.

Left out on purpose: algebra, units, and paraphrase (a matching answer must contain one of the expected wordings).
"""

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction

_NAMES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_UNITS = _NAMES.split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORD_VALUES = {word: n for n, word in enumerate(_UNITS)} | {word: 20 + 10 * n for n, word in enumerate(_TENS)}
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))
_TEN = "|".join(_TENS)
_DIGITS = r"(?:(?<![\w.])|(?<=\d[x×]))(?:(?<!\d )[-−])?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\d)"
_WORDS = rf"\b(?:(?P<hundreds>{_UNIT})[ -]hundred(?: and)?(?:[ -]|\b))?(?:(?P<tens>{_TEN})[ -]?)?(?P<units>{_UNIT})?\b"
_SUM = re.compile(r"((?:-?\d[\d,.]*\s*[-+*/x×÷−]\s*)+-?\d[\d,.]*)\s*=\s*\$?(-?\d[\d,.]*)")


def numbers(text: str) -> list[Fraction]:
    """Every number of a text in order: 1,250  -3  2.50  $4  and words up to nine hundred and ninety-nine.

    A minus after a number and a blank is taken as subtraction: "9 - 4" holds 9 and 4.
    """
    found = [(m.start(), _fraction(m.group())) for m in re.finditer(_DIGITS, text)]
    for m in re.finditer(_WORDS, text, re.I):
        if any(m.groups()):
            parts = [_WORD_VALUES[g.lower()] if g else 0 for g in m.group("hundreds", "tens", "units")]
            found.append((m.start(), Fraction(100 * parts[0] + parts[1] + parts[2])))
    return [value for _, value in sorted(found, key=lambda f: f[0])]


def _fraction(text: str) -> Fraction:
    return Fraction(re.sub(r"[$,]", "", text).replace("−", "-"))


def last_number(text: str) -> Fraction | None:
    """The number a worked answer ends with. Digits win over words: in "8 in all, that one is right" it is 8."""
    digits = re.findall(_DIGITS, text)
    if digits:
        return _fraction(digits[-1])
    spelled = numbers(text)
    return spelled[-1] if spelled else None


def solves(answer: str, text: str) -> bool:
    """Does the text end with the number `answer`? 7, 7.0 and seven are the same."""
    return last_number(text) == _fraction(answer.strip())


def sums(text: str) -> list[tuple[str, bool]]:
    """Every written equation of a text, such as "3 + 4 x 2 = 11", and whether it is right."""
    found = []
    for left, right in _SUM.findall(text):
        value = _value(left)
        found.append((f"{left} = {right.rstrip('.,')}", value is not None and value == _fraction(right.rstrip(".,"))))
    return found


def _value(expression: str) -> Fraction | None:
    """Plus and minus after times and divide, from left to right; None when something is divided by zero."""
    tokens = re.findall(r"\d[\d,]*(?:\.\d+)?|[-+*/x×÷−]", expression)
    total, term, sign, op = Fraction(0), Fraction(1), 1, "*"
    expects = True
    for token in tokens:
        if token[0].isdigit():
            number, expects = _fraction(token.rstrip(",")), False
            if op in "/÷" and number == 0:
                return None
            term = term / number if op in "/÷" else term * number
        elif token in "-−" and expects:  # a sign, not a subtraction
            term = -term
        elif token in "+-−":
            total, term, sign, op, expects = total + sign * term, Fraction(1), 1 if token == "+" else -1, "*", True
        else:
            op, expects = token, True
    return total + sign * term


def normalise(text: str) -> str:
    """Lower case without accents, punctuation and articles, blanks squeezed: "The Eiffel-Tower!" -> "eiffel tower"."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"[^\w\s]", " ", re.sub(r"['’]", "", plain))
    return " ".join(word for word in plain.split() if word not in ("a", "an", "the"))


def mentions(answers: Sequence[str], text: str) -> bool:
    """Does the text contain one of the answers as whole words, both normalised?"""
    given = f" {normalise(text)} "
    return any(f" {normalise(a)} " in given for a in answers if normalise(a))


def equals(answers: Sequence[str], text: str) -> bool:
    """Is the text one of the answers and nothing else, both normalised?"""
    return normalise(text) in {normalise(a) for a in answers}


_ABSTAINS = re.compile(
    r"\bI(?:'m| am)? (?:really |just |simply |honestly |also )?(?:do not|don't|cannot|can't|could not|couldn't|"
    r"have no|am unable to|unable to|am not able to|not able to|am not|not|wouldn't|would not)(?: really| possibly)? "
    r"(?:know|sure|certain|tell|say|see|look|answer|predict|way of knowing|way to|check|idea|information|record|"
    r"memory|have (?:any |that |enough |access|a way|the )|find|hear|remember|aware|familiar|be (?:sure|certain)|read|"
    r"recognise|recognize|guess|feel|watch|learn|follow)"
    r"|\b(?:nobody|no one|no-one) (?:can|could|knows?|has)\b|\bthere is no way\b|\b(?:can't|cannot|can not) be known\b"
    r"|\b(?:not|isn't|never) (?:something|anything) I\b|\bI (?:have not|haven't|have never|never) (?:heard|seen|"
    r"met|read)"
    r"|\bis(?:n't| not) (?:yet )?known\b|\bonly you (?:can|know)|\bunknown to me\b|\bhas(?:n't| not) happened\b"
    r"|\b(?:beyond|outside) (?:what I|my) know",
    re.I,
)


def abstains(text: str) -> bool:
    """Does the opening say that the answer is not known or cannot be known?"""
    plain = re.sub(r"[’‘]", "'", text.strip())[:300]
    return _ABSTAINS.search(plain) is not None


def distinct(text: str, n: int = 3) -> float:
    """Share of n-grams of words that are there for the first time, in [0, 1]; 1 for a text of fewer than n words."""
    words = re.findall(r"\w+", text.lower())
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def repetition(text: str, n: int = 3) -> float:
    """Share of n-grams of words that were there before; 0 is none, a text in a loop comes near 1."""
    return 1.0 - distinct(text, n)
