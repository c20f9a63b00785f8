"""Little texts to sort under labels: rows of category "classify".

Every text is hand-written under its label; the wording of the request, the order of the labels and the length of the
answer (label alone, or label with its reason) vary.  Leaves out texts on which readers could disagree.
"""

import random
from collections.abc import Iterator

# task: what the label is called, then label: reason and texts
TASKS: dict[str, tuple[str, dict[str, tuple[str, list[str]]]]] = {
    "sentiment": (
        "sentiment",
        {
            "positive": (
                "the writer is pleased",
                [
                    "The bread was fresh and the staff were lovely.",
                    "I have worn these boots for three years and love them.",
                    "What a clear and helpful guide, thank you.",
                    "Our children asked to go back the very next day.",
                    "The repair took an hour and cost almost nothing. Wonderful!",
                    "This is the best pillow I have owned.",
                    "The singer had a beautiful voice.",
                    "Everything arrived early and well packed.",
                    "My new glasses are light and comfortable.",
                    "A friendly team and a spotless room.",
                    "The puppet show made us all laugh.",
                    "Smooth ride, fair fare, kind driver.",
                ],
            ),
            "negative": (
                "the writer is unhappy",
                [
                    "The zip broke on the first day.",
                    "We waited an hour for cold chips.",
                    "The map was wrong and we got lost.",
                    "I would not give this game to anyone.",
                    "The seats were hard and the sound was awful.",
                    "Nobody answered my three letters.",
                    "The colour washed out at once.",
                    "A dull book with a silly ending.",
                    "The heater is loud and hardly warms the room.",
                    "They sent the wrong lid twice.",
                    "My tea was full of soap.",
                ],
            ),
            "neutral": (
                "it only states a fact",
                [
                    "The box holds twelve pens.",
                    "The film lasts ninety minutes.",
                    "The parcel was sent on Tuesday.",
                    "The hotel has forty rooms.",
                    "The course begins in May.",
                    "The cable is two metres long.",
                    "The gym is next to the bank.",
                    "The second edition has a blue cover.",
                ],
            ),
        },
    ),
    "topic": (
        "topic",
        {
            "sport": (
                "it is about a game or a match",
                [
                    "The goalkeeper signed a new contract.",
                    "She won the race by half a second.",
                    "The match ended in a draw.",
                    "Our rowing team trains at dawn.",
                    "He served three aces in a row.",
                    "The referee showed a yellow card.",
                ],
            ),
            "cooking": (
                "it is about making food",
                [
                    "Stir the sauce until it thickens.",
                    "Let the dough rest for an hour.",
                    "Chop the parsley very finely.",
                    "Roast the carrots with a little honey.",
                    "Season the soup with pepper.",
                    "Bake the pie until the crust is golden.",
                ],
            ),
            "weather": (
                "it is about the weather",
                [
                    "Strong winds will reach the coast tonight.",
                    "Expect fog in the valleys until noon.",
                    "A warm and dry week lies ahead.",
                    "Hail damaged several roofs on Sunday.",
                    "Frost is likely in the early morning.",
                    "Clouds will clear by evening.",
                ],
            ),
            "money": (
                "it is about money",
                [
                    "The bank has lowered its rates.",
                    "Her rent rises by thirty euros.",
                    "They paid off the loan last year.",
                    "The tax form is due in spring.",
                    "He put half of his wages into savings.",
                    "The shop gave me a ten euro refund.",
                ],
            ),
        },
    ),
    "urgency": (
        "urgency",
        {
            "urgent": (
                "it cannot wait",
                [
                    "The cellar is filling with water!",
                    "My father has chest pain and cannot breathe well.",
                    "There is smoke coming out of the oven.",
                    "The brakes of the bus do not work.",
                    "Somebody is stuck in the lift.",
                    "The freezer with all the vaccines has stopped.",
                    "A wire has fallen on the pavement and is sparking.",
                    "A small child is alone by the canal.",
                ],
            ),
            "not urgent": (
                "it can wait",
                [
                    "The hallway could use a new picture.",
                    "Please send the old newsletter when you have time.",
                    "We might plant a hedge next year.",
                    "The label on my locker is faded.",
                    "Could we talk about holiday plans some day?",
                    "A button on the spare coat is loose.",
                    "The clock in the attic is two minutes fast.",
                    "We could order new napkins for next spring.",
                ],
            ),
        },
    ),
    "spam": (
        "kind of message",
        {
            "spam": (
                "it asks for money or secrets in a suspicious way",
                [
                    "You are today's lucky visitor! Send your card number to get a free phone.",
                    "Double your money in one day, no risk at all!",
                    "Your parcel is waiting. Pay 2 euros here and enter your PIN.",
                    "Miracle cream makes you twenty years younger. Order in the next ten minutes!",
                    "Dear winner, we need your bank password to pay out the prize.",
                    "Work from home and earn 9000 a week. Just pay the starting fee.",
                    "Final notice: confirm your secret code now or lose your mailbox.",
                ],
            ),
            "normal": (
                "it is an ordinary message",
                [
                    "Can you bring the salad on Sunday?",
                    "The minutes of the last meeting are on the board.",
                    "Your library books are due on Friday.",
                    "I left my scarf at your place.",
                    "The class trip starts at half past eight.",
                    "Thanks for the photos, they are lovely.",
                    "The plumber can come at four today.",
                ],
            ),
        },
    ),
    "sentence": (
        "kind of sentence",
        {
            "question": (
                "it asks something",
                [
                    "Where did you park the car", "Have the swallows come back yet", "Who painted the gate",
                    "How long does the soup need", "Is the bridge open again", "Whose umbrella is this",
                ],
            ),
            "statement": (
                "it says something",
                [
                    "The swallows came back on Monday",
                    "Somebody painted the gate",
                    "My car is behind the church",
                    "The soup needs another hour",
                    "Our neighbour plays the horn",
                    "This umbrella belongs to Ruth",
                ],
            ),
            "command": (
                "it tells someone what to do",
                [
                    "Park the car behind the church", "Paint the gate before Friday", "Leave the soup on the stove",
                    "Wait here for a moment", "Bring me the green folder", "Take your umbrella with you",
                ],
            ),
        },
    ),
    "opinion": (
        "type",
        {
            "fact": (
                "it can be checked",
                [
                    "Iron is a metal.", "A minute has sixty seconds.", "Whales breathe air.",
                    "Rome is the capital of Italy.", "A square has four equal sides.",
                    "Most kinds of wood float on water.", "Spain is in Europe.", "Two plus two is four.",
                ],
            ),
            "opinion": (
                "people can disagree about it",
                [
                    "Violins sound nicer than pianos.",
                    "Purple is an ugly colour.",
                    "Old films are the best.",
                    "Everyone should own a cat.",
                    "Walking is more fun than cycling.",
                    "Soup is a boring meal.",
                    "Beaches are better than mountains.",
                ],
            ),
        },
    ),
}  # fmt: skip
ASKS = [
    "Classify this text as {labels}: {text}",
    "Is this {labels}? {text}",
    "{text}\n\nLabel: {labels}?",
    "Which label fits, {labels}? {text}",
    "Choose the {name} ({labels}): {text}",
    "{text}\n{labels}?",
    "Decide on the {name}, {labels}.\n\n{text}",
    "What is the {name} of this text, {labels}?\n\n{text}",
    "Sort this under {labels}. Text: {text}",
]
ALONE = ["", "", "", " Answer with the label only.", " One label, please."]
WHY = [" Give a short reason.", " Say why.", " Explain your choice in a few words."]
REASONS = ["{l}, because {r}.", "{l}. The reason is that {r}.", "{l}, since {r}."]


