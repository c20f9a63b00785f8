"""Evaluation suite of verifiable instructions: 320 requests with one or two checkable constraints, 25 kinds in all.

Topics and wordings differ from those of formats.py.  Every item can be met by a plain answer of at most 80 words.
The cluster of an item is the kind of its first constraint.  Leaves out constraints that need knowledge to check.
"""

import random
from collections.abc import Callable, Iterator

from _suite_topics import Topic, topics

Rng = random.Random
Made = tuple[str, dict]  # instruction, constraint

COUNT_WORDS = {"at_least": "at least {n}", "at_most": "at most {n}", "exactly": "exactly {n}"}
WORDINGS: dict[str, list[str]] = {
    "keywords_include": [
        'Your reply has to contain the words "{a}" and "{b}".',
        'Somewhere in the reply, both "{a}" and "{b}" have to occur.',
    ],
    "keyword_count": [
        'Let your reply contain "{word}" {amount} time{s}.',
        'The reply has to mention "{word}" {amount} time{s}.',
    ],
    "words_forbidden": ['The word "{word}" is not allowed in your reply.', 'Never say "{word}" in your reply.'],
    "letter_count": [
        'Your reply should contain the letter "{letter}" {amount} times.',
        'Count your letters: "{letter}" has to turn up {amount} times.',
    ],
    "language": [
        "The reply must be entirely in {language}.",
        "I only understand {language}, so use that.",
        "Respond in the {language} language.",
    ],
    "paragraphs": [
        "Your reply must consist of exactly {n} paragraphs divided by empty lines.",
        "Divide your reply into {n} paragraphs (one empty line between two paragraphs).",
    ],
    "words": ["Your reply should be {amount} words long.", "Stick to {amount} words in total."],
    "sentences": ["Your reply should consist of {amount} sentence{s}.", "Reply with {amount} sentence{s}."],
    "nth_paragraph_starts": [
        'Reply in exactly {total} paragraphs with an empty line between them; the {nth} one has to begin with "{word}".'
    ],
    "postscript": [
        "After your reply, put a postscript that begins with {marker}",
        "Do not forget a postscript at the bottom, introduced by {marker}",
    ],
    "placeholders": [
        "The text must have {n} or more placeholders shown in square brackets, e.g. [surname].",
        "Include no fewer than {n} fields to fill in, each in square brackets like [surname].",
    ],
    "bullets": [
        "Your reply must be a list of exactly {n} bullets, each on a line that begins with * or -.",
        "Reply as a bulleted list with {n} entries, no more and no less.",
    ],
    "title": [
        "Your reply must carry a title that stands in double angular brackets, for instance <<joy of cooking>>.",
        "Include a heading wrapped like <<heading>>.",
    ],
    "choose_from": [
        "Respond with one of the following and nothing else: {options}.",
        "The only allowed replies are: {options}.",
    ],
    "highlighted": [
        "Highlight {n} or more pieces of the reply with asterisks, i.e. *highlighted piece*.",
        "In your reply, enclose {n} or more phrases in single asterisks, *like so*.",
    ],
    "sections": [
        "Your reply must have {n} sections; the line before each section reads {marker} 1, {marker} 2, etc.",
        "Organise your reply in {n} sections, each introduced by a line with {marker} and a number.",
    ],
    "json": ["The entire output must be a JSON object.", "Format your entire reply as valid JSON, with no other text."],
    "two_responses": ["Produce two distinct responses and set them apart with six asterisk symbols: ******."],
    "all_upper": ["Your entire reply must be in English capitals.", "Every letter of your reply has to be a capital."],
    "all_lower": [
        "Your entire reply must be in lowercase English; capitals are not allowed.",
        "Every letter of your reply has to be lowercase.",
    ],
    "capital_words": [
        "In your reply, {amount} word{s} should be fully capitalised, like THIS.",
        "Words in all capitals, like THIS, should occur {amount} time{s}.",
    ],
    "end_phrase": [
        'The very end of your reply has to be this sentence: "{phrase}"',
        'Let your reply finish with "{phrase}" No other words may follow.',
    ],
    "quotation": [
        "Your entire reply must stand between double quotation marks.",
        "Enclose the complete reply in double quotation marks.",
    ],
    "no_commas": ["Commas are forbidden in your reply.", "Refrain from using commas in the reply."],
}
REPEATS = [
    "{text}\n\nBefore replying, write out the question or task above without any change. Then reply to it.",
    "Begin your reply by repeating the following line as it is, and after that respond to it: {text}",
]
PHRASES = [
    "That was my reply.", "What do you think about it?", "I wish you a pleasant day.", "Here my reply ends.",
    "Do ask me again.", "And so it goes.", "Please tell your friends.",
]  # fmt: skip
MARKERS = ["SECTION", "PART", "BLOCK", "TOPIC"]
STARTS = ["Today", "Perhaps", "Yes", "Sometimes", "Imagine", "Every", "Now", "People", "Then"]
ORDINALS = ("first", "second", "third")
SMALL = ("one", "two", "three", "four", "five")

