"""Base weights in eight or four bits below LoRA adapters, and folding adapters into full weights again.

int8 is LLM.int8() (arXiv:2208.07339: a scale a row, outlying activations in full), nf4 is QLoRA's four-bit normal float
with doubly quantised scales (arXiv:2305.14314); both by bitsandbytes. The output layer and embeddings stay as they are.
What is saved is what was trained: the quantised weights as full ones, plus the adapter.
Left out on purpose: quantised weights that are saved or trained themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from posttrain.errors import UserError
from posttrain.lora import Lora

WHERE = "lora.quantize"


def how_to_load(lora: Lora | None, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of from_pretrained that quantise while loading; none when nothing is asked for."""
    if lora is None or lora.quantize == "none":
        return {}
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        remedy = "pip install 'posttrain[quantize]'"
        raise UserError("quantised base weights need the package bitsandbytes", where=WHERE, remedy=remedy) from None
    from transformers import BitsAndBytesConfig

    if lora.quantize == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    return {"quantization_config": config, "device_map": {"": str(device)}}


def is_quantized(module: nn.Module) -> bool:
    return type(module).__module__.startswith("bitsandbytes.")


def keep_trainable(hf: nn.Module) -> None:
    """Four-bit layers in evaluation mode rearrange their weights for products that cannot be differentiated (on a CPU);
    they have no other use for the mode."""
    for module in hf.modules():
        if is_quantized(module):
            module.train()


def full_weight(layer: Any) -> Tensor:
    """The weight of a linear layer as numbers, fp32 where it was quantised."""
    if not is_quantized(layer):
        found: Tensor = layer.weight.detach()
        return found
    weight = layer.weight
    if hasattr(weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state).float()
    scale = layer.state.SCB if layer.state.SCB is not None else weight.SCB  # it moves there at the first product
    return weight.data.float() * (scale.float() / 127)[:, None]


def merged(hf: nn.Module) -> dict[str, Tensor]:
    """State dict of a PEFT model's base with every adapter folded in, summed in fp32, in the base's dtype."""
    base = hf.get_base_model()
    dtype = base.get_input_embeddings().weight.dtype
    named = (*base.named_parameters(remove_duplicate=False), *base.named_buffers(remove_duplicate=False))
    wanted = {n for n, _ in named if ".lora_" not in n}  # not the scales beside quantised weights
    state = {k.replace(".base_layer.", "."): v for k, v in base.state_dict().items() if k in wanted}
    for name, module in base.named_modules():
        name = name.removesuffix(".base_layer")
        if hasattr(module, "get_delta_weight"):
            state[f"{name}.weight"] = _with_adapters(module).to(dtype)
        elif is_quantized(module) and f"{name}.weight" in state and state[f"{name}.weight"].dtype != dtype:
            state[f"{name}.weight"] = full_weight(module).to(dtype)
    return state


def _with_adapters(module: Any) -> Tensor:
    """W + delta in fp32. DoRA: each row scaled to its trained length (arXiv:2402.09353, eq. 5)."""
    w = full_weight(module.get_base_layer()).float()
    for adapter in module.active_adapters:
        w = w + module.get_delta_weight(adapter).float()
        if (length := _length(module, adapter)) is not None:
            over = 0 if module.fan_in_fan_out else 1  # GPT-2 keeps its weights transposed
            w = w * (length.float() / w.norm(dim=over)).unsqueeze(over)
    return w


def _length(module: Any, adapter: str) -> Tensor | None:
    lengths = getattr(module, "lora_magnitude_vector", {})
    return lengths[adapter].weight.detach() if adapter in lengths else None


@contextmanager
def saved_as_full(base: Any) -> Iterator[None]:
    """The model's folder says nothing of the quantisation that its weights went through."""
    config, quantizer = getattr(base.config, "quantization_config", None), getattr(base, "hf_quantizer", None)
    if config is None:
        yield
        return
    del base.config.quantization_config
    base.hf_quantizer = None
    try:
        yield
    finally:
        base.config.quantization_config, base.hf_quantizer = config, quantizer
