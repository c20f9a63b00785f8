"""A decoding step in C for Llama-like models on a CPU: which models it fits, and the call. See kernels/decode.c.

A step of a small model spends most of its time between PyTorch's operators. The C code reads the same parameters, where
they lie, and the same keys and values that the ordinary step uses, so the two can take turns.
Left out on purpose: prompts (cache.Reading). Adapters, quantised or sharded weights, experts and other devices are left
to transformers' own forward pass: `Native.of` says None.

Shapes: B slots, V vocabulary.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from posttrain import kernels

MODELS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
PAIRS = 32  # sizes that are summed over are multiples of it
PRODUCTS = 7  # linear layers in a layer
BIASES = ("bias_q", "bias_k", "bias_v")
FIELDS = (
    "norm_in",
    "q",
    "k",
    "v",
    "o",
    "norm_mid",
    "gate",
    "up",
    "down",
    *BIASES,
    "norm_q",
    "norm_k",
    "keys",
    "values",
)


class _Layer(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_void_p) for name in FIELDS), ("window", ctypes.c_int64))


class _Model(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_int64) for n in ("layers", "width", "inner", "heads", "kv", "size", "vocabulary", "positions")),
        *((n, ctypes.c_float) for n in ("eps", "scale", "rope_scale")),
        *((n, ctypes.c_void_p) for n in ("frequencies", "embed", "norm", "head")),
        ("bf16", ctypes.c_int),
    )  # fmt: skip


class Native:
    """hf must outlive it. `step` reads whatever the parameters hold at that moment."""

    def __init__(self, hf: Any):
        self.hf, self.config, self.decoder = hf, hf.config.get_text_config(), hf.get_decoder()
        self.weights = [weights_of(layer) for layer in self.decoder.layers]
        self.windows = [window_of(layer.self_attn, self.config) for layer in self.decoder.layers]
        self.frequencies = self.decoder.rotary_emb.inv_freq.float().contiguous()

    @classmethod
    def of(cls, hf: Any) -> "Native | None":
        """None where the C code does not do what this model does."""
        if type(hf).__name__ not in MODELS or kernels.library("decode") is None:
            return None
        found = cls(hf) if all(plain(layer) for layer in hf.get_decoder().layers) else None
        return found if found and found._fits() else None

    def _fits(self) -> bool:
        c, dtype = self.config, self.hf.get_input_embeddings().weight.dtype
        rope = self.decoder.rotary_emb
        sizes = (c.hidden_size, c.intermediate_size, c.num_attention_heads * self._size)
        return (
            dtype in kernels.DTYPES
            and c.hidden_act == "silu"
            and not any(n % PAIRS for n in sizes)
            and self._size % kernels.LANES == 0
            and rope.rope_type in ("default", "linear", "llama3", "yarn")  # those whose frequencies never change
            and len(rope.inv_freq) == self._size // 2
            and getattr(self.hf.get_output_embeddings(), "bias", None) is None
            and all(p.dtype == dtype and p.device.type == "cpu" and p.is_contiguous() for p in self.hf.parameters())
        )

    @property
    def _size(self) -> int:
        return int(getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads)

    def step(
        self, tokens: Sequence[int], positions: Sequence[int], keys: dict[int, Tensor], values: dict[int, Tensor]
    ) -> Tensor:
        """Next-token logits, fp32 [B, V], of slots 0..B-1; keys and values (layer -> [slots, K, S, D]) are written."""
        c, b = self.config, len(tokens)
        layers = (_Layer * len(self.weights))()
        for n, (layer, weights) in enumerate(zip(layers, self.weights)):
            for name, x in weights.items():
                setattr(layer, name, x.data_ptr())
            layer.keys, layer.values, layer.window = keys[n].data_ptr(), values[n].data_ptr(), self.windows[n]
        embed, head = self.hf.get_input_embeddings().weight, self.hf.get_output_embeddings().weight
        model = _Model(
            len(self.weights), c.hidden_size, c.intermediate_size, c.num_attention_heads, c.num_key_value_heads,
            self._size, len(head), keys[0].shape[2], c.rms_norm_eps, self._size**-0.5,
            float(self.decoder.rotary_emb.attention_scaling), self.frequencies.data_ptr(), embed.data_ptr(),
            self.decoder.norm.weight.data_ptr(), head.data_ptr(), embed.dtype == torch.bfloat16,
        )  # fmt: skip
        logits_BV = torch.empty(b, len(head))
        row = ctypes.c_int64 * b
        library = kernels.library("decode")
        assert library is not None
        status = library.step(
            ctypes.byref(model), layers, ctypes.c_int64(b), row(*tokens), row(*positions),
            ctypes.c_void_p(logits_BV.data_ptr()),
        )  # fmt: skip
        if status:
            raise MemoryError("a decoding step could not get its working memory")
        return logits_BV


def window_of(attention: nn.Module, config: Any) -> int:
    """Positions that a layer sees, 0 for all: layers say it themselves (Qwen), or the config for all (Mistral)."""
    everywhere = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
    return int(getattr(attention, "sliding_window", everywhere) or 0)


def weights_of(layer: Any) -> dict[str, Tensor]:
    """The tensors of a layer by the names of decode.c; those that the model does not have are missing."""
    attention, mlp = layer.self_attn, layer.mlp
    modules = {
        "norm_in": layer.input_layernorm, "norm_mid": layer.post_attention_layernorm,
        "q": attention.q_proj, "k": attention.k_proj, "v": attention.v_proj, "o": attention.o_proj,
        "gate": mlp.gate_proj, "up": mlp.up_proj, "down": mlp.down_proj,
        "norm_q": getattr(attention, "q_norm", None), "norm_k": getattr(attention, "k_norm", None),
    }  # fmt: skip
    found = {name: module.weight for name, module in modules.items() if module is not None}
    biases = {f"bias_{name}": getattr(modules[name], "bias", None) for name in "qkv"}
    return found | {name: bias for name, bias in biases.items() if bias is not None}


def plain(layer: Any) -> bool:
    """Nothing but ordinary linear layers without hooks, no bias where decode.c adds none."""
    linears = [m for m in layer.modules() if isinstance(m, nn.Linear)]
    unbiased = (layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj)
    return (
        len(linears) == PRODUCTS
        and all(type(m) is nn.Linear and not m._forward_hooks and not m._forward_pre_hooks for m in linears)
        and all(getattr(m, "bias", None) is None for m in unbiased)
    )
