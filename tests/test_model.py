"""Packs through real architectures: equal to transformers one row at a time, isolated, shared equal to unshared."""

import os
import random
import shutil

import pytest
import tiny
import torch
from torch.overrides import TorchFunctionMode

from posttrain import bundled
from posttrain.errors import UserError
from posttrain.loading import check_head, choose, count_parameters, load_model, memory_hint
from posttrain.lora import Lora
from posttrain.model import COMPILE_FLOPS, Model
from posttrain.packing import Branch, Doc, build
from posttrain.pipeline import Runtime

FP32 = Runtime(precision="fp32", device="cpu")


def _docs(seed=0):
    """Two conversations, a pair and a group of three, longer than the tiny windows of 8."""
    rng = random.Random(seed)

    def ids(n):
        return [rng.randrange(4, tiny.VOCAB) for _ in range(n)]

    def branch(n):
        return Branch(ids(n), [rng.random() < 0.7 for _ in range(n - 1)] + [True])

    shapes = [(0, 20), (13, 9, 14), (0, 5), (3, 6, 2, 11)]
    return [Doc(ids(p), [branch(n) for n in ns]) for p, *ns in shapes]


def _one_by_one(hf, docs):
    """log p of every target from the transformers module itself, one unpadded row at a time."""
    found = []
    for doc in docs:
        for b in doc.branches:
            ids_T = torch.tensor(doc.prefix + b.ids)
            logits = hf(ids_T[None], use_cache=False).logits[0, :-1]
            logits = logits if logits.dtype == torch.float64 else logits.float()
            logp_T = torch.log_softmax(logits, -1).gather(1, ids_T[1:, None])[:, 0]
            wanted = torch.tensor(([False] * len(doc.prefix) + b.mask)[1:])
            found.append(logp_T[wanted])
    return torch.cat(found)


