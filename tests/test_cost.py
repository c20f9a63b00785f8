"""The cost model: sums by hand, activations counted in a real forward pass, published runs, the page's tables."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
import yaml

from posttrain import cost
from posttrain.cost import A100, H100, LLAMA_8B, LLAMA_70B, Plan, Shape
from posttrain.model import Model
from posttrain.packing import Branch, Doc, build

PAGE = (Path(__file__).parent.parent / "docs" / "scale.md").read_text()


def test_parameters_are_those_of_the_models():
    """The model cards say 8.03 and 70.6 billion."""
    assert LLAMA_8B.parameters == 8_030_261_248
    assert LLAMA_70B.parameters == 70_553_706_496


def small(layers):
    shape = Shape("small", layers, 64, 160, 4, 2, 320)
    config = transformers.LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    return shape, Model(transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16))


def kept(model, tokens):
    """Bytes that a forward pass keeps for the backward, weights left out, every storage once."""
    own = {p.untyped_storage().data_ptr() for p in model.hf.parameters()}
    found = {}

    def pack(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = (storage.nbytes(), x)  # the tensor too, so that its memory is not used again
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        held = model.hidden(build([Doc([], [Branch([5] * tokens, [True] * tokens)])]))
    assert held.requires_grad
    return sum(size for size, _ in found.values())


def test_activations_of_a_layer_are_what_a_forward_pass_keeps():
    """Two depths, so that what stands outside the layers falls out. Exact within 3%: masks and log-sums are small."""
    tokens = 256
    counted = (kept(small(4)[1], tokens) - kept(small(2)[1], tokens)) / 2 / tokens
    assert counted == pytest.approx(cost.activation(small(2)[0]), rel=0.03)


def test_parameters_by_hand_are_those_of_transformers():
    shape, model = small(3)
    assert shape.parameters == sum(p.numel() for p in model.hf.parameters())


def test_memory_by_hand():
    """States are divided by the GPUs, activations are not; LoRA keeps the frozen weights in two bytes."""
    one, eight = (cost.memory(LLAMA_8B, Plan(n, 1024)) for n in (1, 8))
    assert one.states == 20 * LLAMA_8B.parameters and eight.states * 8 == one.states
    assert one.activations == eight.activations == 1024 * 32 * cost.activation(LLAMA_8B)
    small = cost.memory(LLAMA_8B, Plan(1, 1024, adapters=10**6))
    assert small.states == 2 * LLAMA_8B.parameters + 2e7 and small.total < 0.2 * one.total
    whole = cost.memory(LLAMA_8B, Plan(8, 1024, recompute=1.0)).activations
    assert whole == 1024 * 32 * 2 * 4096


def test_time_by_hand():
    """Twice the micro-batches: twice the time and the bytes. One machine has no far link, one GPU no wire at all."""
    a, b = (cost.time(LLAMA_8B, Plan(8, 1024, batch_tokens=n * 8192), H100) for n in (1, 2))
    assert b.compute == pytest.approx(2 * a.compute) and b.wire == pytest.approx(2 * a.wire)
    assert cost.time(LLAMA_8B, Plan(1, 1024), H100).wire == 0
    assert cost.wire_bytes(LLAMA_8B, Plan(8, 1024)) == 8 * LLAMA_8B.parameters * 7 / 8
    slow = replace(H100, far=H100.far / 100)
    assert cost.time(LLAMA_8B, Plan(8, 1024), slow) == cost.time(LLAMA_8B, Plan(8, 1024), H100)
    t = cost.time(LLAMA_8B, Plan(16, 1024), slow)
    assert t.step == t.wire > t.compute and t.tokens_per_second == pytest.approx(1024 / t.wire)
    assert cost.time(LLAMA_8B, Plan(1, 1024, 8192), A100).compute == pytest.approx(
        1024 * (6 * (LLAMA_8B.parameters - 128256 * 4096) + 6 * 8192 * 4096 * 32) / (312e12 * A100.share), rel=1e-3
    )


def test_published_runs():
    """The two rows that the share was read off fit by construction; the others are predictions."""
    for run, fast, big in cost.deviations():
        assert abs(fast) < (0.005 if run.fits else 0.15)
        assert big is None or abs(big) < 0.05


def test_the_page_shows_what_the_module_computes():
    assert cost.tables() in PAGE


def test_the_page_s_manifests_are_yaml():
    found = re.findall(r"```yml\n(.*?)```", PAGE, re.S)
    assert len(found) >= 2 and all(list(yaml.safe_load_all(body)) for body in found)
