"""Everybody's data sets -> rows, without configuration: the fields a record has decide how it is read.

    load("data.jsonl", "demos").rows

Read: messages; prompt/completion, question/answer, Alpaca, Dolly, self-instruct; ShareGPT; chosen/rejected as texts,
messages or whole transcripts; HH transcripts; two answers with votes; thumbs; answers with ranks or scores;
OASST trees, nested or flat; bare texts as prompts; and this project's own rows.

A record is read into `Found` (what stands there) and then made into the rows that were asked for: a pair also gives a
demo (its chosen answer), a ranking gives pairs, and anything gives prompts. Texts are kept as they are, also GSM8K's
<<48/2=24>> marks: removing them is a choice about the data, not about its format.

Left out on purpose: tokens, filtering by quality (dataset.py), images and tool calls (such rows are bad rows).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import ValidationError

from posttrain.errors import UserError, nearest
from posttrain.files import Record, records
from posttrain.rows import Demo, Message, Messages, Pair, Prompt, Ranking, Role, Row, Source, Thumb, explain
from posttrain.trees import flat_trees, is_flat, is_tree, walk

KindName = Literal["demos", "pairs", "prompts", "thumbs", "rankings"]
BadRows = Literal["error", "skip"]
R = TypeVar("R", bound=Row)
KINDS: dict[str, type[Row]] = {"demos": Demo, "pairs": Pair, "prompts": Prompt, "thumbs": Thumb, "rankings": Ranking}
ROLES: dict[str, Role] = {
    "user": "user", "human": "user", "prompter": "user", "instruction": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
    "ai": "assistant", "chosen": "assistant", "rejected": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip
CONVERSATION = ("messages", "conversations", "conversation", "dialog", "dialogue")
PROMPT = ("prompt", "instruction", "question", "query", "history", "input", "context", "user", "goal")
CONTEXT = ("input", "context", "passage")
ANSWER = ("completion", "response", "output", "answer", "assistant", "target", "gold")
CHOSEN = ("chosen", "preferred", "preferred_output", "chosen_response", "response_chosen", "accepted", "better")
REJECTED = ("rejected", "non_preferred_output", "rejected_response", "response_rejected", "dispreferred", "worse")
LABEL = ("label", "thumb", "thumbs", "thumbs_up", "desirable")
ANSWERS = ("answers", "responses", "completions", "candidates", "outputs")
TWO = (("response1", "response2"), ("response_1", "response_2"), ("response_0", "response_1"), ("response_a", "response_b"),
       ("answer_a", "answer_b"), ("answer_0", "answer_1"), ("human_ref_a", "human_ref_b"), ("output_1", "output_2"))  # fmt: skip
YES = {"true", "1", "1.0", "up", "yes", "good", "thumbs_up", "desirable"}
NO = {"false", "0", "0.0", "-1", "-1.0", "down", "no", "bad", "thumbs_down", "undesirable"}
TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant|System):[ ]?")


class Drop(Row):
    """A row that is not used, and why. where: file:line."""

    where: str
    field: str = ""
    reason: str
    id: str = ""


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """rows; ledger: records left out; shapes: how many records were read as what."""

    rows: list[R]
    ledger: list[Drop] = field(default_factory=list)
    shapes: dict[str, int] = field(default_factory=dict)


class BadRow(Exception):
    """This record cannot become the row that was asked for."""

    def __init__(self, field: str, reason: str):
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class Found:
    """What a record says. prompt: the conversation before the answers; answers with ranks, 0 best, None unknown."""

    shape: str
    prompt: Messages
    answers: tuple[Message, ...] = ()
    ranks: tuple[int, ...] | None = None
    label: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def load(source: str | Path, kind: KindName, *, bad_rows: BadRows = "error") -> Loaded[Any]:
    """Read a file, a folder, `bundled:name` or a hub data set as rows of one kind.

    A record that is broken or does not fit raises UserError with file, line, field and what was expected; with
    bad_rows="skip" it goes to the ledger. Records that fit but say nothing of this kind (ties, thumbs down as demos)
    always go to the ledger.
    """
    rows: list[Row] = []
    ledger: list[Drop] = []
    shapes: Counter[str] = Counter()
    for record, found in _found(source, bad_rows, ledger):
        try:
            shape, new = _rows(found, kind, record) if isinstance(found, Found) else _read(record, kind)
        except BadRow as bad:
            if bad_rows == "error" and not isinstance(bad, Silent):
                raise UserError(_say(bad), where=record.where, remedy="mend the row, or set bad_rows: skip") from None
            ledger.append(Drop(where=record.where, field=bad.field, reason=bad.reason))
            continue
        rows += new
        shapes[shape] += 1
    if not rows:
        reasons = Counter(_say(BadRow(d.field, d.reason)) for d in ledger).most_common(3)
        raise UserError(f"no {kind} found: {'; '.join(r for r, _ in reasons) or 'no records'}", where=str(source))
    return Loaded(rows, ledger, dict(shapes))