class _NoFp32(TorchFunctionMode):
    """transformers computes norms and some softmaxes in fp32; here a float64 tensor stays float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        down = func is torch.Tensor.float or (func is torch.Tensor.to and torch.float32 in args[1:])
        if down and args[0].dtype == torch.float64:
            return args[0]
        return func(*args, **(kwargs or {}))


def _gradients(value, parameters):
    for p in parameters:
        p.grad = None
    value.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


def _close(mine, theirs, bound):
    """Each tensor within `bound` of the other, relative to the largest entry of all: some gradients are almost zero."""
    largest = max(float(y.abs().max()) for y in theirs)
    assert max(float((x - y).abs().max()) for x, y in zip(mine, theirs, strict=True)) <= bound * largest


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_packed_equals_transformers_eager(kind):
    """fp32, attn eager, one row at a time: log-probs to 1e-4 nats."""
    docs = _docs()
    with torch.no_grad():
        theirs = _one_by_one(tiny.model(kind, attn="eager"), docs)
        mine = Model(tiny.model(kind)).token_logps(build(docs, pad_to=32))
    assert theirs.std() > 0.3  # the tiny model does tell tokens apart
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_shared_equals_unshared_equals_rows_in_float64(kind):
    """Log-probs and gradients of every parameter to 1e-9: shared pack, unshared pack, transformers row by row."""
    docs, model = _docs(), Model(tiny.model(kind, dtype=torch.float64))
    parameters = model.parameters()
    with _NoFp32():
        rows = _one_by_one(model.hf, docs)
        weight = torch.linspace(-1, 1, len(rows), dtype=torch.float64)
        rows_grads = _gradients((rows * weight).sum(), parameters)
        for share in (True, False):
            pack = build(docs, pad_to=32, share=share)
            logp = model.token_logps(pack)
            torch.testing.assert_close(logp, rows, rtol=0, atol=1e-9)
            _close(_gradients((logp * weight).sum(), parameters), rows_grads, 1e-9)
        loss, logp = model.nll(pack, -weight)
        torch.testing.assert_close(logp, rows.detach(), rtol=0, atol=1e-9)
        _close(_gradients(loss, parameters), rows_grads, 1e-9)


def test_shared_equals_unshared_in_fp32():
    """The rounding of fp32 is the bound: 1e-5 nats here, gradients 1e-4 of the largest."""
    docs, model = _docs(), Model(tiny.model("llama"))
    runs = []
    for share in (True, False):
        logp = model.token_logps(build(docs, share=share))
        runs.append((logp.detach(), _gradients(logp.sum(), model.parameters())))
    torch.testing.assert_close(runs[0][0], runs[1][0], rtol=0, atol=1e-5)
    _close(runs[0][1], runs[1][1], 1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_documents_are_isolated_bit_for_bit(kind, dtype):
    """Changing the tokens of one document leaves the hidden states of the others bit-equal."""
    model, docs = Model(tiny.model(kind, dtype=dtype)), _docs()
    other = [docs[0], docs[1], Doc([], [Branch([7] * 5, docs[2].branches[0].mask)]), docs[3]]
    with torch.no_grad():
        before, after = (model.hidden(build(d, pad_to=32)) for d in (docs, other))
    first = 20 + 36  # where document 2 begins
    changed = torch.zeros(len(before), dtype=torch.bool)
    changed[first : first + 5] = True
    assert torch.equal(before[~changed], after[~changed])
    assert not torch.equal(before[changed], after[changed])


def test_entropy_and_temperature():
    """entropy = -sum p log p, at the temperature asked for."""
    model, pack = Model(tiny.model("llama")), build(_docs())
    with torch.no_grad():
        logp, entropy = model.token_logps(pack, temperature=0.5, entropy=True)
        full = torch.log_softmax(model.hf.lm_head(model.hidden(pack)[pack.at_N]) / 0.5, -1)
    torch.testing.assert_close(logp, full.gather(1, pack.target_N[:, None])[:, 0], rtol=0, atol=1e-4)
    torch.testing.assert_close(entropy, -(full.exp() * full).sum(-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gemma3", "gpt2"])
def test_generation_is_transformers_own(kind):
    """Without a layout the module generates with its cache as if it had been loaded plainly."""
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    how = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 3, "attention_mask": torch.ones_like(ids)}
    theirs = tiny.model(kind, attn="eager").generate(ids, **how)
    assert torch.equal(Model(tiny.model(kind)).hf.generate(ids, **how), theirs)


def test_lora_trains_the_adapter_alone_and_merges(tmp_path):
    folder = tiny.folder(tmp_path / "base")
    base, model = load_model(folder, FP32, train=False), load_model(folder, FP32, train=True, lora=Lora(rank=4))
    pack = build(_docs(), pad_to=32)
    names = [n for n, p in model.hf.named_parameters() if p.requires_grad]
    assert names and all("lora_" in n for n in names) and not base.parameters()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.1)
        plain, tuned = base.token_logps(pack), model.token_logps(pack)
        with model.reference():
            assert torch.equal(model.token_logps(pack), plain)
    assert (tuned - plain).abs().max() > 0.1
    loss, _ = model.nll(pack, torch.ones(len(pack.at_N)))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.save(tmp_path / "merged")
    tiny.tokenizer().save_pretrained(tmp_path / "merged")
    with torch.no_grad():
        again = load_model(tmp_path / "merged", FP32, train=False).token_logps(pack)
    torch.testing.assert_close(again, tuned, rtol=0, atol=1e-4)
    assert "lora" not in (tmp_path / "merged" / "config.json").read_text()
    model.save(tmp_path / "adapter", merge=False)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("targets", [("no_such_layer",), ("lm_head",)])
def test_lora_targets_that_do_not_fit(tmp_path, targets):
    with pytest.raises(UserError) as caught:
        load_model(tiny.folder(tmp_path), FP32, train=True, lora=Lora(targets=targets))
    assert caught.value.where == "lora.targets"


def test_save_and_load(tmp_path):
    """A saved folder holds the weights exactly; `weights` replaces them without touching the model."""
    model, pack = load_model(tiny.folder(tmp_path / "a"), FP32, train=True), build(_docs())
    before = model.token_logps(pack).detach()
    master = {n: p.detach() + 0.01 for n, p in model.named_parameters().items()}
    model.save(tmp_path / "b")
    model.save(tmp_path / "c", weights=master)
    for name in "bc":
        tiny.tokenizer().save_pretrained(tmp_path / name)
    assert torch.equal(load_model(tmp_path / "b", FP32, train=False).token_logps(pack), before)
    assert torch.equal(model.token_logps(pack).detach(), before)
    moved = load_model(tmp_path / "c", FP32, train=True)
    assert all(torch.equal(p, master[n]) for n, p in moved.named_parameters().items())
    assert count_parameters(tmp_path / "b") == sum(p.numel() for p in model.hf.parameters())


def test_flops_per_token_by_hand():
    """GPT-2, tied: 320 x 32 used as head counts; learned positions 256 x 32 are looked up only."""
    model = Model(tiny.model("gpt2"))
    assert model.flops_per_token == 6 * (sum(p.numel() for p in model.hf.parameters()) - 256 * 32)


def test_precision_follows_the_request_and_says_why():
    device, dtype, said = choose(FP32)
    assert (device.type, dtype, said) == ("cpu", torch.float32, "fp32 on cpu")
    assert choose(Runtime(precision="bf16", device="cpu"))[1] == torch.bfloat16
    assert "bf16 products" in choose(Runtime(device="cpu"))[2]


def test_bf16_is_near_fp32(tmp_path):
    folder, pack = tiny.folder(tmp_path), build(_docs())
    with torch.no_grad():
        exact = load_model(folder, FP32, train=False).token_logps(pack)
        model = load_model(folder, Runtime(precision="bf16", device="cpu"), train=False)
        rounded = model.token_logps(pack)
    assert model.dtype == torch.bfloat16 and rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.1


def _without(folder, *names):
    for path in folder.iterdir():
        if any(n in path.name for n in names):
            path.unlink()
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent", "does not exist"),
        (lambda p: _without(tiny.folder(p), "config.json"), "no config.json"),
        (lambda p: _without(tiny.folder(p), "tokenizer", "special"), "no tokenizer"),
        (lambda p: _without(tiny.folder(p), "safetensors"), "no weights"),
    ],
)
def test_incomplete_folders_are_refused(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        load_model(make(tmp_path), FP32, train=False)


def test_broken_weights_are_one_message(tmp_path):
    (tiny.folder(tmp_path) / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(UserError, match="cannot load the model"):
        load_model(tmp_path, FP32, train=False)


def test_an_id_without_network_says_so(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        load_model("nobody-at-all/no-such-model", FP32, train=False)
    assert "cannot fetch" in caught.value.what and "HF_HUB_OFFLINE" in caught.value.remedy


def test_unknown_treatment_of_logits_is_refused():
    """An architecture that doubles its logits after the head would train on the wrong probabilities."""
    model = Model(tiny.model("llama"))
    check_head(model)
    model.hf.lm_head.register_forward_hook(lambda module, args, out: 2 * out)
    with pytest.raises(UserError, match="logits"):
        check_head(model)


def test_out_of_memory_names_the_knob():
    with pytest.raises(UserError, match="out of memory") as caught, memory_hint():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    assert "micro_tokens" in caught.value.remedy
    with pytest.raises(RuntimeError, match="shape"), memory_hint():
        raise RuntimeError("shape mismatch")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_compiled_equals_eager(kind):
    """Values, gradients, and packs of other shapes; generation still sees the eager module."""
    model = Model(tiny.model(kind), runtime=Runtime(compile="on"))
    packs = [build(_docs(), pad_to=32), build(_docs()[:2], pad_to=512)]
    eager = [(lambda x: (x.detach(), _gradients(x.sum(), model.parameters())))(model.token_logps(p)) for p in packs]
    assert model.compile()
    for pack, (logp, grads) in zip(packs, eager, strict=True):
        mine = model.token_logps(pack)
        torch.testing.assert_close(mine.detach(), logp, rtol=0, atol=1e-4)
        _close(_gradients(mine.sum(), model.parameters()), grads, 1e-4)
    assert all(layer._compiled_call_impl is None for layer, _ in model._compiled)


@pytest.mark.slow
def test_what_was_rehearsed_serves_packs_of_every_length():
    """On the bundled model, whose 512 channels a rehearsal of 512 tokens was taken for: no code is made after it."""
    model = load_model(bundled.model(), Runtime(compile="on", device="cpu"), train=True)
    assert model.compile()
    torch._dynamo.utils.counters.clear()
    for n in (160, 320, 512):
        pack = build([Doc([], [Branch([5] * n, [True] * n)])] * 3)
        model.nll(pack, torch.ones(len(pack.at_N)))[0].backward()
        with torch.no_grad():
            model.nll(pack, torch.ones(len(pack.at_N)))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0


def test_compile_auto_stays_eager_for_short_runs():
    model = Model(tiny.model("llama"))
    assert not model.compile()
    assert not model.compile(micro_batches=10**6, tokens=1000)


def test_compile_auto_weighs_the_run(monkeypatch):
    """bf16 on a CPU with a compiler: compiled from the FLOPs on that earn the warm-up back, whatever the packs."""
    monkeypatch.setattr("posttrain.model.cpu_has_bf16", lambda: True)
    model = Model(tiny.model("llama", dtype=torch.bfloat16))
    enough = COMPILE_FLOPS / model.flops_per_token
    assert [model._worth_compiling(1, tokens) for tokens in (0.9 * enough, 1.1 * enough)] == [False, bool(compiler())]


def compiler():
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
