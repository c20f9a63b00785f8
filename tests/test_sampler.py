"""The local sampler against transformers: tokens, log-probabilities, distribution, and what it leaves behind."""

import asyncio
import dataclasses
import math
from typing import Any

import pytest
import tiny
import torch
import transformers
from scipy import stats

from posttrain.errors import UserError
from posttrain.render import Chat, load_chat
from posttrain.rows import Sample
from posttrain.sampler import Sampling, Scripted, cache, forward
from posttrain.sampler.cache import AREA, Batched, Reading, families, passes
from posttrain.sampler.choose import choose, log_probs, penalised, uniforms
from posttrain.sampler.local import Local
from posttrain.sampler.text import shown, stop_at

LENGTHS = (5, 40, 12, 3)
HOW = Sampling(max_new=16, seed=5)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.tokenizer().save_pretrained(folder)
    return load_chat(folder)


def prompts(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[list[int]]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randint(4, tiny.VOCAB, (n,), generator=g).tolist() for n in lengths]


def draw(hf: Any, chat: Chat, asked: list[list[int]], n: int, how: Sampling, **more: Any) -> list[list[Sample]]:
    return asyncio.run(Local(hf, chat, **more).sample(asked, n, how))


def ids(rows: list[list[Sample]]) -> list[list[tuple[int, ...]]]:
    return [[s.ids for s in row] for row in rows]


def greedy(hf: Any, prompt: list[int], count: int, stops: tuple[int, ...]) -> tuple[int, ...]:
    out = hf.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        max_new_tokens=count, eos_token_id=list(stops), pad_token_id=3,
    )  # fmt: skip
    return tuple(out[0, len(prompt) :].tolist())


@pytest.mark.parametrize("kind", list(tiny.CONFIGS))
def test_greedy_is_that_of_generate(kind: str, chat: Chat) -> None:
    """fp32, token for token, over more prompts than slots; windows of 8 are shorter than prompts and answers."""
    hf = tiny.model(kind)
    sampler = Local(hf, chat, batch=3)
    assert sampler.batched
    rows = asyncio.run(sampler.sample(prompts(), 1, Sampling(max_new=12, temperature=0)))
    assert [row[0].ids for row in rows] == [greedy(hf, p, 12, chat.stop_ids) for p in prompts()]
    assert all(logp == 0 for row in rows for logp in row[0].logps)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_batched_draws_what_the_plain_engine_draws(kind: str, chat: Chat) -> None:
    hf = tiny.model(kind)
    fast, slow = (draw(hf, chat, prompts(), 2, HOW, batch=b, engine=e) for b, e in ((5, "batched"), (2, "plain")))
    assert ids(fast) == ids(slow)
    for a, b in zip(fast, slow):
        for x, y in zip(a, b):
            assert x.logps == pytest.approx(y.logps, abs=1e-4)


@pytest.mark.parametrize("kind", ["bloom", "gpt_oss"])
def test_other_architectures_take_the_exact_path(kind: str, chat: Chat) -> None:
    """ALiBi does not go through the attention interface; attention sinks are not in ours."""
    torch.manual_seed(0)
    if kind == "bloom":
        config: Any = transformers.BloomConfig(vocab_size=tiny.VOCAB, hidden_size=32, n_layer=2, n_head=4)
    else:
        config = transformers.GptOssConfig(
            vocab_size=tiny.VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, num_local_experts=2, num_experts_per_tok=1, sliding_window=8,
            max_position_embeddings=256, rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        )  # fmt: skip
    hf = transformers.AutoModelForCausalLM.from_config(config).eval()
    sampler = Local(hf, chat, batch=2)
    assert not sampler.batched
    rows = asyncio.run(sampler.sample(prompts((6, 11, 3)), 1, Sampling(max_new=5, temperature=0)))
    assert [r[0].ids for r in rows] == [greedy(hf, p, 5, chat.stop_ids) for p in prompts((6, 11, 3))]


SETTINGS = [
    {}, {"temperature": 0.7}, {"top_k": 10}, {"top_p": 0.8}, {"min_p": 0.05},
    {"temperature": 1.3, "top_k": 50, "top_p": 0.9, "min_p": 0.02},
]  # fmt: skip


