"""Supervised fine-tuning: imitate the assistant's turns of demonstrations.

Left out on purpose: distillation, and data cleaning (stages/data.py). Importing this file does not import torch.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from posttrain import parallel
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime
from posttrain.rows import Demo
from posttrain.stages.training import Training, cost, evaluated, evaluation_packs, rows_of

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain import packing
    from posttrain.model import Model
    from posttrain.stages.training import Ready
    from posttrain.train import Facts

AUDITED = 600  # rows whose likelihood is looked at before training


class Sft(Training):
    """Token-mean loss over the trained turns of the whole optimiser step (all its micro-batches)."""

    makes: ClassVar[Kind] = "policy"

    type: Literal["sft"] = "sft"
    policy: Annotated[str, Ref("policy")]
    data: Annotated[tuple[str, ...] | str, Ref("demos")]
    train_on: Literal["assistant", "last", "all"] = "assistant"
    loss: Literal["nll", "dft"] = "nll"

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain import mapped, packing

        demos, held = (rows_of(inputs.many("data"), f"{n}.jsonl", Demo, runtime.rows) for n in ("train", "holdout"))
        ready = self.prepare(inputs, demos, held, out, runtime, train_on=self.train_on)
        model, pad_id = ready.model, ready.chat.pad_id
        surprise(ready, demos, self.micro_tokens, out, runtime)

        def loss(indices: Sequence[int], total: float) -> "tuple[Tensor, Facts]":
            pack = packing.build([ready.docs[i] for i in indices], pad_to=self.micro_tokens, pad_id=pad_id)
            return token_loss(model, pack, self.loss, total)

        def evaluate() -> dict[str, float]:
            return held_out(model, ready.held, self.micro_tokens, pad_id)

        cursor = self.fit(ready, mapped.targets(ready.docs), loss, evaluate, out, runtime)
        self.save(ready, out)
        facts = {"rows": float(len(demos))} | {f"train_{k}": v for k, v in cursor.log[-1].items() if k == "loss"}
        if ends := cursor.ends("held_loss"):
            facts |= {"held_loss_before": ends[0]["held_loss"], "held_loss": ends[1]["held_loss"]}
        return facts | cost(cursor, model.flops_per_token)


def token_loss(model: "Model", pack: "packing.Pack", loss: str, total: float) -> "tuple[Tensor, Facts]":
    """(loss scalar over `total` target tokens, facts) of one micro-batch."""
    import torch

    from posttrain.objectives import supervised
    from posttrain.objectives.reduce import reduce

    n = len(pack.target_N)
    if loss == "nll":  # the fused path makes the gradient in the forward pass, one vocabulary product fewer
        value, logp_N = model.nll(pack, torch.full((n,), 1.0 / total))
    else:
        logp_N = model.token_logps(pack)
        value = reduce(getattr(supervised, loss)(logp_N), "token", total)
    return value, {"loss": (-logp_N.detach().sum(), n)}


def held_out(model: "Model", docs: "Sequence[packing.Doc]", micro_tokens: int, pad_id: int) -> dict[str, float]:
    """Corpus token mean of the negative log-likelihood, nats per target token."""
    import torch

    total, n = 0.0, 0
    with torch.no_grad():
        packs = evaluation_packs(docs, micro_tokens, pad_id)
        for _, _, logp_N in evaluated(packs, lambda _, pack: model.token_logps(pack)):
            total, n = total - float(logp_N.double().sum()), n + len(logp_N)
    return {"loss": total / max(1, n)}


def surprise(ready: "Ready", demos: Sequence[Demo], micro_tokens: int, out: Path, runtime: Runtime) -> None:
    """audit.json: rows whose answers the starting policy finds far less likely than the rest, of AUDITED rows.

    A forward pass costs a third of a training step, so a large set is sampled evenly. Kept when a run goes on.
    """
    import torch

    from posttrain.dataset import audit
    from posttrain.objectives.reduce import sequence_mean

    if parallel.agreed((out / "audit.json").exists()):
        return
    chosen = range(0, len(ready.docs), -(-len(ready.docs) // AUDITED))
    docs, nll = [ready.docs[i] for i in chosen], [0.0] * len(chosen)
    with torch.no_grad(), runtime.progress.task("audit", total=len(docs)) as tick:
        packs = evaluation_packs(docs, micro_tokens, ready.chat.pad_id)
        for indices, pack, logp_N in evaluated(packs, lambda _, pack: ready.model.token_logps(pack)):
            owner_B = [n for n, i in enumerate(indices) for _ in docs[i].branches]
            row_N = torch.tensor(owner_B)[pack.branch_N]
            for i, mean in zip(indices, sequence_mean(-logp_N, row_N, len(indices)).tolist()):
                nll[i] = mean
            tick(len(indices), tokens=pack.tokens)
    numbers = ready.kept if len(ready.kept) else range(len(ready.docs))
    found = audit.audit_nll([demos[numbers[i]] for i in chosen], nll)
    (out / "audit.json").write_text(json.dumps({"rows": len(nll), "warnings": [found] if found else []}, indent=2))
