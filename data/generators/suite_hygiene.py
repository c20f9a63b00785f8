"""Evaluation suite of conversation hygiene: 180 items in four clusters.

"stops" asks short everyday questions whose answer should be finished and short; "role" ends a conversation with a turn
that invites the model to speak for the user; "recall" asks back what the user told earlier; "system" gives a rule that
a program can check.  The items name no expected wording except for recall, and none of the training texts is used.
"""

import random
from collections.abc import Iterator

STOPS = [
    "Why do leaves turn yellow in autumn?",
    "Suggest a snack for a long train ride.",
    "What is a thermometer for?",
    "Describe a lighthouse in two sentences.",
    "How can I keep a houseplant alive?",
    "Name a bird that cannot fly.",
    "what makes popcorn pop",
    "Give me a title for a story about a lost glove.",
    "Is a tomato a fruit?",
    "What should I bring to a housewarming party?",
    "Tell me a small fact about owls.",
    "What does the word ancient mean?",
    "Write one sentence about snow.",
    "How do I clean a muddy pair of shoes?",
    "What are windows made of?",
    "Recommend a quiet activity for a rainy afternoon.",
    "Why is the sea salty?",
    "explain what a map is",
    "How many minutes are in an hour?",
    "What does a shoemaker do?",
    "Help me say no to an invitation.",
    "What is the largest animal on Earth?",
    "Write a wish for a friend who is ill.",
    "Why do camels have humps?",
    "Give me a synonym for quick.",
    "Which month has the fewest days?",
    "How does a sailing boat move?",
    "Tell me how to boil an egg.",
    "Who takes care of teeth?",
    "What can I do with old newspapers?",
    "Make a sentence with the word bridge.",
    "Why should I drink water?",
    "pls name three vegetables",
    "What is a rainbow?",
    "How do I remember a shopping list?",
    "What is honey made from?",
    "Describe the smell of rain.",
    "What do you say when you meet someone in the evening?",
    "Give one reason to walk to work.",
    "What is a village?",
    "Write a short note to thank a teacher.",
    "Where does wool come from?",
    "How do fish breathe?",
    "What is the plural of mouse?",
    "Suggest a name for a small white goat.",
    "Why do people wear helmets?",
    "Which is heavier, a feather or a brick?",
    "How do I fold a letter?",
    "What is the capital of Mongolia?",
    "Say hello in a friendly way.",
    "What happens to water in deep winter?",
    "Give me advice about saving money.",
    "Name something that floats.",
    "What is an orchestra?",
    "how do u sharpen a pencil",
    "What do bakers need to work?",
    "Tell me about the moon in one sentence.",
    "Why do dogs bark?",
    "Finish this: the early bird catches",
    "What would you pack for a picnic?",
]
EXCHANGES = [
    ("What is a good way to cool a hot room?", "Open the windows in the evening and keep the curtains closed by day."),
    ("Where do swallows go when it gets cold?", "Swallows fly south to warm countries and return in spring."),
    ("I burnt the rice again.", "That happens to many cooks. Try a lower heat and a lid."),
    ("How long is a football match?", "A football match lasts ninety minutes, with a break in the middle."),
    ("Tell me something about camels.", "Camels can go many days without water and walk well on sand."),
    ("My chair squeaks.", "Check the screws first, and then put a drop of oil on the joints."),
    ("Which tree do acorns come from?", "Acorns are the seeds of the oak tree."),
    ("I feel nervous about my driving test.", "A few slow breaths can help. You have practised for this."),
    ("Explain what yeast does.", "Yeast eats sugar and makes gas, and the gas lifts the dough."),
    ("What is a harbour?", "A harbour is a safe place at the coast where ships can stay."),
    ("Suggest a gift for my grandfather.", "A warm scarf or a framed photo of the family would be a kind gift."),
    ("Why does iron rust?", "Iron rusts when it meets water and air for a long time."),
    ("Give me a word for very happy.", "A good word for very happy is delighted."),
    ("How do I get ink out of a shirt?", "Dab it with a little alcohol, and then wash it in cold water."),
    ("What is the job of a judge?", "A judge listens to both sides in court and decides by the law."),
    ("We moved to a new flat.", "Congratulations on the new flat! I wish you a good start there."),
    ("Which animal builds dams?", "Beavers build dams from branches and mud."),
    ("Is the sun a star?", "Yes, the sun is the star closest to us."),
    ("How can I wake up earlier?", "Go to bed a little sooner every night and put the alarm far from the bed."),
    ("What does a compass show?", "A compass shows which way is north."),
]
LAST_TURNS = [
    "Thanks.", "Okay, and what else?", "Hm, I am not sure about that.", "Could you put that differently?", "Why?",
    "Great, talk to you later!", "Can you tell me a little more?", "no way", "And what should I ask next?",
    "That is not what I meant.", "Is that always true?", "Sounds good.", "I already knew that.", "Shorter, please.",
    "Let us talk about trains instead.", "What would my sister say about it?", "hello?", "You are funny.",
    "Give an example.", "Who told you that?",
]  # fmt: skip
# values, how the user tells it, how the user asks it back
FACTS = [
    (
        ["Mortimer", "Philippa", "Cornelia", "Anselm", "Beatrix", "Rosalind"],
        "People call me {v}, by the way.",
        "Can you say which name people call me?",
    ),
    (
        ["violin", "trumpet", "flute", "accordion", "guitar"],
        "I have played the {v} since I was six.",
        "Which instrument have I played since childhood?",
    ),
    (["October", "March", "August", "January", "April"], "My birthday falls in {v}.", "In which month was I born?"),
    (
        ["Gwendolyn", "Tabitha", "Marigold", "Henrietta", "Clementine"],
        "My little sister is named {v}.",
        "How is my little sister named?",
    ),
    (["nuts", "milk", "eggs", "shellfish", "wheat"], "I always fall ill after eating {v}.", "Which food makes me ill?"),
    (["tractor", "bicycle", "scooter", "motorbike", "horse"], "I go to work on a {v}.", "What do I go to work on?"),
    (
        ["Norway", "Portugal", "Peru", "Japan", "Kenya"],
        "In June my family travels to {v}.",
        "To which country does my family travel in June?",
    ),
    (
        ["astronomy", "geography", "history", "biology", "drawing"],
        "At college I study {v}.",
        "Which subject do I study?",
    ),
    (["eleven", "seventeen", "thirteen", "forty", "nineteen"], "My lucky number is {v}.", "Tell me my lucky number."),
    (
        ["Thursday", "Tuesday", "Sunday", "Monday", "Friday"],
        "I have an appointment with the dentist on {v}.",
        "On which day must I see the dentist?",
    ),
]
FILLERS = [
    ("Which bird can turn its head far around?", "An owl can turn its head very far around."),
    ("What is glue good for?", "Glue holds two things together."),
    ("Today went by so fast.", "Busy days often feel short. I hope it was a good one."),
    ("How do you spell the number after seven?", "It is spelled e-i-g-h-t."),
    ("What grows on a vine?", "Grapes grow on a vine."),
    ("Do snakes have legs?", "No, snakes have no legs."),
    ("Give me a polite word.", "A polite word is please."),
    ("What do we call the morning meal?", "The morning meal is called breakfast."),
]
NUMERALS = {"eleven": "11", "seventeen": "17", "thirteen": "13", "forty": "40", "nineteen": "19"}
ACKNOWLEDGED = ["Thank you, I have noted it.", "All right, I will remember it.", "Understood."]
# rule in the system message, its constraints
RULES: list[tuple[str, list[dict]]] = [
    ("Reply with exactly one sentence.", [{"kind": "sentences", "n": 1, "relation": "exactly"}]),
    ("Write everything in lower case, with no capital letters at all.", [{"kind": "all_lower"}]),
    ('Every reply must end with the word "goodbye".', [{"kind": "end_phrase", "phrase": "goodbye"}]),
    ("Use ten words or fewer.", [{"kind": "words", "n": 10, "relation": "at_most"}]),
    ("Put no commas in your reply.", [{"kind": "no_commas"}]),
    ("WRITE IN CAPITAL LETTERS ONLY.", [{"kind": "all_upper"}]),
    ("Reply as a list of exactly three bullets.", [{"kind": "bullets", "n": 3}]),
    ("Put your whole reply inside double quotation marks.", [{"kind": "quotation"}]),
    (
        "Reply in no more than two sentences and never use the word very.",
        [{"kind": "sentences", "n": 2, "relation": "at_most"}, {"kind": "words_forbidden", "words": ["very"]}],
    ),
    ('Every reply must contain the word "sailor".', [{"kind": "keywords_include", "words": ["sailor"]}]),
]
REQUESTS = [
    "What is a good breakfast before a hike?",
    "Describe an old bridge.",
    "How can I cheer up a tired friend?",
    "What is fun about the seaside?",
    "How should I store onions?",
    "Say something about trams.",
    "Why do children like puddles?",
    "Give me a tip for tidy desks.",
    "What belongs in a toolbox?",
    "Tell me about hedgehogs.",
    "What can I cook with carrots?",
    "How does one stay calm in a queue?",
    "What is a windmill?",
    "Why visit a museum?",
    "Which clothes suit a windy day?",
]


