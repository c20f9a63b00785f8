"""Preference pairs with one plain flaw: rows {"category", "prompt", "chosen", "rejected", "reason"}.

The rejected answer has a slightly wrong number, breaks a rule of form, repeats itself, runs on into another user turn,
stops in the middle, or recalls the wrong thing.  Flaws that lengthen an answer and flaws that shorten it are balanced,
so that length alone says nothing.  Leaves out matters of tone, honesty and safety: the hand-written pairs hold those.
"""

import json
import random
from collections.abc import Callable, Iterator

from _pairs_bank import OBJECTS, PEOPLE, QUESTIONS, THINGS
from _split import held_out, shows_held_out

Turn = tuple[str, str]
Draft = tuple[str, list[Turn], str, str, str]  # category, prompt, chosen, rejected, reason
PER_KIND = {"arithmetic": 70, "word_problem": 70, "form": 96, "loop": 42, "run_on": 42, "cut_off": 60, "recall": 60}

SUM_ASKS = [
    "What is {q}?", "Work out {q}.", "{q} = ?", "please calculate {q}", "Can you tell me what {q} makes?",
    "I need the result of {q}.", "how much is {q}",
]  # fmt: skip
SUM_ANSWERS = ["{q} = {n}", "The result is {n}.", "That makes {n}.", "{q} = {n}, so the answer is {n}.", "It is {n}."]
SUM_REASONS = ["the sum is right", "correct result", "the other number is wrong"]
STORIES: list[tuple[str, str, str]] = [  # problem, operation, working; {a} {b} numbers, {p} {r} people, {o} objects
    ("{p} has {a} {o} and finds {b} more. How many {o} does {p} have now?", "+", "{a} + {b} = {n}"),
    ("A box held {a} {o}. {p} took out {b}. How many stayed in the box?", "-", "{a} - {b} = {n}"),
    ("{p} fills {a} bags with {b} {o} each. How many {o} is that in all?", "x", "{a} x {b} = {n}"),
    ("{p} shares {a} {o} fairly among {b} friends. How many does each friend get?", "/", "{a} / {b} = {n}"),
    ("On Monday {p} sold {a} {o} and on Tuesday {b}. What is the total?", "+", "{a} + {b} = {n}"),
    ("{p} had {a} {o} but gave {b} to {r}. how many are left", "-", "{a} - {b} = {n}"),
    ("There are {a} shelves with {b} {o} on each. Count them all, please.", "x", "{a} x {b} = {n}"),
    ("{p} packs {a} {o} into boxes of {b}. How many full boxes are there?", "/", "{a} / {b} = {n}"),
]
STORY_ENDS = ["The answer is {n}.", "So it is {n}.", "That gives {n} {o}.", "Answer: {n}"]
WHO_NEXT = [" User: ", "\nUser: ", "\n\nQuestion: ", "\nHuman: "]
PREFIXES = ["", "", "", "Quick question: ", "Hi! ", "One more thing: "]
FACTS: list[tuple[str, list[str], str, str]] = [  # telling, values, asking, answer
    (
        "My dog is called {v}.",
        ["Rex", "Molly", "Toffee", "Bandit", "Juno"],
        "What is my dog's name?",
        "Your dog is called {v}.",
    ),
    ("I parked on level {v}.", ["2", "3", "4", "5", "6"], "where did I park?", "You parked on level {v}."),
    (
        "My train leaves at {v}.",
        ["7:15", "8:40", "9:05", "10:30", "11:50"],
        "When does my train go?",
        "Your train leaves at {v}.",
    ),
    (
        "I am allergic to {v}.",
        ["nuts", "eggs", "milk", "wheat", "shellfish"],
        "What am I allergic to?",
        "You are allergic to {v}.",
    ),
    (
        "My sister lives in {v}.",
        ["Rome", "Denver", "Glasgow", "Nairobi", "Seoul"],
        "In which city is my sister?",
        "Your sister lives in {v}.",
    ),
    (
        "I want to learn the {v}.",
        ["cello", "banjo", "oboe", "guitar", "harp"],
        "which instrument did I name?",
        "You want to learn the {v}.",
    ),
    ("My lucky number is {v}.", ["3", "8", "13", "21", "44"], "Do you recall my lucky number?", "It is {v}."),
    (
        "We meet on {v}.",
        ["Monday", "Tuesday", "Thursday", "Friday", "Sunday"],
        "What day do we meet?",
        "You meet on {v}.",
    ),
    (
        "My bike is {v}.",
        ["orange", "silver", "green", "black", "violet"],
        "Tell me the color of my bike.",
        "Your bike is {v}.",
    ),
    (
        "I work in a {v}.",
        ["bakery", "library", "school", "hotel", "museum"],
        "Where did I say I work?",
        "You work in a {v}.",
    ),
]
REPLIES = ["Thanks for telling me.", "Good to know.", "All right, noted.", "That sounds nice.", "I see."]


