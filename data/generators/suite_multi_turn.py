"""Evaluation suite of conversations: 182 items in seven kinds, generated from small tables.

correction: a number is put right; reference: "it" stands for what was spoken of; order: a rule for all later answers;
list: a list grows and is read out; people: two people with two things each; back: a topic is left and taken up again;
choice: one of two was liked better. Leaves out memory for one plain fact, which the hygiene suite asks.
"""

import random
from collections.abc import Callable, Iterator

EACH = 26
NAMES = [
    "Ada", "Boris", "Clara", "Dario", "Elsa", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Leon", "Mira",
    "Nils", "Olga", "Pavel", "Rosa", "Sven", "Tilda", "Udo",
]  # fmt: skip
THINGS = [
    "pens", "hens", "books", "coins", "hats", "cups", "eggs", "stamps", "shells", "chairs", "spoons", "boats",
    "keys", "bells", "pots",
]  # fmt: skip
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NOTED = ("Noted.", "All right.", "I will keep that in mind.", "Thank you for telling me.", "Good to know.")
ASIDES = (
    ("It is raining here.", "Then it is a good day to stay in."),
    ("I had soup for lunch.", "Soup is warm and filling."),
    ("The bus was late again.", "That is annoying. I hope you got there in time."),
    ("My phone is nearly empty.", "Plug it in before it goes off."),
)
REFERENCES = (  # what is spoken of, a sentence about it, question, answers
    ("a dog", "A dog is a friendly animal that barks.", "How many legs does it have?", ["four", "4"]),
    ("a spider", "A spider spins webs and eats flies.", "How many legs does it have?", ["eight", "8"]),
    ("a hen", "A hen is a farm bird.", "What does it lay?", ["egg", "eggs"]),
    ("a bee", "A bee flies from flower to flower.", "What does it make?", ["honey"]),
    ("a cow", "A cow eats grass all day.", "What do we drink that comes from it?", ["milk"]),
    ("France", "France is a country in Europe.", "What is its capital?", ["Paris"]),
    ("Italy", "Italy is a country by the sea.", "What is its capital?", ["Rome"]),
    ("England", "England is a part of Great Britain.", "What is its largest city?", ["London"]),
    ("a banana", "A banana is a soft, sweet fruit.", "What colour is it when it is ripe?", ["yellow"]),
    ("snow", "Snow falls in winter.", "What colour is it?", ["white"]),
    ("grass", "Grass grows in the meadow.", "What colour is it?", ["green"]),
    ("a triangle", "A triangle is a simple shape.", "How many sides does it have?", ["three", "3"]),
    ("a week", "A week begins on Monday.", "How many days does it have?", ["seven", "7"]),
    ("a year", "A year goes from winter to winter.", "How many months does it have?", ["twelve", "12"]),
    ("a sheep", "A sheep lives on a farm.", "What do we make from its coat?", ["wool"]),
    ("ice", "Ice is hard and cold.", "What does it become when it melts?", ["water"]),
    ("a puppy", "A puppy likes to play.", "What will it be when it has grown up?", ["dog"]),
    ("a kitten", "A kitten is small and soft.", "What will it be when it has grown up?", ["cat"]),
    ("the Sun", "The Sun gives light and warmth.", "Is it a star or a planet?", ["star"]),
    ("the Moon", "The Moon shines at night.", "Which planet does it go round?", ["Earth"]),
    ("a car", "A car takes people from place to place.", "How many wheels does it have?", ["four", "4"]),
    ("a bicycle", "A bicycle is moved with pedals.", "How many wheels does it have?", ["two", "2"]),
    ("blood", "Blood flows through the body.", "What colour is it?", ["red"]),
    ("a hand", "A hand can hold things.", "How many fingers does it have?", ["five", "5"]),
    ("Egypt", "Egypt is a hot country.", "Which river flows through it?", ["Nile"]),
    ("bread", "Bread is eaten every day.", "What is the flour for it made from?", ["wheat", "grain", "rye"]),
)
ORDERS = (  # rule, reply, constraint
    ("From now on write in capital letters only.", "FINE, I WILL.", {"kind": "all_upper"}),
    ("Write everything in small letters from here on.", "all right, i will.", {"kind": "all_lower"}),
    ("Use no commas in any answer today.", "I will leave them out.", {"kind": "no_commas"}),
    ("Answer every question in exactly one sentence.", "I will.", {"kind": "sentences", "n": 1, "relation": "exactly"}),
    ("Never use more than ten words.", "Agreed.", {"kind": "words", "n": 10, "relation": "at_most"}),
    ("End each answer with the words So it is.", "I will do so. So it is.", {"kind": "end_phrase",
     "phrase": "So it is."}),
)  # fmt: skip
QUESTIONS = (
    "What is a river?", "Why do people sleep?", "What is a good breakfast?", "How do I get to know my neighbours?",
    "What is a forest like?", "What can one do on a rainy day?", "Why are bees useful?", "What is a village?",
)  # fmt: skip
WARES = ["bread", "cheese", "apples", "soap", "rice", "butter", "onions", "tea", "nuts", "jam"]
COLOURS = ["red", "blue", "green", "yellow", "white", "black", "brown"]
GOODS = ["car", "coat", "bicycle", "bag", "lamp", "scarf", "house"]
TOPICS = ("my garden", "my old car", "my sister's wedding", "the new kitchen", "my trip to the coast")


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def aside(rng: random.Random) -> list[dict]:
    said, reply = rng.choice(ASIDES)
    return [user(said), assistant(reply)]


