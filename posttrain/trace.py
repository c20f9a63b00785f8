"""From weights back to votes, and from a vote on to the weights it reached: the records of a run, read both ways.

Everything is recomputed from the run's own folders: the hash chain of each frozen snapshot, the rows out of its votes,
the digests of weights. Left out on purpose: asking the labelling database, which may have moved on; signatures.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from posttrain import remote
from posttrain.errors import UserError
from posttrain.feedback import Filters, Frozen, Made, frozen, to_rows
from posttrain.files import feed
from posttrain.pipeline import Record
from posttrain.report.lineage import DATA, Node, ancestry, past
from posttrain.rows import dump
from posttrain.stages.release import SUMS, verify
from posttrain.store.rows import Vote

MODELS = ("policy", "reward", "release")
SHORT = 12  # digits of a hash that are printed


@dataclass(frozen=True)
class Votes:
    """A feedback stage of a run: its frozen snapshot, and the rows that were made of it."""

    node: Node

    @cached_property
    def frozen(self) -> Frozen:
        return frozen.read(self.node.folder)

    @cached_property
    def problems(self) -> list[str]:
        """What does not fit: broken links, strange votes, rows that these votes do not make."""
        found = self.frozen.problems()
        written = {name: _rows(self.node.folder / name) for name in ("train.jsonl", "holdout.jsonl")}
        again = self._again()
        for name, rows in (("train.jsonl", again.train), ("holdout.jsonl", again.holdout)):
            if [json.loads(dump(row)) for row in rows] != written[name]:
                found.append(f"{name} is not what these votes make")
        return found

    def _again(self) -> Made:
        knobs, snapshot = self.node.record.knobs, self.frozen.snapshot
        return to_rows(
            knobs["rows"], self.frozen.items, self.frozen.votes, filters=Filters.model_validate(knobs["filters"]),
            holdout=knobs["holdout"], seed=knobs["seed"], project=snapshot.project, snapshot=snapshot.digest,
        )  # fmt: skip


def _rows(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, [] when there is none."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def run_nodes(folder: Path) -> list[Node]:
    """The finished stages of a run in the order in which they were made; a stage's folder stands for its run."""
    folder = folder.resolve().parent if (folder / "record.json").exists() else folder
    found = [Node(p.parent, Record.read(p.parent)) for p in folder.glob("*/record.json")]
    if not found:
        remedy = "give a run folder such as runs/assistant, or a stage folder in it"
        raise UserError("there is no finished stage here", where=str(folder), remedy=remedy)
    return sorted(found, key=lambda n: n.record.started)


def votes_in(nodes: Sequence[Node]) -> list[Votes]:
    return [Votes(n) for n in nodes if n.record.type == "feedback"]


def ends(nodes: Sequence[Node]) -> list[Node]:
    """Models that no other model of the run was made from: what a run is for."""
    used = {key for n in nodes if n.record.makes in MODELS for _, key in n.parents()}
    return [n for n in nodes if n.record.makes in MODELS and n.key not in used]


# ---- from weights to votes -------------------------------------------------------------------------------------------


def chain(folder: Path) -> list[str]:
    """The lines that tell how a model came to be, from its weights to the votes. UserError when a part is missing."""
    nodes = {n.folder.name: n for n in ancestry([folder.resolve()])}
    return list(_lines(nodes[folder.resolve().name], nodes, set(), "", ""))


def _lines(node: Node, nodes: dict[str, Node], told: set[str], edge: str, indent: str) -> Iterator[str]:
    head = f"{indent}{edge + ': ' if edge else ''}{node.key} ({node.record.type})"
    if node.key in told:
        yield f"{head}, see above"
        return
    told.add(node.key)
    yield f"{head}  {about(node)}".rstrip()
    inner = indent + "  "
    if node.record.type == "feedback":
        yield from (inner + line for line in snapshot_lines(Votes(node)))
    yield from (inner + line for line in release_lines(node))
    for name, key in node.parents():
        if key in nodes and nodes[key].record.makes != "report":
            yield from _lines(nodes[key], nodes, told, name, inner)


def about(node: Node) -> str:
    """One phrase: the weights of a model, the rows of a data set, the verdict of a gate."""
    r = node.record
    if r.makes in MODELS:
        return f"weights {weights(node)[:SHORT]}, made {_day(r.started)} in {r.seconds:.0f} s"
    if r.makes in DATA:
        trained, held = (len(_rows(node.folder / name)) for name in ("train.jsonl", "holdout.jsonl"))
        files = _files(r) if r.type != "feedback" else []
        return f"{trained} rows to train on, {held} held out" + (f", made from {', '.join(files)}" if files else "")
    return r.verdict if r.makes == "decision" else ""


def _files(record: Record) -> list[str]:
    """What a data set was made of from outside: 'bundled:demos (87d72a6bc006)', the digest being that of its bytes."""
    path = record.knobs.get("path") or []
    names = [p["path"] if isinstance(p, dict) else p for p in ([path] if isinstance(path, str) else path)]
    digests = {k: v.split()[0][:SHORT] for k, v in record.identity.items() if not k.startswith("suite")}
    called = {f"file {n}": name for n, name in enumerate(names, 1)} | {
        k: v for k, v in record.knobs.items() if isinstance(v, str)
    }
    return [
        f"{called[k]} ({v})" if k in called else v if k.startswith("file") else f"{k} {v}" for k, v in digests.items()
    ]


