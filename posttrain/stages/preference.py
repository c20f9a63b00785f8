"""Preference training: the DPO family on pairs, KTO and its like on thumbs.

The reference is the policy that training starts from, or another one; its log-probs are kept for later runs
(stages/reference.py). Losses that need none have one all the same: rewards, drops and drift are told of every run.
Left out on purpose: making pairs (stages/sample.py), rounds of sampling and training
(stages/online.py), thumbs' own half of the work (stages/thumbs.py). Importing this file does not import torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from posttrain.errors import UserError
from posttrain.objectives import preference, unpaired
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime
from posttrain.rows import Pair, Thumb
from posttrain.spec import one_of
from posttrain.stages.reference import Reference, reference_of
from posttrain.stages.training import Ready, Training, cost, evaluated, evaluation_packs, read_rows
from posttrain.stages.watch import drift, prompts_of

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain import packing
    from posttrain.model import Model
    from posttrain.train import Before, Cursor, Facts, LossFn

LOSSES = (*preference.LOSSES, *unpaired.LOSSES)
UNPAIRED = tuple(fn.__name__ for fn in unpaired.LOSSES)
Edge = tuple[str, ...] | str | None


class Preference(Training):
    """Mean over pairs or thumbs of a loss of objectives/, plus `sft` times the good answers' token NLL.

    pairs for the losses of preference.py; thumbs, or pairs taken apart, for those of unpaired.py. reference: if not the
    policy itself. watch: held-out prompts answered at each evaluation, to see drift and length; 0 for none.
    """

    makes: ClassVar[Kind] = "policy"

    type: Literal["preference"] = "preference"
    policy: Annotated[str, Ref("policy")]
    pairs: Annotated[Edge, Ref("pairs")] = None
    thumbs: Annotated[Edge, Ref("thumbs")] = None
    reference: Annotated[str | None, Ref("policy")] = None
    loss: one_of(LOSSES) = {"type": "dpo"}  # type: ignore[valid-type]
    sft: float = Field(default=0.0, ge=0)  # against drifting away from text: RPO, arXiv:2404.19733
    watch: int = Field(default=16, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.loss.type in UNPAIRED and not (self.pairs or self.thumbs):
            raise UserError(f"{self.loss.type} learns from thumbs or pairs, and neither is given", where="loss")
        if self.loss.type not in UNPAIRED and (self.thumbs or not self.pairs):
            raise UserError(
                f"{self.loss.type} learns from pairs", where="loss",
                remedy=f"pairs: a stage that makes them; for thumbs the losses are {', '.join(UNPAIRED)}",
            )  # fmt: skip
        return self

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain import packing
        from posttrain.stages import thumbs

        rows, held = (read_rows(inputs.many("pairs"), n, Pair) for n in ("train.jsonl", "holdout.jsonl"))
        pairs, held = decided(self.loss.type, rows), decided(self.loss.type, held)
        ties = count_ties(rows, pairs, runtime)
        if line := unread(self.loss.type, pairs):
            runtime.progress.say(f"  warning: {line}")
        if self.loss.type in UNPAIRED:
            ups, held_ups = (
                [*read_rows(inputs.many("thumbs"), name, Thumb), *thumbs.from_pairs(found)]
                for name, found in (("train.jsonl", pairs), ("holdout.jsonl", held))
            )
            thumbs.check(ups)
            ready = self.prepare(inputs, thumbs.groups(ups), thumbs.groups(held_ups), out, runtime)
            reference = reference_of(inputs, ready, self.micro_tokens, out, runtime)
            work = thumbs.work(self, ready, reference, ups, held_ups)
        else:
            check(self.loss.type, pairs)
            ready = self.prepare(inputs, pairs, held, out, runtime)
            reference = reference_of(inputs, ready, self.micro_tokens, out, runtime)
            work = pair_work(self, ready, reference, pairs, held)
        prompts = prompts_of(ready.held, self.watch)

        def evaluate() -> dict[str, float]:
            return work.evaluate() | drift(reference, ready.chat, prompts)

        cursor = self.fit(ready, [1.0] * len(ready.docs), work.loss, evaluate, out, runtime, work.before)
        self.save(ready, out)
        reference.forget()
        found = summary(cursor, len(ready.docs)) | cost(cursor, ready.model.flops_per_token)
        return found | packing.saving(ready.docs) | ({"ties": float(ties)} if ties else {})


class Work(NamedTuple):
    """What the loop is given: the loss of a micro-batch, held-out numbers, and what comes before each step."""

    loss: "LossFn"
    evaluate: Callable[[], dict[str, float]]
    before: "Before | None" = None


def summary(cursor: "Cursor", rows: int) -> Metrics:
    """Held-out numbers before and of the weights that were kept, and the last step's training numbers."""
    facts, last = {"rows": float(rows)}, cursor.log[-1]
    if ends := cursor.ends("held_loss"):
        facts |= {f"{k}_before": v for k, v in ends[0].items() if k.startswith("held_")}
        facts |= {k: v for k, v in ends[1].items() if k.startswith("held_")}
    return facts | {f"train_{k}": last[k] for k in ("loss", "accuracy", "margin", "chosen_reward") if k in last}


