"""Files -> items to label: prompts with two answers, several, one or none, in the spellings that people have.

    {"prompt": "Why?", "answers": ["Because.", "Ask me again."], "models": ["a", "b"], "id": "7", "gold": "first"}

prompt or messages; answers, responses ..., chosen and rejected, response_a and response_b ..., or one response;
models or model; author(s); gold; id, category, meta. Whatever else formats.py reads is read by it. A bad line is
told with file:line, the field, and what was expected there; nothing is imported then.
Left out on purpose: columns of a user's own invention, and skipping bad lines.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from posttrain import formats
from posttrain.errors import UserError
from posttrain.files import Record, records
from posttrain.rows import Message, Messages, Pair, Prompt, Ranking, Thumb, digest, explain
from posttrain.store.labels import FIELD, check_item
from posttrain.store.rows import Candidate, Kind, TaskItem
from posttrain.turns import BadRow, first, messages, short

ASKED = ("prompt", "messages", "conversation", "conversations", "question", "instruction", "query")
ONE = ("response", "completion", "answer", "output")
LIKE: dict[Kind, formats.KindName] = {"pair": "pairs", "ranking": "rankings", "thumb": "thumbs", "demo": "prompts"}
SIDES = {
    "a": "first", "first": "first", "chosen": "first", "0": "first", "b": "second", "second": "second",
    "rejected": "second", "1": "second", "tie": "tie", "both_bad": "both_bad",
}  # fmt: skip


def read_items(source: str | Path, kind: Kind) -> list[TaskItem]:
    """Items of a file or folder (JSONL, JSON, CSV, Parquet, gzipped or not). UserError with file:line and field."""
    return _items(records(source), kind, str(source))


def parse_items(text: str, name: str, kind: Kind) -> list[TaskItem]:
    """Items of JSON lines, or of one JSON array, held in memory: an upload called `name`."""
    return _items(_records(text, name), kind, name)


def _records(text: str, name: str) -> Iterable[Record]:
    if text.lstrip().startswith("["):
        try:
            yield from (Record(value, name, n) for n, value in enumerate(json.loads(text), 1))
        except ValueError as error:
            raise UserError(f"not valid JSON: {error}", where=name) from None
        return
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line.strip():
            try:
                yield Record(json.loads(line), name, number)
            except (ValueError, RecursionError) as error:
                yield Record(None, name, number, f"not valid JSON: {error}")


def _items(found: Iterable[Record], kind: Kind, source: str) -> list[TaskItem]:
    rows: list[TaskItem] = []
    where: dict[str, Record] = {}
    bad: list[tuple[Record, BadRow]] = []
    for record in found:
        try:
            for item in _read(record, kind):
                if item.id in where:
                    raise BadRow("id", f"{item.id!r} is on line {where[item.id].line} already")
                where[item.id] = record
                rows.append(item)
        except BadRow as error:
            bad.append((record, error))
    if bad:
        more = f" (and {len(bad) - 1} more bad line{'s' * (len(bad) > 2)})" if len(bad) > 1 else ""
        remedy = "mend the file, or say what people are to do with --kind; nothing was imported"
        raise UserError(f"{bad[0][1]}{more}", where=bad[0][0].where, remedy=remedy)
    if not rows:
        raise UserError("the file holds no items", where=source)
    return rows


def _read(record: Record, kind: Kind) -> list[TaskItem]:
    if record.problem:
        raise BadRow("row", record.problem)
    if not isinstance(record.value, dict):
        raise BadRow("row", f"expected an object with prompt and answers, got {short(record.value)}")
    row = record.value
    prompt, answers = _parts(row, kind)
    if answers is None:
        return _foreign(record, kind)
    fields = {
        "prompt": prompt, "answers": answers, "gold": _gold(row, kind, len(answers)),
        "category": _text(row, "category"), "meta": _meta(row),
    }  # fmt: skip
    return [_item(row, fields, kind)]


def _item(row: Mapping[str, Any], fields: dict[str, Any], kind: Kind) -> TaskItem:
    """Checked; without an id of its own an item is called by a digest of what it holds."""
    given = row.get("id")
    if given is not None and (not isinstance(given, str | int) or str(given) == ""):
        raise BadRow("id", f"expected a text, got {short(given)}")
    held = [[m.model_dump() for m in fields["prompt"]], [c.model_dump() for c in fields["answers"]]]
    try:
        item = TaskItem.model_validate(fields | {"id": digest(held) if given is None else str(given)})
    except ValidationError as error:
        raise BadRow(*explain(error).split(": ", 1)) from None
    try:
        check_item(kind, item)
    except UserError as error:
        raise BadRow(error.where.rpartition(", ")[2], error.what) from None
    return item


# ---- the parts of a row ----------------------------------------------------------------------------------------------


def _parts(row: Mapping[str, Any], kind: Kind) -> tuple[Messages, tuple[Candidate, ...] | None]:
    """(prompt, answers); answers None where this row is better left to formats.py."""
    field = first(row, ASKED)
    texts = _answers(row)
    if field is None:
        if texts is None and first(row, formats.CHOSEN):
            return (), None
        raise BadRow("prompt", "expected prompt (a text) or messages")
    prompt = messages(row[field], field)
    if texts is None and prompt[-1].role == "assistant" and kind not in ("pair", "ranking"):
        prompt, texts = prompt[:-1], [] if kind == "demo" else [prompt[-1].content]
    if texts is None:
        texts = [] if kind == "demo" else None
    if texts is None:
        if first(row, sorted(formats.KNOWN - set(ASKED))) and kind in LIKE:
            return prompt, None
        raise BadRow("answers", f"expected answers for kind {kind}, got none")
    if kind == "demo":
        texts = []
    if not prompt or prompt[-1].role == "assistant":
        raise BadRow(field, "the conversation must end with what is to be answered")
    return prompt, _candidates(row, texts)


def _answers(row: Mapping[str, Any]) -> list[Any] | None:
    """The answers as they stand; None where no field that is known here holds any."""
    field = first(row, formats.ANSWERS)
    if field:
        if not isinstance(row[field], list):
            raise BadRow(field, f"expected a list, got {short(row[field])}")
        return list(row[field])
    better, worse = first(row, formats.CHOSEN), first(row, formats.REJECTED)
    if better and worse and first(row, ASKED):
        return [row[better], row[worse]]
    for two in formats.TWO:
        if all(row.get(name) is not None for name in two):
            return [row[name] for name in two]
    one = first(row, ONE)
    return [row[one]] if one else None


def _candidates(row: Mapping[str, Any], texts: list[Any]) -> tuple[Candidate, ...]:
    models, authors = _names(row, "model", len(texts)), _names(row, "author", len(texts))
    return tuple(
        _candidate(value, f"answers.{n}", model, author)
        for n, (value, model, author) in enumerate(zip(texts, models, authors))
    )


def _names(row: Mapping[str, Any], field: str, n: int) -> list[str | None]:
    """`models` as a list, `model_a` and `model_b`, or `model` for all; None where nothing is said."""
    many = row.get(f"{field}s")
    if many is None and row.get(f"{field}_a") is not None:
        many = [row[f"{field}_a"], row.get(f"{field}_b")][:n]
    if many is None:
        many = [row.get(field)] * n
    if not isinstance(many, list) or len(many) != n or not all(isinstance(m, str | None) for m in many):
        raise BadRow(f"{field}s", f"expected {n} names, one per answer, got {short(many)}")
    return many


def _candidate(value: Any, field: str, model: str | None, author: str | None) -> Candidate:
    """A text, {text, model, author}, or a message or messages of which the last is the answer."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        model, author = value.get("model") or model, value.get("author") or author
        text = value["text"]
    elif isinstance(value, str):
        text = value
    else:
        said: tuple[Message, ...] = messages(value, field, "assistant")
        text = said[-1].content
    try:
        return Candidate(text=text, model=model or "", author=author)
    except ValidationError as error:
        raise BadRow(field, explain(error)) from None


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field, "")
    if value is None or isinstance(value, str):
        return value or ""
    raise BadRow(field, f"expected a text, got {short(value)}")


