"""Freeze the votes of a labelling project and make training rows of them.

An artefact is train.jsonl and holdout.jsonl (rows of one kind), ledger.jsonl (every vote that reached no row, and
why), report.json (agreement, reliability, biases, coverage), croissant.json and README.md (Croissant's and Hugging
Face's descriptions), and the frozen snapshot itself (feedback/frozen.py), so that the directory stands alone. Several
kinds of rows out of one project are several stages.
Left out on purpose: collecting votes (`posttrain label`). Importing this file imports neither torch nor a database.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from posttrain.errors import UserError
from posttrain.feedback import ROWS, Filters, Frozen, Made, RowsKind, frozen, snapshot_report, to_rows
from posttrain.feedback.croissant import write_croissant
from posttrain.feedback.hub import write_card
from posttrain.pipeline import Inputs, Kind, Metrics, Runtime, Stage, write_text
from posttrain.rows import write_jsonl

PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")


class Feedback(Stage):
    """db: file or URL of the store; $NAMES in it come from the environment, so that a recipe need hold no password.
    path: an exported snapshot instead of a store. snapshot: a digest, or latest: the votes as they are now.
    """

    places: ClassVar[frozenset[str]] = frozenset({"db", "path", "snapshot"})

    type: Literal["feedback"] = "feedback"
    db: str = "sqlite:///feedback.db"
    path: str | None = None
    project: str = ""
    snapshot: str = "latest"
    rows: RowsKind = "pairs"
    filters: Filters = Filters()
    holdout: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0

    _frozen: Frozen | None = PrivateAttr(default=None)  # resolved once: `latest` may not move between plan and run

    @model_validator(mode="after")
    def _source(self) -> "Feedback":
        if not self.path and not self.project and self.snapshot == "latest":
            raise ValueError("say which votes: `project` of the store `db`, or `path` of an exported snapshot")
        return self

    @property
    def makes(self) -> Kind:  # type: ignore[override]
        return self.rows

    def knobs(self) -> dict[str, Any]:
        """A password in `db` goes into no record."""
        return super().knobs() | {"db": PASSWORD.sub(r"\1***@", self.db)}

    def identity(self) -> dict[str, str]:
        return {"snapshot": self.frozen().snapshot.digest}

    def frozen(self) -> Frozen:
        """The snapshot; `latest` freezes the store's present state, which changes nothing when it is frozen already."""
        if self._frozen is None:
            self._frozen = _exported(self) if self.path else from_store(self.db, self.project, self.snapshot)
        return self._frozen

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        found = self.frozen()
        made = to_rows(
            self.rows, found.items, found.votes, filters=self.filters, holdout=self.holdout, seed=self.seed,
            project=found.snapshot.project, snapshot=found.snapshot.digest,
        )  # fmt: skip
        if not made.train and not made.holdout:
            reasons = ", ".join(f"{r} ({n})" for r, n in reasons_of(made).most_common(3))
            raise UserError("no row is left", where=found.snapshot.project, remedy=f"the reasons: {reasons}")
        found.write(out)
        write_rows(made, out)
        report = snapshot_report(found.items, found.votes)
        write_text(out / "report.json", json.dumps(report, indent=2, ensure_ascii=False))
        write_croissant(
            out, {f"{part}.jsonl": ROWS[self.rows] for part in ("train", "holdout")},
            name=f"{found.snapshot.project}-{self.rows}", published=found.snapshot.at,
            description=f"{self.rows} from {found.snapshot.votes} votes, snapshot {found.snapshot.digest}",
        )  # fmt: skip
        write_card(
            out, {self.rows: {"train": "train.jsonl", "holdout": "holdout.jsonl"}},
            name=f"{found.snapshot.project}: {self.rows}",
            description=f"From {found.snapshot.votes} votes, snapshot {found.snapshot.digest}.",
        )  # fmt: skip
        for line in warnings(found, report):
            runtime.progress.say(f"  warning: {line}")
        return metrics(made, report)


def _exported(stage: Feedback) -> Frozen:
    found = frozen.read(stage.path or "")
    for knob, is_now in (("project", found.snapshot.project), ("snapshot", found.snapshot.digest)):
        asked = getattr(stage, knob)
        if asked not in ("", "latest") and not is_now.startswith(asked):
            raise UserError(f"this is {knob} {is_now!r}, not {asked!r}", where=str(stage.path))
    return found


def from_store(url: str, project: str, digest: str = "latest") -> Frozen:
    """A snapshot of a store with its events. UserError when there is no such store, project or snapshot."""
    from posttrain.store import SYSTEM, Store

    url = os.path.expandvars(url)
    url = url if "://" in url else f"sqlite:///{url}"  # a plain file name is one of SQLite, as for `label --db`
    file = Path(url.removeprefix("sqlite:///")).expanduser()
    if url.startswith("sqlite:///") and not file.is_file():  # opening it would make an empty one
        remedy = "give db: sqlite:///FILE, or path: FOLDER of an exported snapshot"
        raise UserError("there is no such feedback store", where=str(file), remedy=remedy)
    store = Store.open(url)
    try:
        name = store.snapshot(SYSTEM, project).digest if digest == "latest" else digest
        found = frozen.of_store(store, name)
        if project not in ("", found.snapshot.project):
            known = ", ".join(s.digest for s in store.snapshots(project)) or "none yet, so say latest"
            raise UserError(f"snapshot {digest} is of project {found.snapshot.project!r}", where=project,
                            remedy=f"its own: {known}")  # fmt: skip
        return found
    finally:
        store.close()


def write_rows(made: Made, out: Path) -> None:
    write_jsonl(out / "train.jsonl", made.train)
    write_jsonl(out / "holdout.jsonl", made.holdout)
    write_jsonl(out / "ledger.jsonl", made.ledger)


def reasons_of(made: Made) -> Counter[str]:
    return Counter(d.reason.split(":")[0] for d in made.ledger)


def metrics(made: Made, report: dict[str, Any]) -> Metrics:
    """Counts, and the snapshot's alpha where votes overlap."""
    facts = {
        "rows": float(len(made.train) + len(made.holdout)), "train": float(len(made.train)),
        "holdout": float(len(made.holdout)), "votes": float(report["votes"]), "people": float(report["people"]),
        "dropped": float(len(made.ledger)),
    }  # fmt: skip
    alphas = {f"alpha.{sort}": a["alpha"]["value"] for sort, a in report["agreement"].items()}
    reasons = {"dropped." + re.sub(r"\W+", "_", r): float(n) for r, n in reasons_of(made).most_common(12)}
    return facts | {k: v for k, v in alphas.items() if v is not None} | reasons


def warnings(found: Frozen, report: dict[str, Any]) -> list[str]:
    """What a person should know before training on this."""
    told = [f"the snapshot cannot be checked: {problem}" for problem in found.problems()[:3]]
    for sort, a in report["agreement"].items():
        value = a["alpha"]["value"]
        if value is None and not a["with_two_votes"]:
            told.append(f"no item has two votes, so agreement on the {sort} cannot be told")
        elif value is not None and value < 0.2:
            told.append(f"people hardly agree on the {sort}: Krippendorff's alpha {value:.2f}")
    bias = report["position_bias"]
    if bias and bias["p"] < 0.001 and abs(bias["value"] - 0.5) > 0.05:
        told.append(f"the answer shown first won {bias['value']:.0%} of {bias['n']} decided pairs")
    return told
