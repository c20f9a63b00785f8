"""Copy a model out of a run as a plain Hugging Face folder: links followed, nothing of the pipeline left in it.

Left out on purpose: converting formats; llama.cpp's converter reads the folder as it is.
"""

import shutil
from pathlib import Path

from posttrain.errors import UserError
from posttrain.locate import model_folder

OURS = {"record.json", "log.jsonl", "ledger.jsonl", "preflight.json"}


def export(model: str, target: Path) -> str:
    """Copies, and returns the line to print. The target appears whole or not at all."""
    source = model_folder(model)
    if target.exists():
        raise UserError("this already exists", where=str(target), remedy="name a folder that does not exist yet")
    if source.resolve() in (folder := target.resolve(), *folder.parents):
        raise UserError("this lies inside the model's own folder", where=str(target), remedy="write it somewhere else")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for file in source.iterdir():
        if file.is_file() and file.name not in OURS:
            shutil.copyfile(file, part / file.name)
    part.rename(target)
    size = sum(f.stat().st_size for f in target.iterdir())
    return f"{target}: {size / 1e6:.0f} MB, load it with AutoModelForCausalLM.from_pretrained({str(target)!r})"