# question, options
CHOICES: list[tuple[str, list[str]]] = [
    ("Is a lemon sour?", ["yes", "no", "cannot say"]),
    ("Do ducks have feathers?", ["yes", "no", "cannot say"]),
    ("Is my cousin at home right now?", ["yes", "no", "cannot say"]),
    ("Which of them lives in water: trout, crow or mole?", ["trout", "crow", "mole"]),
    ("What is used to sweep a floor?", ["broom", "pillow", "lantern"]),
    ("Ice is colder than steam. Do you think so too?", ["I think so.", "I do not think so."]),
    ("Two is more than ten. Do you think so too?", ["I think so.", "I do not think so."]),
    ("Does a bicycle need petrol?", ["it does", "it does not"]),
    ("Which day follows Sunday?", ["Monday", "Thursday", "Saturday"]),
    ("What do we call a young dog?", ["a puppy", "a calf", "a chick"]),
    ("Who flies an aeroplane?", ["a pilot", "a potter", "a poet"]),
    ("The train has left without us! What mood is this?", ["pleased", "upset"]),
    ("Which is the fastest way across a town?", ["on foot", "by tram", "it depends"]),
]
LETTERS: list[str] = [
    "Write a letter of complaint about a noisy street.",
    "Compose an invitation to a housewarming party.",
    "Draft an e-mail that asks for a copy of a bill.",
    "Prepare a form letter to welcome new club members.",
    "Compose a message that offers a used sofa.",
    "Draft a text to thank a host for a weekend.",
    "Write the first lines of a job application.",
    "Compose a short notice about a lost key.",
    "Draft a message that moves a doctor's appointment.",
    "Write a label for a jar of home-made jam.",
    "Compose a greeting card for a new baby.",
    "Draft a rental offer for a garage.",
    "Write a note for the neighbour who feeds my cat.",
]
FOREIGN: list[str] = [
    "Wish me a good night.",
    "Tell me what a cat looks like.",
    "Name two things that are in a kitchen.",
    "Say why friends are important.",
    "How is summer different from spring?",
    "Say that you are sorry for being late.",
    "Describe a small house.",
    "What can one see in a forest?",
    "Invite a friend for dinner.",
    "What does a teacher do?",
    "Tell me about the moon in a sentence.",
    "What is your advice for a rainy day?",
]


def pick(rng: Rng, kind: str, **fields: object) -> str:
    """A wording of the kind."""
    return rng.choice(WORDINGS[kind]).format(**fields)


def counted(rng: Rng, kind: str, n: int, relation: str, **fields: object) -> Made:
    """A constraint with a relation to a number."""
    amount = COUNT_WORDS[relation].format(n=SMALL[n - 1] if n <= len(SMALL) and rng.random() < 0.5 else n)
    instruction = pick(rng, kind, amount=amount, s="" if n == 1 else "s", **fields)
    return instruction, {"kind": kind, **fields, "n": n, "relation": relation}


def keywords_include(rng: Rng, topic: Topic) -> Made:
    """Both words of the topic."""
    a, b = topic.words
    return pick(rng, "keywords_include", a=a, b=b), {"kind": "keywords_include", "words": [a, b]}


def keyword_count(rng: Rng, topic: Topic) -> Made:
    """One word of the topic, one to three times."""
    n, relation = rng.choice([(1, "at_least"), (2, "at_least"), (3, "at_least"), (2, "exactly"), (2, "at_most")])
    return counted(rng, "keyword_count", n, relation, word=rng.choice(topic.words))


