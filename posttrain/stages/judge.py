"""Language models as judges in a recipe: `judge_card` examines one on labelled pairs, `judge_pairs` lets it label.

The judge is a policy of the recipe, a chat endpoint, or a panel of judges examined before. Its artefact is the card
(card.json), how to ask it again (judge.json), what it said of every labelled pair (said.jsonl) and the replies, so that
a stopped stage pays for no question twice. Labelling with a judge that failed its card is refused unless `anyway` says
in words why.
Left out on purpose: judging itself (judge/llm.py) and the card's arithmetic (judge/card.py). Importing this file does
not import torch.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from posttrain import bundled
from posttrain.errors import UserError
from posttrain.judge import card as cards
from posttrain.judge.asking import Asker, Kept, key_of
from posttrain.judge.card import Card, Labelled, Thresholds
from posttrain.judge.llm import GENERAL, Compared, Comparer, Criterion, Pairwise, Panel, Preferred
from posttrain.pipeline import Inputs, Kind, Metrics, Record, Ref, Runtime, Stage, write_text
from posttrain.rows import Pair, Row, digest, read_jsonl, write_jsonl

MODEL = "model"  # link to the policy that judges, inside the judge's artefact
MEMBER = "member-{}"  # links to the judges of a panel
ASKING = frozenset(
    {"model", "key_env", "concurrent", "rate", "timeout", "price", "criteria", "log_probs", "ties", "thinks"}
)


class How(BaseModel):
    """judge.json: all that is needed to ask a judge again. url empty: the weights linked beside it; panel: so many
    judges linked beside it, each with a judge.json of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: tuple[str, ...] = ()
    model: str = ""
    key_env: str = ""
    concurrent: int = 16
    rate: float = 0.0
    timeout: float = 120.0
    price: tuple[float, float] = (0.0, 0.0)
    criteria: tuple[str, ...] = ()
    log_probs: bool = True
    ties: bool = True
    thinks: bool = False
    seed: int = 0
    panel: int = 0


class JudgeCard(Stage):
    """policy, or url (several share the work) and model, or panel (judges whose answers are averaged): who judges.
    labelled: a JSONL file of labelled comparisons or of pairs, or bundled:pairs. criteria: sentences, one drawn per
    pair. key_env: the variable that holds the key. rate: requests a second, 0 for no limit. timeout: seconds. price:
    per million prompt and drawn tokens. A panel's members are asked as their own stages say.
    """

    makes: ClassVar[Kind] = "judge"
    resumes: ClassVar[bool] = True
    places: ClassVar[frozenset[str]] = frozenset(
        {"labelled", "url", "key_env", "concurrent", "rate", "timeout", "price"}
    )

    type: Literal["judge_card"] = "judge_card"
    policy: Annotated[str | None, Ref("policy")] = None
    panel: Annotated[tuple[str, ...], Ref("judge")] = ()
    url: str | tuple[str, ...] = ()
    model: str = ""
    key_env: str = ""
    concurrent: int = Field(default=16, ge=1)
    rate: float = Field(default=0.0, ge=0)
    timeout: float = Field(default=120.0, gt=0)
    price: tuple[float, float] = (0.0, 0.0)
    labelled: str = "bundled:pairs"
    limit: int | None = Field(default=None, ge=1)
    criteria: tuple[str, ...] = ()
    log_probs: bool = True
    ties: bool = True
    thinks: bool = False
    thresholds: Thresholds = Thresholds()
    seed: int = 0

    @model_validator(mode="after")
    def _one_judge(self) -> "JudgeCard":
        if sum(map(bool, (self.policy, self.url, self.panel))) != 1:
            raise ValueError("give policy (a stage), url (a server) or panel (judge_card stages), one of them")
        if self.panel and len(set(self.panel)) < 2:
            raise ValueError("a panel needs two judges or more")
        if self.panel and (mine := sorted(self.model_fields_set & ASKING)):
            raise ValueError(f"{mine[0]}: a panel's members are asked as their own stages say")
        if self.url and not self.model:
            raise ValueError("url needs model: what the server calls it")
        if any(not c.strip() for c in self.criteria):
            raise ValueError("an empty criterion")
        return self

    def identity(self) -> dict[str, str]:
        return {"labelled pairs": digest(self._path().read_text(encoding="utf-8"))}

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        rows = chosen(cards.read_labelled(self._path()), self.limit)
        urls = (self.url,) if isinstance(self.url, str) else self.url
        kept_knobs = {k: getattr(self, k) for k in How.model_fields if k not in ("url", "panel")}
        how = How(url=urls, panel=len(self.panel), **kept_knobs)
        links = {MODEL: inputs.one("policy")} if self.policy else {}
        links |= {MEMBER.format(n): folder for n, folder in enumerate(inputs.many("panel"), 1)}
        for name, folder in links.items():
            if not (out / name).exists():
                (out / name).symlink_to(folder.resolve())
        write_text(out / "judge.json", how.model_dump_json(indent=2) + "\n")
        with runtime.progress.task("judge", total=len(rows)) as tick:
            judge, kept = load(out, out / "replies.db", runtime)
            said = asyncio.run(in_parts(judge, rows, tick))
        card = cards.card(judge.name, rows, said, data=self.labelled, thresholds=self.thresholds, cost=kept.cost)
        kept.close()
        write_jsonl(out / "said.jsonl", said_of(rows, said))
        write_text(out / "card.json", card.model_dump_json(indent=2) + "\n")
        for line in card.lines():
            runtime.progress.say(line)
        values = {k: float(getattr(card, k)[0]) for k in ("kappa", "accuracy", "longer")}
        values |= {"consistency": card.consistency, "primacy": card.primacy, "unread": card.unread}
        return values | {"passed": float(card.passed), "asked": float(kept.asked), "cost": kept.cost}

    def _path(self) -> Path:
        return bundled.rows_or_file(self.labelled, "labelled pairs")


