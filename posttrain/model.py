"""A causal language model as training sees it: packs in, log-probabilities out, Hugging Face folders in and out.

`Model` wraps a transformers module and changes nothing in it but the attention implementation. Hidden states are
computed over the whole pack, the vocabulary only where a target stands (head.py). Dropout is off everywhere.

Shapes: T tokens of a pack, N targets, D hidden size.
Left out on purpose: tokenizers and chat templates (render.py), optimisers (train.py), heads with values or rewards.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from posttrain import attention
from posttrain.errors import UserError
from posttrain.head import Head, nll, token_logps
from posttrain.packing import Pack
from posttrain.pipeline import Runtime

LOSS_ROWS = 256  # the number of targets is padded to a multiple of this: the head sees few different shapes
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")


class Lora(BaseModel):
    """Low-rank adapters (Hu et al. 2021): W + (alpha / rank) B A, only A and B are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    targets: tuple[str, ...] = ()  # names of linear layers; () means every linear layer but the head
    rank_stabilised: bool = False  # scale by alpha / sqrt(rank) (Kalajdzievski 2023)


class Model:
    """hf: the transformers module (PEFT's when there is an adapter). said: what was chosen at loading, for people."""

    def __init__(self, hf: nn.Module, *, said: str = ""):
        attention.register()
        self.hf, self.said = hf.eval(), said
        self.base = hf.get_base_model() if self.adapted else hf
        self.base.set_attn_implementation(attention.NAME)
        self.decoder: nn.Module = self.base.get_decoder()

    @property
    def adapted(self) -> bool:
        return hasattr(self.hf, "peft_config")

    @property
    def dtype(self) -> torch.dtype:
        return self.base.get_input_embeddings().weight.dtype

    @property
    def device(self) -> torch.device:
        return self.base.get_input_embeddings().weight.device

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name, in a fixed order; tied ones once."""
        return {n: p for n, p in self.hf.named_parameters() if p.requires_grad}

    def parameters(self) -> list[nn.Parameter]:
        return list(self.named_parameters().values())

    @property
    def flops_per_token(self) -> float:
        """Forward and backward, 6 per parameter that multiplies activations; frozen ones have no weight gradient: 4."""
        looked_up = {id(m.weight) for m in self.base.modules() if isinstance(m, nn.Embedding)}
        looked_up -= {id(self.base.get_output_embeddings().weight)}
        return float(
            sum((6 if p.requires_grad else 4) * p.numel() for p in self.hf.parameters() if id(p) not in looked_up)
        )

    def head(self) -> Head:
        """The output layer with the scale and soft cap that the architecture puts on its logits."""
        layer, config = self.base.get_output_embeddings(), self.base.config
        scale = float(getattr(config, "logit_scale", None) or 1.0) / float(
            getattr(config, "logits_scaling", None) or 1.0
        )
        return Head(layer.weight, getattr(layer, "bias", None), scale, getattr(config, "final_logit_softcapping", None))

    def hidden(self, pack: Pack) -> Tensor:
        """Last hidden states h_TD of a pack."""
        # A mask of four dimensions is taken by transformers as finished: it builds none of its own.
        out = self.decoder(
            input_ids=pack.ids_T[None].to(self.device),
            position_ids=pack.position_T[None].to(self.device),
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device),
            use_cache=False,
            layout=pack.layout,
        )
        return out.last_hidden_state[0]

    def _at_targets(self, pack: Pack) -> tuple[Tensor, Tensor]:
        """Hidden states and ids of the targets, padded with repeats of the first row to a multiple of LOSS_ROWS."""
        padding = -len(pack.at_N) % LOSS_ROWS
        at_N, target_N = (torch.cat([x, x.new_zeros(padding)]) for x in (pack.at_N, pack.target_N))
        return self.hidden(pack).index_select(0, at_N.to(self.device)), target_N.to(self.device)

    def token_logps(self, pack: Pack, *, temperature: float = 1.0, entropy: bool = False) -> Any:
        """log p of every target in nats, fp32 [N], differentiable; with entropy: (logp_N, entropy_N).

        Under torch.no_grad() nothing is kept for a backward: the way to score held-out rows and references.
        """
        n = len(pack.at_N)
        h_ND, target_N = self._at_targets(pack)
        out = token_logps(h_ND, self.head(), target_N, temperature=temperature, entropy=entropy)
        return (out[0][:n], out[1][:n]) if isinstance(out, tuple) else out[:n]

    def nll(self, pack: Pack, weight_N: Tensor) -> tuple[Tensor, Tensor]:
        """(sum of weight x -log p, scalar; log p of every target in nats, detached [N])."""
        h_ND, target_N = self._at_targets(pack)
        n = len(pack.at_N)
        weight = torch.zeros(len(target_N), dtype=weight_N.dtype, device=self.device)
        weight[:n] = weight_N.detach()
        loss, logp_N = nll(h_ND, self.head(), target_N, weight)
        return loss, logp_N[:n]

    @torch.no_grad()
    def score(self, pack: Pack, *, temperature: float = 1.0) -> Tensor:
        """log p of every target without a graph, fp32 [N]."""
        return self.token_logps(pack, temperature=temperature)

    def reference(self) -> Any:
        """Context in which the model is what it was before training: the adapter is off. UserError without adapter."""
        if not self.adapted:
            raise UserError(
                "the reference of a model trained with full weights is gone once training starts",
                remedy="compute reference log-probs before training, or train with lora",
            )
        return self.hf.disable_adapter()

    def compile(self, steps: int | None = None) -> bool:
        """Compile the layers. Returns whether it did."""
        return False

    def save(self, folder: Path | str, *, merge: bool = True, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write a Hugging Face folder (weights, config, generation config; the tokenizer is the caller's).

        weights: replaces parameters by name, which is how the fp32 master copy is saved instead of the bf16 one.
        merge: fold the adapter into the weights, computed in fp32; False writes the adapter alone.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.adapted and not merge:
            self.hf.save_pretrained(folder)
            return
        state = merged(self.hf, weights or {}) if self.adapted else {**self.base.state_dict(), **(weights or {})}
        self.base.save_pretrained(folder, state_dict={k: v.contiguous() for k, v in state.items()})


def merged(hf: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of the base model with every adapter folded in: W + delta, summed in fp32, in W's dtype."""
    with swapped(hf, weights):
        base = hf.get_base_model()
        state = {k.replace(".base_layer.", "."): v for k, v in base.state_dict().items() if ".lora_" not in k}
        for name, module in base.named_modules():
            if hasattr(module, "get_delta_weight"):
                w = state[f"{name}.weight"]
                delta = sum(module.get_delta_weight(a).float() for a in module.active_adapters)
                state[f"{name}.weight"] = (w.float() + delta).to(w.dtype)
    return state


