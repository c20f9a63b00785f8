"""Word problems with worked answers: rows of category "word_problems".

Makes one- and two-step problems about counting, money, time, sharing, distance, age and what is left over.  Every
answer reasons in one to three short sentences and ends with "The answer is N."  Leaves out fractions, negative
results, units that need converting, and any problem whose working shows an operand pair kept for evaluation.
"""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import _draws as draw
from _split import shows_held_out

NAMES = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Kate", "Leo", "Mia", "Noah",
    "Olive", "Paul", "Rosa", "Sam", "Tina", "Victor", "Wendy", "Yusuf", "Zoe", "Amir", "Bella", "Carlos", "Dora",
    "Elias", "Fatima", "George", "Hana", "Ivan", "June", "Karim", "Lucy", "Marco", "Nina", "Oscar", "Priya", "Ruth",
]  # fmt: skip
THINGS = [
    "apples", "marbles", "stickers", "pencils", "shells", "buttons", "stamps", "toy cars", "books", "coins", "nuts",
    "postcards", "beads", "stones", "crayons", "cookies", "plums", "cards", "balloons", "badges", "ribbons",
]  # fmt: skip
GOODS = ["notebook", "pear", "sandwich", "ticket", "mug", "candle", "pen", "cake", "scarf", "ball", "lamp", "plant"]
PLACES = ["the zoo", "the library", "the lake", "the station", "the market", "the beach", "the farm", "the museum"]
BOXES = ["box", "bag", "basket", "jar", "tray", "drawer"]
PEOPLE = ["children", "friends", "cousins", "players", "neighbours", "pupils", "guests"]
ANIMALS = ["hens", "sheep", "goats", "cows", "ducks", "horses", "rabbits", "geese"]
FLOWERS = ["roses", "tulips", "daisies", "lilies", "sunflowers", "poppies"]
WORDS = {
    "x": NAMES,
    "y": NAMES,
    "things": THINGS,
    "good": GOODS,
    "place": PLACES,
    "box": BOXES,
    "people": PEOPLE,
    "animals": ANIMALS,
    "flowers": FLOWERS,
}


class Template(NamedTuple):
    """One kind of problem: how its numbers are drawn, its wordings and its working."""

    numbers: Callable[[random.Random], draw.Numbers]
    questions: list[str]
    working: list[str]


PLUS, MINUS, TIMES, OVER = "{a} + {b} = {n}", "{a} - {b} = {n}", "{a} x {b} = {n}", "{a} / {b} = {n}"