class JudgePairs(Stage):
    """pairs: whose two answers are judged again; what they said was better is not looked at. anyway: why a judge that
    failed its card labels all the same. ties: keep them with soft label 0.5, or drop them (they are counted)."""

    makes: ClassVar[Kind] = "pairs"
    resumes: ClassVar[bool] = True

    type: Literal["judge_pairs"] = "judge_pairs"
    judge: Annotated[str, Ref("judge")]
    pairs: Annotated[str, Ref("pairs")]
    anyway: str = ""
    ties: Literal["keep", "drop"] = "keep"
    limit: int | None = Field(default=None, ge=1)

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        folder = inputs.one("judge")
        card = read_card(folder)
        cards.may_label(card, self.anyway)
        counts = {"rows": 0.0, "ties": 0.0, "unread": 0.0, "turned": 0.0, "accepted_anyway": float(not card.passed)}
        judge, kept = load(folder, out / "replies.db", runtime)
        asked = 0
        for side in ("train", "holdout"):
            pairs = list(read_jsonl(inputs.one("pairs") / f"{side}.jsonl", Pair))[: self.limit]
            rows = [cards.from_pair(pair) for pair in pairs]
            with runtime.progress.task(f"judge {side}", total=len(rows)) as tick:
                said = asyncio.run(in_parts(judge, rows, tick))
            judged = [labelled_pair(p, r, s) for p, r, s in zip(pairs, rows, said, strict=True)]
            asked += len(said)
            counts["unread"] += sum(s.p is None for s in said)
            counts["ties"] += sum(s.p == 0.5 for s in said)
            found = [j for j in judged if j and (self.ties == "keep" or j.soft != 0.5)]
            counts["turned"] += sum(j is not None and j.chosen != p.chosen for j, p in zip(judged, pairs))
            counts["rows"] += write_jsonl(out / f"{side}.jsonl", found)
        kept.close()
        if asked and counts["unread"] == asked:
            raise UserError(
                f"the judge gave none of {asked} pairs a label that could be read", where=judge.name,
                remedy="see what it replies in replies.db; another judge",
            )  # fmt: skip
        return counts | {"asked": float(kept.asked), "cost": kept.cost}


def chosen(rows: Sequence[Labelled], limit: int | None) -> list[Labelled]:
    """At most so many rows, by hash: any order of the file gives the same."""
    keys = sorted(range(len(rows)), key=lambda n: rows[n].digest())[:limit]
    return [rows[n] for n in sorted(keys)]