def arithmetic(rng: random.Random) -> Draft:
    """A sum with the right result, or one that is a little off."""
    sign = rng.choice(["+", "-", "x"])
    a, b, n = _numbers(rng, sign)
    question, answer = rng.choice(SUM_ASKS).format(q=f"{a} {sign} {b}"), rng.choice(SUM_ANSWERS)
    right, wrong = (answer.format(q=f"{a} {sign} {b}", n=value) for value in (n, _near(rng, n)))
    return "arithmetic", [("user", question)], right, wrong, rng.choice(SUM_REASONS)


def word_problem(rng: random.Random) -> Draft:
    """A one-step story; the wrong answer slips in the result, or has only the bare wrong number."""
    story, sign, working = rng.choice(STORIES)
    a, b, n = _numbers(rng, sign)
    who, other = rng.sample(PEOPLE, 2)
    objects, end = rng.choice(OBJECTS), rng.choice(STORY_ENDS)
    steps = working + ". " + end
    if "boxes are" in story or "each friend" in story:
        steps = steps.replace(" {o}", "")
    right, wrong = (steps.format(a=a, b=b, n=value, o=objects) for value in (n, _near(rng, n)))
    if rng.random() < 0.3:
        wrong = rng.choice(
            [
                f"It is {_near(rng, n)}.",
                f"I think it is {_near(rng, n)}.",
                f"There are about {_near(rng, n)} of them, but it might also be a few more or less.",
            ]
        )
    prompt = story.format(p=who, r=other, a=a, b=b, o=objects)
    return "word_problem", [("user", prompt)], right, wrong, "works the problem out to the right number"


def _numbers(rng: random.Random, sign: str) -> tuple[int, int, int]:
    """Operands and result for training: pairs kept for evaluation are drawn again."""
    names = {"+": "add", "-": "sub", "x": "mul", "/": "div"}
    while True:
        a, b = rng.randint(4, 60), rng.randint(2, 30)
        if sign in "x/":
            a, b = rng.randint(2, 12), rng.randint(2, 10)
        n = {"+": a + b, "-": a - b, "x": a * b, "/": a}[sign]
        a = a * b if sign == "/" else a
        if n > 0 and not held_out(names[sign], a, b):
            return a, b, n


def _near(rng: random.Random, n: int) -> int:
    """A number close to n, but not n, that a careless reader would let pass."""
    return rng.choice([value for value in (n + 1, n - 1, n + 2, n - 2, n + 10, n - 10) if value > 0])


def bullets(rng: random.Random) -> Draft:
    """The asked number of bullets, or one too many or too few."""
    topic = rng.choice(list(THINGS))
    n = rng.randint(2, 4)
    words = rng.sample(THINGS[topic], 5)
    ask = rng.choice(
        [
            f"List exactly {n} {topic} as bullets.",
            f"Name {n} {topic}, each on a line that starts with -",
            f"I need {n} bullet points: {topic}.",
        ]
    )
    other = n + rng.choice([-1, 1])
    return "form", [("user", ask)], _lines(words[:n]), _lines(words[:other]), f"has exactly {n} bullets"


def as_json(rng: random.Random) -> Draft:
    """A JSON list, or the same things in a sentence."""
    topic = rng.choice(list(THINGS))
    words = rng.sample(THINGS[topic], 3)
    ask = rng.choice(
        [
            f'Give three {topic} as JSON with the key "items".',
            f'Only JSON, please: an object whose "items" are three {topic}.',
        ]
    )
    wrong = rng.choice(
        [
            f"Three {topic} are: {', '.join(words)}.",
            "items: " + " / ".join(words),
            f'Here you go: {{"items": [{", ".join(words)}]',
        ]
    )
    return "form", [("user", ask)], json.dumps({"items": words}), wrong, "is valid JSON and nothing else"


def lower_case(rng: random.Random) -> Draft:
    """An answer without capital letters, or with them."""
    question, answer = _question(rng)
    ask = rng.choice([f"{question} Use only lower case.", f"In small letters, no capitals: {question}"])
    wrong = answer if rng.random() < 0.5 else _first(answer)
    return "form", [("user", ask)], answer.lower(), wrong, "keeps to lower case"


def upper_case(rng: random.Random) -> Draft:
    """An answer in capital letters, or not."""
    question, answer = _question(rng)
    ask = rng.choice([f"{question} REPLY IN CAPITALS.", f"Answer in capital letters only: {question}"])
    wrong = rng.choice([_first(answer), answer])
    return "form", [("user", ask)], _first(answer).upper(), wrong, "is written in capitals as asked"


def one_sentence(rng: random.Random) -> Draft:
    """One sentence when one was asked for, or two."""
    question, answer = _question(rng)
    ask = rng.choice([f"{question} One sentence only, please.", f"In a single sentence: {question}"])
    return "form", [("user", ask)], _first(answer), answer, "stays within one sentence"


