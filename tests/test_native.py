"""The decoding step in C against transformers' own: every model it takes, both precisions, models it leaves alone."""

import pytest
import torch
from torch import nn

from posttrain import kernels
from posttrain.sampler import cache
from posttrain.sampler.native import Native

SIZES = dict(
    vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128,
)  # fmt: skip
KINDS = {
    "Llama": {},
    "Llama tied": {"tie_word_embeddings": True},
    "Llama llama3": {"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }},
    "Mistral": {"sliding_window": 9},
    "Qwen2": {},
    "Qwen2 window": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "Qwen3": {"head_dim": 32},
}  # fmt: skip

pytestmark = pytest.mark.skipif(kernels.library("decode") is None, reason="no C compiler here")


def model(kind, **more):
    import transformers

    torch.manual_seed(0)
    name = kind.split()[0]
    config = getattr(transformers, f"{name}Config")(**SIZES, **(KINDS.get(kind, {}) | more))
    hf = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for n, p in hf.named_parameters():  # norms that are not all ones, biases that are not all zero
            if n.endswith("bias") or "norm" in n:
                p.add_(0.3 * torch.randn_like(p))
    return hf


def walk(hf, native):
    """Logits of three steps behind prompts of 5 and 20 tokens."""
    engine = cache.Batched(hf, 2, 40)
    engine.native = Native.of(hf) if native else None
    assert not native or engine.native
    prompts = [list(range(1, 6)), list(range(30, 50))]
    engine.place(engine.read(prompts), [0, 1])
    return torch.stack([engine.step([7 + n, 50 + n], [5 + n, 20 + n]).float() for n in range(3)])


@pytest.mark.parametrize("kind", KINDS)
def test_equals_transformers(kind):
    hf = model(kind)
    torch.testing.assert_close(walk(hf, True), walk(hf, False), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_bf16_is_nearer_to_fp32_than_transformers_bf16(kind):
    """Residuals, rotations and sums are fp32 here: on average the step is no further from the exact one."""
    hf = model(kind)
    exact = walk(hf, False)
    hf = hf.bfloat16()
    mine, theirs = ((walk(hf, native) - exact).abs().mean() for native in (True, False))
    assert mine <= theirs


def test_a_row_does_not_depend_on_its_neighbours_or_the_threads():
    hf = model("Llama")
    native = Native.of(hf)
    keys, values = ({n: torch.randn(9, 2, 32, 16) for n in range(3)} for _ in range(2))
    alone = native.step(
        [5], [20], {n: x[:1].clone() for n, x in keys.items()}, {n: x[:1].clone() for n, x in values.items()}
    )
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            copies = [{i: x.clone() for i, x in own.items()} for own in (keys, values)]
            together = native.step([5, *range(8)], [20, *range(3, 11)], *copies)
            assert torch.equal(together[0], alone[0])
    finally:
        torch.set_num_threads(threads)


def test_reads_the_weights_of_the_moment():
    hf = model("Llama")
    native, (keys, values) = Native.of(hf), [{n: torch.zeros(1, 2, 32, 16) for n in range(3)} for _ in range(2)]
    before = native.step([5], [0], keys, values)
    with torch.no_grad():
        hf.lm_head.weight.mul_(2.0)
    torch.testing.assert_close(native.step([5], [0], keys, values), 2 * before, rtol=1e-6, atol=0)


def test_models_it_does_not_take():
    from peft import LoraConfig, get_peft_model

    assert Native.of(model("Llama", hidden_act="gelu")) is None
    assert Native.of(model("Llama", mlp_bias=True)) is None
    assert Native.of(model("Llama").double()) is None
    assert Native.of(model("Llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})) is None
    adapted = get_peft_model(model("Llama"), LoraConfig(r=2, target_modules=["q_proj"])).get_base_model()
    assert Native.of(adapted) is None
    hooked = model("Llama")
    hooked.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    assert Native.of(hooked) is None
    swapped = model("Llama")
    swapped.model.layers[0].mlp.up_proj = nn.Identity()
    assert Native.of(swapped) is None
