"""The packed back end against the dense definition: values and gradients, prefixes, windows, soft caps, alignment."""

from itertools import pairwise

import pytest
import torch

from posttrain import attention, kernels
from posttrain.attention import attend, dense, visible
from posttrain.packing import Branch, Doc, Layout, Segment, build

H, K, D = 4, 2, 16


def _docs(*shapes):
    """(prefix length, branch lengths...) per document; token ids do not matter here."""
    return [Doc([1] * p, [Branch([1] * n, [True] * n) for n in ns]) for p, *ns in shapes]


LAYOUT = build(_docs((50, 40, 300), (0, 100), (3, 1, 17), (140, 5, 5, 5)), pad_to=32).layout
TOKENS = 736  # 50 + 340, 100, 3 + 18, 140 + 15 = 666, and padding


def _inputs(dtype, tokens=TOKENS, seed=0):
    torch.manual_seed(seed)
    q, k, v = (torch.randn(1, h, tokens, D, dtype=dtype).requires_grad_() for h in (H, K, K))
    return (q, k, v), torch.randn(1, tokens, H, D, dtype=dtype)


@pytest.fixture(params=["c", "torch"])
def backend(request, monkeypatch):
    """The C code, or PyTorch's operators as on a machine without a compiler."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "fits", lambda q_THD: False)
    elif kernels.library("attention") is None:
        pytest.skip("no C compiler here")


def _both(dtype, window, softcap):
    """(output, gradients) of the packed back end and of the oracle, the oracle in fp32 at least."""
    qkv, weight = _inputs(dtype)
    mine = attend(None, *qkv, None, layout=LAYOUT, sliding_window=window, softcap=softcap)[0]
    mine_grads = torch.autograd.grad((mine * weight).sum(), qkv)
    wide = [x.detach().to(torch.promote_types(dtype, torch.float32)).requires_grad_() for x in qkv]
    theirs = dense(*wide, visible(LAYOUT, TOKENS, window), scale=D**-0.5, softcap=softcap).transpose(1, 2)
    theirs_grads = torch.autograd.grad((theirs * weight.to(theirs.dtype)).sum(), wide)
    return (mine, *mine_grads), (theirs, *theirs_grads)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 7, 64, 1000])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 5e-6), (torch.bfloat16, 3e-2)])
def test_equals_the_dense_definition(backend, dtype, bound, window, softcap):
    for mine, theirs in zip(*_both(dtype, window, softcap), strict=True):
        assert (mine - theirs).abs().max() <= bound * theirs.abs().max()


def test_dense_mask_by_hand():
    """Prompt 0 1, branches 2 3 and 4: both see the prompt, not each other; 5 is padding."""
    layout = Layout.of([Segment(0, 2, 0, 0), Segment(2, 4, 0, 2), Segment(4, 5, 0, 2)])
    rows = ["100000", "110000", "111000", "111100", "110010", "000000"]
    assert visible(layout, 6).int().tolist() == [[int(c) for c in row] for row in rows]


def test_dense_window_counts_positions_not_indices():
    """Window 2: token 4 stands at position 2, so it sees positions 1 and 2, which are the indices 1 and 4."""
    layout = Layout.of([Segment(0, 2, 0, 0), Segment(2, 4, 0, 2), Segment(4, 5, 0, 2)])
    assert visible(layout, 6, 2)[4].nonzero().flatten().tolist() == [1, 4]


def test_dense_equals_pytorch():
    (q, k, v), _ = _inputs(torch.float64, 20)
    sees = torch.ones(20, 20, dtype=torch.bool).tril()
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(dense(q, k, v, sees, scale=D**-0.5), theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_documents_are_isolated_bit_for_bit(backend, dtype):
    """Changing one document's queries, keys and values leaves the others' outputs and gradients bit-equal."""
    (q, k, v), weight = _inputs(dtype)
    first = slice(0, 390)
    runs = []
    for change in (0.0, 3.0):
        qkv = [x.detach().clone() for x in (q, k, v)]
        for x in qkv:
            x[:, :, first] += change
        qkv = [x.requires_grad_() for x in qkv]
        out = attend(None, *qkv, None, layout=LAYOUT)[0]
        runs.append((out.transpose(1, 2), *torch.autograd.grad((out * weight).sum(), qkv)))
    for before, after in zip(*runs, strict=True):
        assert torch.equal(before[:, :, 390:], after[:, :, 390:])
        assert not torch.equal(before[:, :, first], after[:, :, first])


def test_padding_is_zero_and_harmless(backend):
    qkv, weight = _inputs(torch.float32)
    out = attend(None, *qkv, None, layout=LAYOUT)[0]
    grads = torch.autograd.grad((out * weight).sum(), qkv)
    assert not out[:, 666:].any()
    assert not any(g[:, :, 666:].any() for g in grads)


def test_huge_scores_do_not_overflow(backend):
    """A hidden key may score far above the visible ones; its exponential must not become NaN through inf x 0."""
    (q, k, v), weight = _inputs(torch.float32)
    with torch.no_grad():
        q[:, :, :] = 40.0
        k[:, :, 400:450] = 40.0
    out = attend(None, q, k, v, None, layout=LAYOUT)[0]
    grads = torch.autograd.grad((out * weight).sum(), (q, k, v))
    assert all(torch.isfinite(x).all() for x in (out, *grads))


def test_gathered_keys_say_the_same_as_the_mask():
    """Variable-length attention, spelled out: query r of R sees the segment's J keys up to number J - R + r."""
    how = LAYOUT.gather(torch.device("cpu"), TOKENS)
    assert (how.longest_query, how.longest_key) == (512, 512)  # 300 and 350, rounded up
    mask = torch.zeros(TOKENS, TOKENS, dtype=torch.bool)
    for (q0, q1), (k0, k1) in zip(pairwise(how.cu_query.tolist()), pairwise(how.cu_key.tolist()), strict=True):
        for r in range(q1 - q0):
            mask[q0 + r, how.key_J[k0 : k1 - (q1 - q0) + r + 1]] = True
    assert torch.equal(mask[:666], visible(LAYOUT, TOKENS)[:666])
    assert not mask[:666, 666:].any() and torch.equal(mask[666:, 666:], torch.ones(70, 70, dtype=torch.bool).tril())
    assert LAYOUT.on(torch.device("cpu"), TOKENS) is LAYOUT


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("window", [None, 64])
def test_cuda_equals_the_dense_definition(window):
    qkv, weight = _inputs(torch.bfloat16)
    layout = LAYOUT.on(torch.device("cuda"), TOKENS)
    gpu = [x.detach().cuda().requires_grad_() for x in qkv]
    mine = attend(None, *gpu, None, layout=layout, sliding_window=window)[0]
    mine_grads = torch.autograd.grad((mine[:, :666] * weight[:, :666].cuda()).sum(), gpu)
    wide = [x.detach().float().requires_grad_() for x in qkv]
    theirs = dense(*wide, visible(LAYOUT, TOKENS, window), scale=D**-0.5).transpose(1, 2)
    theirs_grads = torch.autograd.grad((theirs[:, :666] * weight[:, :666].float()).sum(), wide)
    for a, b in zip((mine[:, :666], *mine_grads), (theirs[:, :666], *theirs_grads), strict=True):
        assert (a.cpu() - b).abs().max() <= 3e-2 * b.abs().max()


