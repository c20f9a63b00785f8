"""Short messages and the fields to read out of them: rows of category "extract".

Orders, appointments, contact notes, adverts and travel notes are built from word lists; one field is asked for, or
several as "Field: value" lines or as JSON.  Leaves out fields that have to be worked out, such as totals.
"""

import json
import random
from collections.abc import Iterator

FIRST = [
    "Amara", "Bjorn", "Celia", "Dmitri", "Elsa", "Farid", "Gwen", "Hana", "Igor", "Joyce", "Kamal", "Lorna", "Milo",
    "Nadine", "Oscar", "Priya", "Quentin", "Rosalind", "Stefan", "Tamsin", "Umar", "Vera", "Walter", "Yasmin", "Zoltan",
    "Beatrice", "Colin", "Dorothy", "Emre", "Flora",
]  # fmt: skip
LAST = [
    "Abbott", "Berger", "Castillo", "Dunn", "Evans", "Ferrari", "Gupta", "Holm", "Ito", "Jansen", "Kelly", "Lund",
    "Moreau", "Novak", "Osei", "Parker", "Quinn", "Rossi", "Schmidt", "Tanaka", "Ueda", "Vance", "Wells", "Yilmaz",
]  # fmt: skip
ITEMS = [
    "garden chair", "desk lamp", "rain jacket", "coffee mill", "picture frame", "wool blanket", "bread knife",
    "bicycle pump", "tea pot", "bookshelf", "alarm clock", "sleeping bag", "chess set", "paint brush", "door mat",
    "hand mirror", "watering can", "camera bag", "soup bowl", "folding table",
]  # fmt: skip
COLOURS = ["red", "blue", "green", "grey", "black", "white", "yellow", "brown"]
TOWNS = [
    "Ashford", "Bremen", "Cork", "Dundee", "Exeter", "Florence", "Ghent", "Hastings", "Inverness", "Jena", "Kendal",
    "Lille", "Malmo", "Norwich", "Oxford", "Porto", "Reading", "Salzburg", "Turin", "Utrecht",
]  # fmt: skip
STREETS = [
    "Station Road", "Hill Street", "Mill Lane", "Park Avenue", "Church Road", "Oak Street", "Harbour Lane",
    "Garden Close", "King Street", "River Walk",
]  # fmt: skip
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October"]
EVENTS = [
    "choir practice", "the team meeting", "the dentist appointment", "the parents' evening", "the swimming class",
    "the book club", "the budget talk", "the piano lesson", "the first aid course", "the garden tour",
]  # fmt: skip
PLACES = [
    "room 4", "the town hall", "the library", "the back office", "the sports hall", "the blue room",
    "the community centre", "room 12", "the school kitchen", "the small theatre",
]  # fmt: skip
JOBS = [
    "electrician", "florist", "tailor", "gardener", "piano teacher", "vet", "carpenter", "translator", "plumber",
    "photographer",
]  # fmt: skip
CONDITIONS = ["almost new", "in good condition", "slightly used", "with a few scratches", "never used"]

Fields = dict[str, str]

TEMPLATES: dict[str, list[str]] = {
    "order": [
        "Order {number}: {quantity} x {item}, colour {colour}. Deliver to {name}, {address}.",
        "Hello, I am {name}. I ordered a {colour} {item}, {quantity} pieces (order {number}). Send it to {address}.",
        "{name} has bought {quantity} pieces of the {item} in {colour}. Order number {number}. Address: {address}.",
    ],
    "appointment": [
        "Dear {name}, {event} takes place on {day}, {date}, at {time} in {place}. See you there!",
        "Reminder for {name}: {event} is on {day} ({date}) at {time}. Please come to {place}.",
        "Hi {name}, just to say that {event} has moved to {day}, {date}. We meet at {time} in {place}.",
    ],
    "contact": [
        "If you need a good {job}, ask {name}. Phone {phone} or write to {email}. The workshop is in {town}.",
        "{name} works as a {job} in {town}. You can call {phone}. E-mail: {email}.",
        "New contact: {name}, {job}, based in {town}, phone {phone}, mail {email}.",
    ],
    "advert": [
        "For sale: {colour} {item}, {condition}, {price} euros. Collect it in {town}. Ask for {name}.",
        "I am selling my {colour} {item}. It is {condition} and costs {price} euros. Pick up in {town}. Yours, {name}",
        "{name} from {town} offers a {colour} {item}, {condition}, for {price} euros.",
    ],
    "travel": [
        "Train {number} from {start} to {town} leaves at {time} from platform {platform} on {day}.",
        "On {day} I take train {number} at {time}. It goes from {start} to {town} and leaves from platform {platform}.",
        "{start} to {town}, {day}, {time}, platform {platform}, train {number}.",
    ],
}
LABELS = {
    "number": "number",
    "quantity": "quantity",
    "item": "item",
    "colour": "colour",
    "name": "name",
    "address": "address",
    "event": "event",
    "day": "day",
    "date": "date",
    "time": "time",
    "place": "place",
    "job": "job",
    "phone": "phone",
    "email": "e-mail address",
    "town": "town",
    "condition": "condition",
    "price": "price",
    "start": "starting point",
    "platform": "platform",
}
ASK_ONE = [
    "What is the {f} in this text?", "Extract the {f}.", "Find the {f}.", "Give me only the {f}.",
    "Which {f} is mentioned?", "Please tell me the {f}.", "{f}?", "read out the {f} from this",
]  # fmt: skip
ASK_LINES = [
    "Extract these fields, one per line: {f}.",
    "Write down {f} as 'Field: value' lines.",
    "Pull out {f}. Use one line each.",
    "I need {f} from this message, each on its own line.",
]
ASK_JSON = [
    "Return {f} as JSON.",
    "Extract {f} and answer in JSON only.",
    "Make a JSON object with the keys {f}.",
    "JSON please, with {f}.",
]
FRAMES = ["{ask}\n\n{text}", "{text}\n\n{ask}", '{ask} "{text}"', "Text: {text}\n{ask}", "Message: {text}\n\n{ask}"]


