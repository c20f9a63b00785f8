"""From what a person types to a model folder: a bundled model, a run, a stage folder, a model folder, or a hub id.

A run or a stage may be a URL; the weights are then fetched into the run's mirror (remote.py).

Left out on purpose: choosing among several runs; a run's newest release or last policy is what people mean.
"""

from pathlib import Path

from posttrain import bundled, remote
from posttrain.errors import UserError, nearest
from posttrain.pipeline import Record
from posttrain.progress import Progress

WHAT = "give a run folder such as runs/assistant, a stage folder in it, or a folder with config.json"


def model_folder(name: str, revision: str | None = None) -> Path:
    """The Hugging Face folder that `name` means. Raises UserError when there is none."""
    if remote.is_url(name):
        return _fetched(name)
    folder = Path(name).expanduser()
    if name in bundled.MODELS or not folder.is_dir():
        return find(name, revision)
    if (folder / "config.json").exists():
        return folder
    if (folder / "model" / "config.json").exists():
        return folder / "model"
    if last := newest(folder):
        return model_folder(str(last))
    raise several_runs(folder) or UserError("there is no model here", where=str(folder), remedy=WHAT)


def several_runs(folder: Path) -> UserError | None:
    """What to say of a folder that holds runs and is none; None when it holds none."""
    names = sorted({p.parent.parent.name for p in folder.glob("*/*/record.json")})
    shown = ", ".join(str(folder / name) for name in names[:8])
    return UserError("these are runs, say which one", where=str(folder), remedy=f"one of {shown}") if names else None


def newest(run: Path) -> Path | None:
    """The folder of a run's newest release, or of its newest policy."""
    records = [Record.read(p.parent) for p in run.glob("*/record.json")]
    for makes in ("release", "policy"):
        ready = [r for r in records if r.makes == makes]
        if ready:
            last = max(ready, key=lambda r: r.started)
            return run / f"{last.stage}-{last.fingerprint}"
    return None


def _fetched(url: str) -> Path:
    """The same behind a URL: records first, then the one artefact whole."""
    place, stage = remote.found(url, Progress("auto"))
    folder = place.root / stage if stage else newest(place.root)
    if folder is None:
        raise UserError("there is no model in this run", where=url, remedy="give a run that has trained one")
    return model_folder(str(place.whole(folder.name)))


def find(model: str, revision: str | None = None) -> Path:
    """The folder of a model named as in a recipe. Raises UserError when it cannot be had."""
    if model in bundled.MODELS:
        return bundled.model(model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise UserError("this folder holds no model (no config.json)", where=str(folder), remedy=WHAT)
        return folder
    _must_be_an_id(model, folder)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision))
    except Exception as error:  # network, authentication, unknown id: the library has many exceptions for one remedy
        raise UserError(
            f"there is no folder {model!r}, and the Hugging Face hub gave none: {str(error).splitlines()[0]}",
            remedy="check the id and the network, or give a local folder; gated models need `hf auth login`",
        ) from None


def _must_be_an_id(model: str, folder: Path) -> None:
    """UserError for a path of nothing, and for what cannot be an id of the hub: nothing is asked there in vain."""
    if model.startswith("bundled"):
        raise UserError(f"no model is called {model!r}", remedy=nearest(model, bundled.MODELS))
    if folder.exists():
        raise UserError("this is a file, not a model", where=model, remedy=WHAT)
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or folder.parent.name == "runs":
        near = [str(p) for p in folder.parent.glob("*") if p.is_dir()]
        close = nearest(str(folder), near) if near else ""
        remedy = close if close.startswith("did you mean") else WHAT
        raise UserError("there is no such folder", where=model, remedy=remedy)