def words_forbidden(rng: Rng, topic: Topic) -> Made:
    """The word to avoid."""
    return (pick(rng, "words_forbidden", word=topic.avoid), {"kind": "words_forbidden", "words": [topic.avoid]})


def letter_count(rng: Rng, topic: Topic) -> Made:
    """Many of a common letter or few of a rarer one."""
    letter, n, relation = rng.choice(
        [
            ("e", 8, "at_least"),
            ("a", 6, "at_least"),
            ("s", 5, "at_least"),
            ("k", 2, "at_most"),
            ("u", 4, "at_most"),
            ("m", 3, "at_most"),
            ("w", 2, "at_least"),
            ("g", 3, "at_most"),
        ]
    )
    return counted(rng, "letter_count", n, relation, letter=letter)


def words(rng: Rng, topic: Topic) -> Made:
    """Short or not too short."""
    n, relation = rng.choice(
        [
            (8, "at_most"),
            (12, "at_most"),
            (25, "at_most"),
            (40, "at_most"),
            (15, "at_least"),
            (25, "at_least"),
            (35, "at_least"),
            (10, "exactly"),
        ]
    )
    return counted(rng, "words", n, relation)


def sentences(rng: Rng, topic: Topic) -> Made:
    """One to four sentences."""
    n, relation = rng.choice(
        [(1, "exactly"), (2, "exactly"), (3, "exactly"), (4, "exactly"), (3, "at_least"), (2, "at_most")]
    )
    return counted(rng, "sentences", n, relation)


def capital_words(rng: Rng, topic: Topic) -> Made:
    """A few words in capitals."""
    n, relation = rng.choice([(1, "at_least"), (2, "at_least"), (3, "at_least"), (2, "exactly"), (3, "at_most")])
    return counted(rng, "capital_words", n, relation)


def numbered(kind: str, low: int, high: int) -> Callable[[Rng, Topic], Made]:
    """A kind that has a number and nothing else."""

    def make(rng: Rng, topic: Topic) -> Made:
        n = rng.randint(low, high)
        return pick(rng, kind, n=rng.choice([n, SMALL[n - 1]])), {"kind": kind, "n": n}

    return make


def bare(kind: str) -> Callable[[Rng, Topic], Made]:
    """A kind without fields."""

    def make(rng: Rng, topic: Topic) -> Made:
        return pick(rng, kind), {"kind": kind}

    return make


def nth_paragraph_starts(rng: Rng, topic: Topic) -> Made:
    """One of two or three paragraphs with a given first word."""
    total = rng.randint(2, 3)
    n, word = rng.randint(1, total), rng.choice(STARTS)
    instruction = pick(rng, "nth_paragraph_starts", total=SMALL[total - 1], nth=ORDINALS[n - 1], word=word)
    return instruction, {"kind": "nth_paragraph_starts", "n": n, "total": total, "word": word}


def postscript(rng: Rng, topic: Topic) -> Made:
    """Either marker."""
    marker = rng.choice(["P.S.", "P.P.S"])
    return pick(rng, "postscript", marker=marker), {"kind": "postscript", "marker": marker}


def sections(rng: Rng, topic: Topic) -> Made:
    """Two or three sections."""
    n, marker = rng.randint(2, 3), rng.choice(MARKERS)
    return pick(rng, "sections", n=SMALL[n - 1], marker=marker), {"kind": "sections", "marker": marker, "n": n}


def end_phrase(rng: Rng, topic: Topic) -> Made:
    """A sentence at the end."""
    phrase = rng.choice(PHRASES)
    return pick(rng, "end_phrase", phrase=phrase), {"kind": "end_phrase", "phrase": phrase}