ONE_STEP = [
    Template(
        draw.add,
        [
            "{x} has {a} {things}. {y} gives {x} {b} more. How many {things} does {x} have now?",
            "{x} had {a} {things} and got {b} more from {y}. How many {things} is that?",
        ],
        ["{x} gets {b} more, so we add: " + PLUS + ".", "We add the new {things}: " + PLUS + "."],
    ),
    Template(
        draw.sub,
        [
            "{x} has {a} {things} and gives {b} of them to {y}. How many {things} are left?",
            "From {a} {things}, {x} gave away {b}. How many does {x} still have?",
        ],
        ["{x} gives {b} away, so we subtract: " + MINUS + ".", "We take away {b}: " + MINUS + "."],
    ),
    Template(
        draw.mul,
        [
            "There are {a} {things} in each {box}. {x} has {b} of these. How many {things} does {x} have?",
            "{x} fills {b} containers with {a} {things} each. How many {things} are there in all?",
        ],
        ["There are {b} groups of {a}, so we multiply: " + TIMES + ".", "{b} times {a} {things}: " + TIMES + "."],
    ),
    Template(
        draw.div,
        [
            "{x} shares {a} {things} equally among {b} {people}. How many does each one get?",
            "{b} {people} share {a} {things} fairly. How many {things} for each?",
        ],
        ["We share {a} into {b} equal parts: " + OVER + ".", "Each gets the same, so we divide: " + OVER + "."],
    ),
    Template(
        draw.mul,
        [
            "One {good} costs {a} dollars. How much do {b} of them cost?",
            "{x} buys {b} items at {a} dollars each. What does {x} pay?",
        ],
        ["{b} of them at {a} dollars each: " + TIMES + ".", "We multiply price and number: " + TIMES + "."],
    ),
    Template(
        draw.add,
        [
            "A {good} costs {a} dollars and another one costs {b} dollars. What do they cost together?",
            "{x} pays {a} dollars for a {good} and {b} dollars for lunch. How much is that in all?",
        ],
        ["We add the two prices: " + PLUS + ".", "Together that is " + PLUS + " dollars."],
    ),
    Template(
        draw.sub,
        [
            "{x} has {a} dollars and spends {b} dollars on a {good}. How much money is left?",
            "A {good} costs {b} dollars. {x} pays with {a} dollars. How much does {x} get back?",
        ],
        ["We take the price away from the money: " + MINUS + ".", "{a} dollars less {b} dollars: " + MINUS + "."],
    ),
    Template(
        draw.add,
        [
            "{x} is {a} years old. How old will {x} be in {b} years?",
            "{x} turned {a} this year. What age will {x} reach {b} years from now?",
        ],
        ["In {b} years we add {b}: " + PLUS + ".", "Age goes up by one each year: " + PLUS + "."],
    ),
    Template(
        draw.sub,
        [
            "{x} is {a} years old and {y} is {b} years younger. How old is {y}?",
            "{y} is {b} years younger than {x}, who is {a}. What is the age of {y}?",
        ],
        ["Younger means less, so we subtract: " + MINUS + ".", "{y} is {b} years less than {a}: " + MINUS + "."],
    ),
    Template(
        draw.mul,
        [
            "{x} walks {a} miles every day. How far does {x} walk in {b} days?",
            "Every day {x} rides {a} miles. How many miles is that after {b} days?",
        ],
        ["{b} days with {a} miles each: " + TIMES + ".", "We multiply miles and days: " + TIMES + "."],
    ),
    Template(
        draw.add,
        [
            "It is {a} miles from home to {place} and {b} miles more to the river. How far is the river?",
            "{x} drives {a} miles to {place} and then {b} miles more. How far does {x} drive?",
        ],
        ["We add the two parts of the way: " + PLUS + ".", "First {a} miles, then {b}: " + PLUS + "."],
    ),
    Template(
        draw.sub,
        [
            "The way to {place} is {a} miles. {x} has gone {b} miles. How many miles are left?",
            "{x} wants to walk {a} miles and has done {b}. How much further is it?",
        ],
        ["We take away the part that is done: " + MINUS + ".", "The rest of the way is " + MINUS + " miles."],
    ),
    Template(
        draw.clock,
        [
            "A film starts at {a} o'clock and lasts {b} hours. At what hour does it end?",
            "{x} leaves at {a} o'clock and travels for {b} hours. At what hour does {x} arrive?",
        ],
        ["We add the hours: " + PLUS + ".", "From {a} o'clock we count {b} hours on: " + PLUS + "."],
    ),
    Template(
        draw.minutes,
        [
            "{x} reads for {a} minutes and draws for {b} minutes. How many minutes is that?",
            "Dinner takes {a} minutes to cook and {b} minutes to eat. How long is that in minutes?",
        ],
        ["We add the minutes: " + PLUS + ".", "Both times together: " + PLUS + " minutes."],
    ),
    Template(
        draw.left_over,
        [
            "{x} puts {a} {things} into groups of {b}. How many {things} are left over?",
            "{a} {things} are packed {b} to a {box}. How many do not fill a {box}?",
        ],
        ["{q} full groups use {q} x {b} = {m}. That leaves {a} - {m} = {n}."],
    ),
    Template(
        draw.sub,
        [
            "{x} has {a} {things} and {y} has {b}. How many more does {x} have?",
            "{x} found {a} {things}, {y} only {b}. What is the difference?",
        ],
        ["To compare we subtract: " + MINUS + ".", "The difference is " + MINUS + "."],
    ),
    Template(
        draw.sub,
        [
            "There were {a} {people} at {place}. {b} went home. How many stayed?",
            "Of {a} {people} at {place}, {b} left early. How many were still there?",
        ],
        ["{b} went away, so we subtract: " + MINUS + ".", "We take away those who left: " + MINUS + "."],
    ),
    Template(
        draw.add,
        [
            "A farm has {a} {animals} and buys {b} more. How many {animals} are there now?",
            "{a} {animals} stand in the field and {b} more come in. How many {animals} is that?",
        ],
        ["More come, so we add: " + PLUS + ".", "Now there are " + PLUS + " {animals}."],
    ),
    Template(
        draw.mul,
        [
            "{x} plants {b} rows of {flowers} with {a} in each row. How many {flowers} are there?",
            "In a garden are {b} rows of {a} {flowers}. How many {flowers} grow there?",
        ],
        ["There are {b} rows of {a}: " + TIMES + ".", "Rows of the same size mean we multiply: " + TIMES + "."],
    ),
    Template(
        draw.div,
        [
            "{x} ties {a} {flowers} into bunches of {b}. How many bunches are there?",
            "How many bunches of {b} can {x} make from {a} {flowers}?",
        ],
        ["We see how many times {b} fits into {a}: " + OVER + ".", "We divide by {b}: " + OVER + "."],
    ),
    Template(
        draw.div,
        [
            "{b} tickets to {place} cost {a} dollars in all. What does one ticket cost?",
            "{x} paid {a} dollars for {b} equal mugs. What was the price of one?",
        ],
        ["We divide the money by {b}: " + OVER + ".", "One of {b} equal prices: " + OVER + "."],
    ),
]
TWO_STEPS = [
    Template(
        draw.add_sub,
        [
            "{x} has {a} {things}, gets {b} more and then loses {c}. How many {things} are left?",
            "{x} had {a} {things}. {y} gave {x} {b}, but {x} lost {c}. How many now?",
        ],
        ["First we add: {a} + {b} = {m}. Then we subtract: {m} - {c} = {n}."],
    ),
    Template(
        draw.sub_sub,
        [
            "{x} bakes {a} cookies. {y} eats {b} and {x} eats {c}. How many cookies are left?",
            "There are {a} {things}. {x} takes {b} and {y} takes {c}. How many remain?",
        ],
        ["First {a} - {b} = {m}. Then {m} - {c} = {n}."],
    ),
    Template(
        draw.mul_add,
        [
            "{x} has {a} bags with {b} {things} each and {c} loose ones. How many {things} in all?",
            "{a} boxes hold {b} {things} each, and {c} more lie on the table. How many {things}?",
        ],
        ["The full ones hold {a} x {b} = {m}. With the others it is {m} + {c} = {n}."],
    ),
    Template(
        draw.mul_sub,
        [
            "{x} buys {a} packs of {b} {things} and gives away {c}. How many {things} does {x} keep?",
            "{a} plates hold {b} cookies each. The {people} eat {c}. How many cookies are left?",
        ],
        ["At first there are {a} x {b} = {m}. After that {m} - {c} = {n} are left."],
    ),
    Template(
        draw.change,
        [
            "{x} buys {a} pens at {b} dollars each and pays with {c} dollars. How much is the change?",
            "One {good} costs {b} dollars. {x} takes {a} and hands over {c} dollars. What comes back?",
        ],
        ["The price is {a} x {b} = {m} dollars. The change is {c} - {m} = {n} dollars."],
    ),
    Template(
        draw.add_div,
        [
            "{x} has {a} {things} and {y} has {b}. They share all of them among {c} {people}. How many does each get?",
            "{a} red and {b} green {things} are put into {c} bags, the same number in each. How many are in one bag?",
        ],
        ["Together there are {a} + {b} = {m}. Each part is {m} / {c} = {n}."],
    ),
    Template(
        draw.pair_sum,
        [
            "{x} has {a} {things}. {y} has {b} more than {x}. How many do they have together?",
            "{x} picked {a} {things}, and {y} picked {b} more than that. How many did both pick?",
        ],
        ["{y} has {a} + {b} = {m}. Together they have {a} + {m} = {n}."],
    ),
    Template(
        draw.mul_add,
        [
            "{x} saves {b} dollars a week for {a} weeks and already had {c} dollars. How much money does {x} have?",
            "For {a} weeks {x} earns {b} dollars a week. Then {y} adds {c} dollars. How much is it?",
        ],
        ["In {a} weeks that is {a} x {b} = {m} dollars. In all it is {m} + {c} = {n} dollars."],
    ),
    Template(
        draw.mul_sub,
        [
            "A book has {a} chapters of {b} pages. {x} has read {c} pages. How many pages are left?",
            "{x} must read {b} pages a day for {a} days and has read {c}. How many pages remain?",
        ],
        ["In all there are {a} x {b} = {m} pages. Still to read are {m} - {c} = {n}."],
    ),
    Template(
        draw.add_sub,
        [
            "A bus has {a} people on it. At {place} {b} get on and {c} get off. How many stay on?",
            "{a} people sit in a train. {b} more come in, then {c} get out. How many are in it now?",
        ],
        ["After some get on there are {a} + {b} = {m}. After some leave there are {m} - {c} = {n}."],
    ),
    Template(
        draw.sub_sub,
        [
            "{x} has {a} dollars, pays {b} for a {good} and {c} for the bus. How much is left?",
            "With {a} dollars {x} buys a {good} for {b} and food for {c}. How many dollars remain?",
        ],
        ["After the first thing {a} - {b} = {m} dollars are left. Then {m} - {c} = {n} dollars are left."],
    ),
]


def problem(rng: random.Random, template: Template) -> tuple[str, str]:
    """One question and its worked answer."""
    values = {key: rng.choice(words) for key, words in WORDS.items()}
    values["x"], values["y"] = rng.sample(NAMES, 2)
    numbers = template.numbers(rng)
    question = rng.choice(template.questions).format(**values, **numbers)
    working = rng.choice(template.working).format(**values, **numbers)
    return question, f"{working} The answer is {numbers['n']}."


def rows(seed: int = 0, per_template: int = 11) -> Iterator[dict]:
    """The same number of rows for every template, no question twice."""
    rng = random.Random(seed)
    seen: set[str] = set()
    for template in ONE_STEP + TWO_STEPS:
        left = per_template
        while left:
            question, answer = problem(rng, template)
            if question in seen or shows_held_out(answer):
                continue
            seen.add(question)
            left -= 1
            yield {"category": "word_problems", "prompt": question, "completion": answer}