def two_sentences(rng: random.Random) -> Draft:
    """Two sentences when two were asked for, or one."""
    question, answer = _question(rng)
    ask = rng.choice([f"{question} Use exactly two sentences.", f"Two sentences, no more and no less: {question}"])
    return "form", [("user", ask)], answer, _first(answer), "has the two sentences that were asked for"


def end_phrase(rng: random.Random) -> Draft:
    """The closing words that were asked for, or none."""
    question, answer = _question(rng)
    phrase = rng.choice(["Have a good day.", "The end.", "Ask me more!", "Now you know."])
    wrong = rng.choice([answer, f"{phrase} {answer}"])
    ask = f'{question} Finish with the words "{phrase}"'
    return "form", [("user", ask)], f"{_first(answer)} {phrase}", wrong, "ends with the phrase that was asked for"


def quoted(rng: random.Random) -> Draft:
    """The whole answer in double quotes, or not."""
    question, answer = _question(rng)
    wrong = answer if rng.random() < 0.5 else _first(answer)
    ask = f"{question} Put your whole reply inside double quotation marks."
    return "form", [("user", ask)], f'"{_first(answer)}"', wrong, "is wrapped in quotation marks"


def loop(rng: random.Random) -> Draft:
    """A plain answer, or the same one going round in circles."""
    question, answer = rng.choice(QUESTIONS)
    wrong = rng.choice(
        [f"{answer} {answer}", f"{answer} {_first(answer)} {_first(answer)}", " ".join([_first(answer)] * 3)]
    )
    return "loop", [("user", rng.choice(PREFIXES) + question)], answer, wrong, "says each thing only once"


def run_on(rng: random.Random) -> Draft:
    """An answer that stops, or one that invents the next user turn."""
    (question, answer), (later, reply) = rng.sample(QUESTIONS, 2)
    wrong = f"{answer}{rng.choice(WHO_NEXT)}{later}"
    if rng.random() < 0.4:
        wrong += f"\nAssistant: {_first(reply)}"
    return "run_on", [("user", rng.choice(PREFIXES) + question)], answer, wrong, "stops after its own turn"


def cut_off(rng: random.Random) -> Draft:
    """A finished answer, or one that breaks off."""
    question, answer = rng.choice(QUESTIONS)
    words = answer.split()
    wrong = " ".join(words[: rng.randint(len(words) // 3, len(words) - 3)]).rstrip(".,")
    return "cut_off", [("user", rng.choice(PREFIXES) + question)], answer, wrong, "finishes what it starts to say"


def recall(rng: random.Random) -> Draft:
    """What the user said earlier, or something else."""
    (tell, values, ask, answer), (other_tell, other_values, _, _) = rng.sample(FACTS, 2)
    value, wrong_value = rng.sample(values, 2)
    told = [tell.format(v=value), other_tell.format(v=rng.choice(other_values))]
    rng.shuffle(told)
    prompt = [("user", " ".join(told)), ("assistant", rng.choice(REPLIES)), ("user", ask)]
    wrong = rng.choice(
        [
            answer.format(v=wrong_value),
            answer.format(v=wrong_value),
            "You have not told me that, so I can't say what it is.",
            "I forgot.",
        ]
    )
    return "recall", prompt, answer.format(v=value), wrong, "remembers what the user said"


def _question(rng: random.Random) -> tuple[str, str]:
    """A question that ends with a mark, so that an instruction can follow it."""
    question, answer = rng.choice(QUESTIONS)
    return question if question.endswith(("?", ".")) else question + "?", answer


def _lines(words: list[str]) -> str:
    return "\n".join(f"- {word}" for word in words)


def _first(answer: str) -> str:
    """The first of the two sentences of an answer."""
    return answer.split(". ")[0].rstrip(".") + "."


FORMS: list[Callable[[random.Random], Draft]] = [
    bullets,
    as_json,
    lower_case,
    upper_case,
    one_sentence,
    two_sentences,
    end_phrase,
    quoted,
]
KINDS: dict[str, Callable[[random.Random], Draft]] = {
    "arithmetic": arithmetic,
    "word_problem": word_problem,
    "loop": loop,
    "run_on": run_on,
    "cut_off": cut_off,
    "recall": recall,
}


def rows(seed: int = 0) -> Iterator[dict]:
    """Yield every pair once; no prompt comes twice."""
    rng = random.Random(seed)
    seen: set[str] = set()
    for kind, wanted in PER_KIND.items():
        made = 0
        while made < wanted:
            maker = FORMS[made % len(FORMS)] if kind == "form" else KINDS[kind]
            category, prompt, chosen, rejected, reason = maker(rng)
            key = json.dumps(prompt)
            if key in seen or chosen == rejected or shows_held_out(chosen):
                continue
            seen.add(key)
            made += 1
            yield {
                "category": f"pair_{category}",
                "prompt": _turns(prompt),
                "reason": reason,
                "chosen": _turns([("assistant", chosen)]),
                "rejected": _turns([("assistant", rejected)]),
            }


def _turns(turns: list[Turn]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]
