"""What SFT and preference training have in common: optimiser knobs, pre-flight, the call of the loop, saving.

Left out on purpose: the losses (objectives/), the loop (train.py). Importing this file does not import torch.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from pydantic import Field

from posttrain import parallel
from posttrain.lora import Lora
from posttrain.pipeline import Inputs, Metrics, Runtime, Stage

if TYPE_CHECKING:
    from posttrain import packing
    from posttrain.model import Model
    from posttrain.preflight import Preflight
    from posttrain.render import Chat
    from posttrain.train import Before, Cursor, LossFn

R = TypeVar("R")


class Training(Stage):
    """Knobs that every training stage has. Tokens are real ones; nothing is padded."""

    resumes = True
    together = True

    lora: Lora | None = None
    lr: float = Field(default=1e-5, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    steps: int | None = Field(default=None, ge=1)  # overrides epochs
    batch_tokens: int = Field(default=8192, ge=32)  # tokens of one optimiser step
    micro_tokens: int = Field(default=4096, ge=32)  # tokens held in memory at once: lower it when memory runs out
    max_tokens: int = Field(default=1024, ge=8)  # longest row
    too_long: Literal["error", "truncate", "drop"] = "error"
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, ge=0)
    eval_every: int = Field(default=0, ge=0)  # steps between held-out evaluations; 0: only first and last
    patience: int = Field(default=0, ge=0)  # evaluations without improvement before stopping; 0: never
    seed: int = 0

    def prepare(
        self, inputs: Inputs, rows: Sequence[Any], held: Sequence[Any], out: Path, runtime: Runtime, **how: Any
    ) -> "Ready":
        """Pre-flight both sets of rows and load the policy. Raises UserError before any weight is touched."""
        from posttrain import mapped
        from posttrain.render import load_chat

        chat = load_chat(inputs.one("policy"))
        how |= {"max_tokens": min(self.max_tokens, self.micro_tokens), "progress": runtime.progress}
        found = mapped.check(rows, chat, too_long=self.too_long, **how)
        kept = mapped.check(held, chat, too_long="drop", **how) if held else None
        keep_ledger(found, kept, out, runtime)
        model = self.load(inputs.one("policy"), runtime)
        if model.device.type == "cuda":  # now, so that a reference pass is compiled too; a CPU's is never
            steps = self.steps or self.epochs * sum(mapped.sizes(found.docs)) / self.batch_tokens
            model.compile(round(steps * max(1, round(self.batch_tokens / self.micro_tokens))))
        held_docs, held_kept = (kept.docs, kept.kept) if kept else ([], [])
        runtime.progress.say(f"  {len(found.docs)} rows, {len(held_docs)} held out; {model.said}")
        return Ready(model, chat, found.docs, found.names, held_docs, found.kept, held_kept)

    def load(self, policy: Path, runtime: Runtime) -> "Model":
        """The model to train: the policy itself, whole or with adapters."""
        from posttrain.loading import load_model

        return load_model(policy, runtime, train=True, lora=self.lora)

    def fit(
        self,
        ready: "Ready",
        counts: Sequence[float],
        loss: "LossFn",
        evaluate: Callable[[], dict[str, float]],
        out: Path,
        runtime: Runtime,
        before: "Before | None" = None,
    ) -> "Cursor":
        """Plan the steps, decide about compiling, train. counts: what each row adds to the loss's denominator."""
        from posttrain import adamw, mapped, train

        rows = train.Rows(mapped.sizes(ready.docs), counts, ready.names)
        steps, batches = train.schedule(
            rows, micro_tokens=self.micro_tokens, batch_tokens=self.batch_tokens,
            epochs=self.epochs, steps=self.steps, seed=self.seed,
        )  # fmt: skip
        micro = steps * max(1, round(self.batch_tokens / self.micro_tokens))
        ready.model.compile(micro, tokens=steps * self.batch_tokens)
        optim = adamw.Optim(
            self.lr, self.schedule, self.warmup, self.weight_decay, self.clip, moments=runtime.moments
        )  # fmt: skip
        return train.train(
            ready.model, rows, loss, optim=optim, steps=steps, batches=batches, out=out, progress=runtime.progress,
            evaluate=evaluate if ready.held else None, eval_every=self.eval_every, patience=self.patience,
            before=before, not_finite=runtime.not_finite,
        )  # fmt: skip

    def save(self, ready: "Ready", out: Path) -> None:
        """A folder that transformers loads: weights (LoRA merged), tokenizer with its template, generation config."""
        from posttrain import train

        ready.model.save(out)
        ready.chat.save(out)
        train.finish(out)


