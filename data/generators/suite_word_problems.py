"""Evaluation suite of word problems: 200 grade-school questions in wordings that training does not use.

The numbers come from the same small ranges as the training rows, and a problem's cluster is its template.  One
template in three needs two steps.  Leaves out the worked answer: only the final number counts.
"""

import random
from collections.abc import Callable, Iterator

import _draws as draw

NAMES = [
    "Astrid", "Bruno", "Celine", "Dmitri", "Esther", "Farid", "Greta", "Hugo", "Ingrid", "Jonas", "Keiko", "Lars",
    "Maya", "Nils", "Odette", "Pablo", "Quentin", "Renata", "Stefan", "Tomoko", "Ursula", "Vera", "Walter", "Xenia",
]  # fmt: skip
ITEMS = [
    "feathers", "acorns", "magnets", "keys", "candles", "bottles", "lemons", "walnuts", "spoons", "puzzles", "dolls",
    "whistles", "peaches", "kites", "brushes", "envelopes",
]  # fmt: skip
WORDS = {"p": NAMES, "r": NAMES, "items": ITEMS}

Numbers = Callable[[random.Random], draw.Numbers]

TEMPLATES: dict[str, tuple[Numbers, str]] = {
    "shelf-add": (
        draw.add,
        "On a shelf stand {a} {items}. {p} sets another {b} beside them. "
        "What is the number of {items} on the shelf now?",
    ),
    "fish-add": (draw.add, "A pond held {a} fish until {p} let {b} extra fish swim into it. How many fish swim there?"),
    "letters-add": (
        draw.add,
        "On Monday {p} wrote {a} letters, on Tuesday {b}. How many letters did {p} write on the two days?",
    ),
    "rain-add": (draw.add, "It rained on {a} days in spring and on {b} days in summer. On how many days did it rain?"),
    "candles-sub": (draw.sub, "Of the {a} candles on the table {b} have burnt down. How many still burn?"),
    "tree-sub": (draw.sub, "A tree carried {a} lemons. The wind blew down {b}. How many lemons hang on the tree?"),
    "seats-sub": (draw.sub, "A hall has {a} seats and {b} are taken. How many seats are free?"),
    "height-sub": (
        draw.sub,
        "The old wall is {a} feet high and the new one {b} feet. By how many feet is the old wall higher?",
    ),
    "birds-sub": (draw.sub, "{a} birds were sitting on the roof when {b} flew off. How many birds remained there?"),
    "pages-sub": (draw.sub, "{p} owns a book of {a} pages and stopped after page {b}. How many pages come after that?"),
    "wheels-mul": (draw.mul, "Each cart has {a} wheels. How many wheels do {b} carts have?"),
    "eggs-mul": (draw.mul, "{p} packs {a} eggs in every carton. What number of eggs do {b} cartons hold?"),
    "floors-mul": (draw.mul, "A house has {b} floors, and every floor has {a} windows. How many windows is that?"),
    "laps-mul": (draw.mul, "{p} swims {a} laps each morning. How many laps does {p} swim in {b} mornings?"),
    "wage-mul": (draw.mul, "For one hour of work {p} is paid {a} coins. How many coins are paid for {b} hours?"),
    "teams-div": (draw.div, "{a} runners form {b} teams of the same size. How many runners are in a team?"),
    "rope-div": (
        draw.div,
        "{p} cuts a rope of {a} feet into {b} pieces of the same length. How many feet long is a piece?",
    ),
    "boats-div": (draw.div, "A boat carries {b} persons. How many boats do {a} persons need if every boat is full?"),
    "weeks-div": (draw.div, "{p} wants {a} {items} and collects {b} every week. After how many weeks is that done?"),
    "eggs-left": (
        draw.left_over,
        "{p} bakes with {b} eggs per cake and has {a} eggs. After making as many cakes "
        "as possible, how many eggs remain?",
    ),
    "sweets-left": (
        draw.left_over,
        "{a} sweets are handed out evenly to {b} girls, as many as possible. How many sweets stay in the bag?",
    ),
    "clock-add": (
        draw.clock,
        "{p} falls asleep at {a} o'clock and wakes up {b} hours later. Which hour does the clock show then?",
    ),
    "walk-minutes": (
        draw.minutes,
        "The walk uphill takes {p} {a} minutes, and the walk down {b} minutes. How many minutes are both walks?",
    ),
    "age-add": (draw.add, "{p} is {a}. {r} was born {b} years before {p}. How many years old is {r}?"),
    "kitchen-two": (
        draw.add_sub,
        "The kitchen had {a} spoons. {p} brought {b} from the cellar, and {r} broke {c}. "
        "How many good spoons does the kitchen have?",
    ),
    "purse-two": (
        draw.sub_sub,
        "{p}'s purse held {a} coins. {b} went for bread and {c} for milk. "
        "How many coins does the purse hold at the end?",
    ),
    "stairs-two": (
        draw.mul_add,
        "{p} climbs {a} stairs of {b} steps each and then {c} single steps. How many steps does {p} climb?",
    ),
    "bottles-two": (
        draw.mul_sub,
        "{a} crates arrive with {b} bottles in each, but {c} bottles are cracked. How many bottles are whole?",
    ),
    "stall-two": (
        draw.change,
        "At a stall, {p} chooses {a} {items} for {b} dollars apiece and gives the seller "
        "{c} dollars. How many dollars must the seller return?",
    ),
    "teams-two": (draw.add_div, "{a} boys and {b} girls are split into {c} equal teams. How many are in every team?"),
    "pets-two": (
        draw.pair_sum,
        "{p} caught {a} crabs. {r} caught {b} crabs more than {p}. What is the number of crabs in their shared bucket?",
    ),
    "choir-two": (
        draw.add_sub,
        "A choir with {a} singers welcomes {b} new ones, and later {c} move away. How large is the choir then?",
    ),
    "jar-two": (
        draw.mul_add,
        "Every night for {a} nights {p} drops {b} {items} in a jar that began with {c}. "
        "How many {items} does the jar contain?",
    ),
}
COUNT = 200


def items(seed: int = 0) -> Iterator[dict]:
    """The templates in turn until the suite is full; no question twice."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < COUNT:
        cluster = list(TEMPLATES)[len(seen) % len(TEMPLATES)]
        numbers, text = TEMPLATES[cluster]
        values = {key: rng.choice(words) for key, words in WORDS.items()}
        values["p"], values["r"] = rng.sample(NAMES, 2)
        drawn = numbers(rng)
        question = text.format(**values, **drawn)
        if question in seen:
            continue
        seen.add(question)
        yield {
            "id": f"word-{len(seen):03}",
            "cluster": cluster,
            "messages": [{"role": "user", "content": question}],
            "answer": str(drawn["n"]),
        }
