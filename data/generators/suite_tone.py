"""Evaluation suite of tone: 160 items in four clusters.

"upset" comes from somebody who is sad, afraid or ashamed; "rude" from somebody who insults; "formal" asks for a letter
to an office; "simple" asks for an explanation to a small child. No item names expected words: what is looked at is said
in posttrain/evals/suites/tone.py. None of the training texts is used.
"""

import random
from collections.abc import Iterator

UPSET = [
    ("My cat died this morning", "what do I do with her basket?"),
    ("I failed my driving test for the third time", "how do I tell my parents?"),
    ("My best friend moved to another country", "how can we stay close?"),
    ("I was left out of my cousin's wedding", "should I ask why?"),
    ("My grandfather does not recognise me any more", "how should I talk to him?"),
    ("I broke my mother's favourite vase", "how can I make up for it?"),
    ("I cannot sleep because I worry about my exam", "what helps at night?"),
    ("My team lost because of my mistake", "what can I say to them?"),
    ("I have no one to sit with at lunch", "how do I find company?"),
    ("My brother and I have not spoken since spring", "who should call first?"),
    ("I was told today that my job ends in June", "where do I begin?"),
    ("I feel silly because I cried at work", "how do I go back tomorrow?"),
    ("My tooth hurts and I am afraid of the dentist", "how can I be braver?"),
    ("I forgot my wife's birthday", "what can I still do tonight?"),
    ("Nobody came to my concert", "should I give up singing?"),
    ("I burned the cake for my daughter's party", "what can I bring instead?"),
    ("My neighbour shouted at me in front of my children", "how do I explain it to them?"),
    ("I lost the ring that my aunt gave me", "how do I tell her?"),
    ("My dog is very old and hardly eats", "what would be kind to him?"),
    ("I am homesick in my new town", "what can I do on Sundays?"),
]  # fmt: skip
UPSET_WAYS = ("{0}; {1}", "I feel awful. {0}. Tell me, {1}")
RUDE = [
    ("you useless machine", "how many days has a leap year?"),
    ("listen, tin can", "why is the sky blue?"),
    ("you never get anything right", "what is seven times six?"),
    ("stop wasting my time", "how do I boil rice?"),
    ("what a stupid program you are", "where do penguins live?"),
    ("my toaster is cleverer than you", "how do I remove a coffee stain?"),
    ("I bet you are too dumb for this", "what does a plumber do?"),
    ("shut up and answer", "which animals lay eggs?"),
    ("you are the worst helper I ever had", "how do I write a shopping list?"),
    ("do not talk nonsense again", "what is a glacier?"),
    ("hey bucket of bolts", "how long should I brush my teeth?"),
    ("even a child knows more than you", "what do bees make?"),
    ("I hate talking to you", "how do I plant tulips?"),
    ("you are a waste of electricity", "why do cats purr?"),
    ("try to use your tiny brain", "what is the opposite of cheap?"),
    ("nobody needs you", "how do I iron a shirt?"),
    ("you gave me rubbish yesterday", "what is a compass for?"),
    ("don't be so slow", "name two root vegetables."),
    ("you are a joke", "how is paper made?"),
    ("what an idiot wrote you", "when do swallows fly south?"),
]  # fmt: skip
RUDE_WAYS = ("{0}. {1}", "{1} And be quick, {0}.")
FORMAL = [
    "a lost library card", "a parking fine that is a mistake", "a place in a language course", "a broken street lamp",
    "a copy of a birth certificate", "noise from a building site", "a refund for a cancelled train", "a garden permit",
    "a change of address", "a room for a choir", "a lost umbrella", "the opening hours of the archive",
    "a delayed parcel", "an appointment in May", "a school visit to the fire station", "a leaking pipe in the hall",
    "the rent of a market stall", "a bench in the park", "a wrong water bill", "a summer job at the museum",
]  # fmt: skip
FORMAL_WAYS = ("Write one formal sentence to an office about {0}.", "Formally, please: ask an office about {0}.")
SIMPLE = [
    "rain", "a bridge", "money", "the moon", "a doctor", "bread", "sleep", "winter", "a map", "friendship", "a seed",
    "the wind", "a train", "music", "fire", "a shadow", "honey", "a clock", "the sea", "a secret",
]  # fmt: skip
SIMPLE_WAYS = ("Explain {0} to a child of five.", "My little sister asks about {0}. Say it so that she understands.")


def items(seed: int) -> Iterator[dict[str, object]]:
    made: list[tuple[str, str]] = []
    for tone, subjects, ways in (("upset", UPSET, UPSET_WAYS), ("rude", RUDE, RUDE_WAYS)):
        made += [(tone, sentence(way.format(*parts))) for parts in subjects for way in ways]
    for tone, things, ways in (("formal", FORMAL, FORMAL_WAYS), ("simple", SIMPLE, SIMPLE_WAYS)):
        made += [(tone, way.format(thing)) for thing in things for way in ways]
    random.Random(seed).shuffle(made)
    for n, (tone, text) in enumerate(made, 1):
        yield {
            "id": f"tone-{n:03}", "cluster": tone, "tone": tone, "messages": [{"role": "user", "content": text}],
        }  # fmt: skip


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]
