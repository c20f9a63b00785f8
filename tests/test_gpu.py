"""The GPU's path without a GPU, on PyTorch's device "meta", whose tensors have a shape and no numbers.

Like a GPU it is not the CPU, so packs go to it as they would go to one, variable-length attention is called with its
real signature, and every operation that would make the host wait for a number is an error. What it cannot show is that
the numbers are right: for that the same functions run on the CPU in test_head, test_attention and test_sampler.
"""

import asyncio
import copy
from itertools import chain

import pytest
import tiny
import torch

from posttrain import attention, head
from posttrain.adamw import Master, Optim
from posttrain.model import Model
from posttrain.packing import Branch, Doc, build
from posttrain.render import load_chat
from posttrain.sampler import Sampling, cache, forward
from posttrain.sampler.cache import Batched
from posttrain.sampler.choose import _invert, _invert_in_blocks
from posttrain.sampler.graphs import Steps, rounded
from posttrain.sampler.local import Local
from posttrain.serve.engine import make_room
from posttrain.stages.sft import token_loss

GPU = torch.device("meta")
CHAT = Doc([], [Branch(list(range(20, 60)), [i > 9 for i in range(40)])])
PAIR = Doc([5, 6, 7, 8], [Branch([9, 10, 11], [True] * 3), Branch([12, 13], [True] * 2)])


@pytest.fixture
def gpu(monkeypatch):
    """What is asked of a GPU by name."""
    monkeypatch.setattr(head, "_chunk_rows", lambda h_ND, vocabulary: 128)
    monkeypatch.setattr(head, "_fuses", lambda h_ND: True)


def on_gpu(kind):
    """A tiny bf16 model whose parameters and buffers claim to be on a GPU."""
    hf, moved = tiny.model(kind, dtype=torch.bfloat16), {}
    for module in hf.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = moved.setdefault(id(p), torch.nn.Parameter(p.detach().to(GPU)))
        for name, x in module._buffers.items():
            module._buffers[name] = x.to(GPU)
    return Model(hf)


@pytest.mark.parametrize("kind", ["qwen3", "qwen2-window"])
def test_a_micro_batch_never_waits_and_stays_on_its_device(gpu, monkeypatch, kind):
    """SFT, forward and backward, and the sums of gradients: nothing asks the GPU for a number."""
    calls = []
    monkeypatch.setattr(attention, "varlen", lambda *x, inner=attention.varlen: calls.append(x) or inner(*x))
    model = on_gpu(kind)
    master = Master(model.parameters(), Optim(1e-3))
    pack = build([CHAT, CHAT], pad_to=64)
    value, facts = token_loss(model, pack, "nll", 60.0)
    value.backward()
    master.collect()
    assert len(calls) == 2 and value.device == facts["loss"][0].device == GPU
    assert all(g.device == GPU for g in master.grads)


def test_the_device_cannot_be_waited_for():
    x = torch.ones(3, device=GPU)
    for ask in (lambda: float(x[0]), lambda: bool(x.isfinite().all()), lambda: x.cpu(), lambda: x.nonzero()):
        with pytest.raises((NotImplementedError, RuntimeError)):
            ask()


def test_a_shared_prompt_on_a_gpu(gpu):
    """Each branch has its own run of keys: its prompt's, then its own; their gradients go back to the prompt."""
    model = on_gpu("qwen3")
    pack = build([PAIR, PAIR], pad_to=64)
    gathered = pack.layout.on(GPU, len(pack.ids_T)).gathered
    assert gathered.key_J.device == GPU and len(gathered.key_J) == 2 * (4 + 4 + 3 + 4 + 2) + 32 - 18
    model.hidden(pack).float().sum().backward()
    assert all(p.grad.device == GPU for n, p in model.named_parameters().items() if "lm_head" not in n)


def test_a_decoding_step_can_be_recorded(gpu):
    """A graph may neither wait nor copy from the host; top_p has to do without its early exit."""
    hf = on_gpu("qwen3").hf
    engine = Batched(hf, 4, 64)
    for n, layer in enumerate(hf.model.layers):
        engine.keys[n] = engine.values[n] = torch.zeros(
            4, 2, engine.positions, layer.self_attn.head_dim, device=GPU, dtype=torch.bfloat16
        )
    steps = Steps(engine._stepped, 4, engine.positions, GPU, lambda work: work)
    for how in (Sampling(), Sampling(temperature=0.7, top_k=5, top_p=0.9, min_p=0.1), Sampling(temperature=0)):
        assert steps._work(4, 64, how).shape == (4, 3)
    assert steps._work(4, 64, None).device == GPU


def as_recorded(played):
    """A recording as a GPU plays it: always the same work into the same memory."""

    def record(work):
        out = work().clone()

        def play():
            played.append(1)
            return out.copy_(work())

        return play

    return record