def listed(rng: random.Random, labels: list[str]) -> str:
    """The labels in any order as "a, b or c"."""
    mixed = rng.sample(labels, len(labels))
    return ", ".join(mixed[:-1]) + " or " + mixed[-1]


def row(rng: random.Random, task: str, label: str, text: str) -> dict:
    """A text with its question and answer."""
    name, groups = TASKS[task]
    shown = f'"{text}"' if rng.random() < 0.6 else text
    ask = rng.choice(ASKS).format(labels=listed(rng, list(groups)), name=name, text=shown)
    answer = label[0].upper() + label[1:]
    if rng.random() < 0.25:
        joint = " " if ask.endswith(("?", ".", "!", '"')) else ". "
        ask += joint + rng.choice(WHY).strip()
        answer = rng.choice(REASONS).format(l=answer, r=groups[label][0])
    elif ask.endswith(("?", ".", "!", '"')):
        ask += rng.choice(ALONE)
    return {"category": "classify", "prompt": ask, "completion": answer}


def rows(seed: int = 0) -> Iterator[dict]:
    """Every text once, in mixed order."""
    rng = random.Random(seed)
    made = [
        row(rng, task, label, text)
        for task, (_, groups) in TASKS.items()
        for label, (_, texts) in groups.items()
        for text in texts
    ]
    rng.shuffle(made)
    yield from made
