"""Supervised fine-tuning: imitate the assistant's turns of demonstrations.

Left out on purpose: distillation, and data cleaning (stages/data.py). Importing this file does not import torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime
from posttrain.rows import Demo
from posttrain.stages.training import Training, cost, evaluation_packs, keep_ledger, read_rows

if TYPE_CHECKING:
    from posttrain import packing
    from posttrain.model import Model


class Sft(Training):
    """Token-mean loss over the trained turns of the whole optimiser step (all its micro-batches)."""

    makes: ClassVar[Kind] = "policy"

    type: Literal["sft"] = "sft"
    policy: Annotated[str, Ref("policy")]
    data: Annotated[tuple[str, ...] | str, Ref("demos")]
    train_on: Literal["assistant", "last", "all"] = "assistant"
    loss: Literal["nll", "dft"] = "nll"

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain import packing, train
        from posttrain.model import load_model
        from posttrain.preflight import preflight
        from posttrain.render import load_chat

        chat = load_chat(inputs.one("policy"))
        demos = read_rows(inputs.many("data"), "train.jsonl", Demo)
        held = read_rows(inputs.many("data"), "holdout.jsonl", Demo)
        limits = {"max_tokens": min(self.max_tokens, self.micro_tokens), "train_on": self.train_on}
        found = preflight(demos, chat, too_long=self.too_long, **limits)
        held_docs = preflight(held, chat, too_long="drop", **limits).docs if held else []
        keep_ledger(found, out, runtime)
        model = load_model(inputs.one("policy"), runtime, train=True, lora=self.lora)

        rows = train.Rows(
            sizes=[packing.size(d) for d in found.docs],
            counts=[float(sum(b.mask.count(True) for b in d.branches)) for d in found.docs],
            names=found.names,
        )

        def loss(indices, total):  # type: ignore[no-untyped-def]
            pack = packing.build([found.docs[i] for i in indices], pad_to=self.micro_tokens, pad_id=chat.pad_id)
            return token_loss(model, pack, self.loss, total)

        cursor = self.fit(
            model, rows, loss, (lambda: held_out(model, held_docs, self.micro_tokens, chat.pad_id)) if held_docs else None,
            out, runtime,
        )  # fmt: skip
        self.save(model, chat, out)
        losses = [e["held_loss"] for e in cursor.log if "held_loss" in e]
        final = min(losses) if self.patience and losses else losses[-1] if losses else float("nan")
        facts = {"held_loss_before": losses[0], "held_loss": final} if losses else {}
        return (
            facts
            | {"train_loss": cursor.log[-1]["loss"], "rows": float(len(demos))}
            | cost(cursor, model.flops_per_token)
        )


def token_loss(model: "Model", pack: "packing.Pack", loss: str, total: float):  # type: ignore[no-untyped-def]
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
