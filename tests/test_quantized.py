"""Adapters of every kind: what is saved is what was trained; quantised bases; activations computed twice."""

import json

import pytest
import tiny
import torch

from posttrain import attention
from posttrain.adamw import Master, Optim
from posttrain.errors import UserError
from posttrain.loading import load_model, with_lora
from posttrain.lora import Lora
from posttrain.packing import Branch, Doc, build
from posttrain.pipeline import Runtime

pytest.importorskip("peft")
FP32 = Runtime(precision="fp32", compile="off")
DOCS = [Doc([7, 9], [Branch([k + 5, 60, 61, k + 9], [True] * 4) for k in (n, n + 3)]) for n in range(6)]


def trained(model, steps=6):
    """A few steps towards DOCS; returns the losses."""
    pack, master = build(DOCS), Master(model.parameters(), Optim(0.03))
    losses = []
    for _ in range(steps):
        loss = model.nll(pack, torch.full((len(pack.target_N),), 1 / len(pack.target_N)))[0]
        loss.backward()
        master.collect()
        master.step(0.03, 1.0)
        losses.append(float(loss))
    return losses


def logps(model):
    with torch.no_grad():
        return model.token_logps(build(DOCS))


def again(model, folder):
    model.save(folder)
    tiny.tokenizer().save_pretrained(folder)
    return load_model(folder, FP32, train=False)


@pytest.mark.parametrize("kind", ["llama", "smollm", "gpt2"])
@pytest.mark.parametrize("how", [{"dora": True}, {"rank_stabilised": True}, {"dora": True, "rank_stabilised": True}])
def test_what_is_saved_is_what_was_trained(tmp_path, kind, how):
    start = tiny.folder(tmp_path / "start", kind)
    model = load_model(start, FP32, train=True, lora=Lora(rank=4, alpha=8, **how))
    before = logps(model)
    losses = trained(model)
    assert losses[-1] < losses[0] - 0.1
    assert not torch.allclose(logps(model), before, atol=0.1)
    torch.testing.assert_close(logps(again(model, tmp_path / "end")), logps(model), rtol=1e-3, atol=1e-3)
    with model.reference():
        torch.testing.assert_close(logps(model), before, rtol=1e-4, atol=1e-4)


def test_dora_trains_one_length_for_each_output(tmp_path):
    start = tiny.folder(tmp_path / "start")
    plain, dora = (load_model(start, FP32, train=True, lora=Lora(rank=2, dora=d)) for d in (False, True))
    more = {n: p for n, p in dora.named_parameters().items() if n not in plain.named_parameters()}
    lengths = {m.out_features for m in plain.base.modules() if hasattr(m, "lora_A")}
    assert more and all("magnitude" in n and p.ndim == 1 and len(p) in lengths for n, p in more.items())


@pytest.mark.parametrize("how", ["int8", "nf4"])
def test_a_quantised_base_trains_and_is_saved_in_full(tmp_path, how):
    pytest.importorskip("bitsandbytes")
    start = tiny.folder(tmp_path / "start", "smollm")
    model = load_model(start, FP32, train=True, lora=Lora(rank=4, quantize=how))
    kinds = {type(m).__name__ for m in model.base.modules() if type(m).__module__.startswith("bitsandbytes")}
    assert kinds == {"Linear8bitLt" if how == "int8" else "Linear4bit"} and how in model.said
    before, full = logps(model), logps(load_model(start, FP32, train=False))
    assert 0 < float((before - full).abs().mean()) < (0.1 if how == "int8" else 1.0)
    losses = trained(model)
    assert losses[-1] < losses[0] - 0.1
    assert all("lora_" in n for n in model.named_parameters())
    saved = again(model, tmp_path / "end")
    assert "quantization_config" not in json.loads((tmp_path / "end" / "config.json").read_text())
    assert {p.dtype for p in saved.hf.parameters()} == {torch.float32}
    # int8 products round the activations too, which full weights do not
    torch.testing.assert_close(logps(saved), logps(model), rtol=0, atol=0.15 if how == "int8" else 5e-3)
    assert model.base.config.quantization_config is not None  # and the model in training is as it was


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    start = tiny.folder(tmp_path / "start")
    with pytest.raises(UserError, match="bitsandbytes"):
        load_model(start, FP32, train=True, lora=Lora(quantize="nf4"))
    attention.register()
    with pytest.raises(UserError, match="reward model"):
        with_lora(tiny.model(), Lora(quantize="nf4"), True, task=None)


def numbers_kept(model, pack):
    """(loss, how many numbers lie between the two passes)."""
    kept = []

    def keep(t):
        kept.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = model.nll(pack, torch.full((len(pack.target_N),), 0.1))[0]
    return loss, sum(kept)


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["whole", "lora"])
@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_activations_computed_twice_give_the_same_gradients(tmp_path, kind, lora):
    """Bit for bit, and fewer numbers are kept between the passes; with offload the layers' own are kept elsewhere."""
    start = tiny.folder(tmp_path / "start", kind)
    made = []
    for checkpointing in (False, True, "offload"):
        torch.manual_seed(0)  # adapters begin at random
        model = load_model(start, Runtime(precision="fp32", checkpointing=checkpointing), train=True, lora=lora)
        loss, kept = numbers_kept(model, build(DOCS))
        loss.backward()
        made.append(([p.grad for p in model.parameters()], kept))
        assert not model.compile(10**6, tokens=1e15)
    for kept, *others in zip(*(gradients for gradients, _ in made), strict=True):
        assert all(x is None if kept is None else torch.equal(kept, x) for x in others)
    assert made[1][1] < 0.5 * made[0][1]
    assert made[2][1] < made[1][1]  # what is handed to another keeper is not seen here