def test_operator_contract():
    """PyTorch's own checks of a custom operator: schema, fake tensors, autograd registration."""
    (q, k, v), _ = _inputs(torch.float64, 40)
    layout = build(_docs((4, 3, 5), (0, 20))).layout
    args = [x.detach()[0].transpose(0, 1).contiguous().requires_grad_() for x in (q, k, v)]
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    result = torch.library.opcheck(attention.packed, (*args, layout.segments_S4, 0.25, 0, 0.0), test_utils=checks)
    assert set(result.values()) == {"SUCCESS"}


def test_gradients_by_finite_differences():
    """Finite differences in float64 over a prefix with two branches, a window and a soft cap."""
    torch.manual_seed(0)
    segments = build(_docs((3, 2, 2))).layout.segments_S4
    q, k, v = (torch.randn(7, h, 4, dtype=torch.float64, requires_grad=True) for h in (2, 1, 1))

    def out(q, k, v):
        return attention.packed(q, k, v, segments, 0.5, 4, 1.5)[0]

    assert torch.autograd.gradcheck(out, (q, k, v), atol=1e-7)


def test_sinks_are_refused():
    qkv, _ = _inputs(torch.float32)
    with pytest.raises(NotImplementedError, match="sinks"):
        attend(None, *qkv, None, layout=LAYOUT, s_aux=torch.zeros(H))


def test_c_code_is_bit_equal_for_any_number_of_threads():
    """A task writes only its own tokens and adds in a fixed order."""
    (q, k, v), weight = _inputs(torch.float32)
    threads, runs = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            out = attend(None, q, k, v, None, layout=LAYOUT)[0]
            runs.append((out, *torch.autograd.grad((out * weight).sum(), (q, k, v))))
    finally:
        torch.set_num_threads(threads)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_c_code_leaves_odd_layouts_to_pytorch():
    """Segment 1's prefix is half of segment 0, which is no family; the answer is right all the same."""
    layout = Layout.of([Segment(0, 20, 0, 0), Segment(20, 30, 0, 10)])
    q, k, v = (torch.randn(1, h, 30, D) for h in (H, K, K))
    theirs = dense(q, k, v, visible(layout, 30), scale=D**-0.5).transpose(1, 2)
    torch.testing.assert_close(attend(None, q, k, v, None, layout=layout)[0], theirs, rtol=0, atol=1e-6)
    rows = [x[0].transpose(0, 1) for x in (q, k, v)]
    if kernels.library("attention"):
        assert kernels.forward(*rows, layout.segments_S4, 0.25, 0, 0.0) is None


def test_a_machine_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path))
    kernels.library.cache_clear()
    try:
        assert kernels.library("attention") is None
        assert not kernels.fits(torch.zeros(1, 1, 16))
    finally:
        kernels.library.cache_clear()
