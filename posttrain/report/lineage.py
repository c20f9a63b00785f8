"""Which stage came from which: walking the records of a run, and drawing them.

A record names its inputs by stage and fingerprint, and their folders stand beside its own, so the whole past of an
artefact is found from its folder alone. The drawing has three lanes, data, models and evaluation, and fits a phone.
Left out on purpose: general graph layout.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from posttrain.errors import UserError
from posttrain.pipeline import Record
from posttrain.progress import clock

DATA = ("prompts", "demos", "pairs", "rankings", "ratings", "thumbs")
LANES: dict[str, int] = {kind: 0 for kind in DATA} | {"policy": 1, "reward": 1, "release": 1}
BOX_W, BOX_H, GAP_X, GAP_Y, TOP = 112, 50, 30, 26, 24  # pixels of the drawing


@dataclass(frozen=True)
class Node:
    """A finished stage: its folder and its record."""

    folder: Path
    record: Record

    @property
    def name(self) -> str:
        return self.record.stage

    @property
    def key(self) -> str:
        return folder_name(self.record.stage, self.record.fingerprint)

    def parents(self) -> list[tuple[str, str]]:
        """(edge, folder name) of every input."""
        stages, prints = self.record.edges, self.record.inputs
        return [(e, folder_name(s, p)) for e in prints for s, p in zip(stages.get(e, ()), prints[e])]


def folder_name(stage: str, fingerprint: str) -> str:
    return f"{stage}-{fingerprint}"


def ancestry(folders: Iterable[Path]) -> list[Node]:
    """The given stages and everything they came from, inputs before what was made of them.

    Raises UserError when an input's folder is missing: evidence with a hole in it is none.
    """
    found: dict[str, Node] = {}

    def visit(folder: Path, needed_by: str) -> None:
        if folder.name in found:
            return
        if not (folder / "record.json").exists():
            remedy = "run the recipe again, which makes it anew"
            raise UserError(f"the artefact {needed_by!r} was made of is not here", where=str(folder), remedy=remedy)
        node = Node(folder, Record.read(folder))
        for _, parent in node.parents():
            visit(folder.parent / parent, node.name)
        found[folder.name] = node

    for folder in folders:
        visit(folder, "given")
    return list(found.values())


def policies(nodes: Sequence[Node]) -> list[Node]:
    """The policies in the order in which each was trained from the one before."""
    return [n for n in nodes if n.record.makes == "policy"]


def parent_policy(node: Node, nodes: Sequence[Node]) -> Node | None:
    """The policy that a policy was trained from, through its edge `policy`."""
    by_key = {n.key: n for n in nodes}
    return next((by_key[key] for edge, key in node.parents() if edge == "policy" and key in by_key), None)


def past(node: Node, nodes: Sequence[Node]) -> set[str]:
    """Folder names of the node and of everything it came from."""
    by_key = {n.key: n for n in nodes}
    seen: set[str] = set()

    def visit(key: str) -> None:
        if key in by_key and key not in seen:
            seen.add(key)
            for _, parent in by_key[key].parents():
                visit(parent)

    visit(node.key)
    return seen


# ---- drawing ---------------------------------------------------------------------------------------------------------


def rows_of(nodes: Sequence[Node]) -> dict[str, int]:
    """Row of each box: below all its inputs, each row of a lane used once; sources stand just above their first use."""
    rows: dict[str, int] = {}
    taken: set[tuple[int, int]] = set()
    sources = {n.key for n in nodes if not n.parents()}
    later = [n for n in nodes if n.key not in sources]

    def place(node: Node, row: int) -> None:
        while (lane(node), row) in taken:
            row += 1
        rows[node.key] = row
        taken.add((lane(node), row))

    by_key = {n.key: n for n in nodes}
    for node in later:
        inputs = [key for _, key in node.parents() if key in by_key]
        floor = max((rows[key] for key in inputs if key in rows), default=-1)
        for key in inputs:
            if key not in rows:
                place(by_key[key], max(0, floor))
        place(node, 1 + max((rows[key] for key in inputs), default=-1))
    for node in nodes:
        if node.key not in rows:
            place(node, 0)
    return rows


def lane(node: Node) -> int:
    return LANES.get(node.record.makes, 2)


def draw(nodes: Sequence[Node]) -> str:
    """The graph as an inline SVG; boxes are coloured by lane, gates by their verdict."""
    if not nodes:
        return ""
    rows = rows_of(nodes)
    width = 3 * BOX_W + 4 * GAP_X
    height = TOP + (1 + max(rows.values())) * (BOX_H + GAP_Y)
    spots = {n.key: (GAP_X + lane(n) * (BOX_W + GAP_X), TOP + rows[n.key] * (BOX_H + GAP_Y)) for n in nodes}
    heads = "".join(
        f'<text class="lane" x="{GAP_X + i * (BOX_W + GAP_X) + BOX_W / 2}" y="12">{name}</text>'
        for i, name in enumerate(("data", "models", "evaluation"))
    )
    arrows = "".join(
        _arrow(spots[key], spots[n.key], edge, _between(key, n, rows, nodes)) for n, edge, key in _edges(nodes)
    )
    boxes = "".join(_box(n, *spots[n.key]) for n in nodes)
    return (
        f'<svg class="lineage" role="img" aria-label="Which stage was made from which" viewBox="0 0 {width} {height}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0 8 4 0 8z"/></marker></defs>{heads}{arrows}{boxes}</svg>'
    )


def _edges(nodes: Sequence[Node]) -> Iterator[tuple[Node, str, str]]:
    known = {n.key for n in nodes}
    for node in nodes:
        for edge, key in node.parents():
            if key in known:
                yield node, edge, key


def _between(key: str, node: Node, rows: Mapping[str, int], nodes: Sequence[Node]) -> bool:
    """Whether a box stands between the two in their common lane, so that the arrow must go around it."""
    source = next(n for n in nodes if n.key == key)
    span = range(rows[key] + 1, rows[node.key])
    return lane(source) == lane(node) and any(lane(n) == lane(node) and rows[n.key] in span for n in nodes)


def _arrow(a: tuple[float, float], b: tuple[float, float], edge: str, around: bool) -> str:
    """From a box's side to the next box; within a lane straight down, or around what stands in between."""
    (ax, ay), (bx, by) = a, b
    if around:  # out of the right side, in at the right side
        x, y1, y2 = ax + BOX_W, ay + BOX_H / 2, by + BOX_H / 2
        path = f"M{x} {y1} C{x + 18} {y1} {x + 18} {y2} {x + 2} {y2}"
    elif ax == bx:
        path = f"M{ax + BOX_W / 2} {ay + BOX_H} V{by - 2}"
    else:  # down the gutter beside the lane it goes to, so that no box is crossed
        right = bx > ax
        x1, y1 = (ax + BOX_W if right else ax), ay + BOX_H / 2 + 7  # leaves below the middle, arrives above it
        x2, y2 = (bx - 2 if right else bx + BOX_W + 2), by + BOX_H / 2 - 7
        gutter, bend = (bx - GAP_X / 3 if right else bx + BOX_W + GAP_X / 3), min(12.0, (y2 - y1) / 2)
        path = f"M{x1} {y1} Q{gutter} {y1} {gutter} {y1 + bend} V{y2 - bend} Q{gutter} {y2} {x2} {y2}"
    return f'<path class="edge" d="{path}" marker-end="url(#tip)"><title>{escape(edge)}</title></path>'


def _box(node: Node, x: float, y: float) -> str:
    r = node.record
    kind = f"gate-{r.verdict}" if r.makes == "decision" else f"lane{lane(node)}"
    middle = x + BOX_W / 2
    name = r.stage if len(r.stage) <= 15 else r.stage[:14] + "…"
    note = f"{r.type}: {r.verdict}" if r.makes == "decision" else r.type.replace("_", " ")
    return (
        f'<g class="box {kind}"><title>{escape(r.stage)}: {escape(r.type)}, {clock(r.seconds)}, {r.fingerprint}</title>'
        f'<rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="8"/>'
        f'<text class="name" x="{middle}" y="{y + 16}">{escape(name)}</text>'
        f'<text class="kind" x="{middle}" y="{y + 29}">{escape(note)}</text>'
        f'<text class="print" x="{middle}" y="{y + 42}">{r.fingerprint}</text></g>'
    )
