"""Rows -> documents ready for packing, or one clear refusal: the mistakes that otherwise show after hours of training.

Refused: rows longer than allowed (unless told to cut or drop them), answers without a token to learn, a stop token
that is not learned, a template whose prompts change later, a doubled beginning-of-text token, ids the model does not
have, pairs of equal answers, data with one and the same answer everywhere.
Left out on purpose: judging what rows say (dataset/audit.py), packing (packing.py).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from posttrain.comparisons import Group
from posttrain.dataset import text
from posttrain.errors import UserError
from posttrain.packing import Branch, Doc, size
from posttrain.render import Chat, TrainOn
from posttrain.rows import Demo, Messages, Pair

AnyRow = Demo | Pair | Group
TooLong = Literal["error", "truncate", "drop"]
SAME_ANSWER = 0.95  # share of rows with one and the same answer that is refused
FEW = 20  # below so many rows shares mean nothing
STABLE_CHECKED = 64  # rows whose prompt is rendered a second time, as sampling will do it
SHORTEST = 8  # an answer cut below so many tokens is dropped instead


@dataclass(frozen=True)
class Preflight:
    """docs[i] was made of row number kept[i], called names[i]. ledger: rows cut or dropped. facts: counts, warnings."""

    docs: Sequence[Doc]
    names: Sequence[str]
    ledger: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    kept: Sequence[int] = field(default_factory=list)


def preflight(
    rows: Sequence[AnyRow],
    chat: Chat,
    *,
    max_tokens: int,
    too_long: TooLong = "error",
    train_on: TrainOn = "assistant",
) -> Preflight:
    """Render every row and check it.

    max_tokens counts what a row takes up in a pack: of a pair the prompt once and both answers.
    Raises UserError with the first rows concerned, the reason and the remedy.
    """
    if not rows:
        raise UserError("there is no row to train on", remedy="look at the data stage's ledger.jsonl")
    names = [row.id or f"row {n}" for n, row in enumerate(rows)]
    docs = rendered(rows, names, chat, train_on)
    refuse_one_answer(rows)
    return _fit(docs, names, max_tokens, too_long)


def rendered(rows: Sequence[AnyRow], names: Sequence[str], chat: Chat, train_on: TrainOn) -> list[Doc]:
    """Rows as documents, each checked by itself. Raises UserError with the first rows concerned."""
    docs = [_doc(row, chat, train_on, name) for row, name in zip(rows, names)]
    _check_learnable(docs, names, chat, train_on)
    _check_ids(docs, names, chat)
    _check_answers(rows, names)
    _check_stable(rows, docs, names, chat)
    return docs


def _doc(row: AnyRow, chat: Chat, train_on: TrainOn, name: str) -> Doc:
    try:
        if isinstance(row, Demo):
            return Doc([], [Branch(*chat.example(row.messages, train_on))])
        cut = [chat.continuation(row.prompt, answer) for answer in answers_of(row)]
    except UserError as error:
        raise UserError(error.what, where=name, remedy=error.remedy) from None
    prompt = cut[0][0]
    if any(again != prompt for again, _ in cut):
        raise UserError(
            "the chat template's prompt depends on the answer, so the answers cannot be compared",
            where=name, remedy="template: chatml",
        )  # fmt: skip
    return Doc(prompt, [Branch(ids, [True] * len(ids)) for _, ids in cut])


def answers_of(row: AnyRow) -> Messages:
    """The answers that a row trains, the best one first."""
    return row.answers if isinstance(row, Group) else text.answers(row)


def _check_learnable(docs: Sequence[Doc], names: Sequence[str], chat: Chat, train_on: TrainOn) -> None:
    stops = set(chat.stop_ids)
    empty, endless = [], []
    for doc, name in zip(docs, names):
        for branch in doc.branches:
            targets = [i for i, wanted in zip(branch.ids, branch.mask) if wanted]
            if not any(i not in stops for i in targets):
                empty.append(name)
            elif targets[-1] not in stops and train_on != "all":
                endless.append(name)
    _refuse(
        empty,
        "rows have an answer without a token to learn",
        "remove them (the data stages drop empty answers by themselves)",
    )
    _refuse(
        endless, "answers end without a stop token among the targets: the model would never stop", "template: chatml"
    )


def _check_ids(docs: Sequence[Doc], names: Sequence[str], chat: Chat) -> None:
    limit, bos = vocabulary(chat), chat.tokenizer.bos_token_id
    outside, doubled = [], []
    for doc, name in zip(docs, names):
        first = doc.prefix or doc.branches[0].ids
        if max(max(ids, default=0) for ids in (doc.prefix, *(b.ids for b in doc.branches))) >= limit:
            outside.append(name)
        if bos is not None and first[:2] == [bos, bos]:
            doubled.append(name)
    _refuse(
        outside, f"rows have token ids that the model does not have (it has {limit})",
        "use the tokenizer that belongs to the model, or resize the model's embeddings",
    )  # fmt: skip
    _refuse(doubled, "rows begin with the beginning-of-text token twice", "take bos_token out of the chat template")


def vocabulary(chat: Chat) -> int:
    """Ids that the model beside the tokenizer has an embedding for; the tokenizer's own count when there is none."""
    import json

    config = Path(str(chat.tokenizer.name_or_path)) / "config.json"
    found = json.loads(config.read_text()).get("vocab_size") if config.is_file() else None
    return int(found) if found else len(chat.tokenizer)


def _check_answers(rows: Sequence[AnyRow], names: Sequence[str]) -> None:
    texts = [[a.content for a in answers_of(row)] for row in rows]
    _refuse(
        [name for name, found in zip(names, texts) if len(found) > 1 and len(set(found)) == 1],
        "pairs have twice the same answer", "remove them (the pairs stage drops them by itself)",
    )  # fmt: skip


