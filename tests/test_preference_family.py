"""Every member of the DPO family learns a toy preference; references, thumbs, drift and resuming of the stage."""

import json
import random
import signal
from functools import partial

import pytest
import tiny
import torch
from killed import outcome
from safetensors.torch import load_file, save_file

from posttrain import packing
from posttrain.errors import UserError
from posttrain.loading import load_model
from posttrain.objectives import preference
from posttrain.pipeline import Inputs, Runtime
from posttrain.render import load_chat
from posttrain.rows import Message, Pair, Thumb, write_jsonl
from posttrain.stages import reference as references
from posttrain.stages import thumbs
from posttrain.stages.data import ThumbsFile
from posttrain.stages.preference import LOSSES, Preference, given, look_ahead, pair_logps, pair_loss, score
from posttrain.stages.training import Ready

RUNTIME = Runtime(precision="fp32", compile="off")
WORDS = ("cat", "dog", "tree", "stone", "river", "cloud", "moon", "fish")


def answer(text):
    return Message(role="assistant", content=text)


def toy(n, seed):
    """Prompts of three words; the better answer thanks, the worse one complains. Lengths differ both ways."""
    rng = random.Random(seed)
    for i in range(n):
        words = " ".join(rng.choices(WORDS, k=3))
        tails = [rng.choice(("", f" {rng.choice(WORDS)}")) for _ in range(2)]
        yield Pair(
            id=f"p{i}", prompt=(Message(role="user", content=f"Say {words}."),), margin=rng.choice((0.0, 1.0)),
            chosen=answer(f"thanks{tails[0]}!"), rejected=answer(f"no way{tails[1]}"), soft=rng.choice((0.8, 1.0)),
        )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A tiny model, and toy pairs as a data stage would have left them."""
    home = tmp_path_factory.mktemp("family")
    tiny.folder(home / "model")
    write_jsonl(home / "pairs" / "train.jsonl", toy(48, 0))
    write_jsonl(home / "pairs" / "holdout.jsonl", toy(16, 1))
    return home


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing is found in the user's cache, and nothing is left there."""
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(home, out, **knobs):
    """(metrics, log) of a preference stage over the toy."""
    edges = {"policy": (home / "model",)}
    for edge in ("pairs", "thumbs", "reference"):
        if edge in knobs:
            edges[edge] = (home / knobs[edge],)
            knobs[edge] = edge
    knobs = {"lr": 3e-3, "steps": 12, "batch_tokens": 1024, "micro_tokens": 1024, "watch": 0, "clip": 1.0} | knobs
    out.mkdir(parents=True, exist_ok=True)
    metrics = Preference(policy="policy", **knobs).run(Inputs(edges), out, RUNTIME)
    return metrics, [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda fn: fn.__name__)
def test_learns_a_toy_preference(home, tmp_path, loss):
    """Held-out pairs of other prompts: half are ranked right by accident before, nearly all afterwards."""
    metrics, _ = run(home, tmp_path, pairs="pairs", loss={"type": loss.__name__})
    assert metrics["held_accuracy_before"] == 0.5
    assert metrics["held_accuracy"] >= 0.9
    assert metrics["held_loss"] < metrics["held_loss_before"]


# micro-batches, masks, shared prompts: exactness of everything that stands between rows and a gradient


@pytest.fixture(scope="module")
def parts(home):
    """(model, chat, pairs, documents): a few toy pairs as the loop sees them."""
    chat, model = load_chat(home / "model", "chatml"), load_model(home / "model", RUNTIME, train=True)
    pairs = list(toy(9, 5))
    cut = [[chat.continuation(p.prompt, a) for a in (p.chosen, p.rejected)] for p in pairs]
    docs = [packing.Doc(c[0][0], [packing.Branch(ids, [True] * len(ids)) for _, ids in c]) for c in cut]
    return model, chat, pairs, docs


def moved(home):
    """Another model: log-ratios of some nats, both signs, so that ranks and middles differ from the start's."""
    hf = load_model(home / "model", RUNTIME, train=False)
    torch.manual_seed(3)
    with torch.no_grad():
        for p in hf.hf.parameters():
            p.add_(0.03 * torch.randn_like(p))
    return hf


