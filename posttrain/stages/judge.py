"""Language models as judges in a recipe: `judge_card` examines one on labelled pairs, `judge_pairs` lets it label.

The judge is a policy of the recipe or a chat endpoint. Its artefact is the card (card.json), how to ask it again
(judge.json), what it said of every labelled pair (said.jsonl) and the replies, so that a stopped stage pays for no
question twice. Labelling with a judge that failed its card is refused unless `anyway` says in words why.
Left out on purpose: judging itself (judge/llm.py) and the card's arithmetic (judge/card.py). Importing this file does
not import torch.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from posttrain import bundled
from posttrain.errors import UserError
from posttrain.judge import card as cards
from posttrain.judge.asking import Asker, Kept, key_of
from posttrain.judge.card import Card, Labelled, Thresholds
from posttrain.judge.llm import GENERAL, Compared, Criterion, Pairwise, Preferred
from posttrain.pipeline import Inputs, Kind, Metrics, Record, Ref, Runtime, Stage, write_text
from posttrain.rows import Pair, Row, digest, read_jsonl, write_jsonl

MODEL = "model"  # link to the policy that judges, inside the judge's artefact


class How(BaseModel):
    """judge.json: all that is needed to ask a judge again. url empty: the weights linked beside it."""

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


class JudgeCard(Stage):
    """policy or url (several share the work) and model: who judges. labelled: a JSONL file of labelled comparisons or
    of pairs, or bundled:pairs. criteria: sentences, one drawn per pair. key_env: the variable that holds the key.
    rate: requests a second, 0 for no limit. timeout: seconds. price: per million prompt and drawn tokens.
    """

    makes: ClassVar[Kind] = "judge"
    resumes: ClassVar[bool] = True
    places: ClassVar[frozenset[str]] = frozenset(
        {"labelled", "url", "key_env", "concurrent", "rate", "timeout", "price"}
    )

    type: Literal["judge_card"] = "judge_card"
    policy: Annotated[str | None, Ref("policy")] = None
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
        if bool(self.policy) == bool(self.url):
            raise ValueError("give policy (a stage) or url (a server), one of them")
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
        how = How(url=urls, **{k: getattr(self, k) for k in How.model_fields if k != "url"})
        if self.policy and not (out / MODEL).exists():
            (out / MODEL).symlink_to(inputs.one("policy").resolve())
        write_text(out / "judge.json", how.model_dump_json(indent=2) + "\n")
        with runtime.progress.task("judge", total=len(rows)) as tick:
            judge, kept = load(out, how, out / "replies.db", runtime)
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
        how = How.model_validate_json((folder / "judge.json").read_text())
        judge, kept = load(folder, how, out / "replies.db", runtime)
        for side in ("train", "holdout"):
            pairs = list(read_jsonl(inputs.one("pairs") / f"{side}.jsonl", Pair))[: self.limit]
            rows = [cards.from_pair(pair) for pair in pairs]
            with runtime.progress.task(f"judge {side}", total=len(rows)) as tick:
                said = asyncio.run(in_parts(judge, rows, tick))
            judged = [labelled_pair(p, r, s) for p, r, s in zip(pairs, rows, said, strict=True)]
            counts["unread"] += sum(s.p is None for s in said)
            counts["ties"] += sum(s.p == 0.5 for s in said)
            found = [j for j in judged if j and (self.ties == "keep" or j.soft != 0.5)]
            counts["turned"] += sum(j is not None and j.chosen != p.chosen for j, p in zip(judged, pairs))
            counts["rows"] += write_jsonl(out / f"{side}.jsonl", found)
        kept.close()
        return counts | {"asked": float(kept.asked), "cost": kept.cost}


def chosen(rows: Sequence[Labelled], limit: int | None) -> list[Labelled]:
    """At most so many rows, by hash: any order of the file gives the same."""
    keys = sorted(range(len(rows)), key=lambda n: rows[n].digest())[:limit]
    return [rows[n] for n in sorted(keys)]


def load(folder: Path, how: How, replies: Path, runtime: Runtime) -> tuple[Pairwise, Kept]:
    """The judge of an artefact, and what keeps its replies."""
    kept = Kept(_asker(folder, how, runtime), replies, how.price)
    criteria = [Criterion(f"criterion {n}", text) for n, text in enumerate(how.criteria, 1)] or [GENERAL]
    judge = Pairwise(kept, criteria=criteria, log_probs=how.log_probs, ties=how.ties, thinks=how.thinks, seed=how.seed)
    return judge, kept


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


async def in_parts(judge: Pairwise, rows: Sequence[Compared], tick: Any, size: int = 64) -> list[Preferred]:
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
