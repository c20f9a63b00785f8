"""Thumbs' half of preference training: single answers that somebody liked or did not, KTO's loss and its z.

z, how far the policy has drifted from the reference, is estimated on answers that belong to other prompts. Each row has
one such partner for good, drawn by the seed, so its reference log-prob is computed once, and z is the mean over all
rows of the optimiser step, whatever its micro-batches. Left out on purpose: pairs (stages/preference.py).
Importing this file does not import torch.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from posttrain.comparisons import Group
from posttrain.errors import UserError
from posttrain.objectives import unpaired
from posttrain.rows import Pair, Thumb
from posttrain.stages.reference import Reference
from posttrain.stages.training import Ready, evaluated, evaluation_packs

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain import packing
    from posttrain.model import Model
    from posttrain.stages.preference import Preference, Work
    from posttrain.train import Facts


def from_pairs(pairs: Sequence[Pair]) -> list[Thumb]:
    """Each pair as a thumb up and one down."""
    return [
        Thumb(id=f"{p.id} {word}", messages=(*p.prompt, answer), label=up, source=p.source, meta=p.meta)
        for p in pairs
        for word, answer, up in (("up", p.chosen, True), ("down", p.rejected, False))
    ]


def groups(rows: Sequence[Thumb]) -> list[Group]:
    """As pre-flight takes them: a prompt with one answer."""
    return [Group(r.id, r.messages[:-1], r.messages[-1:], ()) for r in rows]


def check(rows: Sequence[Thumb]) -> None:
    ups = sum(r.label for r in rows)
    if rows and ups in (0, len(rows)):
        raise UserError(
            f"all {len(rows)} thumbs point {'up' if ups else 'down'}: there is nothing to tell apart", where="thumbs",
            remedy="sft learns from good answers alone; check that the label was read rightly (posttrain show FILE)",
        )  # fmt: skip


def mismatched(docs: "Sequence[packing.Doc]", seed: int, limit: int) -> "list[packing.Doc]":
    """Each prompt with the answer of another row, of another prompt where there is one. Tokens over `limit` are cut."""
    from posttrain.packing import Branch, Doc

    order = list(range(len(docs)))
    random.Random(seed).shuffle(order)
    partner = {}
    for n, i in enumerate(order):
        others = (order[(n + k) % len(order)] for k in range(1, len(order)))
        partner[i] = next((j for j in others if docs[j].prefix != docs[i].prefix), order[(n + 1) % len(order)])
    ids = [docs[partner[i]].branches[0].ids[: max(1, limit - len(d.prefix))] for i, d in enumerate(docs)]
    return [Doc(d.prefix, [Branch(answer, [True] * len(answer))]) for d, answer in zip(docs, ids)]


def logps(model: "Model", pack: "packing.Pack") -> "Tensor":
    """Summed log-probs [B] of a pack's answers, nats."""
    from posttrain.objectives.reduce import sequence_sum

    return sequence_sum(model.token_logps(pack), pack.branch_N, pack.branches)


class Side:
    """Rows (training or held-out ones) with what the reference says of them, and z of the step at work."""

    def __init__(
        self, stage: "Preference", ready: Ready, reference: Reference, docs: "list[packing.Doc]", up: Sequence[bool]
    ):
        import torch

        self.model, self.reference, self.docs = ready.model, reference, docs
        self.up_P = torch.tensor(up, dtype=torch.bool)
        self.ref_P = reference.rows(docs, "answers", logps)
        self.strangers: list[packing.Doc] = []
        if stage.loss.type in [fn.__name__ for fn in unpaired.MISMATCHED]:
            self.strangers = mismatched(docs, stage.seed, stage.micro_tokens)
            self.stranger_ref_P = reference.rows(self.strangers, "answers", logps)
        self.z = torch.zeros(())

    def look_ahead(self, indices: Sequence[int]) -> None:
        """z over these rows, if the loss has one: a forward pass over their prompts and other rows' answers."""
        import torch

        if not self.strangers:
            return
        docs = [self.strangers[i] for i in indices]
        logp_M = torch.zeros(len(docs))
        with torch.no_grad():
            packs = evaluation_packs(docs, self.reference.micro_tokens, self.reference.pad_id)
            for at, _, logp_B in evaluated(packs, lambda _, pack: logps(self.model, pack)):
                logp_M[list(at)] = logp_B.float()
        self.z = unpaired.drift(logp_M, self.stranger_ref_P[list(indices)])

    def thumbs(self, indices: Sequence[int], pack: "packing.Pack") -> unpaired.Thumbs:
        at = list(indices)
        return unpaired.Thumbs(logps(self.model, pack), self.ref_P[at], self.up_P[at], self.z)


