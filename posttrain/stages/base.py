"""The model a recipe starts from: bundled, a folder, or a Hugging Face id, given a chat template.

The weights are linked, not copied. Left out on purpose: quantisation. Importing this file does not import torch.
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Literal

from posttrain import bundled
from posttrain.errors import UserError
from posttrain.files import feed
from posttrain.locate import model_folder
from posttrain.pipeline import Inputs, Kind, Metrics, Runtime, Stage


class Base(Stage):
    """model: 'bundled', 'bundled:tiny' (random weights, to try a recipe with), a folder, a run (its release), or an id
    such as Qwen/Qwen3-0.6B. template: see load_chat."""

    makes: ClassVar[Kind] = "policy"
    places: ClassVar[frozenset[str]] = frozenset({"model"})

    type: Literal["base_model"] = "base_model"
    model: str = "bundled"
    revision: str | None = None
    template: Literal["auto", "chatml", "model", "plain"] = "auto"

    def identity(self) -> dict[str, str]:
        if self.model in bundled.MODELS:
            return {"weights": bundled.digest(self.model)}
        if Path(self.model).expanduser().is_dir():
            return {"weights": digest_of_folder(model_folder(self.model))}
        if self.model.startswith((".", "/", "~")) or self.model.count("/") != 1:
            raise UserError(
                f"there is no model folder {self.model!r}, and it is not a Hugging Face id (owner/name)",
                remedy="model: bundled, bundled:tiny, a folder that holds config.json, or an id, Qwen/Qwen3-0.6B",
            )
        return {"weights": f"hub:{self.model}@{self.revision or 'main'}"}

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain.loading import count_parameters
        from posttrain.render import load_chat

        folder = model_folder(self.model, self.revision)
        for file in sorted(folder.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                (out / file.name).symlink_to(file.resolve())
        if not (parameters := count_parameters(folder)) and not any(folder.glob("*.bin")):
            remedy = "save the model there: model.save_pretrained(folder)"
            raise UserError("the model folder has no weights (*.safetensors)", where=str(folder), remedy=remedy)
        chat = load_chat(folder, self.template)
        for name in ("tokenizer_config.json", "chat_template.jinja", "tokenizer.json", "special_tokens_map.json",
                     "generation_config.json"):  # these are written anew, with the template  # fmt: skip
            (out / name).unlink(missing_ok=True)
        chat.save(out)
        return {"parameters": float(parameters)}


def digest_of_folder(folder: Path) -> str:
    """Content hash over a model folder's files, 16 hex digits."""
    files = sorted(
        p for p in folder.iterdir() if p.is_file() and p.suffix in (".safetensors", ".json", ".jinja", ".model")
    )
    total = sha256()
    for path in files:
        feed(total, path)
        total.update(f"{path.name}:{os.path.getsize(path)}".encode())
    return total.hexdigest()[:16]
