"""Print rows as the model will see them, trained tokens in colour; or what is known of an artefact or a run.

In a terminal green is what is trained, red a rejected answer, grey is context; elsewhere trained text stands between
⟦ and ⟧, a rejected answer between ⟪ and ⟫. Left out on purpose: paging, editing, HTML (report/).
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from rich.console import Console
from rich.text import Text

from posttrain import bundled, files, formats, remote, trace
from posttrain.errors import UserError, nearest
from posttrain.formats import KindName, Loaded
from posttrain.locate import model_folder, several_runs
from posttrain.pipeline import Record
from posttrain.progress import clock, number
from posttrain.rows import Demo, Pair, Row, Thumb

if TYPE_CHECKING:
    from posttrain.render import Chat, TrainOn

KINDS: tuple[KindName, ...] = ("pairs", "thumbs", "demos", "prompts")
STYLES = {"context": "bright_black", "trained": "black on green", "rejected": "black on red"}
MARKS = {"context": ("", ""), "trained": ("⟦", "⟧"), "rejected": ("⟪", "⟫")}
Piece = tuple[str, str]  # text, style


def show(
    what: str, *, model: str = "bundled", rows: int = 5, train_on: str = "assistant", console: Console | None = None
) -> None:
    """what: a data file, bundled:name, a hub id, a stage folder or a run folder. UserError when it is none of them."""
    console = console or Console(highlight=False, soft_wrap=True)
    folder = remote.local(what)
    if what in bundled.MODELS or ((folder / "config.json").exists() and not (folder / "record.json").exists()):
        _model(what, console)
    elif (folder / "record.json").exists():
        _artefact(folder, model, rows, train_on, console)
    elif folder.is_dir() and any(folder.glob("*/record.json")):
        _run(folder, console)
    elif problem := several_runs(folder):
        raise problem
    else:
        _rows(what, KINDS, model, rows, train_on, console)


def _model(what: str, console: Console) -> None:
    """What a folder of weights tells of itself."""
    folder = model_folder(what)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        raise UserError("not valid JSON", where=str(folder / "config.json"), remedy="save the model again") from None
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    kind = ", ".join(config.get("architectures") or ["a model"])
    console.print(f"{folder}: {kind}, {size / 1e6:,.0f} MB of weights", markup=False)
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "dtype"):
        if name in config:
            console.print(f"  {name.replace('_', ' ')}: {config[name]}", style="bright_black", markup=False)
    console.print(f"talk with it: posttrain chat {what}", markup=False)


def _run(folder: Path, console: Console) -> None:
    records = sorted((Record.read(p.parent) for p in folder.glob("*/record.json")), key=lambda r: r.started)
    wide, types = max(len(r.stage) for r in records), max(len(r.type) for r in records)
    for r in records:
        verdict = "" if r.makes != "decision" else f"{r.verdict}; "
        line = f"{f'{r.stage}-{r.fingerprint}':<{wide + 11}}  {r.type:<{types}}  {verdict}{_numbers(r.metrics)}"
        console.print(line, markup=False)
    for node in trace.ends(trace.run_nodes(folder)):
        _chain(node.folder, console)


def _artefact(folder: Path, model: str, rows: int, train_on: str, console: Console) -> None:
    record = Record.read(folder)
    verdict = f"{record.verdict}; " if record.makes == "decision" else ""
    numbers = verdict + _numbers(record.metrics, 20)
    console.print(f"{record.stage} ({record.type}), made in {clock(record.seconds)}: {numbers}", markup=False)
    for name, knob in _set(record.knobs).items():
        console.print(f"  {name}: {_in_yaml(knob)}", style="bright_black", markup=False)
    if record.makes in trace.MODELS or record.type == "feedback":
        _chain(folder, console)
    audit = folder / "audit.json"
    if audit.exists():
        for w in json.loads(audit.read_text())["warnings"]:
            console.print(f"  {'warning' if w['serious'] else 'note'}: {w['count']} answers {w['says']}")
    kind: KindName | None = next((k for k in KINDS if k == record.makes), None)
    if kind and (folder / "train.jsonl").exists():
        _rows(str(folder / "train.jsonl"), (kind,), model, rows, train_on, console)


def _chain(folder: Path, console: Console) -> None:
    """Where a model came from, down to the votes."""
    console.print("")
    for line in trace.chain(folder):
        console.print(line, markup=False)


def told(what: str, *, vote: str = "", row: str = "", console: Console | None = None) -> None:
    """What became of a vote or a row of a run. UserError when the run has none of that name."""
    console, folder = console or Console(highlight=False, soft_wrap=True), remote.local(what)
    for line in trace.vote(folder, vote) if vote else trace.row(folder, row):
        console.print(line, markup=False)


def _numbers(metrics: dict[str, float], most: int = 5) -> str:
    shown = [f"{k} {number(v)}" for k, v in list(metrics.items())[:most]]
    return ", ".join(shown) + (", ..." if len(metrics) > most else "")


def _set(knob: Any) -> Any:
    """A knob without what was left unset in it."""
    if isinstance(knob, dict):
        return {k: _set(v) for k, v in knob.items() if v not in (None, "", [], {})}
    return [_set(v) for v in knob] if isinstance(knob, list) else knob


def _in_yaml(knob: Any) -> str:
    """On one line, as it could stand in a recipe."""
    if not isinstance(knob, dict | list):
        return str(knob).lower() if isinstance(knob, bool) else str(knob)
    return yaml.safe_dump(knob, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6).strip()


def _rows(what: str, kinds: Sequence[KindName], model: str, rows: int, train_on: str, console: Console) -> None:
    from posttrain.render import TrainOn, load_chat

    if train_on not in get_args(TrainOn):
        raise UserError(f"train_on is not {train_on!r}", remedy=nearest(train_on, get_args(TrainOn)))
    kind, loaded = read(what, kinds)
    chat = load_chat(bundled.HERE / "model" if model == "bundled" else model_folder(model))
    shapes = ", ".join(f"{n} as {shape}" for shape, n in loaded.shapes.items())
    console.print(f"{len(loaded.rows)} {kind} (records read: {shapes}); {len(loaded.ledger)} left out")
    for drop in loaded.ledger[:3]:
        console.print(f"  {drop.where}: {drop.reason}", style="bright_black", markup=False)
    for row, where in list(zip(loaded.rows, loaded.where))[:rows]:
        shown = list(pieces(row, chat, train_on))  # type: ignore[arg-type]
        console.print(f"\n--- {where}", style="bold", markup=False)
        console.print(painted(shown, colour=console.is_terminal and not console.no_color))


def read(what: str, kinds: Sequence[KindName] = KINDS) -> tuple[KindName, Loaded[Any]]:
    """The first kind that at least half of the records fit; broken records are left to the ledger."""
    files.resolve(what)  # a missing file is said once, and clearly
    best: tuple[KindName, Loaded[Any]] | None = None
    problem: UserError | None = None
    for kind in kinds:
        try:
            loaded = formats.load(what, kind, bad_rows="skip")
        except UserError as error:
            problem = problem or UserError(
                error.what.replace(f"no {kind}", "no rows", 1), where=error.where, remedy=error.remedy
            )
            if not error.what.startswith(f"no {kind}"):  # not this kind's fault: the file, or the network
                raise
            continue
        if len(loaded.rows) >= len(loaded.ledger):
            return kind, loaded
        best = best or (kind, loaded)
    if best is None:
        raise problem or UserError("nothing to show", where=what)
    return best


def pieces(row: Row, chat: "Chat", train_on: "TrainOn" = "assistant") -> Iterator[Piece]:
    """A row's text in runs of one style, decoded from the ids that training sees."""
    if isinstance(row, Pair):
        prompt, chosen = chat.continuation(row.prompt, row.chosen)
        yield chat.decode(prompt), "context"
        yield chat.decode(chosen), "trained"
        yield chat.decode(chat.continuation(row.prompt, row.rejected)[1]), "rejected"
    elif isinstance(row, Thumb):
        prompt, answer = chat.continuation(row.messages[:-1], row.messages[-1])
        yield chat.decode(prompt), "context"
        yield chat.decode(answer), "trained" if row.label else "rejected"
    elif isinstance(row, Demo):
        ids, mask = chat.example(row.messages, train_on)
        for trained, run in groupby(zip(ids, mask), key=lambda x: x[1]):
            yield chat.decode([i for i, _ in run]), "trained" if trained else "context"
    else:
        yield chat.decode(chat.prompt(getattr(row, "messages", ()))), "context"


def painted(shown: Sequence[Piece], *, colour: bool) -> Text:
    """Coloured for a terminal, between marks for anything else."""
    text = Text()
    for part, style in shown:
        if style == "rejected":
            text.append("\n")
        before, after = ("", "") if colour else MARKS[style]
        text.append(before + part + after, style=STYLES[style] if colour else "")
    return text
