"""Everybody's data sets -> rows, without configuration: the fields a record has decide how it is read.

    load("data.jsonl", "demos").rows

Read: messages; prompt/completion, question/answer, Alpaca, Dolly, self-instruct; ShareGPT; chosen/rejected as texts,
messages or whole transcripts; HH transcripts; two answers with votes; thumbs; answers with ranks or scores;
OASST trees, nested or flat; bare texts as prompts; and this project's own rows.

A record is read into `Found` (what stands there) and then made into the rows that were asked for: a pair also gives a
demo (its chosen answer), a ranking gives pairs, and anything gives prompts. Texts are kept as they are, also GSM8K's
<<48/2=24>> marks: removing them is a choice about the data, not about its format.

Left out on purpose: tokens, filtering by quality (dataset/), images and tool calls (such rows are bad rows).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import ValidationError

from posttrain import trees
from posttrain.errors import UserError
from posttrain.files import Record, extension, records
from posttrain.rows import Demo, Message, Messages, Pair, Prompt, Ranking, Rating, Row, Source, Thumb, explain
from posttrain.turns import BadRow, first, flat, message, messages, number, short, transcript, vote

KindName = Literal["demos", "pairs", "prompts", "thumbs", "rankings", "ratings"]
BadRows = Literal["error", "skip"]
R = TypeVar("R", bound=Row)
KINDS: dict[str, type[Row]] = {f"{k.__name__.lower()}s": k for k in (Demo, Pair, Prompt, Thumb, Ranking, Rating)}
CONVERSATION = ("messages", "conversations", "conversation", "dialog", "dialogue")
PROMPT = ("prompt", "instruction", "question", "query", "history", "input", "context", "user", "goal")
CONTEXT = ("input", "context", "passage", "passages")
ANSWER = ("completion", "response", "output", "answer", "assistant", "target", "gold")
CHOSEN = ("chosen", "preferred", "preferred_output", "chosen_response", "response_chosen", "accepted", "better")
REJECTED = ("rejected", "non_preferred_output", "rejected_response", "response_rejected", "dispreferred", "worse")
LABEL = ("label", "thumb", "thumbs", "thumbs_up", "desirable")
RATING = ("value", "rating", "score", "overall_score", "stars")
ANSWERS = ("answers", "responses", "completions", "candidates", "outputs")
TWO = (
    ("response1", "response2"), ("response_1", "response_2"), ("response_0", "response_1"),
    ("response_a", "response_b"), ("answer_a", "answer_b"), ("answer_0", "answer_1"),
    ("human_ref_a", "human_ref_b"), ("output_1", "output_2"),
)  # fmt: skip
YES = {"true", "1", "1.0", "up", "yes", "good", "thumbs_up", "desirable"}
NO = {"false", "0", "0.0", "-1", "-1.0", "down", "no", "bad", "thumbs_down", "undesirable"}
KNOWN = {
    *CONVERSATION, *PROMPT, *CONTEXT, *ANSWER, *CHOSEN, *REJECTED, *ANSWERS, *(n for two in TWO for n in two), "system",
    "system_prompt", "instances", "turns", "id", "category", "source", "meta", "margin", "soft", "annotator", "reason",
    "label", "ranks", "body", "scale", "value",
}  # fmt: skip
TRUTH = ("answer", "answers", "constraints", "label", "solution", "tests", "schema", "language")  # of a prompt's answer
EXPECTED = "messages, prompt and completion, instruction and output, conversations, or chosen and rejected"


class Drop(Row):
    """A row that is not used, and why. where: file:line."""

    where: str
    field: str = ""
    reason: str
    id: str = ""
    text: str = ""


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """rows; where[i]: file:line of rows[i]; ledger: records left out; shapes: how many records were read as what."""

    rows: list[R]
    where: list[str]
    ledger: list[Drop] = field(default_factory=list)
    shapes: dict[str, int] = field(default_factory=dict)


class Silent(BadRow):
    """The record is in order but says nothing of the kind asked for (a tie, a thumb down): never an error."""


@dataclass(frozen=True)
class Found:
    """What a record says. prompt: the conversation before the answers; ranks: 0 is best, None when nothing is known."""

    shape: str
    prompt: Messages
    answers: tuple[Message, ...] = ()
    ranks: tuple[int, ...] | None = None
    label: bool | None = None
    values: tuple[float, ...] | None = None


def load(source: str | Path, kind: KindName, *, bad_rows: BadRows = "error") -> Loaded[Any]:
    """Read a file, a folder, `bundled:name` or a hub data set as rows of one kind.

    A record that is broken or does not fit raises UserError with file, line, field and what was expected; with
    bad_rows="skip" it goes to the ledger. Records that fit but say nothing of this kind (ties, thumbs down as demos)
    always go to the ledger. Rows without an id are called file:line.
    """
    rows: list[Row] = []
    where: list[str] = []
    ledger: list[Drop] = []
    shapes: Counter[str] = Counter()
    for row, place in each(source, kind, bad_rows, ledger, shapes):
        rows.append(row)
        where.append(place)
    return Loaded(rows, where, ledger, dict(shapes))


def each(
    source: str | Path, kind: KindName, bad_rows: BadRows, ledger: list[Drop], shapes: Counter[str]
) -> Iterator[tuple[Any, str]]:
    """`load` row by row, each with its file:line; what is left out is added to the ledger, what was read to shapes."""
    for record in _whole(records(source), ledger):
        try:
            shape, new = read(record, kind)
        except BadRow as bad:
            if bad_rows == "error" and not isinstance(bad, Silent):
                raise UserError(str(bad), where=record.where, remedy=_mend(record)) from None
            ledger.append(Drop(where=record.where, field=bad.field, reason=bad.reason))
            continue
        yield from ((row, record.where) for row in new)
        shapes[shape] += 1
    if not shapes:
        reasons = Counter(f"{d.field}: {d.reason}" for d in ledger).most_common(2)
        what = f"no {kind} found ({'; '.join(r for r, _ in reasons) or 'no records'})"
        raise UserError(what, where=str(source), remedy="rename its fields to some of these" if reasons else "add rows")


def _mend(record: Record) -> str:
    first = " (the first line of a table names its columns)" if extension(Path(record.file)) in ("csv", "tsv") else ""
    return f"mend the row{first}, or leave such rows out: --bad-rows skip"


def _whole(found: Iterator[Record], ledger: list[Drop]) -> Iterator[Record]:
    """Records as they come; flat message trees are put together at the end."""
    flat = []
    for record in found:
        if trees.is_flat(record.value):
            flat.append(record)
        else:
            yield record
    grown, orphans = trees.grow(flat)
    ledger += [Drop(where=r.where, field="parent_id", reason="the parent message is missing") for r in orphans]
    yield from grown


def read(record: Record, kind: KindName) -> tuple[str, list[Row]]:
    """(shape, rows) of one record. Raises BadRow."""
    if record.problem:
        raise BadRow("row", record.problem)
    found = list(_found(record.value, kind))
    if not found:
        raise Silent("replies", "the tree has no usable answer")
    extra = _extra(record.value) if isinstance(record.value, dict) else {}
    if kind == "prompts" and isinstance(record.value, dict):
        extra["meta"] = _truth(record.value, found[0]) | extra["meta"]
    rows: list[dict[str, Any]] = []
    silent: Silent | None = None
    for f in found:
        if not f.prompt:
            raise BadRow("prompt", "nobody asks anything: the first message is the answer")
        try:
            rows += [fields | _only(extra, KINDS[kind]) for fields in MAKERS[kind](f)]
        except Silent as nothing:
            silent = nothing
    if not rows and silent:
        raise silent
    name = extra.get("id") or f"{Path(record.file).name}:{record.line}"
    ids = [name] if len(rows) == 1 else [f"{name}-{n}" for n in range(len(rows))]
    try:
        return found[0].shape, [KINDS[kind].model_validate(fields | {"id": i}) for fields, i in zip(rows, ids)]
    except ValidationError as error:
        raise BadRow(*explain(error).split(": ", 1)) from None


# Found -> fields of rows


def _demos(found: Found) -> Iterator[dict[str, Any]]:
    if found.label is False:
        raise Silent("label", "a thumb down is nothing to imitate")
    if not found.answers:
        raise BadRow("messages", f"there is no answer to imitate; expected {EXPECTED}")
    best = found.answers[found.ranks.index(min(found.ranks))] if found.ranks else found.answers[0]
    yield {"messages": (*found.prompt, best)}


def _pairs(found: Found) -> Iterator[dict[str, Any]]:
    if found.ranks is None or len(found.answers) < 2:
        raise BadRow(
            "chosen", "there are no two answers to compare; expected chosen and rejected, or answers with ranks"
        )
    order = sorted(zip(found.ranks, found.answers), key=lambda x: x[0])
    pairs = [(a, b) for n, (i, a) in enumerate(order) for j, b in order[n + 1 :] if i < j and a != b]
    if not pairs:
        raise Silent("chosen", "a tie, or twice the same answer")
    yield from ({"prompt": found.prompt, "chosen": a, "rejected": b} for a, b in pairs)


def _prompts(found: Found) -> Iterator[dict[str, Any]]:
    yield {"messages": found.prompt}


def _thumbs(found: Found) -> Iterator[dict[str, Any]]:
    if found.label is not None and found.answers:
        yield {"messages": (*found.prompt, found.answers[0]), "label": found.label}
    elif found.shape == "pair" and found.ranks:
        for answer, rank in zip(found.answers, found.ranks):
            yield {"messages": (*found.prompt, answer), "label": rank == 0}
    else:
        raise BadRow("label", "expected true or false beside an answer")


def _rankings(found: Found) -> Iterator[dict[str, Any]]:
    if found.ranks is None or len(found.answers) < 2:
        raise BadRow("answers", "expected two or more answers with ranks or scores")
    yield {"prompt": found.prompt, "answers": found.answers, "ranks": found.ranks}


def _ratings(found: Found) -> Iterator[dict[str, Any]]:
    if found.values is None or not found.answers:
        raise BadRow("value", "expected a number for the answer (value, rating or score)")
    yield from ({"prompt": found.prompt, "answer": a, "value": v} for a, v in zip(found.answers, found.values))


MAKERS = {f.__name__[1:]: f for f in (_demos, _pairs, _prompts, _thumbs, _rankings, _ratings)}


# record -> Found


def _found(value: Any, kind: KindName) -> Iterator[Found]:
    """What a record says, by the first reader that knows its fields. Raises BadRow."""
    if isinstance(value, str):
        yield Found("text", (message("user", value, "text"),))
    elif isinstance(value, list):
        yield _conversation(messages(value, "row"))
    elif not isinstance(value, dict):
        raise BadRow("row", f"expected an object with fields, got {short(value)}")
    elif trees.is_tree(value):
        yield from _tree(trees.root_of(value), kind)
    else:
        yield from _fields({str(k).strip().lower(): v for k, v in value.items() if v is not None}, kind)


def _fields(r: Mapping[str, Any], kind: KindName) -> Iterator[Found]:
    two = next((t for t in TWO if t[0] in r and t[1] in r), None)
    answers, conversation = first(r, ANSWERS), first(r, CONVERSATION)
    if first(r, CHOSEN) and first(r, REJECTED):
        yield _pair(r, kind)
    elif two:
        yield _voted(_prompt(r), [r[two[0]], r[two[1]]], vote(r), two)
    elif isinstance(r.get("preference"), list):
        yield from _all_votes(r) if kind in ("pairs", "rankings") else [_asked(r)]
    elif answers and isinstance(r[answers], list):
        yield _ranked(r, answers)
    elif isinstance(r.get("instances"), list) and r["instances"]:
        for inner in r["instances"]:
            yield from _fields({**r, **inner, "instances": None}, kind)
    elif conversation:
        yield _labelled(_conversation(_with_system(r, messages(r[conversation], conversation))), r, kind)
    elif isinstance(r.get("turns"), list) and r["turns"]:
        yield Found("turns", (message("user", r["turns"][0], "turns"),))  # later turns ask about answers not given here
    elif first(r, PROMPT):
        yield _labelled(_asked(r), r, kind)
    else:
        raise BadRow("row", f"none of the known fields; it has {', '.join(list(r)[:8]) or 'none'}; expected {EXPECTED}")


def _tree(root: trees.Node, kind: KindName) -> Iterator[Found]:
    def turn(node: trees.Node) -> Message:
        return message(node["role"], node["text"], "text")

    if kind in ("pairs", "rankings"):
        for path, group in trees.ranked_groups(root):
            ranks = tuple(int(r["rank"]) for r in group)
            yield Found("tree", tuple(map(turn, path)), tuple(map(turn, group)), ranks)
    elif kind == "prompts":
        yield Found("tree", (turn(root),))
    elif path := trees.best_path(root):
        yield Found("tree", tuple(map(turn, path[:-1])), (turn(path[-1]),))


def _conversation(turns: Messages, shape: str = "messages") -> Found:
    """Everything before the last answer is the prompt; what follows the last answer teaches nothing and is left off."""
    last = max((n for n, m in enumerate(turns) if m.role == "assistant"), default=None)
    return Found(shape, turns) if last is None else Found(shape, turns[:last], (turns[last],))


def _labelled(found: Found, r: Mapping[str, Any], kind: KindName) -> Found:
    """With its thumb. Asked for thumbs, 1, "up" and the like count; otherwise only true and false do."""
    if kind == "ratings" and (rated := first(r, RATING)) and found.answers:
        return replace(found, values=(number(r[rated], rated),))
    name = first(r, LABEL)
    if name is None:
        return found
    value, text = r[name], str(r[name]).strip().lower()
    if kind == "thumbs" and text not in YES | NO:
        raise BadRow(name, f"expected true or false, got {short(value)}")
    if not isinstance(value, bool) and kind != "thumbs":
        return found
    return Found("thumb", found.prompt, found.answers, None, text in YES)


def _asked(r: Mapping[str, Any]) -> Found:
    """prompt/completion, question/answer, Alpaca, Dolly; a list of two outputs is chosen and rejected."""
    prompt, name = _prompt(r), first(r, [n for n in ANSWER if n != first(r, PROMPT)])
    if name is None:
        return Found("prompt", prompt)
    value = r[name]
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return Found("pair", prompt, tuple(message("assistant", v, name) for v in value), (0, 1))
    shape = f"{first(r, PROMPT)}/{name}"
    if isinstance(value, list | dict):
        return _conversation((*prompt, *messages(value, name, "assistant")), shape)
    return Found(shape, prompt, (message("assistant", value, name),))


def _pair(r: Mapping[str, Any], kind: KindName) -> Found:
    """Two answers, or two conversations that differ in their last answer. Outer context wins over a repeated prompt."""
    c_name, r_name = str(first(r, CHOSEN)), str(first(r, REJECTED))
    given = _prompt(r) if first(r, (*PROMPT, *CONVERSATION)) else ()
    asked = given[-1].content if given else ""
    chosen, rejected = (_side(r[name], name, asked) for name in (c_name, r_name))
    same = 0
    while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
        same += 1
    ends = chosen[same:], rejected[same:]
    if any(len(e) != 1 or e[0].role != "assistant" for e in ends):
        if kind in ("demos", "prompts"):
            return _conversation(_with_system(r, chosen if same or not given else (*given, *chosen)), "pair")
        raise Silent(r_name, f"differs from {c_name} before the last answer, so the two cannot be compared")
    prompt = _with_system(r, chosen[:same]) if same else given
    if not prompt:
        raise BadRow("prompt", f"missing, and {c_name} holds no conversation that would begin with it")
    return Found("pair", prompt, (ends[0][0], ends[1][0]), (0, 1))


def _side(value: Any, name: str, asked: str) -> Messages:
    """chosen or rejected as messages, from the first one it holds to its last answer."""
    if isinstance(value, str) and asked and value.lstrip().startswith(asked):
        value = value.lstrip()[len(asked) :] or value  # prompt and answer in one text
    turns = messages(value, name, "assistant")
    last = max((n for n, m in enumerate(turns) if m.role == "assistant"), default=-1)
    if last < 0:
        raise BadRow(name, "expected an answer of the assistant")
    return turns[: last + 1]


def _ranked(r: Mapping[str, Any], name: str) -> Found:
    """A list of answers with ranks (0 or 1 is best) or scores (higher is better), beside it or inside its items."""
    items = r[name]
    inside = [i for i in items if isinstance(i, dict)]
    texts = [_short_answer(i, name) for i in items]
    answers = tuple(message("assistant", t, name) for t in texts)
    prompt = _prompt(r)
    for field_name in ("ranks", "ranking", "rank", "scores", "overall_score", "score"):
        sign = 1 if field_name.startswith("rank") else -1
        values = r.get(field_name) or [i.get(field_name) for i in inside]
        if isinstance(values, list) and len(values) == len(items) and None not in values:
            keys = [sign * number(v, field_name) for v in values]
            ranks = tuple(sorted(set(keys)).index(k) for k in keys)
            return Found("answers", prompt, answers, ranks, None, tuple(-k for k in keys) if sign < 0 else None)
    return Found("answers", prompt, answers)


def _short_answer(item: Any, name: str) -> Any:
    if not isinstance(item, dict):
        return item
    key = first(item, ("content", "text", "response", "answer", "completion", "output"))
    if key is None:
        raise BadRow(name, f"expected a text in each, got {short(item)}")
    return item[key]


def _voted(prompt: Messages, texts: Sequence[Any], who: int, names: Sequence[str]) -> Found:
    answers = tuple(message("assistant", t, n) for t, n in zip(texts, names))
    return Found("votes", prompt, answers, {0: (0, 0), 1: (0, 1), 2: (1, 0)}[who])


def _all_votes(r: Mapping[str, Any]) -> Iterator[Found]:
    """Numbered answers with a vote on each two of them, in lexicographic order: 0 equal, 1 the first, 2 the second."""
    names = sorted(k for k in r if re.fullmatch(r"(?:prediction|response|answer|output)[ _]?\d", k))
    twos = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    if len(twos) != len(r["preference"]) or not twos:
        raise BadRow("preference", f"expected one vote on each two of {len(names)} answers")
    for (a, b), who in zip(twos, r["preference"]):
        yield _voted(_prompt(r), [r[a], r[b]], int(who), (a, b))


def _prompt(r: Mapping[str, Any]) -> Messages:
    """System message, earlier turns, question, and its context below it."""
    name = first(r, (*PROMPT, *CONVERSATION))
    if name is None:
        raise BadRow("prompt", f"missing; it has {', '.join(list(r)[:8])}")
    if not isinstance(r[name], str):
        return _with_system(r, messages(r[name], name))
    told = transcript(r[name])
    if told:  # its last turn may be an open 'Assistant:'
        return _with_system(r, told[:-1] if told[-1].role == "assistant" else told)
    text = f"{r['body']} {r[name]}" if isinstance(r.get("body"), str) else r[name]
    context = next((t for c in CONTEXT if c != name and (t := flat(r.get(c)).strip())), "")
    earlier = messages(r["history"], "history") if isinstance(r.get("history"), list) and r["history"] else ()
    asked = message("user", f"{text}\n\n{context}" if context else text, name)
    return _with_system(r, (*earlier, asked))


def _with_system(r: Mapping[str, Any], turns: Messages) -> Messages:
    text = r.get("system") or r.get("system_prompt")
    if not isinstance(text, str) or not text.strip() or (turns and turns[0].role == "system"):
        return turns
    return (message("system", text, "system"), *turns)


def _extra(value: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says beside its texts: id, category, source ..., and other short values as meta."""
    r = {str(k).strip().lower(): v for k, v in value.items() if v is not None}
    name = next((r[k] for k in ("id", "message_id", "prompt_id", "question_id", "key", "idx") if k in r), "")
    category = next((r[k] for k in ("category", "type", "topic") if isinstance(r.get(k), str) and len(r[k]) <= 60), "")
    meta = {k: v for k, v in r.items() if k not in KNOWN and isinstance(v, str | int | float) and len(str(v)) <= 80}
    meta |= {k: v for k, v in (r.get("metadata") or {}).items() if isinstance(r.get("metadata"), dict)}
    given = r.get("meta") if isinstance(r.get("meta"), dict) else None
    extra = {"id": str(name), "category": category, "meta": given if given is not None else meta}
    if r.get("source") in get_args(Source):
        extra["source"] = r["source"]
    return extra | {k: r[k] for k in ("margin", "soft", "annotator", "reason", "scale") if k in r}


def _truth(value: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """What an answer to a prompt can be compared with; a demonstration's own answer is one."""
    own = {"answer": found.answers[0].content} if found.answers else {}
    return own | {k: value[k] for k in TRUTH if value.get(k) is not None}


def _only(extra: Mapping[str, Any], kind: type[Row]) -> dict[str, Any]:
    return {k: v for k, v in extra.items() if k in kind.model_fields}
