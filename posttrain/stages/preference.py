"""Preference training: the DPO family on pairs, the policy it starts from being the reference.

Reference log-probs are computed once, before training, and kept beside the checkpoint under a hash of what they
depend on. Left out on purpose: making pairs (stages/sample.py), reward models. Importing this file does not import
torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from posttrain.objectives import preference
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime
from posttrain.rows import Pair, digest
from posttrain.spec import one_of
from posttrain.stages.training import Training, cost, evaluation_packs, read_rows

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain import packing
    from posttrain.model import Model
    from posttrain.train import Facts


class Preference(Training):
    """Mean over pairs of a loss of objectives/preference.py, plus `sft` times the chosen answers' token NLL."""

    makes: ClassVar[Kind] = "policy"

    type: Literal["preference"] = "preference"
    policy: Annotated[str, Ref("policy")]
    pairs: Annotated[tuple[str, ...] | str, Ref("pairs")]
    loss: one_of(preference.LOSSES) = {"type": "dpo"}  # type: ignore[valid-type]
    sft: float = 0.0  # weight of the chosen answers' mean NLL, against drifting away from text: RPO, arXiv:2404.19733

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain import packing

        pairs = read_rows(inputs.many("pairs"), "train.jsonl", Pair)
        held = read_rows(inputs.many("pairs"), "holdout.jsonl", Pair)
        ready = self.prepare(inputs, pairs, held, out, runtime)
        model, pad_id, objective = ready.model, ready.chat.pad_id, self.loss.bind()
        start = inputs.one("policy").name  # a fingerprint: what the reference's weights were made of

        def reference(docs: "Sequence[packing.Doc]", name: str) -> "Tensor":
            key = digest([start, [[d.prefix, [list(b.ids) for b in d.branches]] for d in docs]])
            path = out / f"reference-{name}-{key}.safetensors"
            return cached_reference(model, docs, path, self.micro_tokens, pad_id, runtime)

        ref_P2, held_ref_P2 = reference(ready.docs, "train"), reference(ready.held, "held")

        def loss(indices: Sequence[int], total: float) -> "tuple[Tensor, Facts]":
            pack = packing.build([ready.docs[i] for i in indices], pad_to=self.micro_tokens, pad_id=pad_id)
            return pair_loss(model, pack, ref_P2[list(indices)], objective, total, self.sft)

        def evaluate() -> dict[str, float]:
            return held_out(model, ready.held, held_ref_P2, objective, self.micro_tokens, pad_id)

        cursor = self.fit(ready, [1.0] * len(ready.docs), loss, evaluate, out, runtime)
        self.save(ready, out)
        for path in out.glob("reference-*.safetensors"):
            path.unlink()
        return summary(cursor.log, len(pairs)) | cost(cursor, model.flops_per_token)


def summary(log: Sequence[dict[str, Any]], rows: int) -> Metrics:
    """Held-out numbers before and after, and the last step's training numbers."""
    held = [e for e in log if "held_loss" in e]
    facts = {"pairs": float(rows)}
    if held:
        facts |= {f"{k}_before": v for k, v in held[0].items() if k.startswith("held_")}
        facts |= {k: v for k, v in held[-1].items() if k.startswith("held_")}
    return facts | {f"train_{k}": log[-1][k] for k in ("loss", "accuracy", "margin", "chosen_reward")}


def pair_logps(model: "Model", pack: "packing.Pack") -> "tuple[Tensor, Tensor, Tensor]":
    """Summed answer log-probs and lengths of a micro-batch -> (logp_B2, len_B2, logp_N); column 0 is chosen."""
    import torch

    from posttrain.objectives.reduce import sequence_sum

    logp_N = model.token_logps(pack)
    logp_B2 = sequence_sum(logp_N, pack.branch_N, pack.branches).view(-1, 2)
    len_B2 = torch.bincount(pack.branch_N, minlength=pack.branches).view(-1, 2)
    return logp_B2, len_B2, logp_N


def _pairs(logp_B2: "Tensor", ref_B2: "Tensor", len_B2: "Tensor") -> preference.Pairs:
    return preference.Pairs(*logp_B2.unbind(1), *ref_B2.to(logp_B2).unbind(1), *len_B2.to(logp_B2).unbind(1))


def pair_loss(
    model: "Model", pack: "packing.Pack", ref_B2: "Tensor", objective: Any, total: float, sft: float
) -> "tuple[Tensor, Facts]":
    """(loss scalar, facts) of one micro-batch; total: pairs in the whole optimiser step."""
    logp_B2, len_B2, _ = pair_logps(model, pack)
    p = _pairs(logp_B2, ref_B2, len_B2)
    loss_B = objective(p)
    value = loss_B.sum() / total
    if sft:
        value = value + sft * (-p.chosen_B / p.chosen_len_B).sum() / total
    return value, {k: (float(v.sum()), len(v)) for k, v in _facts(p, loss_B).items()}


def _facts(p: preference.Pairs, loss_B: "Tensor") -> "dict[str, Tensor]":
    """What is logged of each pair: rewards in nats (no beta), so that runs with different beta compare."""
    c_B, r_B = preference.chosen_reward(p).detach(), preference.rejected_reward(p).detach()
    return {
        "loss": loss_B.detach(),
        "accuracy": (c_B > r_B).float() + 0.5 * (c_B == r_B).float(),  # ties count half
        "margin": c_B - r_B,
        "chosen_reward": c_B,
        "rejected_reward": r_B,
        "logp_accuracy": (p.chosen_B / p.chosen_len_B > p.rejected_B / p.rejected_len_B).float(),
    }


def held_out(
    model: "Model", docs: "Sequence[packing.Doc]", ref_P2: "Tensor", objective: Any, micro_tokens: int, pad_id: int
) -> dict[str, float]:
    """Means over held-out pairs. accuracy is of implicit rewards: one half before training."""
    import torch

    sums: dict[str, float] = {}
    with torch.no_grad():
        for indices, pack in evaluation_packs(docs, micro_tokens, pad_id):
            logp_B2, len_B2, _ = pair_logps(model, pack)
            p = _pairs(logp_B2, ref_P2[indices], len_B2)
            for k, v in _facts(p, objective(p)).items():
                sums[k] = sums.get(k, 0.0) + float(v.double().sum())
    return {k: v / len(docs) for k, v in sums.items()}


def cached_reference(
    model: "Model", docs: "Sequence[packing.Doc]", path: Path, micro_tokens: int, pad_id: int, runtime: Runtime
) -> "Tensor":
    """Reference log-probs [P, 2] of all pairs (chosen, rejected), computed once and kept in `path`."""
    import torch
    from safetensors.torch import load_file, save_file

    if path.exists():
        return load_file(path)["logp_P2"]
    logp_P2 = torch.zeros(len(docs), 2)
    with torch.no_grad(), model.reference(), runtime.progress.task("reference", total=len(docs)) as tick:
        for indices, pack in evaluation_packs(docs, micro_tokens, pad_id):
            logp_P2[indices] = pair_logps(model, pack)[0]
            tick(len(indices), tokens=pack.tokens)
    part = path.with_suffix(".part")
    save_file({"logp_P2": logp_P2}, part)
    part.rename(path)
    return logp_P2
