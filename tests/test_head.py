"""Fused head against full logits and autograd in float64: values, entropy, every gradient, chunks, caps, bf16."""

import math

import pytest
import torch

from posttrain import head as module
from posttrain.head import Head, nll, token_logps

N, D, V = 300, 12, 40
VARIANTS = [
    {},
    {"bias": True},
    {"scale": 0.25},
    {"softcap": 1.5},
    {"temperature": 0.7},
    {"bias": True, "scale": 2.0, "softcap": 3.0, "temperature": 1.3},
]


def _inputs(dtype=torch.float64, bias=False, seed=0):
    torch.manual_seed(seed)
    h, w = (torch.randn(n, D, dtype=dtype).requires_grad_() for n in (N, V))
    b = torch.randn(V, dtype=dtype).requires_grad_() if bias else None
    return h, w, b, torch.randint(0, V, (N,))


def _full(h, w, b, target, scale=1.0, softcap=None, temperature=1.0):
    """The definition: logits whole, order scale -> soft cap -> temperature. (logp_N, entropy_N)."""
    z = torch.nn.functional.linear(h, w, b) * scale
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    logp_NV = torch.log_softmax(z / temperature, -1)
    return logp_NV.gather(1, target[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)


def _grads(value, h, w, b):
    return torch.autograd.grad(value, [x for x in (h, w, b) if x is not None])


@pytest.fixture(autouse=True, params=["cpu", "gpu"])
def small_chunks(monkeypatch, request):
    """Several chunks in several blocks, the last ones not full. gpu: the functions that a GPU computes, on the CPU."""
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    monkeypatch.setattr(module, "_fuses", lambda h_ND: request.param == "gpu")


def test_by_hand():
    """h = 1, W = (0, log 3): logits 0 and log 3, probabilities 1/4 and 3/4; entropy = log 4 - 3/4 log 3."""
    head = Head(torch.tensor([[0.0], [math.log(3.0)]]))
    logp, entropy = token_logps(torch.ones(2, 1), head, torch.tensor([0, 1]), entropy=True)
    torch.testing.assert_close(logp, torch.tensor([0.25, 0.75]).log())
    torch.testing.assert_close(entropy, torch.full((2,), math.log(4) - 0.75 * math.log(3)))


@pytest.mark.parametrize("how", VARIANTS)
@pytest.mark.parametrize("entropy", [False, True])
def test_token_logps_and_gradients(how, entropy):
    how = dict(how)
    h, w, b, target = _inputs(bias=how.pop("bias", False))
    t = how.pop("temperature", 1.0)
    g, ge = torch.randn(2, N, dtype=torch.float64)
    out = token_logps(h, Head(w, b, **how), target, temperature=t, entropy=entropy)
    logp, ent = out if entropy else (out, torch.zeros(N, dtype=torch.float64))
    full_logp, full_ent = _full(h, w, b, target, temperature=t, **how)
    torch.testing.assert_close(logp, full_logp, rtol=0, atol=1e-12)
    mine, theirs = (logp * g).sum(), (full_logp * g).sum()
    if entropy:
        torch.testing.assert_close(ent, full_ent, rtol=0, atol=1e-12)
        mine, theirs = mine + (ent * ge).sum(), theirs + (full_ent * ge).sum()
    for x, y in zip(_grads(mine, h, w, b), _grads(theirs, h, w, b), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-11)


@pytest.mark.parametrize("how", [v for v in VARIANTS if "temperature" not in v])
@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_nll_and_gradients(how, factor):
    """factor: what the caller multiplies the loss by before its backward."""
    how = dict(how)
    h, w, b, target = _inputs(bias=how.pop("bias", False))
    weight = torch.rand(N, dtype=torch.float64)
    loss, logp = nll(h, Head(w, b, **how), target, weight)
    full, _ = _full(h, w, b, target, **how)
    torch.testing.assert_close(loss, -(weight * full).sum(), rtol=0, atol=1e-11)
    torch.testing.assert_close(logp, full.detach(), rtol=0, atol=1e-12)
    assert not logp.requires_grad
    theirs = _grads(-(weight * full).sum() * factor, h, w, b)
    for x, y in zip(_grads(loss * factor, h, w, b), theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-11)


def test_zero_weight_rows_have_no_gradient():
    h, w, _, target = _inputs()
    weight = torch.ones(N, dtype=torch.float64)
    weight[7:90] = 0
    grad_h, grad_w = _grads(nll(h, Head(w), target, weight)[0], h, w, None)
    kept = weight.bool()
    assert not grad_h[7:90].any()
    again = _grads(nll(h[kept], Head(w), target[kept], weight[kept])[0], h, w, None)
    torch.testing.assert_close(grad_w, again[1], rtol=0, atol=1e-12)


def test_a_frozen_head_gets_no_gradient():
    h, w, _, target = _inputs()
    frozen = Head(w.detach())
    for value in (nll(h, frozen, target, torch.ones(N))[0], token_logps(h, frozen, target).sum()):
        assert torch.autograd.grad(value, h)[0].abs().sum() > 0


def test_without_autograd_nothing_is_kept():
    h, w, b, target = _inputs()
    with torch.no_grad():
        loss, logp = nll(h, Head(w, b), target, torch.ones(N))
        other = token_logps(h, Head(w, b), target)
    assert not loss.requires_grad
    torch.testing.assert_close(logp, other)
    torch.testing.assert_close(loss, -other.sum())


def test_fp32_and_bf16_precision():
    """fp32 within 1e-5 of float64; bf16 within its rounding of the logits, with log-probs and sums in fp32."""
    h, w, b, target = _inputs(bias=True)
    exact, _ = _full(h, w, b, target)
    exact_grads = _grads(exact.mean(), h, w, b)
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 0.06)):
        low = [x.detach().to(dtype).requires_grad_() for x in (h, w, b)]
        logp = token_logps(low[0], Head(low[1], low[2]), target)
        assert logp.dtype == torch.float32
        assert (logp - exact).abs().max() < bound * exact.abs().max()
        for x, y in zip(_grads(logp.mean(), *low), exact_grads, strict=True):
            assert x.dtype == dtype
            assert (x - y).abs().max() < bound * y.abs().max()


def test_no_targets():
    h, w, _, target = _inputs()
    loss, logp = nll(h[:0], Head(w), target[:0], torch.ones(0))
    loss.backward()
    assert (float(loss.detach()), len(logp)) == (0.0, 0)
    assert not w.grad.any()


@pytest.mark.parametrize("softcap", [None, 1.5])
def test_what_a_gpu_computes_can_be_compiled(softcap):
    """The functions between the products as torch.compile makes them, with another number of rows the second time."""
    h, w, _, target = _inputs(torch.float32)
    how = module._How(2.0, softcap, 0.7)
    stats, slopes = torch.compile(module._stats, fullgraph=True), torch.compile(module._slopes, fullgraph=True)
    for c in (slice(0, 256), slice(256, N)):
        raw, g, ge = (h[c] @ w.T).detach(), *torch.randn(2, len(h[c]))
        plain = module._stats(raw, target[c], how, True)
        for x, y in zip(stats(raw, target[c], how, True), plain, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
        given = raw, target[c], plain[0], g, how, plain[2], ge
        torch.testing.assert_close(slopes(*given), module._slopes(*given), rtol=1e-3, atol=1e-4)
