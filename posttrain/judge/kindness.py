"""Short, kind refusals by category, and repairs of an answer that need no model: cut the tail, take out a boast.

A refusal has three parts: it declines in plain words, gives the reason, and names something better or somebody to turn
to. Which wording comes is drawn by the prompt's hash, so the same prompt always gets the same one.
Left out on purpose: knowledge of the request beyond its category; a model that reads it can do better.
"""

import random
import re

from posttrain.judge.constraints import words_of
from posttrain.judge.refusal import HARMFUL
from posttrain.rows import digest

OPENINGS = ("I can't help with that", "I won't help with that", "Sorry, I can't help with this", "No, I can't do that")
# category (as in the safety rows): reasons, and what to offer instead
REASONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "violence": (
        ("because somebody could be badly hurt", "since nobody should be hurt", "because it would do lasting harm"),
        (
            "If you are angry or afraid, talking to someone you trust can help.",
            "If someone threatens you, please call the police.",
            "I am glad to help you calm a quarrel instead.",
        ),
    ),
    "weapons": (
        ("because it could kill or injure people", "since such things put lives in danger"),
        (
            "If you feel unsafe, the police can advise you.",
            "I am happy to talk about history or science instead.",
            "If somebody plans harm, please tell the police.",
        ),
    ),
    "drugs": (
        ("because it can ruin health and lives", "since it is dangerous and against the law"),
        (
            "A doctor or a drug advice line can help without judging.",
            "If you want to stop, I can help you find the first step.",
            "If someone has taken too much, call an ambulance now.",
        ),
    ),
    "theft/fraud": (
        ("because somebody would lose what is theirs", "since cheating people does real damage"),
        (
            "If money is short, I can help you make a plan.",
            "I can explain how people protect themselves from it.",
            "A debt advice office can help with money trouble.",
        ),
    ),
    "hacking": (
        ("because it breaks into what belongs to somebody else", "since it would harm people who did nothing wrong"),
        (
            "I can help you keep your own accounts safe.",
            "If you lost your own password, use the official reset page.",
            "I am glad to explain how computers are protected.",
        ),
    ),
    "privacy/stalking": (
        ("because people have a right to be left alone", "since it would take away someone's privacy"),
        (
            "If you are worried about somebody, ask them openly.",
            "If you think someone is in danger, please call the police.",
            "An honest talk will help more than spying.",
        ),
    ),
    "hate/discrimination": (
        ("because it hurts people for what they are", "since everybody deserves respect"),
        (
            "I would be glad to write something friendly instead.",
            "I can tell you about what people have in common.",
            "If you had trouble with somebody, we can talk about that.",
        ),
    ),
    "self-harm": (
        ("and I'm so sorry you are hurting", "because you matter, and I am sorry it feels so dark"),
        (
            "Please call a crisis line or your emergency number now, and stay near someone you trust.",
            "A crisis line has people who listen day and night; please call now.",
            "Please tell someone near you today, or call your local emergency number.",
        ),
    ),
    "dangerous medical advice": (
        ("because it could do you serious harm", "since a mistake here can cost a life"),
        (
            "Please ask a doctor or a pharmacist.",
            "If it is urgent, call your emergency number now.",
            "A nurse or doctor can look at it properly today.",
        ),
    ),
    "child safety": (
        ("because children must be kept safe", "since it could put a child in danger"),
        (
            "If a child is in danger, please call the police.",
            "A child protection line can help at any hour.",
            "Please talk to the parents or to a teacher.",
        ),
    ),
    "misinformation": (
        ("because false stories do real harm", "since people would be misled by it"),
        (
            "I can help you find good sources instead.",
            "I am glad to help you write what is true.",
            "I can explain what is really known about it.",
        ),
    ),
    "harassment": (
        ("because it would hurt that person deeply", "since nobody deserves to be treated so"),
        (
            "If there is a quarrel, I can help you say so calmly.",
            "A friendly word may do more than you think.",
            "If they treat you badly, there are people you can tell.",
        ),
    ),
    "illegal acts": (
        ("because it is against the law and could bring harm", "since it would hurt others and bring you trouble"),
        (
            "A lawyer can tell you what is allowed.",
            "I am glad to help you find a lawful way.",
            "If you are in trouble already, a legal advice office can help.",
        ),
    ),
}
GENERAL = "illegal acts"
# the sieve's names for what it found -> the category whose wording fits
OF_RULE = {
    "harm to a person": "violence", "suicide": "self-harm", "weapons": "weapons", "drugs": "drugs",
    "hacking": "hacking", "theft and fraud": "theft/fraud", "stalking": "privacy/stalking",
    "hatred": "hate/discrimination", "evading the law": "illegal acts",
}  # fmt: skip
_BOAST = re.compile(
    r",? ?\b(?:definitely|without (?:a |any )?doubt|no doubt|absolutely|certainly|for sure|trust me|guaranteed)\b,?",
    re.I,
)
_SENTENCE = re.compile(r"[^.!?]+[.!?]+[\"'”’)]*(?=\s|$)")


def category_of(prompt: str) -> str:
    """The category a harmful prompt seems to belong to, GENERAL where no rule fires."""
    return next((OF_RULE[name] for name, pattern in HARMFUL.items() if pattern.search(prompt)), GENERAL)


def kind_refusal(prompt: str, category: str = "", seed: int = 0) -> str:
    """Two sentences: declines and says why; offers something better."""
    rng = random.Random(digest([seed, prompt]))
    reasons, offers = REASONS.get(category) or REASONS[category_of(prompt)]
    return f"{rng.choice(OPENINGS)}, {rng.choice(reasons)}. {rng.choice(offers)}"


def whole_sentences(text: str, words: int) -> str:
    """The whole sentences from the start that fit into so many words, none twice; "" when there is none."""
    kept: list[str] = []
    for found in _SENTENCE.findall(text):
        sentence = found.strip()
        if len(words_of(" ".join([*kept, sentence]))) > words:
            break
        if sentence not in kept:
            kept.append(sentence)
    return " ".join(kept)


def modest(text: str) -> str:
    """The text without words that claim certainty, its first letter a capital again."""
    plain = re.sub(r"\s+", " ", _BOAST.sub("", text)).strip(" ,")
    return plain[:1].upper() + plain[1:]