KINDS: dict[str, Callable[[Rng, Topic], Made]] = {
    "keywords_include": keywords_include,
    "keyword_count": keyword_count,
    "words_forbidden": words_forbidden,
    "letter_count": letter_count,
    "paragraphs": numbered("paragraphs", 2, 4),
    "words": words,
    "sentences": sentences,
    "nth_paragraph_starts": nth_paragraph_starts,
    "postscript": postscript,
    "bullets": numbered("bullets", 2, 5),
    "title": bare("title"),
    "highlighted": numbered("highlighted", 2, 3),
    "sections": sections,
    "json": bare("json"),
    "two_responses": bare("two_responses"),
    "all_upper": bare("all_upper"),
    "all_lower": bare("all_lower"),
    "capital_words": capital_words,
    "end_phrase": end_phrase,
    "quotation": bare("quotation"),
    "no_commas": bare("no_commas"),
}
PAIRS = [
    ("bullets", "all_lower"),
    ("bullets", "no_commas"),
    ("bullets", "title"),
    ("sentences", "no_commas"),
    ("sentences", "keywords_include"),
    ("sentences", "all_upper"),
    ("paragraphs", "highlighted"),
    ("paragraphs", "no_commas"),
    ("words", "no_commas"),
    ("words", "quotation"),
    ("title", "bullets"),
    ("title", "no_commas"),
    ("all_lower", "no_commas"),
    ("all_lower", "sentences"),
    ("all_upper", "sentences"),
    ("quotation", "no_commas"),
    ("quotation", "all_lower"),
    ("end_phrase", "keywords_include"),
    ("keywords_include", "all_lower"),
    ("keywords_include", "bullets"),
    ("words_forbidden", "sentences"),
    ("letter_count", "sentences"),
    ("highlighted", "bullets"),
    ("sections", "no_commas"),
    ("two_responses", "all_lower"),
    ("postscript", "no_commas"),
    ("capital_words", "sentences"),
    ("nth_paragraph_starts", "no_commas"),
    ("keyword_count", "no_commas"),
    ("json", "keywords_include"),
]
PER_KIND = 13  # pairs included, by first kind


def deck(rng: Rng) -> Iterator[Topic]:
    """Topics without end, all of them once before any comes again."""
    bank = topics()
    while True:
        rng.shuffle(bank)
        yield from bank


def item(text: str, *constraints: dict) -> dict:
    """An item without its number."""
    return {
        "cluster": constraints[0]["kind"],
        "messages": [{"role": "user", "content": text}],
        "constraints": list(constraints),
    }


def built(rng: Rng, topic: Topic, kinds: tuple[str, ...]) -> dict:
    """A topic with its constraints."""
    made = [KINDS[kind](rng, topic) for kind in kinds]
    instruction = " ".join(text for text, _ in made)
    frame = rng.choice(["{r} {i}", "{r} {i}", "{r}\n{i}", "{i}\n\n{r}"])
    return item(frame.format(r=topic.request, i=instruction), *[constraint for _, constraint in made])


def special(rng: Rng, cards: Iterator[Topic]) -> Iterator[dict]:
    """Choices, placeholders, languages and repeated requests."""
    for question, options in CHOICES:
        shown = " / ".join(options)
        yield item(f"{question} {pick(rng, 'choose_from', options=shown)}", {"kind": "choose_from", "options": options})
    for request in LETTERS:
        n = rng.randint(2, 4)
        yield item(f"{request} {pick(rng, 'placeholders', n=SMALL[n - 1])}", {"kind": "placeholders", "n": n})
    for i, request in enumerate(FOREIGN):
        language = ("Spanish", "French", "German", "Italian")[i % 4]
        yield item(f"{request} {pick(rng, 'language', language=language)}", {"kind": "language", "language": language})
    for _ in range(PER_KIND):
        text = next(cards).request
        yield item(rng.choice(REPEATS).format(text=text), {"kind": "repeat_prompt", "text": text})


def plans() -> list[tuple[str, ...]]:
    """The kinds of each item on a topic: every pair twice, and single kinds up to the number per kind."""
    plan: list[tuple[str, ...]] = [pair for pair in PAIRS for _ in range(2)]
    for i, kind in enumerate(KINDS):
        have = sum(pair[0] == kind for pair in plan)
        plan += [(kind,)] * (PER_KIND - have - (i >= len(KINDS) - 4))
    return plan


def items(seed: int = 0) -> Iterator[dict]:
    """All items, grouped by cluster and numbered."""
    rng = Rng(seed)
    cards = deck(rng)
    made = [*special(rng, cards), *[built(rng, next(cards), kinds) for kinds in plans()]]
    made.sort(key=lambda row: row["cluster"])
    for i, row in enumerate(made, 1):
        yield {"id": f"instr-{i:03d}", **row}
