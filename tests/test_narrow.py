"""The last layer at the rows that are read: the same numbers and gradients as whole, from fewer rows."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_model import FP32, _close, _docs, _gradients, _NoFp32
from torch.utils.flop_counter import FlopCounterMode

from posttrain import narrow
from posttrain.loading import with_lora
from posttrain.lora import Lora
from posttrain.model import Model, layers_of
from posttrain.packing import Branch, Doc, build
from posttrain.reward_model import from_policy

MIXED = ("llama", "qwen3", "gemma2")


@pytest.fixture
def always(monkeypatch):
    """Few rows are few already, and all but one are worth it."""
    monkeypatch.setattr(narrow, "ROWS", 4)
    monkeypatch.setattr(narrow, "PAYS", 1.0)


class Seen:
    """How many rows a module computed at each call."""

    def __init__(self, module):
        self.rows = []
        module.register_forward_hook(lambda _, inputs, __: self.rows.append(inputs[0].shape[-2]))


def rare(docs):
    """Every third target of these documents: most rows are not read."""
    return [Doc(p, [Branch(ids, [i % 3 == 2 for i in range(len(ids))]) for ids, _ in bs]) for p, bs in docs]


@given(st.integers(1, 600), st.data())
def test_rows_are_those_read_and_a_few_to_fill_up(tokens, data):
    read = data.draw(st.lists(st.integers(0, tokens - 1), max_size=40))
    found = narrow.rows(torch.tensor(read, dtype=torch.long), tokens)
    if found is None:
        assert -(-max(1, len(set(read))) // narrow.ROWS) * narrow.ROWS > narrow.PAYS * tokens
        return
    assert set(read) <= set(found.tolist()) and len(found) % narrow.ROWS == 0
    assert (np.diff(found.numpy()) > 0).all() and found.max() < tokens


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_equal_to_the_whole_layer_in_float64(kind, always, monkeypatch):
    """Log-probs and the gradient of every parameter to 1e-9, on every architecture."""
    model, pack = Model(tiny.model(kind, dtype=torch.float64)), build(rare(_docs()), pad_to=32)
    weight = torch.linspace(-1, 1, len(pack.at_N), dtype=torch.float64)
    with _NoFp32():
        part = model.token_logps(pack)
        part_grads = _gradients((part * weight).sum(), model.parameters())
        monkeypatch.setattr(narrow, "PAYS", 0.0)
        whole = model.token_logps(pack)
        whole_grads = _gradients((whole * weight).sum(), model.parameters())
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-9)
    _close(part_grads, whole_grads, 1e-9)


@pytest.mark.parametrize("kind", MIXED)
def test_only_the_rows_that_are_read_pass_through_the_last_layer(kind, always):
    """Multiplications of one pass: those of queries, output and MLP fall to the share of the rows that are read."""
    model, pack = Model(tiny.model(kind)), build(rare(_docs()), pad_to=32)
    last = layers_of(model.decoder)[-1]
    parts = (last.self_attn.q_proj, last.self_attn.o_proj, last.mlp)
    weights = sum(p.numel() for part in parts for p in part.parameters() if p.dim() == 2)
    read, tokens = -(-len(pack.at_N.unique()) // 4) * 4, len(pack.ids_T)
    assert read < 0.5 * tokens
    counted = []
    for at_X in (pack.at_N, None):  # None: nobody says which rows, so all of them
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.hidden(pack, at_X)
        counted.append(counter.get_total_flops())
    assert counted[1] - counted[0] == 2 * weights * (tokens - read)


def test_with_adapters(always, monkeypatch):
    model = Model(with_lora(tiny.model("llama"), Lora(rank=4), True))
    for name, p in model.named_parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    pack = build(rare(_docs()), pad_to=32)
    part = model.token_logps(pack)
    grads = _gradients(part.sum(), model.parameters())
    monkeypatch.setattr(narrow, "PAYS", 0.0)
    whole = model.token_logps(pack)
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)
    _close(grads, _gradients(whole.sum(), model.parameters()), 1e-4)


def test_scores_of_a_reward_model(always, monkeypatch, tmp_path):
    model = from_policy(tiny.folder(tmp_path / "policy"), FP32, members=2)
    pack = build(_docs(), pad_to=32)
    last = Seen(layers_of(model.decoder)[-1].mlp.down_proj)
    part = model.scores(pack)
    monkeypatch.setattr(narrow, "PAYS", 0.0)
    torch.testing.assert_close(part, model.scores(pack), rtol=0, atol=1e-5)
    assert last.rows[0] == -(-pack.branches // 4) * 4 < last.rows[1] == len(pack.ids_T)


def test_an_error_in_the_middle_leaves_the_layer_whole(always):
    model, pack = Model(tiny.model("llama")), build(rare(_docs()), pad_to=32)
    with torch.no_grad():
        before = model.hidden(pack)
        with pytest.raises(IndexError):
            model.hidden(replace(pack, ids_T=pack.ids_T + tiny.VOCAB), pack.at_N)  # ids that do not exist
        assert torch.equal(model.hidden(pack), before)