class Ready(NamedTuple):
    """What a training stage works with: the policy, its chat template, and rows as documents.

    kept, held_kept: the row number that each document was made of; rows that were too long are missing there.
    """

    model: "Model"
    chat: "Chat"
    docs: "Sequence[packing.Doc]"
    names: Sequence[str]
    held: "Sequence[packing.Doc]"
    kept: Sequence[int] = ()
    held_kept: Sequence[int] = ()


def keep_ledger(found: "Preflight", held: "Preflight | None", out: Path, runtime: Runtime) -> None:
    """Rows that pre-flight dropped or cut go to ledger.jsonl; its facts and warnings to preflight.json."""
    ledger = found.ledger + [entry | {"set": "held out"} for entry in (held.ledger if held else [])]
    with (out / "ledger.jsonl").open("w") as f:
        f.writelines(json.dumps(entry) + "\n" for entry in ledger)
    (out / "preflight.json").write_text(json.dumps(found.facts, indent=2))
    if ledger:
        runtime.progress.say(f"  {len(ledger)} rows dropped or cut before training, see ledger.jsonl")


def rows_of(folders: Iterable[Path], name: str, kind: type[Any], how: str) -> Sequence[Any]:
    """Rows of one file of several data artefacts, in order: in memory, or read from the disk as they are used.

    how: memory, mapped, or auto, which maps files of MAPPED_FROM bytes and more. What is trained is the same.
    """
    from posttrain.dataset.lines import MAPPED_FROM, Lines

    paths = [folder / name for folder in folders if (folder / name).exists()]
    if how == "mapped" or (how == "auto" and sum(p.stat().st_size for p in paths) >= MAPPED_FROM):
        return Lines(paths, kind)
    return read_rows([p.parent for p in paths], name, kind)


def cost(cursor: "Cursor", flops_per_token: float) -> Metrics:
    """tokens, flops and steps of the training part of a stage; steps that were left out are among them, and counted."""
    from posttrain import finite

    spent = {"tokens": cursor.tokens, "flops": cursor.tokens * flops_per_token, "steps": float(cursor.step)}
    return spent | finite.left_out(cursor.log)


def evaluation_packs(
    docs: "Sequence[packing.Doc]", micro_tokens: int, pad_id: int
) -> "Iterable[tuple[list[int], packing.Pack]]":
    """The held-out rows as micro-batches in a fixed order: (row indices, pack)."""
    from posttrain import mapped, packing

    for indices in packing.plan(mapped.sizes(docs), micro_tokens, seed=None):
        yield indices, packing.build([docs[i] for i in indices], pad_to=micro_tokens, pad_id=pad_id)


def evaluated(
    packs: "Iterable[tuple[Sequence[int], packing.Pack]]", work: "Callable[[Sequence[int], packing.Pack], R]"
) -> "Iterable[tuple[Sequence[int], packing.Pack, R]]":
    """(row indices, pack, work's answer) of each pack in order; several processes share the work, all get all of it."""
    for (indices, pack), found in parallel.each(packs, lambda x: work(*x), lambda x: x[1].tokens):
        yield indices, pack, found


def read_rows(folders: Iterable[Path], name: str, kind: type[Any]) -> list[Any]:
    """Rows of one file of several data artefacts, in order; a missing file counts as empty."""
    from posttrain.rows import read_jsonl

    return [row for folder in folders if (folder / name).exists() for row in read_jsonl(folder / name, kind)]
