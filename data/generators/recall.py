"""Short conversations about facts the user states: rows of category "recall".

The user tells one to three things about themselves, the talk moves on for a turn, and one of the things is asked
back; other rows ask what the first question was, or for something that was never told.  Leaves out facts that change
during the conversation: the hand-written conversations hold those.
"""

import random
from collections.abc import Iterator

NAMES = [
    "Alma", "Bastian", "Chloe", "Daniel", "Edith", "Finn", "Gloria", "Harold", "Irene", "Jakob", "Karla", "Liam",
    "Martha", "Nora", "Otto", "Peter", "Rita", "Simon", "Thea", "Ulla", "Vincent", "Wanda", "Tom", "Lena", "Mustafa",
    "Aisha", "Rahul", "Mei", "Pedro", "Sofia", "Kofi", "Jasmine",
]  # fmt: skip
PETS = ["dog", "cat", "rabbit", "parrot", "hamster", "pony", "turtle", "canary"]
PET_NAMES = [
    "Biscuit", "Shadow", "Pepper", "Daisy", "Max", "Coco", "Rusty", "Bubbles", "Ginger", "Socks", "Luna", "Bruno",
    "Patch", "Honey", "Smokey", "Pip",
]  # fmt: skip
CITIES = [
    "Lisbon", "Oslo", "Boston", "Leeds", "Madrid", "Toronto", "Hamburg", "Dublin", "Cairo", "Osaka", "Vienna",
    "Chicago", "Prague", "Lima", "Sydney", "Geneva", "Bristol", "Athens",
]  # fmt: skip
COLOURS = ["green", "blue", "red", "yellow", "purple", "orange", "white", "brown", "pink", "black", "silver"]
FOODS = [
    "pancakes", "tomato soup", "rice with beans", "apple pie", "noodles", "fried fish", "pizza", "mushrooms",
    "lentil stew", "cheese", "roast potatoes", "strawberries", "dumplings", "omelettes",
]  # fmt: skip
JOBS = [
    "a nurse", "a baker", "a teacher", "a bus driver", "a carpenter", "a student", "a gardener", "a painter",
    "a farmer", "an engineer", "a librarian", "a cook", "a tailor", "a musician",
]  # fmt: skip
PLANS = [
    "visit my aunt", "paint the kitchen", "go hiking", "bake bread", "clean the garage", "see a play", "plant tomatoes",
    "repair my bicycle", "swim in the lake", "write a letter to a friend", "move a sofa",
]  # fmt: skip
HOBBIES = [
    "chess", "knitting", "fishing", "painting", "running", "singing", "photography", "gardening", "sailing", "reading",
    "baking", "dancing",
]  # fmt: skip