def work(
    stage: "Preference", ready: Ready, reference: Reference, rows: Sequence[Thumb], held: Sequence[Thumb]
) -> "Work":
    from posttrain import packing
    from posttrain.stages.preference import Work

    objective = stage.loss.bind()
    side = Side(stage, ready, reference, ready.docs, [rows[n].label for n in ready.kept])
    apart = Side(stage, ready, reference, ready.held, [held[n].label for n in ready.held_kept]) if held else None

    def loss(indices: Sequence[int], total: float) -> "tuple[Tensor, Facts]":
        pack = packing.build([ready.docs[i] for i in indices], pad_to=stage.micro_tokens, pad_id=ready.chat.pad_id)
        return thumb_loss(side.thumbs(indices, pack), pack, objective, total, stage.sft)

    def evaluate() -> dict[str, float]:
        assert apart is not None  # the loop evaluates only where rows are held out
        return held_out(apart, objective)

    def before(micro: Sequence[Sequence[int]]) -> None:
        side.look_ahead([i for indices in micro for i in indices])

    return Work(loss, evaluate, before)


def thumb_loss(
    p: unpaired.Thumbs, pack: "packing.Pack", objective: Any, total: float, sft: float = 0.0
) -> "tuple[Tensor, Facts]":
    """(loss scalar, facts) of one micro-batch; total: rows in the whole optimiser step."""
    import torch

    loss_B = objective(p)
    value = loss_B.sum() / total
    if sft:
        len_B = torch.bincount(pack.branch_N, minlength=pack.branches)
        value = value + sft * (-p.logp_B / len_B)[p.up_B].sum() / total
    return value, facts(p, loss_B)


def facts(p: unpaired.Thumbs, loss_B: "Tensor") -> "Facts":
    """accuracy: rows on the right side of z, ties count half. Rewards in nats, of those rows that there are."""
    reward_B, up_B = unpaired.reward(p).detach(), p.up_B
    above_B, n = reward_B - p.z, len(up_B)
    right = float(((above_B > 0) == up_B)[above_B != 0].sum()) + 0.5 * float((above_B == 0).sum())
    found = {"loss": (float(loss_B.detach().sum()), float(n)), "accuracy": (right, float(n)), "z": (float(p.z), 1.0)}
    for name, which_B in (("chosen_reward", up_B), ("rejected_reward", ~up_B)):
        if bool(which_B.any()):
            found[name] = (float(reward_B[which_B].sum()), float(which_B.sum()))
    return found


def held_out(side: Side, objective: Any) -> dict[str, float]:
    """Means over held-out rows; margin: mean reward of thumbs up less that of thumbs down, nats."""
    import torch

    side.look_ahead(range(len(side.docs)))
    sums: dict[str, tuple[float, float]] = {}
    with torch.no_grad():
        packs = evaluation_packs(side.docs, side.reference.micro_tokens, side.reference.pad_id)
        for _, _, p in evaluated(packs, side.thumbs):
            for name, (s, n) in facts(p, objective(p)).items():
                was = sums.get(name, (0.0, 0.0))
                sums[name] = (was[0] + s, was[1] + n)
    means = {name: s / n for name, (s, n) in sums.items()}
    if "chosen_reward" in means and "rejected_reward" in means:
        means["margin"] = means["chosen_reward"] - means["rejected_reward"]
    return means