def values(rng: random.Random) -> Fields:
    """A value for every field."""
    first, last = rng.choice(FIRST), rng.choice(LAST)
    start, town = rng.sample(TOWNS, 2)
    return {
        "number": str(rng.randint(1000, 9999)),
        "quantity": str(rng.randint(2, 12)),
        "item": rng.choice(ITEMS),
        "colour": rng.choice(COLOURS),
        "name": f"{first} {last}",
        "address": f"{rng.randint(1, 99)} {rng.choice(STREETS)}, {town}",
        "event": rng.choice(EVENTS),
        "day": rng.choice(DAYS),
        "date": f"{rng.randint(1, 28)} {rng.choice(MONTHS)}",
        "time": f"{rng.randint(7, 20)}:{rng.choice(['00', '15', '30', '45'])}",
        "place": rng.choice(PLACES),
        "job": rng.choice(JOBS),
        "phone": f"555-{rng.randint(100, 999):04d}",
        "email": f"{first.lower()}.{last.lower()}@example.{rng.choice(['com', 'org', 'net'])}",
        "town": town,
        "condition": rng.choice(CONDITIONS),
        "price": str(rng.randint(5, 95)),
        "start": start,
        "platform": str(rng.randint(1, 14)),
    }


def shown(fields: Fields, field: str) -> str:
    """The value as an answer gives it."""
    value = fields[field]
    return f"{value} euros" if field == "price" else value


def upper_first(text: str) -> str:
    """The text with a capital at its start."""
    return text[0].upper() + text[1:]


def message(rng: random.Random) -> tuple[str, Fields]:
    """A text and the fields that it holds."""
    template = rng.choice(TEMPLATES[rng.choice(list(TEMPLATES))])
    fields = values(rng)
    used = {field: fields[field] for field in fields if "{" + field + "}" in template}
    return upper_first(template.format(**fields)), used


def listed(parts: list[str]) -> str:
    """Parts as "a, b and c"."""
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def one_field(rng: random.Random, fields: Fields) -> tuple[str, str]:
    """One field, answered bare or in a short sentence."""
    field = rng.choice(list(fields))
    ask = upper_first(rng.choice(ASK_ONE).format(f=LABELS[field]))
    value = shown(fields, field)
    return ask, rng.choice([value if field == "email" else upper_first(value), f"The {LABELS[field]} is {value}."])


def as_lines(rng: random.Random, fields: Fields) -> tuple[str, str]:
    """Two or three fields as lines."""
    chosen = rng.sample(list(fields), rng.randint(2, 3))
    lines = [f"{upper_first(LABELS[field])}: {shown(fields, field)}" for field in chosen]
    return rng.choice(ASK_LINES).format(f=listed([LABELS[field] for field in chosen])), "\n".join(lines)


def as_json(rng: random.Random, fields: Fields) -> tuple[str, str]:
    """Two or three fields as a JSON object."""
    chosen = rng.sample(list(fields), rng.randint(2, 3))
    data = {field: fields[field] for field in chosen}
    return rng.choice(ASK_JSON).format(f=listed([f'"{field}"' for field in chosen])), json.dumps(data)


def missing(rng: random.Random, fields: Fields) -> tuple[str, str]:
    """A field that the text does not hold."""
    field = rng.choice([field for field in ("phone", "price", "date", "email", "time") if field not in fields])
    ask = upper_first(rng.choice(ASK_ONE[1:4]).format(f=LABELS[field]))
    article = "an" if LABELS[field][0] in "aeiou" else "a"
    return ask, rng.choice([f"The text does not give {article} {LABELS[field]}.", f"No {LABELS[field]} is given."])


MAKERS = [(one_field, 85), (as_lines, 50), (as_json, 50), (missing, 15)]


def rows(seed: int = 0) -> Iterator[dict]:
    """All rows, each with a message of its own."""
    rng = random.Random(seed)
    seen: set[str] = set()
    for maker, count in MAKERS:
        while count:
            text, fields = message(rng)
            if text in seen:
                continue
            seen.add(text)
            count -= 1
            ask, completion = maker(rng, fields)
            prompt = rng.choice(FRAMES).format(ask=ask, text=text)
            yield {"category": "extract", "prompt": prompt, "completion": completion}