# kind: values, ways to tell it, ways to ask it back, ways to answer, ways to admit that it was not told
FACTS: dict[str, tuple[list[str], list[str], list[str], list[str], str]] = {
    "name": (
        NAMES,
        ["my name is {v}", "I am {v}", "I'm called {v}"],
        ["What is my name?", "Do you remember my name?", "what was my name again?", "Who am I?"],
        ["Your name is {v}.", "You are {v}.", "You told me that your name is {v}."],
        "your name",
    ),
    "pet": (
        [f"{pet} named {name}" for pet in PETS for name in PET_NAMES],
        ["I have a {v}", "I own a {v}", "there is a {v} at home with me"],
        ["What pet do I have?", "Do you remember my pet?", "Which animal lives with me?", "what is my pet called?"],
        ["You have a {v}.", "Your pet is a {v}.", "You told me about a {v}."],
        "which pet you have",
    ),
    "city": (
        CITIES,
        ["I live in {v}", "my home is in {v}", "I come from {v}"],
        ["Where do I live?", "Which city is my home?", "what city did I mention?", "Do you know where I live?"],
        ["You live in {v}.", "Your home is in {v}.", "You said {v} is your city."],
        "where you live",
    ),
    "colour": (
        COLOURS,
        ["my favourite colour is {v}", "I like {v} more than other colours", "I love the colour {v}"],
        ["What is my favourite colour?", "Which colour do I like best?", "what colour did I say I like?"],
        ["Your favourite colour is {v}.", "You like {v} best.", "You said it is {v}."],
        "your favourite colour",
    ),
    "food": (
        FOODS,
        ["my favourite food is {v}", "I like to eat {v}", "I could eat {v} every day"],
        ["What do I like to eat?", "Which food did I tell you about?", "what is my favourite food?"],
        ["You like to eat {v}.", "Your favourite food is {v}.", "You told me that you like {v}."],
        "what you like to eat",
    ),
    "job": (
        JOBS,
        ["I work as {v}", "I am {v}", "my job is to be {v}"],
        ["What is my job?", "What do I do for work?", "which job did I mention?"],
        ["You work as {v}.", "You are {v}.", "You said that you are {v}."],
        "what your job is",
    ),
    "plan": (
        PLANS,
        ["tomorrow I will {v}", "on Saturday I plan to {v}", "this weekend I want to {v}"],
        ["What is my plan?", "What did I say I will do?", "do you remember my plan?"],
        ["You plan to {you}.", "You want to {you}.", "You told me that you will {you}."],
        "what you plan to do",
    ),
    "hobby": (
        HOBBIES,
        ["my hobby is {v}", "I enjoy {v} in my free time", "I spend my evenings with {v}"],
        ["What is my hobby?", "What do I enjoy in my free time?", "which hobby did I mention?"],
        ["Your hobby is {v}.", "You enjoy {v}.", "You told me that you enjoy {v}."],
        "what your hobby is",
    ),
}
OPENERS = ["Hi, ", "Hello! ", "Hello there, ", "Good morning. ", "Hey, ", "Just so you know, ", "A bit about me: ", ""]
GREETINGS = [
    "Nice to meet you! {echo}", "Thank you for telling me. {echo}", "Good to know. {echo}", "Hello! {echo}",
    "{echo} Thank you!", "I will keep that in mind. {echo}",
]  # fmt: skip
CHATS = [
    ("What colour is the sky on a clear day?", "On a clear day the sky is blue."),
    ("How many days are in a week?", "A week has seven days."),
    ("Can you name a fruit that is yellow?", "A banana is a yellow fruit."),
    ("Tell me one fact about bees.", "Bees make honey from the nectar of flowers."),
    ("What do cows eat?", "Cows mostly eat grass and hay."),
    ("Give me a word that rhymes with cat.", "A word that rhymes with cat is hat."),
    ("What season comes after winter?", "Spring comes after winter."),
    ("Is ice warmer than steam?", "No, steam is much hotter than ice."),
    ("What is the opposite of early?", "The opposite of early is late."),
    ("Which ocean lies between Europe and America?", "The Atlantic Ocean lies between Europe and America."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("I slept badly last night.", "I am sorry to hear that. A calm evening may help you sleep better tonight."),
    ("It is raining here today.", "Then it is a good day to stay inside with something warm to drink."),
    ("What can I use to dry my hands?", "You can dry your hands with a clean towel."),
    ("name a tool for cutting paper", "Scissors are a good tool for cutting paper."),
    ("How do I make tea?", "Pour hot water over the tea and wait about three minutes."),
    ("What is a baby sheep called?", "A baby sheep is called a lamb."),
    ("Which planet do we live on?", "We live on the planet Earth."),
    ("What do you call frozen water?", "Frozen water is called ice."),
    ("I have to wait for a bus now.", "I hope it comes soon. A short walk up and down can make the wait feel shorter."),
    ("Say something kind.", "You are doing well, and small steps count too."),
    ("What does a clock show?", "A clock shows the time of day."),
    ("Where do penguins live?", "Most penguins live in the cold south of the world, near the sea."),
    ("Why do we wear coats?", "We wear coats to stay warm and dry outside."),
]
FIRST = [
    "What did I ask you first?",
    "What was my first question?",
    "do you remember what I asked first?",
    "Which question did I start with?",
]


def to_you(text: str) -> str:
    """A plan in the second person."""
    return text.replace("my ", "your ")


def tell(rng: random.Random, facts: dict[str, str]) -> str:
    """The user's opening turn with all the facts."""
    parts = [rng.choice(FACTS[kind][1]).format(v=value) for kind, value in facts.items()]
    text = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    opener = rng.choice(OPENERS)
    if not opener or opener.endswith((". ", "! ", ": ")):
        text = text[0].upper() + text[1:]
    return f"{opener}{text}."


def answer(rng: random.Random, kind: str, value: str) -> str:
    """One fact told back."""
    return rng.choice(FACTS[kind][3]).format(v=value, you=to_you(value))


def echo(rng: random.Random, kind: str, value: str) -> str:
    """One fact repeated right after it was told."""
    return rng.choice(FACTS[kind][3][:2]).format(v=value, you=to_you(value))


def pick_facts(rng: random.Random, count: int) -> dict[str, str]:
    """Facts of different kinds with their values."""
    kinds = rng.sample(list(FACTS), count)
    return {kind: rng.choice(FACTS[kind][0]) for kind in kinds}


def talk(*turns: str) -> dict:
    """A row from turns that alternate, user first."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return {"category": "recall", "messages": messages}


def fact_row(rng: random.Random) -> dict:
    """Facts, a turn about something else, and one fact asked back."""
    facts = pick_facts(rng, rng.choice([1, 1, 2, 2, 3]))
    asked = rng.choice(list(facts))
    echoed = rng.choice(list(facts))
    reply = rng.choice(GREETINGS).format(echo=echo(rng, echoed, facts[echoed]))
    return talk(
        tell(rng, facts), reply, *rng.choice(CHATS), rng.choice(FACTS[asked][2]), answer(rng, asked, facts[asked])
    )


def short_row(rng: random.Random) -> dict:
    """Facts asked back in the very next turn."""
    facts = pick_facts(rng, 2)
    asked = rng.choice(list(facts))
    return talk(
        tell(rng, facts),
        rng.choice(["Nice to meet you!", "Thank you for telling me.", "Good to know."]),
        rng.choice(FACTS[asked][2]),
        answer(rng, asked, facts[asked]),
    )


def missing_row(rng: random.Random) -> dict:
    """Something is asked back that was never told."""
    facts = pick_facts(rng, 2)
    (told, value), (asked, _) = facts.items()
    reply = rng.choice(["You have not told me {m} yet.", "I do not know {m}. You have not said it so far."])
    return talk(
        tell(rng, {told: value}),
        rng.choice(GREETINGS).format(echo=echo(rng, told, value)),
        rng.choice(FACTS[asked][2]),
        reply.format(m=FACTS[asked][4]),
    )


def first_row(rng: random.Random) -> dict:
    """The user asks which question came first."""
    one, two = rng.sample([chat for chat in CHATS if chat[0].endswith("?")], 2)
    reply = rng.choice(['Your first question was: "{q}"', 'You first asked me: "{q}"', 'First you asked: "{q}"'])
    return talk(*one, *two, rng.choice(FIRST), reply.format(q=one[0]))


MAKERS = [(fact_row, 95), (short_row, 20), (missing_row, 15), (first_row, 20)]


def rows(seed: int = 0) -> Iterator[dict]:
    """All rows, no conversation twice."""
    rng = random.Random(seed)
    seen: set[str] = set()
    for maker, count in MAKERS:
        while count:
            row = maker(rng)
            if str(row) not in seen:
                seen.add(str(row))
                count -= 1
                yield row