def gradient_of_pairs(model, loss, packs, known):
    """Gradients and value of one optimiser step that consists of these packs."""
    objective = partial(loss)
    steps, at = [], 0
    for pack in packs:
        steps.append((list(range(at, at + pack.branches // 2)), pack))
        at += pack.branches // 2
    look_ahead(model, steps, known, objective)
    value = 0.0
    for indices, pack in steps:
        part, _ = pair_loss(model, pack, known.at(indices), objective, float(at))
        part.backward()
        value += float(part.detach())
    return value, collected(model)


def collected(model):
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    for p in model.parameters():
        p.grad = None
    return grads


def same(one, other, tolerance=2e-5):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    for a, b in zip(one[1], other[1], strict=True):
        assert float((a - b).abs().max()) <= tolerance * float(b.abs().max())


@pytest.mark.parametrize("loss", preference.LOSSES, ids=lambda fn: fn.__name__)
def test_micro_batches_and_shared_prompts_change_nothing(home, parts, loss):
    """One pack, or nine, or one with every prompt repeated, or one with padding: the same step for every loss."""
    model, _, pairs, docs = parts
    ref, build = moved(home), packing.build
    with torch.no_grad():
        known = given(torch.cat([score(ref, build([d])) for d in docs]), pairs)
    whole = gradient_of_pairs(model, loss, [build(docs)], known)
    same(gradient_of_pairs(model, loss, [build([d]) for d in docs], known), whole)
    same(gradient_of_pairs(model, loss, [build(docs, share=False)], known), whole)
    same(gradient_of_pairs(model, loss, [build(docs, pad_to=4096, pad_id=7)], known), whole)


def test_masked_tokens_count_nowhere(parts):
    """An answer whose last two tokens are no targets is the answer without them: sums, lengths, tails, weights."""
    model, _, _, docs = parts

    def cut(doc, keep):
        ids = doc.branches[0].ids
        kept = packing.Branch(ids[:-2], [True] * (len(ids) - 2))
        masked = packing.Branch(ids, [True] * (len(ids) - 2) + [False] * 2)
        return packing.Doc(doc.prefix, [masked if keep else kept, doc.branches[1]])

    with torch.no_grad():
        long, short = (pair_logps(model, packing.build([cut(d, k) for d in docs]), weigh=True) for k in (True, False))
    for a, b in zip(long, short, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_tails_by_hand(parts):
    """Answers of 5 and 3 tokens: the chosen one's tail is its last two tokens, the rejected one has none."""
    model, *_ = parts
    doc = packing.Doc([5, 6], [packing.Branch([7, 8, 9, 10, 11], [True] * 5), packing.Branch([9, 8, 7], [True] * 3)])
    pack = packing.build([doc])
    with torch.no_grad():
        logp_N, found = model.token_logps(pack), pair_logps(model, pack)
    assert found.tail_B2[0].tolist() == pytest.approx([float(logp_N[3:5].sum()), 0.0])
    assert found.len_B2.tolist() == [[5, 3]]


def test_collisions_are_those_of_the_distribution(parts):
    """log sum_v p(v)^2 from transformers' own logits."""
    model, _, _, docs = parts
    doc = docs[0]
    ids = torch.tensor([doc.prefix + doc.branches[0].ids])
    with torch.no_grad():
        _, found_N = model.logps_and_collisions(packing.build([packing.Doc(doc.prefix, doc.branches[:1])]))
        logits = load_plain(model)(input_ids=ids).logits[0, len(doc.prefix) - 1 : -1]
    torch.testing.assert_close(found_N, logits.softmax(-1).square().sum(-1).log(), rtol=1e-4, atol=1e-4)


def load_plain(model):
    """A copy of a model's module with ordinary attention."""
    import copy

    plain = copy.deepcopy(model.hf)
    plain.set_attn_implementation("eager")
    return plain


def test_thumbs_do_not_depend_on_micro_batches(home, parts):
    """KTO with its z: one pack or eighteen, the same step."""
    model, chat, pairs, _ = parts
    rows = thumbs.from_pairs(pairs)
    docs = [
        packing.Doc(prompt, [packing.Branch(ids, [True] * len(ids))])
        for prompt, ids in (chat.continuation(r.messages[:-1], r.messages[-1]) for r in rows)
    ]
    ready = Ready(model, chat, docs, [r.id for r in rows], [], range(len(rows)), ())
    found = []
    for size in (1, len(docs)):
        stage = Preference(policy="p", pairs="x", loss={"type": "kto"}, micro_tokens=4096)
        out = home / "kto"
        out.mkdir(exist_ok=True)
        ref = references.Reference(home / "model", moved(home), False, 4096, chat.pad_id, out, RUNTIME)
        work = thumbs.work(stage, ready, ref, rows, [])
        micro = [list(range(i, min(i + size, len(docs)))) for i in range(0, len(docs), size)]
        work.before(micro)
        value = 0.0
        for indices in micro:
            part, facts = work.loss(indices, float(len(docs)))
            part.backward()
            value += float(part.detach())
        found.append((value, collected(model)))
        z = facts["z"][0]
    assert z > 0  # or the test says nothing about it
    same(*found)


def test_mismatched_answers_belong_to_other_prompts(parts):
    """Also when every prompt stands there twice, as when pairs are taken apart; the same ones every time."""
    _, _, _, docs = parts
    single = [packing.Doc(d.prefix, [b]) for d in docs for b in d.branches]
    own = {(tuple(d.prefix), tuple(d.branches[0].ids)) for d in single}
    strangers = thumbs.mismatched(single, 0, 4096)
    assert [d.prefix for d in strangers] == [d.prefix for d in single]
    apart = [(tuple(d.prefix), tuple(d.branches[0].ids)) for d in strangers]
    other = {tuple(ids): {p for p, a in own if a == ids} for _, ids in own}
    assert all(other[ids] - {prompt} for prompt, ids in apart)
    assert thumbs.mismatched(single, 0, 4096) == strangers
    assert all(packing.size(d) <= 30 for d in thumbs.mismatched(single, 0, 30) if len(d.prefix) < 30)


# the stage


def test_thumbs_are_pairs_taken_apart(home, tmp_path):
    """The same answers as pairs or as a file of thumbs: the same weights."""
    for name in ("train.jsonl", "holdout.jsonl"):
        rows = [Pair.model_validate_json(line) for line in (home / "pairs" / name).read_text().splitlines()]
        write_jsonl(home / "thumbs" / name, thumbs.from_pairs(rows))
    for edge in ("pairs", "thumbs"):
        run(home, tmp_path / edge, loss={"type": "kto"}, steps=3, **{edge: edge})
    weights = [(tmp_path / edge / "model.safetensors").read_bytes() for edge in ("pairs", "thumbs")]
    assert weights[0] == weights[1]


def test_reference_log_probs_are_kept_for_later_runs(home, tmp_path, cache):
    """A second loss on the same pairs reads them; other weights do not; a damaged file is made again."""
    run(home, tmp_path / "a", pairs="pairs", steps=1)
    files = sorted((cache / "reference").iterdir())
    assert len(files) == 2  # training rows, held-out rows
    for path in files:  # a mark that shows that they are read
        save_file({"rows": load_file(path)["rows"] - 1.5}, path)
    metrics, _ = run(home, tmp_path / "b", pairs="pairs", steps=1, loss={"type": "hinge"})
    assert metrics["held_chosen_reward_before"] == pytest.approx(1.5, abs=1e-4)
    assert sorted((cache / "reference").iterdir()) == files
    for path in files:
        path.write_bytes(b"damaged")
    metrics, _ = run(home, tmp_path / "c", pairs="pairs", steps=1)
    assert metrics["held_chosen_reward_before"] == 0.0
    other = tiny.folder(tmp_path / "other", seed=4)
    metrics, _ = run(home, tmp_path / "d", pairs="pairs", steps=1, reference=other)
    assert len(list((cache / "reference").iterdir())) == 4


def test_a_cache_that_cannot_be_written_costs_nothing(home, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "file"))
    metrics, _ = run(home, tmp_path / "out", pairs="pairs", steps=1)
    assert metrics["held_accuracy_before"] == 0.5
    assert not list((tmp_path / "out").glob("reference-*"))


def test_another_reference(home, tmp_path):
    """Its log-probs are those of its own weights: rewards at the start are the difference of the two models."""
    other = tiny.folder(tmp_path / "other", seed=4)
    metrics, log = run(home, tmp_path / "out", pairs="pairs", reference=other, steps=2, watch=3)
    assert abs(metrics["held_chosen_reward_before"]) > 1
    assert metrics["held_kl_before"] > 1
    assert log[0]["held_loss"] != pytest.approx(0.693, abs=0.01)


def test_a_reference_with_other_tokens_is_refused(home, tmp_path):
    other = tiny.folder(tmp_path / "other")
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(other)
    with pytest.raises(UserError, match="another tokenizer"):
        run(home, tmp_path / "out", pairs="pairs", reference=other)


def test_drift_is_watched_and_does_not_disturb(home, tmp_path):
    """KL of sampled text is 0 before and grows; lengths are told; the weights are those of a run without looking."""
    found = {}
    for count in (0, 4):
        metrics, log = run(home, tmp_path / str(count), pairs="pairs", watch=count, eval_every=4)
        found[count] = (tmp_path / str(count) / "model.safetensors").read_bytes()
    assert metrics["held_kl_before"] == 0.0 and metrics["held_kl"] > 0.01
    assert metrics["held_length"] > 0 and metrics["held_length_before"] > 0
    assert len([e for e in log if "held_kl" in e]) == 4
    assert found[0] == found[4]


WRONG = [
    ({"pairs": None, "loss": {"type": "dpo"}}, "learns from pairs"),
    ({"thumbs": "x", "loss": {"type": "dpo"}}, "learns from pairs"),
    ({"loss": {"type": "kto"}}, "learns from thumbs"),
]


@pytest.mark.parametrize(("knobs", "said"), WRONG)
def test_edges_must_fit_the_loss(knobs, said):
    with pytest.raises(UserError, match=said):
        Preference(policy="policy", **knobs)


def test_thumbs_that_all_point_one_way_are_refused(home, tmp_path):
    rows = [r for r in thumbs.from_pairs(list(toy(8, 0))) if r.label]
    write_jsonl(tmp_path / "ups" / "train.jsonl", rows)
    with pytest.raises(UserError, match="all 8 thumbs point up"):
        run(home, tmp_path / "out", thumbs=tmp_path / "ups", loss={"type": "kto"})


def test_the_data_stage_reads_thumbs(tmp_path):
    lines = [
        {"messages": [{"role": "user", "content": "Say cat."}, {"role": "assistant", "content": "cat"}], "label": True},
        {"prompt": "Say dog.", "completion": "no", "label": False},
        {"prompt": "Say fish and nothing else.", "chosen": "fish", "rejected": "fish."},  # nearly the same, yet not
    ]
    (tmp_path / "thumbs.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    stage = ThumbsFile(path=str(tmp_path / "thumbs.jsonl"), holdout=0.0)
    (tmp_path / "out").mkdir()
    stage.run(Inputs({}), tmp_path / "out", RUNTIME)
    rows = [Thumb.model_validate_json(x) for x in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert [(r.messages[-1].content, r.label) for r in rows] == [
        ("cat", True), ("no", False), ("fish", True), ("fish.", False)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["aot", "kto"])
def test_killed_and_resumed_is_bit_equal(home, tmp_path, loss):
    """The losses that look at a whole step first: SIGKILL twice in training, then to the end, the same bytes."""

    how = {"pairs": "pairs", "steps": 14, "eval_every": 5, "watch": 2, "loss": {"type": loss}}
    assert outcome(run, home, tmp_path / "whole", **how) == 0
    shots = [outcome(run, home, tmp_path / "cut", kill_at=("step", n) if n else None, **how) for n in (4, 3, 0)]
    assert shots == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "cut" / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "cut" / "log.jsonl").read_text()