def _user(text: str) -> dict:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def _stops(_: random.Random) -> Iterator[dict]:
    """Sixty single questions."""
    for question in STOPS:
        yield {"messages": [_user(question)]}


def _role(rng: random.Random) -> Iterator[dict]:
    """Every exchange twice, with another last turn, and half the time after an earlier exchange."""
    for turn in range(2):
        last = rng.sample(LAST_TURNS, len(LAST_TURNS))
        for place, (question, reply) in enumerate(EXCHANGES):
            history = [_user(question), _assistant(reply)]
            if (place + turn) % 2:
                earlier, said = EXCHANGES[(place + 7) % len(EXCHANGES)]
                history = [_user(earlier), _assistant(said), *history]
            yield {"messages": [*history, _user(last[place])]}


def _recall(rng: random.Random) -> Iterator[dict]:
    """Every value of every fact, at a distance of none, one or two exchanges."""
    told = [(value, tell, ask) for values, tell, ask in FACTS for value in rng.sample(values, 5)]
    for place, (value, tell, ask) in enumerate(told):
        messages = [_user(tell.format(v=value)), _assistant(rng.choice(ACKNOWLEDGED))]
        for question, reply in rng.sample(FILLERS, place % 3):
            messages += [_user(question), _assistant(reply)]
        yield {"messages": [*messages, _user(ask)], "answers": [value, *filter(None, [NUMERALS.get(value)])]}


def _system(rng: random.Random) -> Iterator[dict]:
    """Every rule with three requests."""
    requests = rng.sample(REQUESTS, len(REQUESTS)) + rng.sample(REQUESTS, len(REQUESTS))
    for place, request in enumerate(requests):
        rule, constraints = RULES[place % len(RULES)]
        messages = [{"role": "system", "content": rule}, _user(request)]
        yield {"messages": messages, "constraints": constraints}


CLUSTERS = {"stops": _stops, "role": _role, "recall": _recall, "system": _system}


def items(seed: int = 0) -> Iterator[dict]:
    """All items, cluster by cluster, numbered from 1."""
    rng = random.Random(seed)
    number = 0
    for cluster, make in CLUSTERS.items():
        for item in make(rng):
            number += 1
            yield {"id": f"hyg-{number:03}", "cluster": cluster, "check": cluster, **item}