def warped(logits_TV: torch.Tensor, how: Sampling) -> torch.Tensor:
    """The distribution by transformers' own processors."""
    steps: list[Any] = [transformers.TemperatureLogitsWarper(float(how.temperature))]
    if how.top_k:
        steps.append(transformers.TopKLogitsWarper(how.top_k))
    if how.top_p < 1:
        steps.append(transformers.TopPLogitsWarper(how.top_p))
    if how.min_p:
        steps.append(transformers.MinPLogitsWarper(how.min_p))
    for step in steps:
        logits_TV = step(torch.zeros(len(logits_TV), 1, dtype=torch.long), logits_TV)
    return torch.log_softmax(logits_TV, -1)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_logps_are_those_of_a_plain_forward(setting: dict[str, Any], chat: Chat) -> None:
    """Samples that share a read prompt, rescored one by one with the whole sequence in one pass."""
    hf, how = tiny.model("qwen3", seed=1), Sampling(max_new=16, **setting)
    hf.get_output_embeddings().weight.data *= 2  # sharper, so that truncation leaves few tokens
    for prompt, row in zip(prompts(), draw(hf, chat, prompts(), 3, how, batch=5)):
        for s in row:
            with torch.no_grad():
                logits = hf(torch.tensor([[*prompt, *s.ids]])).logits[0, len(prompt) - 1 : -1]
            want = warped(logits, how).gather(1, torch.tensor(s.ids)[:, None])[:, 0]
            assert torch.allclose(torch.tensor(s.logps), want, atol=1e-4), setting


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_log_probs_are_those_of_transformers(setting: dict[str, Any]) -> None:
    """Large vocabularies too, where the nucleus needs more than the tokens sorted first."""
    logits = torch.randn(4, 3000, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [[0.1], [1.0], [3.0], [9.0]]
    )
    torch.testing.assert_close(log_probs(logits, Sampling(**setting)), warped(logits, Sampling(**setting)))


def test_a_repetition_penalty_is_that_of_generate(chat: Chat) -> None:
    """Greedy, token for token beside transformers, and it changes what is said; company does not matter."""
    hf, how = tiny.model("llama"), Sampling(max_new=12, temperature=0, repetition_penalty=1.8)
    rows = draw(hf, chat, prompts(), 2, how, batch=3)
    for prompt, row in zip(prompts(), rows):
        out = hf.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
            max_new_tokens=12, eos_token_id=list(chat.stop_ids), pad_token_id=3, repetition_penalty=1.8,
        )  # fmt: skip
        assert [s.ids for s in row] == [tuple(out[0, len(prompt) :].tolist())] * 2
    assert ids(rows) != ids(draw(hf, chat, prompts(), 2, how.model_copy(update={"repetition_penalty": 1.0})))


def test_log_probs_under_a_repetition_penalty_are_those_drawn_from(chat: Chat) -> None:
    """Each token rescored with transformers' processors over everything before it; by hand: 2 / 1.5, -2 x 1.5."""
    hf = tiny.model("qwen3", seed=1)
    how = Sampling(max_new=10, temperature=0.7, top_p=0.9, repetition_penalty=1.5)
    penalty = transformers.RepetitionPenaltyLogitsProcessor(1.5)
    for prompt, row in zip(prompts(), draw(hf, chat, prompts(), 2, how, batch=5)):
        for s in row:
            for n, (token, logp) in enumerate(zip(s.ids, s.logps)):
                before = torch.tensor([[*prompt, *s.ids[:n]]])
                with torch.no_grad():
                    logits = penalty(before, hf(before).logits[:, -1])
                assert float(warped(logits, how)[0, token]) == pytest.approx(logp, abs=1e-4)
    made = penalised(torch.tensor([[2.0, -2.0, 1.0]]), [[0, 1, 1]], how)
    assert made[0].tolist() == pytest.approx([2 / 1.5, -3.0, 1.0])