@dataclass
class Spent:
    """What asking a judge took so far, whoever its members are."""

    name: str
    askers: list[Kept]

    @property
    def asked(self) -> int:
        return sum(k.asked for k in self.askers)

    @property
    def cost(self) -> float:
        return sum(k.cost for k in self.askers)

    def close(self) -> None:
        for kept in self.askers:
            kept.close()


def load(
    folder: Path, replies: Path, runtime: Runtime, criteria: Sequence[Criterion] = ()
) -> tuple[Comparer, Spent]:  # fmt: skip
    """The judge of an artefact, its replies kept in a file (a panel's in one a member), and what asking it takes.
    criteria: what to judge by, in place of the judge's own."""
    how = How.model_validate_json((folder / "judge.json").read_text())
    if how.panel:
        numbered = [(folder / MEMBER.format(n), f"{replies.stem}-{n}") for n in range(1, how.panel + 1)]
        members = [load(f, replies.with_name(f"{stem}.db"), runtime, criteria) for f, stem in numbered]
        panel = Panel([judge for judge, _ in members])
        return panel, Spent(panel.name, [kept for _, spent in members for kept in spent.askers])
    kept = Kept(_asker(folder, how, runtime), replies, how.price)
    own = [Criterion(f"criterion {n}", text) for n, text in enumerate(how.criteria, 1)] or [GENERAL]
    judge = Pairwise(
        kept, criteria=criteria or own, log_probs=how.log_probs, ties=how.ties, thinks=how.thinks, seed=how.seed
    )
    return judge, Spent(kept.name, [kept])


def _asker(folder: Path, how: How, runtime: Runtime) -> Asker:
    if not how.url:
        from posttrain.loading import load_model
        from posttrain.render import load_chat
        from posttrain.sampler.asking import Weights

        model = (folder / MODEL).resolve()
        return Weights(load_model(model, runtime, train=False), load_chat(model), f"policy {_fingerprint(model)}")
    from posttrain.sampler.http import Client
    from posttrain.sampler.server import Endpoint

    client = Client(how.url, key=key_of(how.key_env), concurrent=how.concurrent, rate=how.rate, timeout=how.timeout)
    return Endpoint(client, how.model, log_probs=how.log_probs)


def _fingerprint(model: Path) -> str:
    try:
        return Record.read(model).fingerprint
    except UserError:
        return model.name


async def in_parts(judge: Comparer, rows: Sequence[Compared], tick: Any, size: int = 64) -> list[Preferred]:
    """The judge's answers, some rows at a time, so that progress shows and what is answered is kept."""
    said: list[Preferred] = []
    for start in range(0, len(rows), size):
        part = [Compared(**{k: getattr(r, k) for k in Compared.model_fields}) for r in rows[start : start + size]]
        said += await judge.compare(part)
        tick(len(part))
    return said


class Said(Row):
    """A line of said.jsonl."""

    id: str
    people: tuple[str, ...]
    judge: Preferred


def said_of(rows: Sequence[Labelled], said: Sequence[Preferred]) -> list[Said]:
    return [Said(id=r.id, people=r.labels, judge=s) for r, s in zip(rows, said, strict=True)]


def labelled_pair(pair: Pair, row: Labelled, said: Preferred) -> Pair | None:
    """The pair as the judge sees it, the better answer first, soft = P(it is better). None: the judge said nothing."""
    if said.p is None:
        return None
    better = (pair.chosen, pair.rejected) if row.first == pair.chosen.content else (pair.rejected, pair.chosen)
    p = said.p
    if p < 0.5:
        better, p = better[::-1], 1 - p
    return pair.model_copy(
        update={"chosen": better[0], "rejected": better[1], "soft": p, "margin": None, "source": "judge",
                "annotator": None, "reason": str(said.detail.get("criterion", ""))}
    )  # fmt: skip


def read_card(folder: Path) -> Card:
    try:
        return Card.model_validate(json.loads((folder / "card.json").read_text()))
    except FileNotFoundError:
        raise UserError("this judge has no card", where=str(folder), remedy="make it with a judge_card stage") from None
