"""Tiny random models and a tokenizer for tests: every architecture family, a few thousand parameters, no files needed.

Left out on purpose: trained weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

torch.set_num_threads(1)  # models this small only lose time when threads wait for each other

VOCAB = 320  # a byte-level BPE with a few merges and four special tokens fits
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 3,
}  # fmt: skip


def _config(name: str, **more: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, name)(**(_SHAPE | more))


CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": _config("LlamaConfig"),
    "smollm": _config("LlamaConfig", tie_word_embeddings=True),
    "smollm3": _config("SmolLM3Config"),
    "qwen2": _config("Qwen2Config"),
    "qwen2-window": _config("Qwen2Config", use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "qwen3": _config("Qwen3Config", head_dim=16),
    "gemma": _config("GemmaConfig", head_dim=16),
    "gemma2": _config(
        "Gemma2Config", head_dim=16, sliding_window=8, query_pre_attn_scalar=16,
        attn_logit_softcapping=2.0, final_logit_softcapping=1.5,
    ),
    "gemma3": _config("Gemma3TextConfig", head_dim=16, sliding_window=8, query_pre_attn_scalar=16, num_hidden_layers=6),
    "mistral": _config("MistralConfig", sliding_window=8),
    "phi": _config("PhiConfig", num_key_value_heads=4),
    "phi3": _config("Phi3Config", sliding_window=8),
    "granite": _config("GraniteConfig", logits_scaling=4.0, attention_multiplier=0.1, residual_multiplier=0.5),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=256, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.1, attn_pdrop=0.1,
    ),
}  # fmt: skip


def model(kind: str = "llama", *, dtype: torch.dtype = torch.float32, seed: int = 0, attn: str = "eager") -> Any:
    """A random transformers model, weights wide enough that its predictions differ between tokens."""
    torch.manual_seed(seed)
    hf = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind](), attn_implementation=attn)
    with torch.no_grad():
        for p in hf.parameters():
            p.normal_(0.0, 0.3) if p.ndim > 1 else p.add_(torch.randn_like(p) * 0.1)
            p.data = p.data.to(dtype)  # parameters alone, like from_pretrained: rotary frequencies stay fp32
    return hf.eval()


def tokenizer() -> Any:
    """Byte-level BPE over VOCAB ids with SPECIAL as ids 0..3; no chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tok.train_from_iterator(["the user asks and the assistant answers in one or two sentences"] * 4, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token=SPECIAL[0], eos_token=SPECIAL[0], pad_token=SPECIAL[3]
    )


def folder(path: Path, kind: str = "llama", *, seed: int = 0) -> Path:
    """A Hugging Face folder with weights and tokenizer."""
    model(kind, seed=seed).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path
