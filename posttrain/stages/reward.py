"""Reward models: learn from pairs, rankings or ratings which answer people would rather have.

All answers to a prompt stand in one document, the prompt once. The artefact is a Hugging Face sequence classifier with
reward.json (how good it is on held-out comparisons) and held.jsonl (its scores of them) beside it.
Left out on purpose: losses (objectives/reward.py), using the model (reward_judge.py), ratings beside comparisons.
Importing this file does not import torch.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from posttrain import calibration
from posttrain.comparisons import Group, from_pair, from_ranking, from_ratings
from posttrain.errors import UserError
from posttrain.objectives import reward
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, write_text
from posttrain.rows import Pair, Ranking, Rating
from posttrain.spec import one_of
from posttrain.stages.training import Ready, Training, cost, evaluated, evaluation_packs, read_rows

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain import packing
    from posttrain.reward_model import RewardModel
    from posttrain.train import Cursor, Facts

Edge = tuple[str, ...] | str | None
RATED = tuple(f.__name__ for f in reward.POINTWISE)


class Reward(Training):
    """Mean over comparisons (rankings, ratings) of a loss of objectives/reward.py, for each member of the ensemble."""

    makes: ClassVar[Kind] = "reward"

    type: Literal["reward"] = "reward"
    policy: Annotated[str, Ref("policy")]
    pairs: Annotated[Edge, Ref("pairs")] = None
    rankings: Annotated[Edge, Ref("rankings")] = None
    ratings: Annotated[Edge, Ref("ratings")] = None
    loss: one_of(reward.LOSSES) = {"type": "bradley_terry"}  # type: ignore[valid-type]
    members: int = Field(default=1, ge=1, le=64)  # heads of one trunk, each with its own start and weights of the rows

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rated, ordered = bool(self.ratings), bool(self.pairs or self.rankings)
        wants = "ratings" if self.loss.type in RATED else "pairs or rankings"
        if not rated and not ordered:
            raise UserError("a reward stage needs pairs, rankings or ratings to learn from", where="type: reward")
        if (rated and ordered) or rated != (self.loss.type in RATED):
            raise UserError(
                f"the loss {self.loss.type} learns from {wants}", where="type: reward",
                remedy="ratings alone with loss: {type: regression}, pairs and rankings with bradley_terry",
            )  # fmt: skip
        return self

    def load(self, policy: Path, runtime: Runtime) -> "RewardModel":
        from posttrain.reward_model import from_policy

        return from_policy(policy, runtime, lora=self.lora, members=self.members, seed=self.seed)

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain import packing

        groups, held = (read_groups(inputs, name) for name in ("train.jsonl", "holdout.jsonl"))
        ready = self.prepare(inputs, groups, held, out, runtime)
        model, pad_id = ready.model, ready.chat.pad_id
        rows, held = [groups[n] for n in ready.kept], [held[n] for n in ready.held_kept]
        weight_GM = member_weights(len(rows), self.members, self.seed)
        objective = Objective(self.loss.type, self.loss.bind())

        def loss(indices: Sequence[int], total: float) -> "tuple[Tensor, Facts]":
            pack = packing.build([ready.docs[i] for i in indices], pad_to=self.micro_tokens, pad_id=pad_id)
            here = [rows[i] for i in indices]
            return group_loss(model.scores(pack), here, objective, total, weight_GM[list(indices)])

        def evaluate() -> dict[str, float]:
            return held_out(model, ready.held, held, objective, self.micro_tokens, pad_id)

        cursor = self.fit(ready, [objective.count(g) for g in rows], loss, evaluate, out, runtime)
        found = self.report(ready, held, out, runtime)
        for warning in self.save(ready, out):
            runtime.progress.say(f"  {warning}")
        spent = cost(cursor, model.flops_per_token) | packing.saving(ready.docs)
        return summary(cursor, len(rows), found) | spent

    def report(self, ready: Ready, held: Sequence[Group], out: Path, runtime: Runtime) -> dict[str, Any]:
        """Score the held-out answers (a sample of the training ones where there are none); write reward.json."""
        import torch

        from posttrain.reward_model import member_means, score_docs

        docs = ready.held or ready.docs[:64]
        how = {"micro_tokens": self.micro_tokens, "pad_id": ready.chat.pad_id}
        score_GAM = [s.double() for s in score_docs(ready.model, docs, **how)]  # type: ignore[arg-type]
        found: dict[str, Any] = {"members": self.members, "loss": self.loss.model_dump()}
        found["scores"] = member_means(ready.model, torch.cat(score_GAM)) | {"held_out": bool(ready.held)}
        if judged := judgements(held, score_GAM) if ready.held else []:
            found["held_out"] = calibration.report(judged, self.seed)
            lines = (json.dumps(j._asdict() | {"right": j.right}, ensure_ascii=False) for j in judged)
            write_text(out / "held.jsonl", "".join(line + "\n" for line in lines))
            a, b = (found["held_out"][k] for k in ("accuracy", "longer_is_better"))
            runtime.progress.say(
                f"  held out: {a['value']:.1%} ({a['low']:.1%} to {a['high']:.1%}) of {len(judged)} comparisons right; "
                f"longer is better: {b['value']:.1%}"
            )
        if ready.held and held and held[0].values:
            found["ratings"] = rating_errors(held, score_GAM)
        write_text(out / "reward.json", json.dumps(found, indent=1))
        return found

    def save(self, ready: Ready, out: Path) -> list[str]:
        """A folder that transformers loads as a sequence classifier. Returns what people should know of it."""
        from posttrain import train
        from posttrain.reward_model import save_reward

        (out / "README.md").write_text(README)
        warnings = save_reward(ready.model, ready.chat, out)
        train.finish(out)
        return warnings


README = """A reward model: transformers' AutoModelForSequenceClassification and AutoTokenizer load this folder.

