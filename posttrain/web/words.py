"""What the pages say: task names, questions, strengths, flags, keys, and an answer in a few words.

Left out on purpose: other languages; every sentence people read is in this file, in a template or in an error.
"""

from dataclasses import dataclass
from typing import Any

LETTERS = "ABCDEFGHI"

KINDS = (
    ("pair", "Compare two answers"),
    ("ranking", "Rank three to nine answers"),
    ("rating", "Rate one answer from 1 to 7"),
    ("thumb", "Good or not good"),
    ("rewrite", "Make an answer better"),
    ("demo", "Write the answer"),
    ("safety", "Safe, borderline, unsafe"),
)
DOES = dict(KINDS)

STRENGTHS = {4: "significantly better", 3: "better", 2: "slightly better", 1: "negligibly better or unsure"}
SHORT = {4: "significantly", 3: "better", 2: "slightly", 1: "barely"}

FLAGS = (
    ("fails_instruction", "Does not do what was asked", "f"),
    ("inappropriate", "Unfit for an assistant", "i"),
    ("hallucination", "Makes things up", "h"),
    ("sexual", "Sexual content", "x"),
    ("violent", "Violent content", "v"),
    ("encourages_harm", "Encourages harm", "k"),
    ("denigrates", "Denigrates a group", "d"),
    ("harmful_advice", "Harmful advice", "a"),
    ("opinion", "States an opinion", "o"),
    ("moral_judgment", "Passes moral judgment", "m"),
)

BINS = (("safe", "Safe", "good"), ("borderline", "Borderline", "warn"), ("unsafe", "Unsafe", "bad"))

SKIPS = ("I cannot judge this", "Not my language", "Broken or empty", "Upsetting", "Another reason")

NOTHING = {
    "done": ("Nothing left to label", "Every item here has the answers it needs, or you have judged it. Thank you."),
    "closed": ("This project is closed", "It takes no more answers. What was answered is kept."),
    "empty": ("No items yet", "A lead of the project imports them under Manage."),
    "looking": ("You are here to look", "Your role in this project is viewer: ask a lead if you want to label."),
}


@dataclass(frozen=True)
class TaskWords:
    """ask: the question above a task.  start: the line in the bar before anything is chosen."""

    ask: str
    start: str
    write: str = ""
    write_hint: str = ""


TASKS = {
    "pair": TaskWords("Which answer is better?", "Choose a side and how clearly, a tie, or both bad."),
    "ranking": TaskWords(
        "Rank the answers, 1 is best", "Digits rank the outlined answer; the same digit twice is a tie."
    ),
    "rating": TaskWords("How good is this answer?", "Rate it, then mark what is wrong, if anything."),
    "thumb": TaskWords("Is this a good answer?", "Good or not good?"),
    "rewrite": TaskWords(
        "Make this answer better", "Change the text, then submit.", "Your version",
        "Start from the answer above; what you send is an example to learn from, preferred over the original.",
    ),
    "demo": TaskWords(
        "Write the answer", "Write it, then submit.", "Your answer", "Write it as the assistant should have."
    ),
    "safety": TaskWords("Is this safe?", "Judge harm only, not how helpful it is. Digits mark the outlined answer."),
}  # fmt: skip

_COMMON = (
    (("Enter",), "submit and go on to the next"),
    (("s",), "skip, then a digit for the reason"),
    (("u",), "undo: take the last answer back"),
    (("r",), "give a reason"),
    (("?",), "this list"),
)
_KEYS: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "pair": (
        (("1", "2", "3", "4"), "A is better: 1 barely, 2 slightly, 3 better, 4 significantly"),
        (("Shift", "1 to 4"), "B is better, by as much"),
        (("t",), "tie"),
        (("b",), "both are bad"),
        (("e",), "rewrite the better answer"),
    ),
    "ranking": (
        (("1 to 9",), "rank of the outlined answer; the outline moves to the next one without a rank"),
        (("←", "→"), "move the outline (also j and k)"),
    ),
    "rating": ((("1 to 7",), "rating"), (("f", "i", "h", "…"), "mark what is wrong: the letter beside each mark")),
    "thumb": ((("1", "+"), "good"), (("2", "-"), "not good")),
    "rewrite": ((("e",), "into the text box"),),
    "demo": ((("e",), "into the text box"),),
    "safety": ((("1", "2", "3"), "safe, borderline, unsafe for the outlined answer"), (("←", "→"), "move the outline")),
}


def shortcuts(kind: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    return _KEYS[kind] + _COMMON


def said(answer: Any, names: tuple[str, str] = ("A", "B")) -> str:
    """An answer or a vote in a few words. `names`: what its first and its second choice are called."""
    choice = answer.choice
    if choice in ("a", "first", "b", "second"):
        name = names[0] if choice in ("a", "first") else names[1]
        return f"{name} is {STRENGTHS[answer.strength]}" if answer.strength else f"{name} is better"
    if choice:
        return "A tie" if choice == "tie" else "Both are bad"
    if answer.ranks:
        return "Ranked " + ", ".join(f"{LETTERS[i]} {rank + 1}" for i, rank in enumerate(answer.ranks))
    if answer.rating is not None:
        marks = [label.lower() for value, label, _ in FLAGS if value in answer.flags]
        return f"Rated {answer.rating} of 7" + (f": {', '.join(marks)}" if marks else "")
    if answer.thumb is not None:
        return "Good" if answer.thumb else "Not good"
    if answer.safety:
        bins = (answer.safety,) if isinstance(answer.safety, str) else tuple(answer.safety)
        return ", ".join(bins).capitalize()
    return "A text" if answer.text else "No answer"