def test_truncation_by_hand() -> None:
    """p = .5 .25 .125 .125. top_p .7 keeps .5 and .25 (.75 reaches it): 2/3, 1/3. top_k 3 meets a tie: all four stay.

    min_p .4 asks for at least .2: 2/3, 1/3.
    """
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    for how in (Sampling(top_p=0.7), Sampling(top_k=2), Sampling(min_p=0.4)):
        assert log_probs(logits, how).exp()[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert log_probs(logits, Sampling(top_k=3)).exp()[0].tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125])
    # u in [0, 2/3) is the first token, [2/3, 1) the second; the largest u there is does not fall off the end
    u = torch.tensor([0.0, 0.66, 0.67, math.nextafter(1, 0)], dtype=torch.float64)
    token, logp = choose(logits.expand(4, 4), u, Sampling(top_k=2))
    assert token.tolist() == [0, 0, 1, 1]
    assert logp.exp().tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3])


def test_even_uniforms_give_every_token_its_share() -> None:
    """N = 10,000 evenly spaced u: each token is drawn N p times, one more or less at either edge of its stretch."""
    n, logits = 10_000, torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    token, _ = choose(logits.expand(n, 50), u, Sampling())
    share = torch.bincount(token, minlength=50).double()
    assert (share - n * logits[0].double().softmax(0)).abs().max() < 1.01


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.6, "top_p": 0.9}], ids=str)
def test_first_tokens_have_the_model_s_distribution(setting: dict[str, Any], chat: Chat) -> None:
    """Chi-square over 6,000 samples of one prompt; rare tokens are one bin. 1 in 1,000 seeds fails by chance."""
    hf, how, n = tiny.model("llama", seed=3), Sampling(max_new=1, seed=11, **setting), 6_000
    (prompt,) = prompts((7,))
    drawn = torch.tensor([s.ids[0] for s in draw(hf, chat, [prompt], n, how, batch=256)[0]])
    with torch.no_grad():
        want = n * warped(hf(torch.tensor([prompt])).logits[0, -1:], how)[0].double().exp()
    seen, common = torch.bincount(drawn, minlength=len(want)).double(), want >= 8
    assert (seen[want == 0] == 0).all()
    pairs = [torch.cat([x[common], x[~common].sum()[None]]) for x in (seen, want)]
    seen, want = (p[pairs[1] > 0].numpy() for p in pairs)
    assert stats.chisquare(seen, want * (seen.sum() / want.sum())).pvalue > 1e-3  # their sums differ by rounding


def test_second_tokens_follow_the_first(chat: Chat) -> None:
    """Uniforms of neighbouring positions and samples are unrelated: correlations of 20,000 are within 4 / sqrt(n)."""
    u = torch.tensor([uniforms(0, 0, j, 2).tolist() for j in range(20_000)], dtype=torch.float64)
    bound = 4 / math.sqrt(20_000)
    assert abs(torch.corrcoef(u.T)[0, 1]) < bound
    assert abs(torch.corrcoef(torch.stack([u[1:, 0], u[:-1, 0]]))[0, 1]) < bound


def test_company_does_not_matter(chat: Chat) -> None:
    """More requests than slots, alone, fewer samples, longer answers: the same tokens in fp32."""
    hf = tiny.model("llama")
    asked, how = prompts((5, 40, 12, 3, 33, 21, 5)), Sampling(max_new=9, seed=5)
    whole = ids(draw(hf, chat, asked, 3, how, batch=64))
    assert ids(draw(hf, chat, asked, 3, how, batch=4)) == whole
    assert ids(draw(hf, chat, asked, 3, how, batch=1)) == whole
    assert ids(draw(hf, chat, asked[:1], 3, how))[0] == whole[0]
    assert [row[:2] for row in whole] == ids(draw(hf, chat, asked, 2, how))
    longer = ids(draw(hf, chat, asked, 3, how.model_copy(update={"max_new": 14})))
    assert [[s[:9] for s in row] for row in longer] == whole
    assert len({s for row in whole for s in row}) == 21  # and no two answers are the same draw
    assert ids(draw(hf, chat, asked, 3, how.model_copy(update={"seed": 6}))) != whole


