"""From a Hugging Face folder or id to a Model on a device: precision, adapters, memory, and what can go wrong there.

Every mistake is one message, and a model whose logits are not those of its own head is refused before anything is
trained on it. Left out on purpose: what a Model does (model.py), what a name means (locate.py).
"""

import ctypes
import json
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from posttrain import attention, parallel, quantized, shards
from posttrain.errors import UserError
from posttrain.lora import Lora
from posttrain.model import Model, cpu_has_bf16, layers_of, quiet
from posttrain.packing import Branch, Doc, build
from posttrain.pipeline import Runtime

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")


def load_model(source: Path | str, runtime: Runtime, *, train: bool, lora: Lora | None = None) -> Model:
    """A model from a Hugging Face folder or id, on the device and in the precision that `runtime` asks for.

    Raises UserError for a missing or incomplete folder, an unreachable id, an unknown architecture, too little memory.
    """
    from transformers import AutoModelForCausalLM

    source = str(source)
    check_source(source)
    device, dtype, said = choose(runtime)
    attention.register()
    keep_memory()
    with explained(source), memory_hint(), quiet():
        more = quantized.how_to_load(lora, dtype, device)
        hf = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation=attention.NAME, **more)
        hf = hf if more or parallel.world() > 1 else hf.to(device)  # shards go there by themselves
    hf.requires_grad_(train and lora is None)
    if lora is not None:
        hf = with_lora(hf, lora, train)
    model = Model(hf, runtime=runtime, said=f"{said}, base weights {lora.quantize}" if lora and more else said)
    quantized.keep_trainable(model.hf)
    shards.shard(model, layers_of(model.decoder))
    check_head(model)
    return model


def choose(runtime: Runtime) -> tuple[torch.device, torch.dtype, str]:
    """Device and precision of the matrix products, with a sentence that says why."""
    cuda = torch.cuda.is_available()
    if runtime.device == "cuda" and not cuda:
        raise UserError("no CUDA device is visible", where="runtime.device", remedy="device: cpu")
    device = torch.device("cuda" if cuda and runtime.device != "cpu" else "cpu")
    if runtime.deterministic:
        same_bits_every_time()
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    precision = runtime.precision if runtime.precision != "auto" else "bf16" if fast else "fp32"
    why = "" if runtime.precision != "auto" else ": has bf16 products" if fast else ": has no bf16 products"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return device, dtype, f"{precision} on {device.type}{why}" + (", deterministic" if runtime.deterministic else "")


def same_bits_every_time() -> None:
    """Only deterministic kernels from now on, in this process; on a CPU all that are used here are. An operator that
    has none raises with its name (cli.py says it). cuBLAS reads its variable at its first use, so before any model."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def with_lora(hf: nn.Module, lora: Lora, train: bool, task: str | None = "CAUSAL_LM") -> nn.Module:
    """hf with adapters. task None: a model that does not generate; its layer `score` stays as it is."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError("LoRA needs the package peft", where="lora", remedy="pip install 'posttrain[lora]'") from None
    if task is None and lora.quantize != "none":
        raise UserError("a reward model's base cannot be quantised", where="lora.quantize", remedy="quantize: none")
    if "lm_head" in lora.targets:
        raise UserError("the output layer cannot carry an adapter", where="lora.targets", remedy="leave lm_head out")
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets) or "all-linear",
        use_rslora=lora.rank_stabilised, use_dora=lora.dora, task_type=task, inference_mode=not train,
        exclude_modules=None if task else ["score"],
    )  # fmt: skip
    try:
        # adapters compute in the base's precision, as all weights do; adamw.Master holds fp32 copies of them
        return get_peft_model(hf, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise UserError(f"LoRA does not fit: {str(error).splitlines()[0]}", where="lora.targets") from None


def check_source(source: str) -> None:
    """A folder must exist and hold config, tokenizer and weights; anything that looks like owner/name is an id."""
    folder = Path(source)
    if not folder.is_dir():
        if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or not source.strip():
            raise UserError("this model folder does not exist", where=source, remedy="check the path")
        return
    names = {p.name for p in folder.iterdir()}
    if "config.json" not in names:
        raise UserError("no config.json: not a Hugging Face model folder", where=source, remedy="give another folder")
    if not names & set(TOKENIZER_FILES):
        remedy = "save the tokenizer there: tokenizer.save_pretrained(folder)"
        raise UserError("the model folder has no tokenizer", where=source, remedy=remedy)
    if not any(n.endswith((".safetensors", ".bin")) for n in names):
        remedy = "save the model there: model.save_pretrained(folder)"
        raise UserError("the model folder has no weights (*.safetensors)", where=source, remedy=remedy)


@contextmanager
def explained(source: str) -> Iterator[None]:
    """transformers' loading errors as one clear message."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        if Path(source).is_dir():
            remedy = "fetch or save its files again; posttrain show FOLDER says what is there"
            raise UserError(f"cannot load the model: {first}", where=source, remedy=remedy) from error
        remedy = "unset HF_HUB_OFFLINE, or give a local folder" if offline else "check the name and the network"
        raise UserError(f"cannot fetch the model: {first}", where=source, remedy=remedy) from error


@contextmanager
def memory_hint() -> Iterator[None]:
    """Running out of memory becomes a UserError that names the knobs."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        out = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        if not out:
            raise
        remedy = "lower micro_tokens, train with `lora`, or use precision: bf16"
        raise UserError("out of memory", remedy=remedy) from error


@torch.no_grad()
def check_head(model: Model) -> None:
    """Compare our log-probs with the model's own on a few tokens: some architectures do more to their logits."""
    n = min(8, model.base.config.get_text_config().vocab_size)
    ids_T = torch.arange(n)
    theirs = model.hf(ids_T[None].to(model.device), use_cache=False).logits[0, :-1].float().log_softmax(-1).cpu()
    theirs_N = theirs.gather(1, ids_T[1:, None])[:, 0]
    ours_N = model.token_logps(build([Doc([], [Branch(ids_T.tolist(), [True] * n)])]))
    allowed = 0.25 if model.dtype == torch.bfloat16 else 1e-3
    if not torch.allclose(ours_N, theirs_N, rtol=allowed / 10, atol=allowed):
        kind = model.base.config.model_type
        raise UserError(
            f"the architecture {kind!r} does something to its logits or its attention that is not supported here",
            remedy="use a Llama, Qwen, Gemma, Mistral, Phi, GPT-2 or SmolLM model",
        )


def count_parameters(folder: Path | str) -> int:
    """Numbers in the safetensors files of a folder, from their headers alone; tied weights are stored once.
    UserError for a file that was cut short."""
    total = 0
    for path in sorted(Path(folder).glob("*.safetensors")):
        try:
            with path.open("rb") as f:
                header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        except (struct.error, ValueError, OverflowError):
            raise UserError("not a whole safetensors file", where=str(path), remedy="fetch or save it again") from None
        for name, entry in header.items():
            count = 1
            for n in entry["shape"] if name != "__metadata__" else (0,):
                count *= n
            total += count
    return total


def keep_memory() -> None:
    """Ask glibc to keep freed memory: large temporaries of the next step then reuse pages that are already mapped.

    M_MMAP_MAX 0 (no mmap for large blocks), M_TRIM_THRESHOLD (never shrink the heap), M_TOP_PAD (grow in 64 MiB).
    Nothing happens where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):
            mallopt(option, value)