Write the conversation with the tokenizer's chat template; it ends with the answer's stop token, where the score is
taken. One label for each member of the ensemble; differences of scores are log-odds. reward.json holds how good it is
on held-out comparisons and each member's mean, to be subtracted before scores of several models are put together.
"""


class Objective(NamedTuple):
    """A loss with its knobs, called by what it looks at."""

    name: str
    call: Callable[[Any], "Tensor"]

    @property
    def kind(self) -> Literal["pairwise", "listwise", "pointwise"]:
        names = {"pairwise": reward.PAIRWISE, "listwise": reward.LISTWISE, "pointwise": reward.POINTWISE}
        return next(k for k, fs in names.items() if self.name in [f.__name__ for f in fs])  # type: ignore[return-value]

    def count(self, group: Group) -> float:
        """What a group adds to the denominator: the weight of its comparisons, one ranking, or its ratings."""
        if self.kind == "pairwise":
            return sum(c.weight for c in group.comparisons)
        return 1.0 if self.kind == "listwise" else float(len(group.values))

    def losses(self, score_B: "Tensor", groups: Sequence[Group]) -> "tuple[Tensor, Tensor]":
        """(weighted losses, the group of each) of one member's scores; branches stand group after group."""
        import torch

        if self.kind == "pointwise":
            value_B = torch.tensor([v for g in groups for v in g.values], dtype=score_B.dtype)
            return self.call(reward.Rated(score_B, value_B)), branch_groups(groups)
        if self.kind == "listwise":
            rank_B = torch.tensor([r for g in groups for r in g.ranks])
            ranked = reward.Ranked(score_B, rank_B, branch_groups(groups), len(groups))
            return self.call(ranked), torch.arange(len(groups))
        c = compared(groups, score_B.dtype)
        loss_C = self.call(reward.Compared(score_B[c.better_C], score_B[c.worse_C], c.soft_C, c.margin_C))
        return loss_C * c.weight_C, c.group_C


class Indexed(NamedTuple):
    """The comparisons of some groups as tensors; answers are numbered group after group."""

    better_C: "Tensor"
    worse_C: "Tensor"
    soft_C: "Tensor"
    margin_C: "Tensor"
    weight_C: "Tensor"
    group_C: "Tensor"


def compared(groups: Sequence[Group], dtype: Any) -> Indexed:
    import torch

    rows, start = [], 0
    for n, g in enumerate(groups):
        rows += [(start + c.better, start + c.worse, c.soft, c.margin, c.weight, n) for c in g.comparisons]
        start += len(g.answers)
    columns = zip(*rows) if rows else ((),) * len(Indexed._fields)
    kinds = (torch.long, torch.long, dtype, dtype, dtype, torch.long)
    return Indexed(*(torch.tensor(x, dtype=k) for x, k in zip(columns, kinds)))


def branch_groups(groups: Sequence[Group]) -> "Tensor":
    import torch

    return torch.repeat_interleave(torch.arange(len(groups)), torch.tensor([len(g.answers) for g in groups]))


def member_weights(rows: int, members: int, seed: int) -> "Tensor":
    """Weights [G, M] of the rows for each member: 1 for a single one, else a Bayesian bootstrap (Rubin 1981)."""
    import torch

    if members == 1:
        return torch.ones(rows, 1)
    g = torch.Generator().manual_seed(seed)
    weight_GM = torch.empty(rows, members).exponential_(generator=g)
    return weight_GM / weight_GM.mean(0)


def group_loss(
    score_BM: "Tensor", groups: Sequence[Group], objective: Objective, total: float, weight_GM: "Tensor"
) -> "tuple[Tensor, Facts]":
    """(loss scalar, facts) of one micro-batch; total: the denominator of the whole optimiser step."""
    members = score_BM.shape[1]
    value, plain = score_BM.new_zeros(()), 0.0
    for m in range(members):
        loss_X, group_X = objective.losses(score_BM[:, m], groups)
        value = value + (loss_X * weight_GM[group_X, m].to(loss_X)).sum() / (members * total)
        plain += float(loss_X.detach().sum()) / members
    count = sum(objective.count(g) for g in groups)
    return value, {"loss": (plain, count)} | facts(score_BM.detach(), groups)