def test_a_prompt_is_read_once(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 prompts x 5 samples over 4 slots: 3 readings, of 20 tokens in all."""
    seen: list[int] = []
    read = Batched.read
    monkeypatch.setattr(Batched, "read", lambda self, ps: seen.extend(map(len, ps)) or read(self, ps))
    draw(tiny.model(), chat, prompts((5, 12, 3)), 5, HOW, batch=4)
    assert sorted(seen) == [3, 5, 12]


def test_families_by_hand() -> None:
    """Twenty tokens alike are read once, also of equal prompts; fifteen are not worth it; nothing else is joined."""
    head, other = list(range(100, 120)), list(range(200, 215))
    asked = [[*head, 1], [7], [*other, 1], [*head, 2, 3], [*other, 2], [*head, 1], head]
    assert families(asked) == [(19, [0, 3, 5, 6]), (0, [1]), (0, [2]), (0, [4])]
    deep = [[*head, *head, *head, n] for n in (1, 2, 3)]
    assert families([*deep, [*head, 900]]) == [(60, [0, 1, 2]), (0, [3])]  # 20 for all four would read more tokens
    assert families([[1], [1]]) == [(0, [0]), (0, [1])] and families([head]) == [(0, [0])]


@pytest.mark.parametrize("kind", list(tiny.CONFIGS))
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_what_prompts_begin_with_alike_is_read_once(
    kind: str, kernels: str, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer tokens pass through the model; logits, answers and log-probs are those of each prompt read by itself."""
    if kernels == "off":
        monkeypatch.setattr(cache.kernels, "fits", lambda q: False)
    hf = tiny.model(kind)
    head, *tails = prompts((40, 1, 5, 9, 30))
    asked = [head + tail for tail in tails] + [head + tails[0], tails[3]]
    assert Reading(asked, torch.device("cpu")).tokens < sum(map(len, asked)) - 3 * 40
    engine = Batched(hf, 8, 128)
    with torch.no_grad():
        together, alone = engine.read(asked), [engine.read([p])[0] for p in asked]
    for a, b in zip(together, alone):
        torch.testing.assert_close(a.logits_V, b.logits_V, atol=2e-5, rtol=1e-4)
    how = Sampling(max_new=8, seed=3)
    whole, oracle = (asyncio.run(Local(hf, chat, engine=e).sample(asked, 2, how)) for e in ("batched", "plain"))
    assert ids(whole) == ids(oracle)
    for row, other in zip(whole, oracle):
        for a, b in zip(row, other):
            assert a.logps == pytest.approx(b.logps, abs=1e-4)


def test_passes_are_bounded() -> None:
    asked = [[0] * n for n in (5000, 3000, 1100, 1000, 1000, 900, 10, 5)]
    groups = passes(asked)
    assert [p for g in groups for p in g] == asked
    assert [len(g) for g in groups] == [1, 1, 3, 3]
    assert all(len(g) == 1 or len(g) * max(map(len, g)) <= AREA for g in groups)


def test_endings(chat: Chat) -> None:
    """A stop id ends an answer and stands in the ids, not in the text; a control token inside is "malformed"."""
    hf = tiny.model("llama", seed=2)
    (free,) = draw(hf, chat, prompts((9,)), 1, HOW.model_copy(update={"max_new": 24}))[0]
    assert free.ended == "length" and len(free.ids) == 24
    third = free.ids[2]
    assert third not in free.ids[:2]
    (stopped,) = draw(hf, dataclasses.replace(chat, stop_ids=(third,)), prompts((9,)), 1, HOW)[0]
    assert stopped.ended == "stop" and stopped.ids == free.ids[:3] and len(stopped.logps) == 3
    assert stopped.text == chat.decode(free.ids[:2])
    hf.set_output_embeddings(torch.nn.Linear(32, tiny.VOCAB))
    hf.get_output_embeddings().bias.data[1] = 1e4  # <|im_start|>, which ends nothing
    (odd,) = draw(hf, chat, prompts((9,)), 1, Sampling(max_new=4))[0]
    assert odd.ids == (1,) * 4 and odd.ended == "malformed"


def test_stop_strings(chat: Chat) -> None:
    """The answer is the same up to the token that completes the stop string, whose text is cut off."""
    hf, how = tiny.model("llama", seed=4), Sampling(max_new=40, seed=1)
    free = draw(hf, chat, prompts(), 2, how)
    for i, row in enumerate(free):
        stop = row[0].text[17:20]
        cut = draw(hf, chat, prompts(), 2, how.model_copy(update={"stop": (stop, "never said")}))[i][0]
        assert cut.text == row[0].text[: row[0].text.index(stop)]
        assert cut.ended == "stop" and cut.ids == row[0].ids[: len(cut.ids)]
        assert stop in chat.parse(cut.ids)[0].content and stop not in chat.parse(cut.ids[:-1])[0].content


def test_stop_at_finds_the_earliest(chat: Chat) -> None:
    tokens = list(chat.tokenizer("the user asks the user", add_special_tokens=False).input_ids)
    assert stop_at(chat.decode, tokens, ["user", "asks"]) == 4
    assert stop_at(chat.decode, tokens, ["assistant"]) is None


def test_stream_joins_to_the_sample(chat: Chat) -> None:
    """Random bytes make broken and multi-byte characters; every piece is final when it is shown."""
    chat = dataclasses.replace(chat, stop_ids=())  # control tokens inside, which are not text
    for seed in range(3):
        hf, how = tiny.model("llama", seed=seed), Sampling(max_new=50, seed=seed)
        (sample,) = draw(hf, chat, prompts((9,)), 1, how)[0]
        pieces = list(Local(hf, chat).stream(prompts((9,))[0], how))
        assert "".join(pieces) == sample.text and len(pieces) > 10
        stop = sample.text[25:28]
        how = how.model_copy(update={"stop": (stop,)})
        assert "".join(Local(hf, chat).stream(prompts((9,))[0], how)) == sample.text[: sample.text.index(stop)]


def test_stream_holds_back_what_the_template_puts_before_an_answer(chat: Chat) -> None:
    """An answer that begins with the template's lead (an empty <think> block, say) is shown without it, from its first
    character on; one that begins otherwise is shown whole."""
    chat, how = dataclasses.replace(chat, stop_ids=()), Sampling(max_new=30, seed=1)
    hf, prompt = tiny.model("llama", seed=1), prompts((9,))[0]
    (free,) = draw(hf, chat, [prompt], 1, how)[0]
    lead = chat.decode(free.ids[:4])
    assert len(lead) > 2
    for begun, left in ((lead, len(lead)), (lead[:-1] + "\0", 0)):
        own = dataclasses.replace(chat, lead=begun)
        (sample,) = draw(hf, own, [prompt], 1, how)[0]
        assert sample.text == free.text[left:]
        assert "".join(Local(hf, own).stream(prompt, how)) == sample.text


def test_shown_holds_back_what_may_change(chat: Chat) -> None:
    """An emoji is 4 bytes, so 4 tokens here: nothing of it is shown before the last."""
    emoji = list(chat.tokenizer("a😀", add_special_tokens=False).input_ids)
    assert [shown(chat.decode(emoji[:k]), []) for k in range(1, 6)] == ["a", "a", "a", "a", "a😀"]
    assert shown("answer</", ["</s>"]) == "answer" and shown("answer</b", ["</s>"]) == "answer</b"


def test_the_module_comes_back_as_it_was(chat: Chat) -> None:
    """Attention, training mode and linear layers, after half a stream and after an exception in the second step."""
    hf = tiny.model("gpt2", attn="sdpa")
    hf.train()
    hf.transformer.h[0].eval()
    modes = [m.training for m in hf.modules()]

    def untouched() -> bool:
        clean = all("forward" not in m.__dict__ for m in hf.modules())
        return hf.config._attn_implementation == "sdpa" and [m.training for m in hf.modules()] == modes and clean

    half = Local(hf, chat).stream(prompts()[0], HOW)
    next(half)
    assert untouched()
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("on purpose")

    handle = hf.transformer.h[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        draw(hf, chat, prompts(), 1, HOW)
    handle.remove()
    assert untouched()
    next(half)  # another sampler came in between
    assert torch.is_grad_enabled()


def test_compiled_layers_are_left_aside(chat: Chat) -> None:
    """They are compiled for training's shapes; calling one here is an error."""
    hf, want = tiny.model("llama"), ids(draw(tiny.model("llama"), chat, prompts(), 1, HOW))
    layer = hf.model.layers[1]

    def compiled(*_: Any, **__: Any) -> None:
        raise AssertionError("a compiled layer was called")

    layer._compiled_call_impl = compiled
    assert ids(draw(hf, chat, prompts(), 1, HOW)) == want
    assert layer._compiled_call_impl is compiled


def test_turned_products_are_the_products(monkeypatch: pytest.MonkeyPatch, chat: Chat) -> None:
    """(W x^T)^T + b for vectors, few rows, many rows, and inside a model that has biases and tied weights."""
    for bias in (False, True):
        linear = torch.nn.Linear(24, 40, bias=bias)
        for shape in ((1, 24), (1, 7, 24), (7, 1, 24), (600, 24)):
            x = torch.randn(shape)
            torch.testing.assert_close(forward.turned(linear, x), linear(x))
            assert forward.turned(linear, x).is_contiguous()
    want = ids(draw(tiny.model("phi"), chat, prompts(), 2, HOW))
    every = lambda hf: [m for m in hf.modules() if isinstance(m, torch.nn.Linear)]  # noqa: E731
    monkeypatch.setattr(forward, "turnable", every)
    assert ids(draw(tiny.model("phi"), chat, prompts(), 2, HOW)) == want


def test_dropout_is_off(chat: Chat) -> None:
    hf = tiny.model("gpt2")
    quiet = ids(draw(hf, chat, prompts(), 2, HOW))
    assert ids(draw(hf.train(), chat, prompts(), 2, HOW)) == quiet


def test_two_samplers_take_turns(chat: Chat) -> None:
    """On one module and on two, step by step in one event loop."""
    a, b = tiny.model("llama"), tiny.model("gemma2")
    want = [ids(draw(hf, chat, prompts(), 2, HOW)) for hf in (a, a, b)]

    async def together() -> list[Any]:
        samplers = [Local(a, chat, batch=3), Local(a, chat, batch=8), Local(b, chat)]
        return await asyncio.gather(*(s.sample(prompts(), 2, HOW) for s in samplers))

    assert [ids(rows) for rows in asyncio.run(together())] == want


def test_new_weights_are_seen_and_counted(chat: Chat) -> None:
    hf = tiny.model("llama")
    sampler, how = Local(hf, chat), Sampling(max_new=8, temperature=0)
    before = asyncio.run(sampler.sample(prompts(), 1, how))
    with torch.no_grad():
        hf.get_input_embeddings().weight.add_(0.5)
    asyncio.run(sampler.load(hf, 7))
    after = asyncio.run(sampler.sample(prompts(), 1, how))
    assert before[0][0].version == 0 and after[0][0].version == 7
    assert ids(before) != ids(after)
    assert [r[0].ids for r in after] == [greedy(hf, p, 8, chat.stop_ids) for p in prompts()]


def test_adapters_are_in_force(chat: Chat) -> None:
    """A posttrain Model with LoRA: the adapter's weights change the answers, and they are those of generate."""
    peft = pytest.importorskip("peft")
    from posttrain.model import Model

    hf = tiny.model("llama", attn="sdpa")
    plain = ids(draw(hf, chat, prompts(), 1, Sampling(max_new=8, temperature=0)))
    model = Model(peft.get_peft_model(hf, peft.LoraConfig(r=2, target_modules="all-linear")))
    for name, p in model.hf.named_parameters():
        if "lora_B" in name:
            p.data.normal_(0, 1)
    adapted = ids(draw(model, chat, prompts(), 1, Sampling(max_new=8, temperature=0)))
    assert adapted != plain
    assert [r[0] for r in adapted] == [greedy(model.hf, p, 8, chat.stop_ids) for p in prompts()]


def test_the_context_is_a_wall(chat: Chat) -> None:
    """256 positions: a prompt of 256 is refused, one of 250 gets at most 6 tokens."""
    hf = tiny.model("llama")
    with pytest.raises(UserError, match="256 tokens leaves no room"):
        draw(hf, chat, prompts((256,)), 1, HOW)
    (row,) = draw(hf, chat, prompts((250,)), 1, HOW)[0]
    assert len(row.ids) == 6 and row.ended == "length"
    with pytest.raises(ValueError, match="at least one token"):
        draw(hf, chat, [[]], 1, HOW)


def test_scalings_that_change_with_the_length_end_the_context(chat: Chat) -> None:
    config = tiny.CONFIGS["llama"]()
    config.rope_parameters = {
        "rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64,
    }  # fmt: skip
    assert Local(transformers.AutoModelForCausalLM.from_config(config), chat).context == 64


def test_a_diverged_model_says_so(chat: Chat) -> None:
    hf = tiny.model("llama")
    hf.get_output_embeddings().weight.data[5, 5] = math.nan
    with pytest.raises(UserError, match="not finite"):
        draw(hf, chat, prompts(), 1, HOW)


def test_progress_adds_up(chat: Chat) -> None:
    """on_step: every sample finishes once, every token is counted once."""
    told: list[tuple[int, int]] = []
    sampler = Local(tiny.model(), chat, batch=3)
    rows = asyncio.run(sampler.sample(prompts(), 2, HOW, on_step=lambda done, tokens: told.append((done, tokens))))
    assert sum(d for d, _ in told) == 8
    assert sum(t for _, t in told) == sum(len(s.ids) for r in rows for s in r)


def test_nothing_asked_nothing_said(chat: Chat) -> None:
    assert draw(tiny.model(), chat, [], 2, HOW) == []
    assert draw(tiny.model(), chat, prompts(), 0, HOW) == [[], [], [], []]


def test_bf16_stays_near_fp32(chat: Chat) -> None:
    """The rounding of bf16 is about 1 in 256; log-probabilities of the same tokens stay within 0.2 on average."""
    hf = tiny.model("llama", dtype=torch.bfloat16)
    exact = tiny.model("llama")
    errors = []
    for prompt, row in zip(prompts(), draw(hf, chat, prompts(), 2, HOW)):
        for s in row:
            with torch.no_grad():
                logp = exact(torch.tensor([[*prompt, *s.ids]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            errors.append((logp.gather(1, torch.tensor(s.ids)[:, None])[:, 0] - torch.tensor(s.logps)).abs().mean())
    assert torch.stack(errors).mean() < 0.2


def test_scripted_says_its_lines(chat: Chat) -> None:
    listed = Scripted(["yes", "no <end> more"])
    rows = asyncio.run(listed.sample([[1], [2]], 2, Sampling(stop=(" <end>",))))
    assert [[s.text for s in r] for r in rows] == [["yes", "no"], ["yes", "no"]]
    assert rows[0][0].ids == (*map(ord, "yes"), 0) and rows[0][0].ended == "stop"
    prompt = chat.tokenizer("the user", add_special_tokens=False).input_ids
    echo = Scripted(lambda text, j: f"{text} {j}", chat)
    ((first, second),) = asyncio.run(echo.sample([prompt], 2, Sampling()))
    assert (first.text, second.text) == ("the user 0", "the user 1")
    assert chat.parse(second.ids) == (chat.parse(second.ids)[0].model_copy(update={"content": "the user 1"}), "stop")
    ((short,),) = asyncio.run(echo.sample([prompt], 1, Sampling(max_new=1)))
    assert short.ended == "length" and len(short.ids) == 1


def test_settings_are_checked() -> None:
    for wrong in ({"temperature": -1}, {"top_p": 0}, {"max_new": 0}, {"stop": ("",)}, {"seed": -1}, {"topp": 0.5}):
        with pytest.raises(ValueError):
            Sampling(**wrong)  # type: ignore[arg-type]