def _meta(row: Mapping[str, Any]) -> dict[str, Any]:
    meta = row.get("meta") or {}
    if not isinstance(meta, dict):
        raise BadRow("meta", f"expected an object, got {short(meta)}")
    return meta


def _gold(row: Mapping[str, Any], kind: Kind, n: int) -> dict[str, Any] | None:
    """The right answer: {field: value}, or the value alone; `true` beside chosen and rejected means the chosen one."""
    gold = row.get("gold")
    if gold is None or isinstance(gold, dict):
        return gold
    field = FIELD[kind]
    if kind == "pair":
        if gold is True and first(row, formats.CHOSEN):
            return {"choice": "first"}
        side = SIDES.get(str(gold).lower())
        if side is None:
            raise BadRow("gold", f"expected first, second, tie or both_bad, got {short(gold)}")
        return {"choice": side}
    if kind == "safety" and isinstance(gold, str):
        return {field: [gold] * n}
    return {field: gold}


# ---- what formats.py reads -------------------------------------------------------------------------------------------


def _foreign(record: Record, kind: Kind) -> list[TaskItem]:
    """Transcripts, trees, votes, scores: rows of this project by way of formats.py, then items."""
    if kind not in LIKE:
        raise BadRow("answers", f"expected prompt and answers for kind {kind}")
    _, rows = formats.read(record, LIKE[kind])
    found = [_of_row(row) for row in rows]
    single = len(found) == 1 and "id" in record.value
    return [
        _item({"id": record.value["id"]} if single else {}, {"prompt": prompt, "answers": answers}, kind)
        for prompt, answers in found
    ]


def _of_row(row: Any) -> tuple[Messages, tuple[Candidate, ...]]:
    if isinstance(row, Pair):
        return row.prompt, (Candidate(text=row.chosen.content), Candidate(text=row.rejected.content))
    if isinstance(row, Ranking):
        return row.prompt, tuple(Candidate(text=m.content) for m in row.answers)
    if isinstance(row, Thumb):
        return row.messages[:-1], (Candidate(text=row.messages[-1].content),)
    assert isinstance(row, Prompt)
    return row.messages, ()
