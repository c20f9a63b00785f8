"""What ships inside the package: the base model, the training rows, the evaluation suites.

The model is stored as int8 rows with fp16 scales, compressed, and unpacked once into an ordinary Hugging Face folder
in the cache. `bundled:tiny` is the same architecture and tokenizer with two narrow layers of weights drawn from
integers: it says nothing sensible and runs every recipe in seconds. Left out on purpose: downloading anything. `data/`
in the repository is the workshop that makes the files.
"""

import json
import lzma
import os
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from posttrain.errors import UserError, nearest

HERE = Path(__file__).parent
PACKED = HERE / "model" / "weights.safetensors.xz"
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024, "dtype": "float32"}  # fmt: skip
MODELS = ("bundled", "bundled:tiny")
TINY_DIGEST = "tiny-1"  # raise the number when the weights change


def cache() -> Path:
    """POSTTRAIN_CACHE, or posttrain/ in the user's cache directory."""
    if given := os.environ.get("POSTTRAIN_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posttrain"


def rows(name: str) -> Path:
    """The file of shipped rows called `name`: demos, sums, formats, safety, pairs, prompts, goals, support,
    support_poor, comparisons, additions, or a suite."""
    files = {p.stem: p for folder in (HERE, HERE / "suites") for p in folder.glob("*.jsonl")}
    if name not in files:
        raise UserError(f"nothing called {name!r} is bundled", remedy=nearest(name, files))
    return files[name]


def rows_or_file(name: str, what: str) -> Path:
    """`bundled:NAME` or the user's own file of `what`. Raises UserError where there is none."""
    if name.startswith("bundled:"):
        return rows(name.removeprefix("bundled:"))
    if not Path(name).is_file():
        raise UserError(f"no such file of {what}", where=name)
    return Path(name)


def digest(name: str = "bundled") -> str:
    """Content hash of the packed model, 16 hex digits; what stands for one for the tiny model."""
    if name == "bundled:tiny":
        return TINY_DIGEST
    return sha256(PACKED.read_bytes()).hexdigest()[:16]


def model(name: str = "bundled") -> Path:
    """One of MODELS as a Hugging Face folder; made on first use, about two seconds."""
    folder = f"base-model-{digest(name)}"
    if name == "bundled:tiny":
        return _made(folder, _write_tiny)
    return _made(folder, lambda part: unpack(PACKED, part / "model.safetensors"))


def _made(name: str, write: Callable[[Path], None]) -> Path:
    """A folder of the cache: config and tokenizer of the bundled model, and what `write` adds; whole or absent."""
    folder = cache() / name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        for file in (HERE / "model").iterdir():
            if file != PACKED:
                shutil.copyfile(file, part / file.name)
        write(part)
        part.chmod(0o755)
        part.rename(folder)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not folder.exists():  # another process was faster: its copy is as good
            raise
    return folder


def _write_tiny(part: Path) -> None:
    """Weights k / 1024 for whole k of [-128, 128), drawn by PCG64 in the order of their names: the same bits anywhere,
    whatever the version of torch or numpy. Norms are 1."""
    import numpy as np
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    config = json.loads((part / "config.json").read_text()) | TINY
    (part / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("README.md", "pretraining.json"):  # they tell of the other weights
        (part / name).unlink(missing_ok=True)
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        shapes = auto.from_config(AutoConfig.from_pretrained(part)).state_dict()
    draw = np.random.PCG64(0)
    tensors = {}
    for name, value in sorted(shapes.items()):
        if name != "lm_head.weight":  # tied to the embedding
            whole = (draw.random_raw(value.numel()) >> np.uint64(56)).astype(np.float32) - 128
            drawn = torch.from_numpy(whole).reshape(value.shape) / 1024
            tensors[name] = drawn if value.ndim > 1 else torch.ones(value.shape)
    save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})


def unpack(packed: Path, target: Path) -> None:
    """int8 rows times fp16 scales -> bf16 safetensors."""
    import torch
    from safetensors.torch import load, save_file

    stored = load(lzma.decompress(packed.read_bytes()))
    tensors = {}
    for name, value in stored.items():
        if not name.endswith(".scale"):
            scale = stored.get(name + ".scale")
            value = value.float() * scale.float()[:, None] if scale is not None else value
            tensors[name] = value.to(torch.bfloat16)
    save_file(tensors, target, metadata={"format": "pt"})


def pack(folder: Path, target: Path) -> None:
    """The reverse, for whoever ships another model: matrices to int8 with one scale a row, the rest to fp16."""
    import torch
    from safetensors.torch import load_file, save

    stored = {}
    for shard in sorted(folder.glob("*.safetensors")):
        for name, value in load_file(shard).items():
            if value.ndim < 2:
                stored[name] = value.to(torch.float16)
                continue
            scale = (value.float().abs().amax(1).clamp(min=1e-8) / 127).to(torch.float16)
            stored[name] = (value.float() / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
            stored[name + ".scale"] = scale
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
    target.write_bytes(lzma.compress(save(stored), format=lzma.FORMAT_XZ, filters=filters))
