"""The reference that preference training compares with: its log-probs, computed once and kept for later runs.

They lie in the user's cache (POSTTRAIN_CACHE) under a hash of what they depend on: weights, token ids (so rows and
template), precision, device, pack size. A second loss on the same pairs starts at once.
Left out on purpose: deleting old files; a pair takes 16 bytes. Importing this file does not import torch.
"""

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from posttrain import bundled, parallel
from posttrain.errors import UserError
from posttrain.files import feed
from posttrain.pipeline import Inputs, Runtime
from posttrain.stages.training import Ready, evaluated, evaluation_packs

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain import packing
    from posttrain.model import Model

    Score = Callable[[Model, packing.Pack], Tensor]  # a pack -> one row per document


@dataclass(frozen=True)
class Reference:
    """folder: whose weights. model: the policy in training. other: the weights are not those that training starts from.

    out: where log-probs are kept if the cache cannot be written.
    """

    folder: Path
    model: "Model"
    other: bool
    micro_tokens: int
    pad_id: int
    out: Path
    runtime: Runtime

    @contextmanager
    def awake(self, *, started: bool) -> "Iterator[Model]":
        """The reference as a model. started: the policy's own weights may have moved, so they cannot stand for it.

        An adapter that is switched off leaves the reference; otherwise the weights are read again, and for that moment
        there are two models in memory.
        """
        from posttrain.loading import load_model

        if self.other or (started and not self.model.adapted):
            yield load_model(self.folder, self.runtime, train=False)
        else:
            with self.model.reference():
                yield self.model

    def rows(self, docs: "Sequence[packing.Doc]", what: str, score: "Score") -> "Tensor":
        """score() of every document under the reference, from the cache if it is there. Call it before training.

        what: names the numbers that score() gives. Rows come in the order of docs.
        """
        import torch

        name = f"{self._key(docs, what)}.safetensors"
        if (rows := parallel.led(lambda: self._kept(name))) is not None:
            return rows
        found: list[Tensor] = [torch.empty(0)] * len(docs)
        with self.awake(started=False) as model, self.runtime.progress.task("reference", total=len(docs)) as tick:
            packs = evaluation_packs(docs, self.micro_tokens, self.pad_id)
            with torch.no_grad():
                for indices, pack, made in evaluated(packs, lambda _, pack: score(model, pack)):
                    for i, row in zip(indices, made):
                        found[i] = row
                    tick(len(indices), tokens=pack.tokens)
        rows = torch.stack(found) if found else torch.empty(0)
        parallel.led(lambda: self._keep(rows, name))
        return rows

    def _kept(self, name: str) -> "Tensor | None":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        for path in (bundled.cache() / "reference" / name, self.out / f"reference-{name}"):
            try:
                return load_file(path)["rows"]
            except (OSError, SafetensorError, KeyError):
                continue
        return None

    def _key(self, docs: "Sequence[packing.Doc]", what: str) -> str:
        from posttrain.quantized import is_quantized

        total = sha256(f"{what} {weights_digest(self.folder)} {self.model.dtype} {self.model.device.type}".encode())
        total.update(f" {self.micro_tokens}".encode())
        if any(map(is_quantized, self.model.hf.modules())) and not self.other:
            total.update(self.model.said.encode())  # a reference of eight bits is not one of sixteen
        for doc in docs:
            for ids in (doc.prefix, *(b.ids for b in doc.branches)):
                total.update(array("q", [len(ids), *ids]).tobytes())
        return total.hexdigest()[:32]

    def _keep(self, rows: "Tensor", name: str) -> None:
        """Write to the cache, or where that is not allowed beside the checkpoint; whole or not at all."""
        from safetensors.torch import save_file

        cache = bundled.cache() / "reference"
        for path in (cache / name, self.out / f"reference-{name}"):
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                save_file({"rows": rows.contiguous()}, part)
                part.rename(path)
                return
            except OSError:
                with suppress(OSError):
                    part.unlink()

    def forget(self) -> None:
        """Remove what was kept beside the checkpoint."""
        for path in self.out.glob("reference-*.safetensors"):
            path.unlink()


def reference_of(inputs: Inputs, ready: Ready, micro_tokens: int, out: Path, runtime: Runtime) -> Reference:
    """The policy named by the edge `reference`, or the one that training starts from."""
    given = inputs.many("reference")
    folder = given[0] if given else inputs.one("policy")
    if given:
        _check_tokens(folder, ready)
    return Reference(folder, ready.model, bool(given), micro_tokens, ready.chat.pad_id, out, runtime)


def _check_tokens(folder: Path, ready: Ready) -> None:
    """Log-probs compare only over the same tokens."""
    from posttrain.render import load_tokenizer

    if load_tokenizer(folder).get_vocab() != ready.chat.tokenizer.get_vocab():
        raise UserError(
            "the reference has another tokenizer than the policy, so their log-probabilities cannot be compared",
            where=str(folder), remedy="a reference of the same family, or none: then it is the policy's own start",
        )  # fmt: skip


def weights_digest(folder: Path) -> str:
    """Content hash of a model folder's weights and config: the same for equal copies, wherever they lie."""
    total = sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin") or p.name == "config.json"):
        total.update(f"{path.name}:{path.stat().st_size}:".encode())
        feed(total, path)
    return total.hexdigest()[:16]