def refuse_one_answer(rows: Sequence[AnyRow]) -> None:
    """Data with one and the same answer everywhere teaches only that."""
    answers = Counter(answers_of(row)[0].content for row in rows)
    (answer, n), *_ = answers.most_common(1)
    if len(rows) >= FEW and n >= SAME_ANSWER * len(rows):
        raise UserError(
            f"{n} of {len(rows)} rows have the same answer, {answer[:60]!r}: the model would learn to say only that",
            remedy="check that the right field was read as the answer (posttrain show FILE)",
        )


def _check_stable(rows: Sequence[AnyRow], docs: Sequence[Doc], names: Sequence[str], chat: Chat) -> None:
    """The last answer must stand behind exactly the ids that sampling will start from."""
    step = max(1, len(rows) // STABLE_CHECKED)
    for row, doc, name in list(zip(rows, docs, names))[::step]:
        prompt = chat.prompt(row.messages[:-1] if isinstance(row, Demo) else row.prompt)
        if (doc.prefix or doc.branches[0].ids[: len(prompt)]) != prompt:
            raise UserError(
                "the chat template renders a prompt differently once it is answered: training and use would not match",
                where=name, remedy="template: chatml, or train_on: last",
            )  # fmt: skip


def _fit(docs: list[Doc], names: list[str], max_tokens: int, too_long: TooLong) -> Preflight:
    """Apply the policy for long rows; count what is left."""
    sizes = [size(doc) for doc in docs]
    long = [n for n, tokens in enumerate(sizes) if tokens > max_tokens]
    cuts, ledger = shortened(docs, names, sizes, long, max_tokens, too_long)
    gone = set(long) - cuts.keys()
    kept = [n for n in range(len(docs)) if n not in gone]
    used = [cuts.get(n, docs[n]) for n in kept]
    targets = sum(sum(b.mask) for doc in used for b in doc.branches)
    counts = facts([size(doc) for doc in used], targets, ledger, len(docs))
    return Preflight(used, [names[n] for n in kept], ledger, counts, kept)


def shortened(
    docs: Sequence[Doc],
    names: Sequence[str],
    sizes: Sequence[int],
    long: Sequence[int],
    max_tokens: int,
    too_long: TooLong,
) -> tuple[dict[int, Doc], list[dict[str, Any]]]:
    """(number -> what is left of a long document, the ledger); those of `long` that are not there are dropped.

    Raises UserError where they are an error, and where no document at all is left.
    """
    if long and too_long == "error":
        worst = max(long, key=lambda n: sizes[n])
        raise UserError(
            f"{len(long)} of {len(docs)} rows are longer than {max_tokens} tokens; the longest has {sizes[worst]}",
            where=names[worst],
            remedy=f"max_tokens and micro_tokens of at least {sizes[worst]}, or too_long: truncate, or too_long: drop",
        )
    cuts, ledger = {}, []
    for n in long:
        short = cut(docs[n], max_tokens) if too_long == "truncate" else None
        what = f"cut to {size(short)} tokens" if short else f"longer than {max_tokens} tokens"
        ledger.append({"row": names[n], "tokens": sizes[n], "action": "cut" if short else "dropped", "reason": what})
        if short:
            cuts[n] = short
    if len(long) == len(docs) and not cuts:
        raise UserError(f"every row is longer than {max_tokens} tokens", remedy=f"max_tokens: {max(sizes)}")
    return cuts, ledger


def cut(doc: Doc, max_tokens: int) -> Doc | None:
    """The document with its answers cut at the end (the stop token goes with it), None when too little would be left.

    Two answers are cut to one length, the longest that fits, so that length does not tell them apart more than before.
    """
    room = max(0, max_tokens - len(doc.prefix))  # a prompt may be too long by itself
    limit = room
    while limit > 0 and sum(min(len(b.ids), limit) for b in doc.branches) > room:
        limit -= 1
    branches = [Branch(b.ids[:limit], b.mask[:limit]) for b in doc.branches]
    return Doc(doc.prefix, branches) if all(sum(b.mask) >= SHORTEST for b in branches) else None


def facts(sizes: Sequence[int], targets: int, ledger: Sequence[dict[str, Any]], rows: int) -> dict[str, Any]:
    """Counts and warnings over the documents that are used, of `rows` rows. sizes: tokens of each; targets: of all."""
    done = Counter(entry["action"] for entry in ledger)
    warnings = list(_warnings(done, rows, targets / len(sizes)))
    ordered = sorted(sizes)
    return {
        "rows": len(sizes), "tokens": sum(sizes), "target_tokens": targets, "mean_tokens": sum(sizes) / len(sizes),
        "median_tokens": ordered[len(sizes) // 2], "longest": ordered[-1], "cut": done["cut"],
        "dropped": done["dropped"], "warnings": warnings,
    }  # fmt: skip


def _warnings(done: Counter[str], rows: int, mean: float) -> Iterator[str]:
    if done["cut"] > 0.05 * rows:
        yield f"{done['cut']} of {rows} answers are cut: the model learns fewer endings; raise max_tokens"
    if done["dropped"] > 0.1 * rows:
        yield f"{done['dropped']} of {rows} rows are dropped as too long: the model sees only short ones"
    if mean < 3:
        yield f"a row has only {mean:.1f} tokens to learn on average"


def _refuse(names: Sequence[str], what: str, remedy: str) -> None:
    if names:
        first = ", ".join(dict.fromkeys(names[:3]))
        raise UserError(f"{len(names)} {what}, first: {first}", remedy=remedy)