def correction(rng: random.Random, n: int) -> dict:
    old, new = rng.sample(NUMBERS, 2)
    thing = THINGS[n % len(THINGS)]
    messages = [user(f"I have {old} {thing}."), assistant(rng.choice(NOTED))]
    messages += [user(f"Sorry, that was wrong. I have {new} {thing}."), assistant(rng.choice(NOTED))]
    messages += aside(rng) if n % 2 else []
    asked = user(f"How many {thing} do I have?")
    digit = str(NUMBERS.index(new) + 2)
    return {
        "messages": [*messages, asked], "answers": [new, digit],
        "constraints": [{"kind": "words_forbidden", "words": [old]}],
    }  # fmt: skip


def reference(rng: random.Random, n: int) -> dict:
    what, sentence, question, answers = REFERENCES[n % len(REFERENCES)]
    return {"messages": [user(f"Tell me about {what}."), assistant(sentence), user(question)], "answers": list(answers)}


def order(rng: random.Random, n: int) -> dict:
    rule, reply, constraint = ORDERS[n % len(ORDERS)]
    question = QUESTIONS[(n + n // len(ORDERS)) % len(QUESTIONS)]
    return {"messages": [user(rule), assistant(reply), user(question)], "constraints": [constraint]}


def growing_list(rng: random.Random, n: int) -> dict:
    wares = rng.sample(WARES, 3)
    messages = [user(f"My shopping list: {wares[0]} and {wares[1]}."), assistant(rng.choice(NOTED))]
    messages += [user(f"Put {wares[2]} on it too."), assistant("Done.")]
    messages += [user(("What is on my list now?", "Read me the whole list.")[n % 2])]
    return {"messages": messages, "constraints": [{"kind": "keywords_include", "words": wares}]}


def people(rng: random.Random, n: int) -> dict:
    a, b = rng.sample(NAMES, 2)
    first, second = rng.sample(("plays the drums", "bakes cakes", "paints doors", "keeps bees", "sells fish"), 2)
    messages = [
        user(f"{a} {first}."),
        assistant(rng.choice(NOTED)),
        user(f"{b} {second}."),
        assistant(rng.choice(NOTED)),
    ]
    who, what, other = ((a, first, b), (b, second, a))[n % 2]
    messages += [user(f"Who {what}, {a} or {b}?")]
    forbidden = {"kind": "words_forbidden", "words": [other]}
    return {"messages": messages, "answers": [who], "constraints": [forbidden]}


def back(rng: random.Random, n: int) -> dict:
    topic, name = TOPICS[n % len(TOPICS)], NAMES[(3 * n) % len(NAMES)]
    messages = [
        user(f"Let us talk about {topic}. {name} helps me with it."),
        assistant("Gladly. It is good to have help."),
    ]
    messages += [*aside(rng), user(f"Back to {topic}: who helps me?")]
    return {"messages": messages, "answers": [name]}


def choice(rng: random.Random, n: int) -> dict:
    good, other = rng.sample(COLOURS, 2)
    thing = GOODS[n % len(GOODS)]
    messages = [user(f"I saw a {good} {thing} and a {other} {thing}."), assistant("Which one did you like better?")]
    messages += [user(f"The {good} one."), assistant(rng.choice(NOTED)), user(f"What colour is the {thing} I liked?")]
    return {"messages": messages, "answers": [good], "constraints": [{"kind": "words_forbidden", "words": [other]}]}


KINDS: dict[str, Callable[[random.Random, int], dict]] = {
    "correction": correction, "reference": reference, "order": order, "list": growing_list, "people": people,
    "back": back, "choice": choice,
}  # fmt: skip


def items(seed: int = 0) -> Iterator[dict]:
    """All items, numbered from 1; nothing is asked twice."""
    rng, number, seen = random.Random(seed), 0, set()
    for kind, make in KINDS.items():
        n = made = 0
        while made < EACH:
            one, n = make(rng, n), n + 1
            if str(one["messages"]) in seen:
                continue
            seen.add(str(one["messages"]))
            made, number = made + 1, number + 1
            yield {"id": f"turn-{number:03}", "cluster": kind, **one}
