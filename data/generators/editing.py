"""Small operations on words and sentences with sure answers: rows of category "edit".

Order, case, counting, replacing, plurals and tenses.  Leaves out rewriting for style, which the hand-written rows
show, and anything that needs knowledge of the world.
"""

import random
from collections.abc import Callable, Iterator

WORDS = [
    "apple", "basket", "candle", "door", "eagle", "forest", "garden", "hammer", "island", "jacket", "kettle", "ladder",
    "mirror", "needle", "orange", "pencil", "quilt", "river", "saddle", "table", "umbrella", "violin", "window", "yard",
    "zebra", "anchor", "button", "cloud", "drum", "engine", "feather", "glove", "honey", "iron", "lemon", "market",
    "nest", "oven", "pillow", "rope", "stone", "tiger", "valley", "wagon",
]  # fmt: skip
NAMES = [
    "Anna", "Ben", "Carla", "David", "Emma", "Frank", "Greta", "Hugo", "Ida", "Jack", "Kate", "Leo", "Mona", "Nick",
    "Olive", "Paul", "Rosa", "Sam", "Tina", "Victor",
]  # fmt: skip
PLURALS = {
    "mouse": "mice",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "box": "boxes",
    "knife": "knives",
    "leaf": "leaves",
    "baby": "babies",
    "city": "cities",
    "dish": "dishes",
    "sheep": "sheep",
    "wolf": "wolves",
    "man": "men",
    "woman": "women",
    "goose": "geese",
    "bus": "buses",
    "tomato": "tomatoes",
    "day": "days",
    "story": "stories",
    "watch": "watches",
    "shelf": "shelves",
    "book": "books",
    "key": "keys",
    "church": "churches",
    "lady": "ladies",
    "potato": "potatoes",
}
PASTS = {
    "go": "went",
    "eat": "ate",
    "see": "saw",
    "write": "wrote",
    "run": "ran",
    "take": "took",
    "sing": "sang",
    "buy": "bought",
    "think": "thought",
    "bring": "brought",
    "swim": "swam",
    "find": "found",
    "give": "gave",
    "drink": "drank",
    "fly": "flew",
    "begin": "began",
    "keep": "kept",
    "teach": "taught",
    "walk": "walked",
    "carry": "carried",
    "stop": "stopped",
    "plan": "planned",
    "sleep": "slept",
    "win": "won",
    "leave": "left",
    "speak": "spoke",
}
SUBJECTS = [
    "The old man", "My sister", "Our teacher", "A tall nurse", "The young farmer", "Their cousin", "The cook",
    "A tired sailor", "His aunt", "The new doctor", "The postman", "Her friend",
]  # fmt: skip
PREDICATES = [
    "feeds the ducks by the lake", "paints a small boat", "waits near the station", "cleans the long table",
    "plants beans in the yard", "opens the heavy gate", "cooks rice for the guests", "mends a broken chair",
    "listens to the radio", "counts the coins twice", "picks red apples", "washes the kitchen floor",
    "climbs the steep hill", "visits the market on Friday",
]  # fmt: skip
PAST_VERBS = {
    "feeds": "fed",
    "paints": "painted",
    "waits": "waited",
    "cleans": "cleaned",
    "plants": "planted",
    "opens": "opened",
    "cooks": "cooked",
    "mends": "mended",
    "listens": "listened",
    "counts": "counted",
    "picks": "picked",
    "washes": "washed",
    "climbs": "climbed",
    "visits": "visited",
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")

Pair = tuple[str, str]


def sentence(rng: random.Random) -> str:
    """A sentence without its full stop."""
    return f"{rng.choice(SUBJECTS)} {rng.choice(PREDICATES)}"


def some_words(rng: random.Random, low: int = 3, high: int = 5) -> list[str]:
    """Different words, or names."""
    return rng.sample(rng.choice([WORDS, WORDS, NAMES]), rng.randint(low, high))


def reverse_list(rng: random.Random) -> Pair:
    """A list backwards."""
    words = some_words(rng)
    ask = rng.choice(
        [
            "Reverse the order of this list: {w}",
            "Write these words in reverse order: {w}",
            "Put this list back to front: {w}",
            "List these from last to first: {w}",
        ]
    )
    return ask.format(w=", ".join(words)), ", ".join(reversed(words))


def alphabetical(rng: random.Random) -> Pair:
    """A list in the order of the alphabet."""
    words = some_words(rng)
    ask = rng.choice(
        [
            "Sort these words alphabetically: {w}",
            "Put in alphabetical order: {w}",
            "Arrange from A to Z: {w}",
            "Can you order this list by the alphabet? {w}",
            "alphabetical order please: {w}",
        ]
    )
    return ask.format(w=", ".join(words)), ", ".join(sorted(words))


def first_in_alphabet(rng: random.Random) -> Pair:
    """The word that a dictionary lists first."""
    words = some_words(rng, 2, 4)
    ask = rng.choice(
        ["Which of these words comes first in the alphabet: {w}?", "Which word would a dictionary list first: {w}?"]
    )
    first = min(words)
    return ask.format(w=", ".join(words)), rng.choice([first, f'"{first}" comes first.'])


def upper(rng: random.Random) -> Pair:
    """Capitals."""
    text = sentence(rng)
    ask = rng.choice(
        [
            "Write this in capital letters: {t}.",
            "Turn this into upper case: {t}.",
            "All caps please: {t}.",
            "Put this sentence in capitals: {t}.",
        ]
    )
    return ask.format(t=text), text.upper() + "."


def lower(rng: random.Random) -> Pair:
    """Small letters."""
    text = sentence(rng)
    ask = rng.choice(
        [
            "Write this in lower case: {t}.",
            "Change to small letters: {t}.",
            "No capitals: {t}.",
            "Make all letters lower case: {t}.",
        ]
    )
    return ask.format(t=text.upper()), text.lower() + "."


def count_words(rng: random.Random) -> Pair:
    """The number of words in a sentence."""
    text = sentence(rng)
    n = len(text.split())
    ask = rng.choice(
        [
            'How many words are in "{t}"?',
            "Count the words: {t}.",
            "How many words does this have? {t}.",
            'Number of words in "{t}"?',
        ]
    )
    answer = rng.choice(["{d}", "It has {w} words.", "There are {w} words."])
    return ask.format(t=text), answer.format(d=n, w=NUMBERS[n])


def count_items(rng: random.Random) -> Pair:
    """The length of a list."""
    words = some_words(rng, 3, 7)
    n = len(words)
    ask = rng.choice(["How many items are in this list: {w}?", "Count the entries: {w}", "How long is this list? {w}"])
    return ask.format(w=", ".join(words)), rng.choice(["{d}", "The list has {w} items."]).format(d=n, w=NUMBERS[n])


def first_word(rng: random.Random) -> Pair:
    """The first word of a sentence."""
    text = sentence(rng)
    ask = rng.choice(
        [
            'What is the first word of "{t}"?',
            "Give me the first word: {t}.",
            "Which word does this sentence begin with? {t}.",
        ]
    )
    return ask.format(t=text), text.split()[0]


def last_word(rng: random.Random) -> Pair:
    """The last word of a sentence."""
    text = sentence(rng)
    ask = rng.choice(
        [
            'What is the last word of "{t}"?',
            "Give me the last word: {t}.",
            "Which word comes last in this sentence? {t}.",
        ]
    )
    return ask.format(t=text), text.split()[-1]


def nth_item(rng: random.Random) -> Pair:
    """One item of a list by its place."""
    words = some_words(rng, 4, 5)
    place = rng.randrange(4)
    ask = rng.choice(["Which word is {o} in this list: {w}?", "Give me the {o} item: {w}", "What comes {o} here? {w}"])
    return ask.format(o=("first", "second", "third", "fourth")[place], w=", ".join(words)), words[place]


def replace(rng: random.Random) -> Pair:
    """One word put in place of another."""
    text = sentence(rng) + "."
    old = text.rstrip(".").split()[-1]
    new = rng.choice([word for word in WORDS if word != old])
    ask = rng.choice(
        [
            'Replace "{o}" with "{n}": {t}',
            'Change the word "{o}" to "{n}" in this sentence: {t}',
            'Swap "{o}" for "{n}". {t}',
            'Put "{n}" instead of "{o}": {t}',
        ]
    )
    return ask.format(o=old, n=new, t=text), f"{text[: -len(old) - 1]}{new}."


def remove(rng: random.Random) -> Pair:
    """A list without one of its items."""
    words = some_words(rng, 4, 5)
    gone = rng.choice(words)
    ask = rng.choice(['Remove "{g}" from this list: {w}', "Take out {g}: {w}", "Give me this list without {g}: {w}"])
    return ask.format(g=gone, w=", ".join(words)), ", ".join(word for word in words if word != gone)


def add(rng: random.Random) -> Pair:
    """A list with one more item."""
    *words, new = some_words(rng, 4, 5)
    end = rng.random() < 0.5
    ask = rng.choice(['Add "{n}" at the {e} of this list: {w}', "Put {n} at the {e}: {w}"])
    return (
        ask.format(n=new, e="end" if end else "beginning", w=", ".join(words)),
        ", ".join([*words, new] if end else [new, *words]),
    )


def plural(rng: random.Random) -> Pair:
    """The plural of a noun."""
    one, many = rng.choice(list(PLURALS.items()))
    ask = rng.choice(
        [
            'What is the plural of "{o}"?',
            "Plural of {o}?",
            "Give me the plural form of {o}.",
            "One {o}, two ...?",
            "How do you write more than one {o}?",
        ]
    )
    return ask.format(o=one), rng.choice([many, f'The plural of "{one}" is "{many}".'])


def past_verb(rng: random.Random) -> Pair:
    """The past form of a verb."""
    now, past = rng.choice(list(PASTS.items()))
    ask = rng.choice(
        [
            'What is the past tense of "{v}"?',
            "Past tense of {v}?",
            "Give me the past form of {v}.",
            "Today I {v}. Yesterday I ...?",
        ]
    )
    return ask.format(v=now), rng.choice([past, f'The past tense of "{now}" is "{past}".'])


def past_sentence(rng: random.Random) -> Pair:
    """A sentence in the past."""
    subject, predicate = rng.choice(SUBJECTS), rng.choice(PREDICATES)
    verb, rest = predicate.split(" ", 1)
    ask = rng.choice(["Put this into the past tense: {t}.", "Rewrite in the past: {t}.", "Make it past tense: {t}."])
    return ask.format(t=f"{subject} {predicate}"), f"{subject} {PAST_VERBS[verb]} {rest}."


def bulleted(rng: random.Random) -> Pair:
    """A list on lines of its own."""
    words = some_words(rng)
    ask = rng.choice(
        [
            "Turn this into a bulleted list: {w}",
            "Write these as bullet points: {w}",
            "Put each item on its own line with a dash: {w}",
        ]
    )
    return ask.format(w=", ".join(words)), "\n".join(f"- {word}" for word in words)


def joined(rng: random.Random) -> Pair:
    """Words joined in one line."""
    words = some_words(rng)
    ask = rng.choice(["Join these words with commas: {w}", "Write these lines as one list with commas:\n{w}"])
    return ask.format(w="\n".join(words) if "lines" in ask else " ".join(words)), ", ".join(words)


Maker = Callable[[random.Random], Pair]
MAKERS: list[tuple[Maker, int]] = [
    (reverse_list, 15),
    (alphabetical, 18),
    (first_in_alphabet, 8),
    (upper, 14),
    (lower, 12),
    (count_words, 12),
    (count_items, 10),
    (first_word, 10),
    (last_word, 10),
    (nth_item, 10),
    (replace, 16),
    (remove, 10),
    (add, 10),
    (plural, 18),
    (past_verb, 16),
    (past_sentence, 16),
    (bulleted, 12),
    (joined, 6),
]


def rows(seed: int = 0) -> Iterator[dict]:
    """All rows, no prompt twice."""
    rng = random.Random(seed)
    seen: set[str] = set()
    for maker, count in MAKERS:
        while count:
            prompt, completion = maker(rng)
            if prompt not in seen:
                seen.add(prompt)
                count -= 1
                yield {"category": "edit", "prompt": prompt, "completion": completion}
