"""Files out of a project: rows as JSON lines and as a Hugging Face data set, votes, items, their Croissant description.

feedback/ turns votes into rows; here are the names of the files and what they are made of: the votes as they are now,
or a snapshot. Left out on purpose: settings of the conversion (the `feedback` stage has them; an export takes their
defaults), and safety bins as rows, which are a report and nothing to train on.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastapi.responses import Response

from posttrain.errors import UserError
from posttrain.feedback import ROWS, RowsKind, croissant, frozen, hub, to_rows
from posttrain.rows import Row, dump, write_jsonl
from posttrain.store import Kind, Missing, Store, TaskItem, Vote

GIVES: dict[Kind, tuple[RowsKind, ...]] = {  # what rows a kind of project gives
    "pair": ("pairs", "demos"), "ranking": ("rankings", "pairs"), "rating": ("ratings",), "thumb": ("thumbs",),
    "rewrite": ("demos", "pairs"), "demo": ("demos",), "safety": (),
}  # fmt: skip
WHAT = {
    "pairs": "chosen and rejected answers with margins, for reward models and DPO",
    "rankings": "answers with their ranks, ties included",
    "ratings": "one answer with its rating",
    "thumbs": "one answer with a thumb, for KTO",
    "demos": "conversations to imitate: what people wrote or rewrote",
    "votes": "every vote as it was cast, in item order",
    "items": "what was labelled, with the models' names",
}
CROISSANT = "croissant.json"
WHOLE = "snapshot.zip"
DATASET = "dataset.zip"


class Held(NamedTuple):
    """What an export is made of. snapshot: its digest, '' for the votes as they are now."""

    kind: Kind
    title: str
    items: Sequence[TaskItem]
    votes: Sequence[Vote]
    slug: str
    snapshot: str


def listing(kind: Kind) -> list[dict[str, str]]:
    """Files on offer for a kind of project: {file, what}."""
    rows = [{"file": f"{name}.jsonl", "what": WHAT[name]} for name in (*GIVES[kind], "votes", "items")]
    whole = {"file": WHOLE, "what": "votes, items and the chain of events: what a `feedback` stage reads and verifies"}
    dataset = {"file": DATASET, "what": "all rows as a Hugging Face data set: datasets.load_dataset(FOLDER, NAME)"}
    return [*rows, {"file": CROISSANT, "what": "Croissant 1.1 metadata of these files"}, dataset, whole]


def answer(store: Store, slug: str, file: str, snapshot: str = "") -> Response:
    """The file as a download. Missing for a file that this kind of project does not give."""
    held = hold(store, slug, snapshot)
    if file == WHOLE:
        if not snapshot:
            raise Missing("a snapshot has to be frozen before it can be exported whole", remedy="?snapshot=DIGEST")
        named = f'attachment; filename="{slug}-{snapshot[:12]}.zip"'
        return Response(whole(store, snapshot), media_type="application/zip", headers={"content-disposition": named})
    if file == DATASET:
        name = f'attachment; filename="{slug}-{snapshot[:12] + "-" if snapshot else ""}{file}"'
        return Response(dataset(held), media_type="application/zip", headers={"content-disposition": name})
    if file == CROISSANT:
        text, kind = json.dumps(metadata(held), indent=2, ensure_ascii=False) + "\n", "application/ld+json"
    else:
        text, kind = "".join(dump(row) + "\n" for row in rows(held, file)), "application/x-ndjson"
    name = f"{slug}-{snapshot[:12] + '-' if snapshot else ''}{file}"
    return Response(text, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


def whole(store: Store, snapshot: str) -> bytes:
    """The folder that feedback/frozen.py writes, zipped."""
    with tempfile.TemporaryDirectory() as folder:
        frozen.of_store(store, snapshot).write(Path(folder))
        return zipped(Path(folder))


def dataset(held: Held) -> bytes:
    """Rows of every kind that has any, their card and their Croissant description, zipped."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        about = described(held, folder)
        if not about["distribution"]:
            raise UserError("there are no votes yet that make rows", remedy="label some items first")
        (folder / CROISSANT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        files = {path.stem: {"train": path.name} for path in sorted(folder.glob("*.jsonl"))}
        hub.write_card(folder, files, name=held.title, description=str(about["description"]))
        return zipped(folder)


def zipped(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as z:
        for path in sorted(folder.iterdir()):
            z.write(path, path.name)
    return packed.getvalue()


def hold(store: Store, slug: str, snapshot: str) -> Held:
    project = store.project(slug)
    settings = project.settings
    if not snapshot:
        return Held(settings.kind, settings.title, store.items(slug), store.votes(slug), slug, "")
    about, of, items, votes = store.read_snapshot(snapshot)
    if of.slug != slug:
        raise Missing(f"this project has no snapshot {snapshot!r}")
    return Held(settings.kind, settings.title, items, votes, slug, about.digest)


def rows(held: Held, file: str) -> Sequence[Row]:
    """The rows of a file by its name; UserError says why there are none of this kind."""
    name = file.removesuffix(".jsonl")
    if name == "votes":
        return held.votes
    if name == "items":
        return held.items
    for kind in GIVES[held.kind]:
        if name == kind:
            made = to_rows(kind, held.items, held.votes, project=held.slug, snapshot=held.snapshot)
            return [*made.train, *made.holdout]
    offered = ", ".join(e["file"] for e in listing(held.kind))
    raise Missing(f"a {held.kind} project has no export {file!r}", remedy=f"one of {offered}")


def metadata(held: Held) -> dict[str, Any]:
    """Croissant of the row files that have rows; their digests are those of the downloads."""
    with tempfile.TemporaryDirectory() as folder:
        return described(held, Path(folder))


def described(held: Held, folder: Path) -> dict[str, Any]:
    """Writes the row files that have rows into the folder; their Croissant description."""
    files: dict[str, type[Row]] = {}
    for kind in GIVES[held.kind]:
        try:
            found = rows(held, f"{kind}.jsonl")
        except UserError:  # no vote of this kind yet
            continue
        write_jsonl(folder / f"{kind}.jsonl", found)
        files[f"{kind}.jsonl"] = ROWS[kind]
    about = f"{held.title}: {len(held.votes)} votes of {len({v.person for v in held.votes})} people"
    return croissant(folder, files, name=held.slug, description=about, version=held.snapshot or "1.0.0")
