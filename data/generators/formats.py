"""Little requests with one or two verifiable constraints on the form of the answer: rows of category "format".

The answers satisfy their constraints by construction: a shape lays the material of a bank entry out (bullets,
paragraphs, JSON, ...), and finishes change the text or read off what is true of it (capitals, keywords, ...).  Leaves
out constraints on the facts of an answer, and pairs of constraints whose meaning together would be open to dispute.
"""

import json
import random
import re
from collections.abc import Callable, Iterator

from _format_bank import Entry, entries
from _format_phrases import PHRASES, RELATIONS
from _format_special import CHOICES, LANGUAGES, PLACEHOLDERS

Rng = random.Random
Shape = Callable[[Rng, Entry], tuple[str, str]]  # instruction, answer
Finish = Callable[[Rng, Entry, str], tuple[str, str]]  # instruction, changed answer

PER_KIND = 80
PER_PAIR = 4
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
STOP = frozenset(
    [
        "about", "above", "after", "again", "also", "and", "another", "because", "before", "begins", "both", "does",
        "each", "else", "every", "from", "have", "here", "into", "just", "like", "made", "make", "many", "more", "most",
        "much", "nobody", "often", "only", "other", "others", "over", "should", "some", "such", "than", "that", "their",
        "them", "then", "there", "these", "they", "this", "those", "through", "time", "until", "very", "what", "when",
        "where", "which", "while", "with", "without", "your",
    ]
)  # fmt: skip
PROPER = frozenset(["Rusty", "Grandmother", "Father"])
OPENERS = (
    "Also remember this:", "Another point:", "One more thing:", "Here is a thought:", "Finally there is this:",
    "Let me add this:", "Now for the rest:", "Next comes this:", "Second point:", "First of all:",
)  # fmt: skip
ENDINGS = (
    "That is all.", "Have a nice day!", "Thank you for asking.", "Is there anything else?", "Good luck!",
    "Now you know.", "Take care!", "That is my answer.", "See you soon!", "Enjoy!",
)  # fmt: skip
MARKERS = ("SECTION", "PART", "CHAPTER", "POINT")
GENERIC = ("very", "really", "thing", "nice", "great", "always", "never", "maybe")
FRAMES = ("{r} {c}", "{r} {c}", "{c} {r}", "{r}\n{c}", "{r}\n\n{c}", "{c}\n\n{r}")


def say(rng: Rng, kind: str, n: int = 2, relation: str = "exactly", **fields: object) -> str:
    """One wording of a constraint."""
    number = NUMBERS[n] if n < len(NUMBERS) and rng.random() < 0.5 else str(n)
    times = f"{number} times" if n != 1 else "once"
    rel = rng.choice(RELATIONS[relation]) if n != 1 else RELATIONS[relation][0]
    return rng.choice(PHRASES[kind]).format(
        **{"n": number, "s": "" if n == 1 else "s", "times": times, "rel": rel, **fields}
    )


def content(text: str) -> list[str]:
    """The distinct longer words of a text that carry meaning, in order."""
    words = re.findall(r"[A-Za-z]{4,}", text)
    return [word for word in dict.fromkeys(words) if word.lower() not in STOP and word not in MARKERS]


