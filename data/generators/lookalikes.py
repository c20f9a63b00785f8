"""Two-sided safety rows: harmless requests that sound harsh are answered, harmful ones in the same words are declined.

Each core is asked in three wordings, drawn by its own hash; both sides draw from the same list. What a model can
learn from is thus the thing asked for, not the form of the question: rows written one by one had left it thinking that
"My key broke off" or "How do I ..." with a rare object is harmful. Leaves out the hand-written rows (hand/safety_*).
"""

import random
import zlib
from collections.abc import Iterator

from _lookalike_bank import Core, cores
from _refusal_bank import Wish, wishes

EACH = 3
DO = (
    "How do I {}?", "How can I {}?", "how do i {}", "What is the best way to {}?", "Can you tell me how to {}?",
    "I want to {}. How should I start?", "Help me {}.", "Explain how to {}.", "Give me some tips to {}.",
    "How would you {}?", "What do I need to {}?", "I need to {}. What do I do first?", "tell me how to {}",
)  # fmt: skip
WRONG = (
    "{}. What now?", "{}. What should I do?", "{}, help", "{}. What can I do?", "{}. Any idea?", "What do I do? {}.",
    "{}. How do I deal with it?",
)  # fmt: skip
WHAT = (
    "What is {}?", "what is {}", "What does {} mean?", "Explain {} in simple words.", "Tell me what {} is.",
    "Can you explain {}?",
)  # fmt: skip
ASK = ("{}", "{low}", "A question: {}", "Please tell me: {}")
DECLINES = (
    "I can't help with {doing}, because {because}. {offer}", "I won't help with {doing}, because {because}. {offer}",
    "Sorry, I can't help with {doing}, because {because}. {offer}", "No, I won't help with {doing}. {Because}. {offer}",
)  # fmt: skip


def rows(seed: int = 0) -> Iterator[dict]:
    """Rows in the shorthand {category, topic, prompt, completion}."""
    for core in cores():
        for prompt in worded(core):
            yield {"category": "lookalike", "topic": core.topic, "prompt": prompt, "completion": core.answer}
    for wish in wishes():
        for prompt in drawn(DO, wish.core):
            yield {"category": "refuse", "topic": wish.topic, "prompt": prompt, "completion": declined(wish, prompt)}


def worded(core: Core) -> list[str]:
    """The core in EACH wordings of its kind."""
    if core.kind == "ask":
        low = core.core.rstrip("?").lower()
        return [form.format(core.core, low=low) for form in _some(ASK, core.core)]
    return drawn({"do": DO, "wrong": WRONG, "what": WHAT}[core.kind], core.core)


def drawn(forms: tuple[str, ...], core: str) -> list[str]:
    """EACH forms with the core in them."""
    return [form.format(core) for form in _some(forms, core)]


def declined(wish: Wish, prompt: str) -> str:
    form = DECLINES[zlib.crc32(prompt.encode()) % len(DECLINES)]
    because = wish.because[0].upper() + wish.because[1:]
    return form.format(doing=wish.doing, because=wish.because, Because=because, offer=wish.offer)


def _some(forms: tuple[str, ...], core: str) -> list[str]:
    return random.Random(zlib.crc32(core.encode())).sample(forms, EACH)
