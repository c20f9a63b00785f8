"""Supervised fine-tuning: imitate the assistant's turns of demonstrations.

Left out on purpose: distillation, and data cleaning (stages/data.py). Importing this file does not import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime
from posttrain.rows import Demo
from posttrain.stages.training import Training, cost, evaluation_packs, read_rows

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain import packing
    from posttrain.model import Model
    from posttrain.train import Facts


class Sft(Training):
    """Token-mean loss over the trained turns of the whole optimiser step (all its micro-batches)."""

    makes: ClassVar[Kind] = "policy"

    type: Literal["sft"] = "sft"
    policy: Annotated[str, Ref("policy")]
    data: Annotated[tuple[str, ...] | str, Ref("demos")]
    train_on: Literal["assistant", "last", "all"] = "assistant"
    loss: Literal["nll", "dft"] = "nll"

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain import packing

        demos = read_rows(inputs.many("data"), "train.jsonl", Demo)
        held = read_rows(inputs.many("data"), "holdout.jsonl", Demo)
        ready = self.prepare(inputs, demos, held, out, runtime, train_on=self.train_on)
        model, pad_id = ready.model, ready.chat.pad_id

        def loss(indices: Sequence[int], total: float) -> "tuple[Tensor, Facts]":
            pack = packing.build([ready.docs[i] for i in indices], pad_to=self.micro_tokens, pad_id=pad_id)
            return token_loss(model, pack, self.loss, total)

        def evaluate() -> dict[str, float]:
            return held_out(model, ready.held, self.micro_tokens, pad_id)

        counts = [float(sum(b.mask.count(True) for b in d.branches)) for d in ready.docs]
        cursor = self.fit(ready, counts, loss, evaluate, out, runtime)
        self.save(ready, out)
        losses = [e["held_loss"] for e in cursor.log if "held_loss" in e]
        facts = {"rows": float(len(demos)), "train_loss": cursor.log[-1]["loss"]}
        if losses:
            facts |= {"held_loss_before": losses[0], "held_loss": min(losses) if self.patience else losses[-1]}
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
    return value, {"loss": (-float(logp_N.detach().sum()), n)}


def held_out(model: "Model", docs: "list[packing.Doc]", micro_tokens: int, pad_id: int) -> dict[str, float]:
    """Corpus token mean of the negative log-likelihood, nats per target token."""
    import torch

    total, n = 0.0, 0
    with torch.no_grad():
        for _, pack in evaluation_packs(docs, micro_tokens, pad_id):
            logp_N = model.token_logps(pack)
            total, n = total - float(logp_N.double().sum()), n + len(logp_N)
    return {"loss": total / max(1, n)}