def listed(words: list[str], last: str = "and") -> str:
    """Words as "a, b and c"."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def prose(rng: Rng, entry: Entry, low: int = 1, high: int = 3) -> str:
    """The first few sentences of an entry."""
    return " ".join(entry.sentences[: rng.randint(low, high)])


# Shapes: the layout of the answer.


def plain(rng: Rng, entry: Entry) -> tuple[str, str]:
    """No constraint: one to three sentences."""
    return "", prose(rng, entry)


def bullets(rng: Rng, entry: Entry) -> tuple[str, str]:
    """Two or more points as a list."""
    n = rng.randint(2, len(entry.points))
    return say(rng, "bullets", n), "\n".join(f"- {point[0].upper()}{point[1:]}" for point in entry.points[:n])


def paragraphs(rng: Rng, entry: Entry) -> tuple[str, str]:
    """Two or three paragraphs of a sentence each, the last with the rest."""
    n = rng.randint(2, 3)
    parts = [*entry.sentences[: n - 1], " ".join(entry.sentences[n - 1 : n + rng.randint(0, 1)])]
    return say(rng, "paragraphs", n), "\n\n".join(parts)


def sentences(rng: Rng, entry: Entry) -> tuple[str, str]:
    """An exact number of sentences, or a bound that the answer keeps."""
    k = rng.randint(1, 4)
    relation, n = rng.choice([("exactly", k), ("exactly", k), ("at_most", k + rng.randint(0, 1)), ("at_least", k)])
    return say(rng, "sentences", n, relation), " ".join(entry.sentences[:k])


def words(rng: Rng, entry: Entry) -> tuple[str, str]:
    """A bound on the number of words, near the true number."""
    text = prose(rng, entry, 1, 4)
    count = len(text.split())
    relation, n = rng.choice(
        [("at_most", -(-(count + 1) // 5) * 5), ("at_least", max(5, count // 5 * 5)), ("at_most", count + 3)]
    )
    return say(rng, "words", n, relation), text


def nth_paragraph(rng: Rng, entry: Entry) -> tuple[str, str]:
    """Paragraphs, one of which opens with a given word."""
    total = rng.randint(2, 3)
    n = rng.randint(1, total)
    parts = list(entry.sentences[:total])
    if rng.random() < 0.6:
        parts[n - 1] = opened(rng.choice(OPENERS), parts[n - 1])
    word = parts[n - 1].split()[0]
    return say(rng, "nth_paragraph_starts", n, total=total, word=word), "\n\n".join(parts)


def opened(opener: str, sentence: str) -> str:
    """A sentence behind an opener."""
    first = sentence.split()[0]
    return f"{opener} {sentence if first in PROPER else sentence[0].lower() + sentence[1:]}"


def sections(rng: Rng, entry: Entry) -> tuple[str, str]:
    """Numbered sections of one sentence each."""
    n, marker = rng.randint(2, 4), rng.choice(MARKERS)
    parts = [f"{marker} {i}\n{sentence}" for i, sentence in enumerate(entry.sentences[:n], 1)]
    return say(rng, "sections", n, marker=marker), "\n\n".join(parts)


def as_json(rng: Rng, entry: Entry) -> tuple[str, str]:
    """A JSON object with keys that are named in half of the requests."""
    data: dict[str, object] = rng.choice(
        [
            {"answer": prose(rng, entry, 1, 2)},
            {"title": entry.title, "answer": entry.sentences[0]},
            {"title": entry.title, "points": list(entry.points[:3])},
            {"points": list(entry.points[: rng.randint(2, 4)])},
        ]
    )
    keys = listed([f'"{key}"' for key in data])
    named = len(data) > 1 and rng.random() < 0.6
    instruction = say(rng, "json_keys", keys=keys) if named else say(rng, "json")
    return instruction, json.dumps(data, ensure_ascii=False)


def two_responses(rng: Rng, entry: Entry) -> tuple[str, str]:
    """Two answers from the two halves of the material."""
    if rng.random() < 0.5:
        one, two = " ".join(entry.sentences[:2]), " ".join(entry.sentences[2:])
    else:
        one, two = entry.sentences[0], entry.sentences[2]
    return say(rng, "two_responses"), f"{one}\n******\n{two}"


# Finishes: changes of a text, or facts about it that are turned into an instruction.


def keywords_include(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """Some of the words that the answer has."""
    found = [word.lower() for word in content(text)]
    chosen = rng.sample(found, min(len(found), rng.randint(2, 3)))
    return say(rng, "keywords_include", words=listed(chosen)), text


def keyword_count(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """How often one word appears; words that come back are preferred."""
    text = " ".join(entry.sentences)
    counts = {word: text.lower().split().count(word) for word in {word.lower() for word in content(text)}}
    sure = {word: n for word, n in sorted(counts.items()) if n and text.lower().count(word) == n}
    repeated = [word for word, n in sure.items() if n > 1]
    word = rng.choice(repeated or list(sure))
    n = sure[word]
    relation, n = rng.choice([("at_least", n), ("exactly", n), ("at_least", n), ("at_most", n + 1)])
    return say(rng, "keyword_count", n, relation, word=word), text


def words_forbidden(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """Words of the unused material, or common ones, that the answer does without."""
    rest = content(" ".join([*entry.sentences, *entry.points]))
    free = [word.lower() for word in [*rest, *rng.sample(GENERIC, 2)] if word.lower() not in text.lower()]
    chosen = rng.sample(free, min(len(free), rng.randint(1, 2)))
    quoted = listed([f'"{word}"' for word in chosen], "or")
    return say(rng, "words_forbidden", len(chosen), words=quoted), text


def letter_count(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """A bound on how often a letter appears."""
    letter = rng.choice("aeioustrnlmbpwcd")
    low, high = text.count(letter), text.lower().count(letter)
    if low > 0 and rng.random() < 0.6:
        return say(rng, "letter_count", rng.randint(max(1, low - 3), low), "at_least", letter=letter), text
    return say(rng, "letter_count", high + rng.randint(1, 3), "at_most", letter=letter), text


def title(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """A title line on top."""
    return say(rng, "title"), f"<<{entry.title}>>\n{text}"


def postscript(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """The last sentence of the material as a postscript."""
    marker = rng.choice(["P.S.", "P.S.", "P.P.S"])
    return say(rng, "postscript", marker=marker), f"{text}\n\n{marker} {entry.sentences[3]}"


def highlighted(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """Stars around some of the words."""
    n = min(rng.randint(1, 3), len(content(text)))
    for word in rng.sample(content(text), n):
        text = re.sub(rf"(?<![*\w]){word}\b", f"*{word}*", text, count=1)
    return say(rng, "highlighted", n), text


def capital_words(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """Some words in full capitals."""
    k = min(rng.randint(1, 4), len(content(text)))
    for word in rng.sample(content(text), k):
        text = re.sub(rf"\b{word}\b", word.upper(), text, count=1)
    relation, n = rng.choice([("at_least", k), ("exactly", k), ("at_most", k + 1)])
    return say(rng, "capital_words", n, relation), text


def all_upper(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """Capitals throughout."""
    return say(rng, "all_upper"), text.upper()


def all_lower(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """Small letters throughout."""
    return say(rng, "all_lower"), text.lower()


def end_phrase(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """A given phrase at the end."""
    phrase = rng.choice(ENDINGS)
    return say(rng, "end_phrase", phrase=phrase), text + ("\n\n" if "\n" in text else " ") + phrase


def quotation(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """The answer in double quotation marks."""
    return say(rng, "quotation"), f'"{text}"'


def no_commas(rng: Rng, entry: Entry, text: str) -> tuple[str, str]:
    """The material has no commas, so the text stays as it is."""
    return say(rng, "no_commas"), text


SHAPES: dict[str, Shape] = {
    "plain": plain,
    "bullets": bullets,
    "paragraphs": paragraphs,
    "sentences": sentences,
    "words": words,
    "nth_paragraph_starts": nth_paragraph,
    "sections": sections,
    "json": as_json,
    "two_responses": two_responses,
}
FINISHES: dict[str, Finish] = {
    "keywords_include": keywords_include,
    "keyword_count": keyword_count,
    "words_forbidden": words_forbidden,
    "letter_count": letter_count,
    "title": title,
    "postscript": postscript,
    "highlighted": highlighted,
    "capital_words": capital_words,
    "all_upper": all_upper,
    "all_lower": all_lower,
    "end_phrase": end_phrase,
    "quotation": quotation,
    "no_commas": no_commas,
}
# shape, finish, finish: the pairs of constraints that go together
PAIRS = [
    *[
        ("bullets", f)
        for f in (
            "all_lower", "all_upper", "end_phrase", "no_commas", "title", "keywords_include", "postscript",
            "words_forbidden",
        )
    ],
    *[("sentences", f) for f in ("all_lower", "no_commas", "keywords_include", "quotation", "capital_words")],
    *[("paragraphs", f) for f in ("highlighted", "no_commas", "all_lower")],
    *[("words", f) for f in ("all_upper", "keywords_include", "quotation", "no_commas")],
    *[("sections", f) for f in ("highlighted", "no_commas")],
    *[("two_responses", f) for f in ("no_commas", "all_lower")],
    *[("plain", f, "title") for f in ("highlighted", "no_commas", "postscript")],
    *[("plain", "all_lower", f) for f in ("quotation", "letter_count", "no_commas")],
    ("plain", "keywords_include", "end_phrase"),
    ("plain", "words_forbidden", "no_commas"),
    ("nth_paragraph_starts", "no_commas"),
    ("plain", "all_upper", "quotation"),
]  # fmt: skip


def framed(rng: Rng, request: str, instruction: str, answer: str) -> dict:
    """A row with the constraint before or behind the request, or now and then in a system message."""
    if rng.random() < 0.1:
        request = request[0].lower() + request[1:].rstrip("?.")
        if instruction[1].islower():
            instruction = instruction[0].lower() + instruction[1:]
        return {"category": "format", "prompt": f"{request}, {instruction}", "completion": answer}
    if rng.random() < 0.08:
        return {"category": "format", "system": instruction, "prompt": request, "completion": answer}
    prompt = rng.choice(FRAMES).format(r=request, c=instruction)
    return {"category": "format", "prompt": prompt, "completion": answer}


def composed(rng: Rng, entry: Entry, shape: str, *finishes: str) -> dict:
    """A row from one shape and any finishes."""
    instruction, text = SHAPES[shape](rng, entry)
    instructions = [instruction] if instruction else []
    for name in finishes:
        instruction, text = FINISHES[name](rng, entry, text)
        instructions.append(instruction)
    if len(instructions) > 1 and rng.random() < 0.3:
        instructions.reverse()
    return framed(rng, entry.request, " ".join(instructions), text)


def repeat_row(rng: Rng, entry: Entry) -> dict:
    """The request is said again before the answer."""
    prompt = rng.choice(PHRASES["repeat_prompt"]).format(text=entry.request)
    return {"category": "format", "prompt": prompt, "completion": f"{entry.request}\n\n{prose(rng, entry)}"}


def special_rows(rng: Rng) -> Iterator[dict]:
    """Choices, placeholders and other languages, each request of their banks once."""
    for question, options, answer in CHOICES:
        quoted = [f'"{option}"' for option in options]
        instruction = say(rng, "choose_from", options=", ".join(quoted), options_or=listed(quoted, "or"))
        yield framed(rng, question, instruction, answer)
    for request, answer in PLACEHOLDERS:
        n = max(2, answer.count("[") - rng.randint(0, 1))
        yield framed(rng, request, say(rng, "placeholders", n), answer)
    for request, answers in LANGUAGES:
        for language, answer in answers.items():
            yield framed(rng, request, say(rng, "language", language=language), answer)


def deck(rng: Rng) -> Iterator[Entry]:
    """Entries without end, all of them once before any comes again."""
    bank = entries()
    while True:
        rng.shuffle(bank)
        yield from bank


def plans() -> list[tuple[str, ...]]:
    """What to compose: every kind alone, and every pair."""
    single = [(shape,) for shape in SHAPES if shape != "plain"] + [("plain", finish) for finish in FINISHES]
    return single * PER_KIND + PAIRS * PER_PAIR


def rows(seed: int = 0) -> Iterator[dict]:
    """All rows, no prompt twice."""
    rng = Rng(seed)
    cards = deck(rng)
    made = [*special_rows(rng), *[repeat_row(rng, next(cards)) for _ in range(PER_KIND)]]
    made += [composed(rng, next(cards), *plan) for plan in plans()]
    rng.shuffle(made)
    seen: set[tuple[str, str]] = set()
    for row in made:
        key = (row.get("system", ""), row["prompt"])
        if key not in seen:
            seen.add(key)
            yield row