def decided(loss: str, pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs as a loss must see them that reads no soft labels: the likelier better answer first, ties left out."""
    return list(pairs) if loss == "soft" else [turned(p) for p in pairs if p.soft != 0.5]


def count_ties(rows: Sequence[Pair], kept: Sequence[Pair], runtime: Runtime) -> int:
    """How many pairs were left out, told to people. UserError when all were."""
    ties = len(rows) - len(kept)
    if ties and not kept:
        what = f"all {ties} pairs prefer neither answer (soft 0.5), so there is nothing to learn"
        raise UserError(what, where="pairs", remedy="pairs that somebody could tell apart")
    if ties:
        runtime.progress.say(
            f"  {ties} of {len(rows)} pairs prefer neither answer and are left out; the loss soft reads them"
        )
    return ties


def turned(pair: Pair) -> Pair:
    """The pair with the answer first that is better by its soft label."""
    if pair.soft is None or pair.soft >= 0.5:
        return pair
    margin = None if pair.margin is None else -pair.margin
    sides = {"chosen": pair.rejected, "rejected": pair.chosen}
    return pair.model_copy(update=sides | {"soft": 1.0 - pair.soft, "margin": margin})


def check(loss: str, pairs: Sequence[Pair]) -> None:
    """A loss that reads margins or soft labels must find some; pairs without count as margin 0 and as certain."""
    needs = {"odpo": ("margin", "margins"), "soft": ("soft", "soft labels")}
    if loss in needs and all(getattr(p, needs[loss][0]) is None for p in pairs):
        raise UserError(
            f"the loss {loss} needs {needs[loss][1]}, and no pair has any", where="loss",
            remedy=f"rows with a field `{needs[loss][0]}`, for instance from several votes on each pair; or dpo",
        )  # fmt: skip


def unread(loss: str, pairs: Sequence[Pair]) -> str:
    """A warning of soft labels that this loss does not look at, since it takes every order as certain; '' without."""
    soft = sum(p.soft not in (None, 1.0) for p in pairs)
    if not soft or loss == "soft":
        return ""
    return f"{soft} of {len(pairs)} pairs have soft labels; {loss} takes each order as certain, soft reads them"


class Answers(NamedTuple):
    """Both answers of B pairs; column 0 is the chosen one. Sums over tokens, nats."""

    logp_B2: "Tensor"
    tail_B2: "Tensor"  # tokens behind the shorter answer's length only
    len_B2: "Tensor"
    weight_B: "Tensor | None" = None


class Given(NamedTuple):
    """What is known of P pairs beside what the policy says of them."""

    ref_P2: "Tensor"
    ref_tail_P2: "Tensor"
    margin_P: "Tensor"
    soft_P: "Tensor"
    step_P: "Tensor"  # filled in at the beginning of each step, for losses that need it

    def at(self, indices: Sequence[int]) -> "Given":
        return Given(*(x[list(indices)] for x in self))


def pair_logps(model: "Model", pack: "packing.Pack", *, weigh: bool = False) -> Answers:
    """A micro-batch of pairs under a model. weigh: with WPO's weights, which cost another pass over the vocabulary."""
    import torch

    from posttrain.objectives.reduce import sequence_mean, sequence_sum

    n = pack.branches
    logp_N, collision_N = model.logps_and_collisions(pack) if weigh else (model.token_logps(pack), None)
    len_S = torch.bincount(pack.branch_N, minlength=n)
    place_N = torch.arange(len(logp_N)) - (len_S.cumsum(0) - len_S)[pack.branch_N]  # of a token in its answer
    shorter_N = len_S.view(-1, 2).amin(1)[pack.branch_N // 2]
    tail_N = torch.where(place_N >= shorter_N, logp_N, logp_N.new_zeros(()))
    logp_B2, tail_B2 = (sequence_sum(x, pack.branch_N, n).view(-1, 2) for x in (logp_N, tail_N))
    weight_B = None
    if collision_N is not None:
        mean_S = sequence_mean(logp_N.detach() - collision_N, pack.branch_N, n)
        weight_B = mean_S.view(-1, 2).sum(1).exp()
    return Answers(logp_B2, tail_B2, len_S.view(-1, 2), weight_B)


def score(model: "Model", pack: "packing.Pack") -> "Tensor":
    """What is kept of the reference: [B, answer, whole or tail]."""
    import torch

    found = pair_logps(model, pack)
    return torch.stack([found.logp_B2, found.tail_B2], -1)


def given(ref_P22: "Tensor", pairs: Sequence[Pair]) -> Given:
    import torch

    margin_P = torch.tensor([p.margin or 0.0 for p in pairs])
    soft_P = torch.tensor([1.0 if p.soft is None else p.soft for p in pairs])
    return Given(ref_P22[..., 0], ref_P22[..., 1], margin_P, soft_P, torch.zeros(len(pairs)))


def as_pairs(a: Answers, g: Given) -> preference.Pairs:
    tail_B2 = a.tail_B2 - g.ref_tail_P2
    return preference.Pairs(
        *a.logp_B2.unbind(1), *g.ref_P2.unbind(1), *a.len_B2.to(a.logp_B2).unbind(1), g.margin_P, g.soft_P,
        *tail_B2.unbind(1), a.weight_B, g.step_P,
    )  # fmt: skip


def pair_loss(
    model: "Model", pack: "packing.Pack", g: Given, objective: Any, total: float, sft: float = 0.0
) -> "tuple[Tensor, Facts]":
    """(loss scalar, facts) of one micro-batch; total: pairs in the whole optimiser step. g: of these pairs."""
    p = as_pairs(pair_logps(model, pack, weigh=_function(objective) in preference.WEIGHTED), g)
    loss_B = objective(p)
    value = loss_B.sum() / total
    if sft:
        value = value + sft * (-p.chosen_B / p.chosen_len_B).sum() / total
    return value, {k: (float(v.sum()), len(v)) for k, v in _facts(p, loss_B).items()}


def _function(objective: Any) -> Any:
    return getattr(objective, "func", objective)


def _facts(p: preference.Pairs, loss_B: "Tensor") -> "dict[str, Tensor]":
    """What is logged of each pair: rewards in nats (no beta), so that runs with different beta compare.

    chosen_drop: how much less likely than under the reference the chosen answer has become, nats per token.
    """
    c_B, r_B = preference.chosen_reward(p).detach(), preference.rejected_reward(p).detach()
    return {
        "loss": loss_B.detach(),
        "accuracy": (c_B > r_B).float() + 0.5 * (c_B == r_B).float(),  # ties count half
        "margin": c_B - r_B,
        "chosen_reward": c_B,
        "rejected_reward": r_B,
        "chosen_drop": -c_B / p.chosen_len_B,
        "logp_accuracy": (p.chosen_B / p.chosen_len_B > p.rejected_B / p.rejected_len_B).float(),
    }


def pair_work(
    stage: Preference, ready: Ready, reference: Reference, pairs: Sequence[Pair], held: Sequence[Pair]
) -> Work:
    from posttrain import packing

    objective, model = stage.loss.bind(), ready.model
    g = given(reference.rows(ready.docs, "pairs", score), [pairs[n] for n in ready.kept])
    held_rows = [held[n] for n in ready.held_kept]
    held_g = given(reference.rows(ready.held, "pairs", score), held_rows) if held_rows else None

    def pack_of(indices: Sequence[int]) -> "packing.Pack":
        return packing.build([ready.docs[i] for i in indices], pad_to=stage.micro_tokens, pad_id=ready.chat.pad_id)

    def loss(indices: Sequence[int], total: float) -> "tuple[Tensor, Facts]":
        return pair_loss(model, pack_of(indices), g.at(indices), objective, total, stage.sft)

    def evaluate() -> dict[str, float]:
        assert held_g is not None  # the loop evaluates only where rows are held out
        return held_out(model, ready.held, held_g, objective, stage.micro_tokens, ready.chat.pad_id)

    def before(micro: Sequence[Sequence[int]]) -> None:
        look_ahead(model, ((i, pack_of(i)) for i in micro), g, objective)

    return Work(loss, evaluate, before if _function(objective) in preference.STEP else None)


def look_ahead(model: "Model", packs: Any, g: Given, objective: Any) -> preference.Pairs:
    """All pairs of (indices, pack)s at once, no gradient; g.step_P is filled in for losses that need the whole step.

    A forward pass more, by which losses over a whole step do not depend on how it is cut into micro-batches.
    """
    import torch

    fn, found, order = _function(objective), [], []
    with torch.no_grad():
        for indices, _, a in evaluated(packs, lambda _, pack: pair_logps(model, pack, weigh=fn in preference.WEIGHTED)):
            found.append(as_pairs(a, g.at(indices)))
            order += indices
    whole = preference.Pairs(*(None if x[0] is None else torch.cat(x) for x in zip(*found)))
    if fn in preference.STEP:
        g.step_P[order] = preference.STEP[fn](whole)
        whole = whole._replace(step_B=g.step_P[order])
    return whole


def held_out(
    model: "Model", docs: "Sequence[packing.Doc]", g: Given, objective: Any, micro_tokens: int, pad_id: int
) -> dict[str, float]:
    """Means over held-out pairs. accuracy is of implicit rewards: one half before training."""
    p = look_ahead(model, evaluation_packs(docs, micro_tokens, pad_id), g, objective)
    return {k: float(v.double().mean()) for k, v in _facts(p, objective(p)).items()}