def weights(node: Node) -> str:
    """A digest of a model's weights as they are now; a base model's folder as its record names it."""
    if "weights" in node.record.identity:
        return node.record.identity["weights"]
    total = sha256()
    files = sorted(node.folder.rglob("*.safetensors"))
    for path in files:
        feed(total, path)
    return total.hexdigest() if files else "(not fetched)" if remote.lacks(node.folder) else "(gone)"


def snapshot_lines(votes: Votes) -> Iterator[str]:
    s, found = votes.frozen.snapshot, votes.frozen
    people = Counter(v.person for v in found.votes)
    shown = ", ".join(f"{p} {n}" for p, n in people.most_common(8)) + (" ..." if len(people) > 8 else "")
    ledger: Counter[str] = Counter()
    for line in _rows(votes.node.folder / "ledger.jsonl"):
        ledger[line["reason"].split(":")[0]] += len(line["votes"])
    yield f"snapshot {s.digest} of project {s.project!r}, {_day(s.at)}"
    yield f"{len(found.votes):,} votes on {len(found.items):,} items by {len(people)} people: {shown}"
    if ledger:
        yield "votes left out: " + ", ".join(f"{n} {reason}" for reason, n in ledger.most_common(4))
    yield f"chain of {len(found.events):,} events, head {s.head_hash[:SHORT] or '(none)'}"
    yield "verified: " + ("yes, the chain is whole and the rows are those that its votes make" if not votes.problems
                          else f"NO: {'; '.join(votes.problems[:3])}")  # fmt: skip


def release_lines(node: Node) -> Iterator[str]:
    """Whether a release's files are still those that were released."""
    if node.record.makes == "release" and (node.folder / SUMS).is_file():
        broken = verify(node.folder)
        yield "released files: " + (f"NOT as released: {'; '.join(broken[:3])}" if broken else "as released")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


# ---- from a vote to weights ------------------------------------------------------------------------------------------


def vote(folder: Path, which: str) -> list[str]:
    """What became of a vote, given by the number of its event or the first digits (6 or more) of its hash."""
    nodes = run_nodes(folder)
    lines: dict[str, list[str]] = {}  # a snapshot may feed several stages
    for source in votes_in(nodes):
        for found in source.frozen.votes:
            if which == str(found.event) or (len(which) >= 6 and found.id.startswith(which)):
                lines.setdefault(found.id, [_said(found)]).extend(_became(source, found, nodes))
    if not lines:
        raise UserError(
            f"no vote of this run is called {which!r}", where=str(folder),
            remedy="give an event's number, or its hash; undone votes are in no snapshot",
        )  # fmt: skip
    return [line for found in lines.values() for line in found]


def _said(found: Vote) -> str:
    said = found.choice or found.ranks or found.rating or found.text or found.safety or found.thumb
    return f"vote {found.event} ({found.id[:SHORT]}) by {found.person} on item {found.item}, {_day(found.at)}: {said}"


def _became(source: Votes, found: Vote, nodes: Sequence[Node]) -> Iterator[str]:
    folder = source.node.folder
    for name in ("train.jsonl", "holdout.jsonl"):
        for row in _rows(folder / name):
            if found.id in row.get("meta", {}).get("votes", ()):
                yield from ("  " + line for line in _reached(source.node, name, row["id"], nodes))
    for line in _rows(folder / "ledger.jsonl"):
        if found.id in line.get("votes", ()):
            yield f"  {source.node.key}: left out, {line['reason']}"


def row(folder: Path, which: str) -> list[str]:
    """The votes behind a row of a run's data, and the weights it reached. which: the row's id."""
    nodes = run_nodes(folder)
    lines: list[str] = []
    for node in (n for n in nodes if n.record.makes in DATA):
        for name in ("train.jsonl", "holdout.jsonl"):
            for found in _rows(node.folder / name):
                if found.get("id") == which:
                    lines += [*_reached(node, name, which, nodes), *("  " + x for x in _behind(node, found))]
    if not lines:
        raise UserError(f"no row of this run is called {which!r}", where=str(folder), remedy="ids are in train.jsonl")
    return lines


def _behind(node: Node, found: dict[str, Any]) -> Iterator[str]:
    """The votes that a row was made of; rows from files name none."""
    ids = found.get("meta", {}).get("votes", ())
    known = {v.id: v for v in Votes(node).frozen.votes} if ids and node.record.type == "feedback" else {}
    for one in ids:
        v = known.get(one)
        yield f"vote {v.event} ({one[:SHORT]}) by {v.person}, {_day(v.at)}" if v else f"vote {one[:SHORT]}"


def _reached(node: Node, name: str, identity: str, nodes: Sequence[Node]) -> Iterator[str]:
    """Where a row of a data stage went: the models trained on it, and those made from them."""
    trains = name == "train.jsonl"
    yield f"row {identity} of {node.key}/{name}" + ("" if trains else ": held out, it measures and trains nothing")
    direct = [n for n in nodes if trains and n.record.makes in MODELS and node.key in {key for _, key in n.parents()}]
    for model in direct:
        gone = next((e for e in _rows(model.folder / "ledger.jsonl") if e.get("row") == identity), None)
        if gone and gone.get("action") == "dropped":
            yield f"  {model.key}: not trained on it, {gone.get('reason')}"
            continue
        yield f"  trained {model.key}, weights {weights(model)[:SHORT]}"
        for later in nodes:
            if later.record.makes in MODELS and later.key != model.key and model.key in past(later, nodes):
                yield f"  and so is in {later.key}, weights {weights(later)[:SHORT]}"