def facts(score_BM: "Tensor", groups: Sequence[Group]) -> "Facts":
    """What is logged of the members' mean: (sum, count) over comparisons that are no ties, weighted as in the loss."""
    c = compared(groups, score_BM.dtype)
    better_CM, worse_CM = score_BM[c.better_C], score_BM[c.worse_C]
    margin_CM, w_C = better_CM - worse_CM, c.weight_C * (c.soft_C != 0.5)
    margin_C = margin_CM.mean(1)
    n = float(w_C.sum())
    found = {
        "accuracy": 0.5 + 0.5 * margin_C.sign(), "margin": margin_C,
        "chosen_reward": better_CM.mean(1), "rejected_reward": worse_CM.mean(1),
    }  # fmt: skip
    if score_BM.shape[1] > 1:
        found["disagreement"] = margin_CM.std(1)
    return {k: (float((x_C * w_C).sum()), n) for k, x_C in found.items()}


def held_out(
    model: "RewardModel", docs: "Sequence[packing.Doc]", groups: Sequence[Group], objective: Objective,
    micro_tokens: int, pad_id: int,
) -> dict[str, float]:  # fmt: skip
    """Means over held-out comparisons."""
    import torch

    sums: dict[str, list[float]] = {}
    with torch.no_grad():
        packs = evaluation_packs(docs, micro_tokens, pad_id)
        for indices, _, score_BM in evaluated(packs, lambda _, pack: model.scores(pack)):
            here = [groups[i] for i in indices]
            weight_GM = torch.ones(len(here), model.members)
            for name, (s, n) in group_loss(score_BM, here, objective, 1.0, weight_GM)[1].items():
                entry = sums.setdefault(name, [0.0, 0.0])
                entry[0], entry[1] = entry[0] + s, entry[1] + n
    return {name: s / n for name, (s, n) in sums.items() if n}


def read_groups(inputs: Inputs, name: str) -> list[Group]:
    """The rows of every input as groups; where several artefacts come in, a group's source is its artefact's stage."""
    found: list[Group] = []
    several = sum(len(inputs.many(e)) for e in ("pairs", "rankings", "ratings")) > 1
    for edge, kind in (("pairs", Pair), ("rankings", Ranking), ("ratings", Rating)):
        for folder in inputs.many(edge):
            rows = read_rows([folder], name, kind)
            new = from_ratings(rows) if edge == "ratings" else [_group(row) for row in rows]
            source = folder.name.rpartition("-")[0]
            found += [replace(g, source=source) for g in new] if several else new
    return found


def _group(row: Pair | Ranking) -> Group:
    return from_pair(row) if isinstance(row, Pair) else from_ranking(row)


def judgements(groups: Sequence[Group], score_GAM: "Sequence[Tensor]") -> list[calibration.Judged]:
    """Every held-out comparison that is no tie, by the members' mean."""
    found = []
    for n, (g, score_AM) in enumerate(zip(groups, score_GAM)):
        for c in g.comparisons:
            if c.soft != 0.5:
                margin_M = score_AM[c.better] - score_AM[c.worse]
                spread = float(margin_M.std()) if len(margin_M) > 1 else 0.0
                a, b = (len(g.answers[x].content) for x in (c.better, c.worse))
                found.append(
                    calibration.Judged(float(margin_M.mean()), spread, a, b, str(n), g.source, g.category, g.id)
                )
    return found


def rating_errors(groups: Sequence[Group], score_GAM: "Sequence[Tensor]") -> dict[str, float]:
    """Root mean square error on [-1, 1] beside that of the mean rating, and Pearson's correlation."""
    import numpy as np

    value = np.array([v for g in groups for v in g.values])
    score = np.concatenate([s.mean(1).numpy() for s in score_GAM])
    same = value.std() == 0 or score.std() == 0
    r = 0.0 if same else float(np.corrcoef(value, score)[0, 1])
    return {"rmse": float(np.sqrt(((value - score) ** 2).mean())), "rmse_of_mean": float(value.std()), "r": r}


def summary(cursor: "Cursor", rows: int, found: dict[str, Any]) -> Metrics:
    """Held-out accuracy first, with its interval and "longer is better" beside it."""
    told: Metrics = {}
    if held := found.get("held_out"):
        a = held["accuracy"]
        told = {"held_accuracy": a["value"], "held_longer_is_better": held["longer_is_better"]["value"],
                "held_accuracy_low": a["low"], "held_accuracy_high": a["high"], "held_ece": held["ece"],
                "held_brier": held["brier"], "held_comparisons": float(held["comparisons"])}  # fmt: skip
    told |= {f"held_{k}": v for k, v in found.get("ratings", {}).items()}
    if ends := cursor.ends("held_loss"):
        told |= {"held_loss_before": ends[0]["held_loss"], "held_loss": ends[1]["held_loss"]}
        told |= {"held_margin": ends[1]["held_margin"]} if "held_margin" in ends[1] else {}
    last = cursor.log[-1]
    return told | {"groups": float(rows)} | {f"train_{k}": last[k] for k in ("loss", "accuracy", "margin") if k in last}