@contextmanager
def swapped(hf: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Parameters hold other values for a while."""
    params = dict(hf.named_parameters())
    before = {n: params[n].data for n in weights}
    try:
        for n, w in weights.items():
            params[n].data = w
        yield
    finally:
        for n, w in before.items():
            params[n].data = w


def load_model(source: Path | str, runtime: Runtime, *, train: bool, lora: Lora | None = None) -> Model:
    """A model from a Hugging Face folder or id, on the device and in the precision that `runtime` asks for.

    Raises UserError for a missing or incomplete folder, an unreachable id, an unknown architecture, too little memory.
    """
    from transformers import AutoModelForCausalLM

    source = str(source)
    check_source(source)
    device, dtype, said = choose(runtime)
    attention.register()
    with explained(source), memory_hint():
        hf = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation=attention.NAME)
        hf = hf.to(device)
    hf.requires_grad_(train and lora is None)
    if lora is not None:
        hf = with_lora(hf, lora, train)
    return Model(hf, said=said)


def choose(runtime: Runtime) -> tuple[torch.device, torch.dtype, str]:
    """Device and precision of the matrix products, with a sentence that says why."""
    cuda = torch.cuda.is_available()
    if runtime.device == "cuda" and not cuda:
        raise UserError("no CUDA device is visible", where="runtime.device", remedy="device: cpu")
    device = torch.device("cuda" if cuda and runtime.device != "cpu" else "cpu")
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    precision = runtime.precision if runtime.precision != "auto" else "bf16" if fast else "fp32"
    why = "" if runtime.precision != "auto" else ": has bf16 products" if fast else ": has no bf16 products"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return device, dtype, f"{precision} on {device.type}{why}"


def cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX: where bf16 products are several times faster than fp32, not slower."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, p)() for p in probes if hasattr(torch.cpu, p))


def with_lora(hf: nn.Module, lora: Lora, train: bool) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError("LoRA needs the package peft", where="lora", remedy="pip install 'posttrain[lora]'") from None
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets) or "all-linear",
        use_rslora=lora.rank_stabilised, task_type="CAUSAL_LM", inference_mode=not train,
    )  # fmt: skip
    try:
        return get_peft_model(hf, config)
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
        raise UserError("no config.json: not a Hugging Face model folder", where=source)
    if not names & set(TOKENIZER_FILES):
        remedy = "save the tokenizer there: tokenizer.save_pretrained(folder)"
        raise UserError("the model folder has no tokenizer", where=source, remedy=remedy)
    if not any(n.endswith((".safetensors", ".bin")) for n in names):
        raise UserError("the model folder has no weights (*.safetensors)", where=source)


@contextmanager
def explained(source: str) -> Iterator[None]:
    """transformers' loading errors as one clear message."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        if Path(source).is_dir():
            raise UserError(f"cannot load the model: {first}", where=source) from error
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
        remedy = "lower `tokens` (tokens per micro-batch), train with `lora`, or use precision: bf16"
        raise UserError("out of memory", remedy=remedy) from error
