"""One conversation in anybody's spelling -> messages: role/content, from/value, [question, answer], transcripts, texts.

Left out on purpose: what the conversation is for (formats.py), images and tool calls (such messages are refused).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.errors import nearest
from posttrain.rows import Message, Messages, Role

ROLES: dict[str, Role] = {
    "user": "user", "human": "user", "prompter": "user", "instruction": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
    "ai": "assistant", "chosen": "assistant", "rejected": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip
TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant|System):[ ]?")


class BadRow(Exception):
    """This record cannot become the row that was asked for."""

    def __init__(self, field: str, reason: str):
        self.field, self.reason = field, reason
        super().__init__(f"{field}: {reason}")


def messages(value: Any, name: str, alone: str = "user") -> Messages:
    """A list of messages in any spelling, one message, a transcript, or a text spoken by `alone`."""
    if isinstance(value, str):
        return transcript(value) or (message(alone, value, name),)
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise BadRow(name, f"expected a list of messages, got {short(value)}")
    if all(isinstance(m, str) for m in value):  # two speakers by turns; a single text is the answer where one is due
        roles = (alone, "user") if len(value) == 1 else ("user", "assistant")
        return tuple(message(roles[n % 2], m, name) for n, m in enumerate(value))
    if all(isinstance(m, list | tuple) and len(m) == 2 for m in value):  # [[question, answer], ...]
        return tuple(message(role, t, name) for two in value for role, t in zip(("user", "assistant"), two))
    return tuple(_spoken(m, f"{name}.{n}", alone) for n, m in enumerate(value))


def _spoken(m: Any, name: str, alone: str) -> Message:
    if not isinstance(m, dict):
        raise BadRow(name, f"expected role and content, got {short(m)}")
    who, what = first(m, ("role", "from", "speaker")), first(m, ("content", "value", "text"))
    if what is None:
        raise BadRow(name, f"expected content, got {short(m)}")
    return message(m[who] if who else alone, m[what], name)


def message(role: Any, content: Any, name: str) -> Message:
    """One message. Outer blanks are taken off: a model that learns them writes them."""
    known = ROLES.get(str(role).strip().lower())
    if known is None:
        raise BadRow(name, f"unknown role {role!r}; {nearest(str(role), ROLES)}")
    if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        content = "".join(str(p.get("text", "")) for p in content)
    if not isinstance(content, str | int | float):  # numbers and true: answers that JSON writers did not quote
        raise BadRow(name, f"expected a text, got {short(content)}")
    if isinstance(content, float) and content.is_integer():
        content = int(content)
    return Message(role=known, content=str(content).strip())


def transcript(text: str) -> Messages:
    """'\n\nHuman: ...\n\nAssistant: ...' -> messages; () when the text is none."""
    parts = TRANSCRIPT.split(text if text.startswith("\n\n") else "\n\n" + text.lstrip())
    if len(parts) < 5 or parts[0].strip() or "Assistant" not in parts[1::2]:
        return ()
    return tuple(message(role, said, "transcript") for role, said in zip(parts[1::2], parts[2::2]))


def flat(value: Any) -> str:
    """Context as one text; lists of passages one below the other."""
    if isinstance(value, list):
        return "\n\n".join(t for v in value if (t := flat(v[-1] if isinstance(v, list) and v else v)))
    return value if isinstance(value, str) else ""


def first(r: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((n for n in names if r.get(n) is not None), None)


def number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadRow(name, f"expected a number, got {short(value)}") from None


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def vote(r: Mapping[str, Any]) -> int:
    """Who won of two answers: 1 the first, 2 the second, 0 nobody. Several annotators: the majority."""
    votes = [int(v) for k, v in r.items() if re.fullmatch(r"annotator_?\d+", k) and str(v) in "012"]
    if votes:
        (most, n), *others = Counter(votes).most_common()
        return most if not others or n > others[0][1] else 0
    if "better_response_id" in r:
        return int(r["better_response_id"]) + 1
    if "human_ref_a" in r and "labels" in r:
        return 1 if int(r["labels"]) else 2
    if "overall_preference" in r:
        return int((x := number(r["overall_preference"], "overall_preference")) < 0) + 2 * int(x > 0)
    name = first(r, ("winner", "preference", "preferred", "choice", "better_answer"))
    said = str(r[name]).strip().lower() if name else ""
    found = re.fullmatch(r"(?:model|response|answer|assistant|output)?[ _]?(1|2|a|b|first|second)", said)
    if found:
        return 1 if found[1] in ("1", "a", "first") else 2
    if said.startswith("tie") or said in ("0", "both", "equal", "neither"):
        return 0
    raise BadRow(
        name or "preference", f"two answers, but not which one is better (expected 1, 2, a, b or tie), got {said!r}"
    )