@pytest.mark.parametrize("how", [Sampling(max_new=40, seed=5), Sampling(max_new=9, seed=1, temperature=0.7, top_p=0.8)])
def test_recorded_steps_draw_the_same(monkeypatch, tmp_path, how):
    """Three slots, four prompts with two answers each: sizes and lengths change on the way. The second request finds
    the recordings of the first."""
    tiny.tokenizer().save_pretrained(tmp_path)
    chat, hf, played = load_chat(tmp_path), tiny.model("qwen3"), []
    prompts = [[5, 6, 7], list(range(10, 50)), [9] * 12, [8]]
    plain = asyncio.run(Local(hf, chat, batch=3).sample(prompts, 2, how))
    made = []

    def recording(*args):
        engine = Batched(*args)
        engine.native, engine.record = None, as_recorded(played)
        engine.renew()
        engine.made_for = cache.state_of(hf)
        made.append(engine)
        return engine

    monkeypatch.setattr("posttrain.sampler.local.Batched", recording)
    monkeypatch.setattr(Local, "_keep", lambda self, engine: setattr(self, "_kept", engine))
    sampler = Local(hf, chat, batch=3)
    for _ in range(2):
        found = asyncio.run(sampler.sample(prompts, 2, how))
        assert [[s.ids for s in row] for row in found] == [[s.ids for s in row] for row in plain]
        for a, b in zip(chain(*found), chain(*plain)):
            assert a.logps == pytest.approx(b.logps, abs=1e-4)
    assert len(made) == 1 and len(made[0].steps.recorded) < len(played)
    with torch.no_grad():
        hf.model.norm.weight = torch.nn.Parameter(hf.model.norm.weight.clone())
    asyncio.run(sampler.sample(prompts[:1], 1, how))
    assert len(made) == 2  # a parameter that lies elsewhere makes recordings worthless


def test_a_larger_cache_needs_new_recordings():
    """A server's cache grows under an answer in progress: what was recorded would write into the old one."""
    engine = Batched(tiny.model("qwen3"), 2, 64)
    engine.native, engine.record = None, as_recorded([])
    engine.renew()
    plain = Batched(engine.hf, 2, 128)
    for x in (engine, plain):
        x.place(x.read([list(range(5, 65))]), [0])
    for k in range(6):
        if k == 3:
            make_room(engine, 65, None)
        torch.testing.assert_close(engine.step([9 + k], [60 + k]), plain.step([9 + k], [60 + k]), rtol=1e-4, atol=1e-4)


def test_layers_of_a_recorded_step_share_their_code(tmp_path):
    """Compiled by a back end that only traces: attention stays apart, so six layers need no more graphs than two."""
    prompts, graphs = [[5, 6, 7, 8], [9] * 12], []
    for layers in (2, 6):
        torch._dynamo.reset()
        hf = tiny.model("qwen3")
        hf.model.layers.extend([copy.deepcopy(hf.model.layers[0]) for _ in range(layers - 2)])
        hf.config.num_hidden_layers = layers
        for n, layer in enumerate(hf.model.layers):
            layer.self_attn.layer_idx = n
        hf.config.layer_types = ["full_attention"] * layers
        plain, quick = Batched(hf, 4, 64), Batched(hf, 4, 64)
        plain.native = quick.native = None
        quick.quick = forward.Loan(hf, forward.APART, list(hf.model.layers), backend="eager")
        logits = []
        torch._dynamo.utils.counters.clear()
        for engine in (plain, quick):
            engine.place(engine.read(prompts), [0, 1])
            logits.append([engine.step([20 + k, 30], [4 + k, 12 + k]) for k in range(3)])
        torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        assert all(m._compiled_call_impl is None for m in hf.modules())
    assert graphs[0] > 0 and graphs[1] <= graphs[0] + 1  # a size that turned out to vary; not one for each layer


def test_draws_in_blocks_are_those_of_a_row():
    """1,300 tokens, two and a half blocks, most of them without probability; u at both ends and everywhere between."""
    g = torch.Generator().manual_seed(0)
    p = torch.rand(2000, 1300, generator=g).square() * (torch.rand(2000, 1300, generator=g) < 0.05)
    u = torch.cat([torch.zeros(10), torch.full((10,), 1 - 2**-53, dtype=torch.float64), torch.rand(1980, generator=g)])
    one, many = _invert(p, u.double()), _invert_in_blocks(p, u.double())
    assert torch.equal(one[0], many[0])
    torch.testing.assert_close(one[1], many[1], rtol=1e-12, atol=0)
    assert (p[torch.arange(2000), many[0]] > 0).all()
    assert _invert_in_blocks(torch.full((1, 1300), float("nan")), u[:1].double())[0] < 1536  # no index out of bounds


def test_lengths_are_few():
    assert [rounded(n) for n in (1, 64, 65, 256, 257, 500, 513, 1025)] == [64, 64, 128, 256, 320, 512, 640, 1280]
    assert len({rounded(n) for n in range(1, 8193)}) == 24
