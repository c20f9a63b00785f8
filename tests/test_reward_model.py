"""The reward model and its stage: exact in packs, alike in transformers; learns, resumes, judges; ensembles, LoRA."""

import asyncio
import json
import random
import signal

import pytest
import tiny
import torch
from killed import outcome
from test_model import _NoFp32
from torch.testing import assert_close

from posttrain import packing
from posttrain.comparisons import from_pair, from_ranking, from_ratings
from posttrain.errors import UserError
from posttrain.judge.base import Answered
from posttrain.loading import load_model
from posttrain.packing import Branch, Doc
from posttrain.pipeline import Inputs, Runtime
from posttrain.render import load_chat
from posttrain.reward_judge import RewardJudge
from posttrain.reward_model import RewardModel, answers_doc, from_policy, load_reward, score_docs
from posttrain.rows import Message, Pair, Ranking, Rating, write_jsonl
from posttrain.stages.reward import Objective, Reward, group_loss, member_weights

FP32 = Runtime(precision="fp32", compile="off")
ASK = (Message(role="user", content="Say it."),)


def say(text):
    return Message(role="assistant", content=text)


def classifier(kind="llama", members=1, dtype=torch.float64, seed=0):
    """A random sequence classifier of that architecture."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    config = tiny.CONFIGS[kind]()
    config.num_labels = members
    hf = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for p in hf.parameters():
            p.normal_(0.0, 0.3) if p.ndim > 1 else p.add_(torch.randn_like(p) * 0.1)
            p.data = p.data.to(dtype)
    return hf.eval()


def documents(n=6, seed=0, most=5):
    """Prompts with two to five answers; every token of an answer is a target, as the stages make them."""
    rng = random.Random(seed)

    def ids(low, high):
        return [rng.randrange(5, 300) for _ in range(rng.randint(low, high))]

    answers = [[ids(1, 12) for _ in range(rng.randint(2, most))] for _ in range(n)]
    return [Doc(ids(1, 30), [Branch(a, [True] * len(a)) for a in group]) for group in answers]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters().items() if p.grad is not None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def chat(folder):
    return load_chat(folder, "chatml")


# ---- exact -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gpt2", "mistral"])
def test_shared_prompts_change_nothing(kind):
    """Scores and every gradient of packs with shared prompts equal those of packs in which each answer has its own."""
    docs = documents()
    found = []
    for share in (True, False):
        model = RewardModel(classifier(kind, members=2))
        pack = packing.build(docs, pad_to=512, share=share)
        with _NoFp32():
            score_BM = model.scores(pack)
            (score_BM**2).sum().backward()
        found.append((score_BM.detach(), gradients(model), pack.tokens))
    (shared, some, fewer), (alone, others, more) = found
    assert fewer < more
    assert_close(shared, alone, rtol=1e-9, atol=1e-9)
    for name, g in others.items():
        assert_close(some[name], g, rtol=0, atol=1e-9 * float(g.abs().max() + 1))


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2", "phi"])
def test_scores_are_those_of_transformers(kind):
    """Each answer alone through the classifier's own forward, the prompt before it."""
    hf, docs = classifier(kind, members=3), documents()
    alone = [[hf(torch.tensor([d.prefix + b.ids])).logits[0] for b in d.branches] for d in docs]
    packed = score_docs(RewardModel(hf), docs, micro_tokens=256, pad_id=3)
    for a, p in zip(alone, packed, strict=True):
        assert_close(p, torch.stack(a), rtol=0, atol=1e-5)  # its eager attention takes the softmax in fp32


def test_answers_do_not_see_each_other():
    """Other tokens in one answer, or in another document: this answer's score is the same to the last bit."""
    model, docs = RewardModel(classifier(dtype=torch.float32)), documents(4)
    before = model.scores(packing.build(docs, pad_to=256)).detach()
    changed = [d._replace(branches=[Branch([7] * len(b.ids), b.mask) for b in d.branches]) for d in docs]
    docs[1] = docs[1]._replace(branches=[docs[1].branches[0], *changed[1].branches[1:]])
    docs[2] = changed[2]._replace(prefix=[9] * len(docs[2].prefix))
    after = model.scores(packing.build(docs, pad_to=256)).detach()
    start = len(docs[0].branches)
    assert torch.equal(after[: start + 1], before[: start + 1])
    assert torch.equal(after[-len(docs[3].branches) :], before[-len(docs[3].branches) :])
    assert not torch.equal(after[start + 1], before[start + 1])


def test_only_the_last_token_of_an_answer_is_scored():
    """A document whose answer goes on has another score; one that ends there has the score of that token."""
    model = RewardModel(classifier())
    prefix, ids = [5, 6, 7], [8, 9, 10, 11]
    whole = Doc(prefix, [Branch(ids[:n], [True] * n) for n in (1, 2, 3, 4)])
    parts = [Doc(prefix, [Branch(ids[:n], [True] * n)]) for n in (1, 2, 3, 4)]
    together = score_docs(model, [whole], micro_tokens=64, pad_id=0)[0]
    alone = torch.cat(score_docs(model, parts, micro_tokens=64, pad_id=0))
    assert_close(together, alone, rtol=1e-9, atol=1e-9)
    assert len(set(together[:, 0].tolist())) == 4


LOSSES = [
    ("bradley_terry", {"centre": 0.1}), ("robust", {"label_smoothing": 0.2}), ("plackett_luce", {"centre": 0.1}),
    ("regression", {}),
]  # fmt: skip


def groups_for(docs, seed=0):
    """Rankings (or ratings) with some ties for these documents; the texts do not matter."""
    rng = random.Random(seed)
    found = []
    for n, d in enumerate(docs):
        answers = tuple(say(f"{n}-{i}") for i in range(len(d.branches)))
        ranks = tuple(sorted(rng.choices(range(3), k=len(answers))))
        ranking = from_ranking(Ranking(prompt=ASK, answers=answers, ranks=ranks))
        rows = [Rating(prompt=ASK, answer=a, value=7 - i) for i, a in enumerate(answers)]
        found.append((ranking, from_ratings(rows)[0]))
    return found


@pytest.mark.parametrize(("name", "knobs"), LOSSES, ids=lambda x: x if isinstance(x, str) else "")
@pytest.mark.parametrize("members", [1, 3])
def test_micro_batches_add_up(name, knobs, members):
    """One micro-batch or three, with the step's denominator: the same loss and the same gradient of everything."""
    from posttrain.objectives import reward

    docs = documents(9)
    groups = [r if name != "regression" else v for r, v in groups_for(docs)]
    objective = Objective(name, lambda p: getattr(reward, name)(p, **knobs))
    total, weight = sum(objective.count(g) for g in groups), member_weights(9, members, 1).double()
    found = []
    for parts in ([range(9)], [range(0, 2), range(2, 7), range(7, 9)]):
        model, value = RewardModel(classifier(members=members)), 0.0
        for part in parts:
            pack = packing.build([docs[i] for i in part], pad_to=128)
            loss, _ = group_loss(model.scores(pack), [groups[i] for i in part], objective, total, weight[list(part)])
            loss.backward()
            value += float(loss.detach())
        found.append((value, gradients(model)))
    (one, g_one), (many, g_many) = found
    assert many == pytest.approx(one, rel=1e-12)
    for n in g_one:
        assert_close(g_many[n], g_one[n], rtol=1e-8, atol=1e-10 * float(g_one[n].abs().max() + 1))


def test_a_long_ranking_counts_as_much_as_a_pair():
    """Two answers or five, all scores equal: the loss of each prompt is log 2, for five as 10 x 1/10 log 2."""
    from posttrain.objectives import reward

    objective = Objective("bradley_terry", reward.bradley_terry)
    for k in (2, 5):
        answers = tuple(say(str(i)) for i in range(k))
        group = from_ranking(Ranking(prompt=ASK, answers=answers, ranks=tuple(range(k))))
        loss, facts = group_loss(torch.zeros(k, 1), [group], objective, 1.0, torch.ones(1, 1))
        assert float(loss) == pytest.approx(0.693147, abs=1e-6)
        assert facts["accuracy"] == (pytest.approx(0.5), pytest.approx(1.0))


# ---- the stage -------------------------------------------------------------------------------------------------------

NAMES = ["cat", "dog", "tree", "stone", "river", "cloud"]


def words(rng):
    return " ".join(rng.choices(NAMES, k=3))


@pytest.fixture(scope="module")
def home(folder, tmp_path_factory):
    """Data artefacts with one rule: answers that say please are better; pairs, rankings and ratings of it."""
    home, rng = tmp_path_factory.mktemp("home"), random.Random(0)
    chat = load_chat(folder, "chatml")
    policy = home / "policy"
    load_model(folder, FP32, train=False).save(policy)
    chat.save(policy)

    def pair(n):
        ask = (Message(role="user", content=f"Ask for {words(rng)}."),)
        text = words(rng)
        good, bad = say(f"{text} please"), say(f"{text} at once {rng.choice(NAMES)}")
        return Pair(id=f"p{n}", prompt=ask, chosen=good, rejected=bad, category=rng.choice("ab"), margin=1.0)

    def ranking(n):
        p = pair(n)
        third = say(f"{words(rng)} please please")
        return Ranking(id=f"r{n}", prompt=p.prompt, answers=(p.rejected, third, p.chosen), ranks=(2, 0, 1))

    def ratings(n):
        p = pair(n)
        rows = [(p.chosen, 6.0), (p.rejected, 2.0)]
        return [Rating(id=f"t{n}", prompt=p.prompt, answer=a, value=v) for a, v in rows]

    rows = {"pairs": [pair(n) for n in range(90)], "rankings": [ranking(n) for n in range(60)],
            "ratings": [r for n in range(60) for r in ratings(n)]}  # fmt: skip
    for name, found in rows.items():
        cut = len(found) * 2 // 3
        write_jsonl(home / f"{name}-0000000000" / "train.jsonl", found[:cut])
        write_jsonl(home / f"{name}-0000000000" / "holdout.jsonl", found[cut:])
    return home


def train(home, out, edges=("pairs",), **knobs):
    """One run of the stage: (its metrics, reward.json)."""
    how = {"lr": 0.01, "steps": 25, "batch_tokens": 512, "micro_tokens": 512, "max_tokens": 256} | knobs
    stage = Reward(policy="policy", **{e: e for e in edges}, **how)
    inputs = Inputs({"policy": (home / "policy",), **{e: (home / f"{e}-0000000000",) for e in edges}})
    out.mkdir(parents=True, exist_ok=True)
    metrics = stage.run(inputs, out, FP32)
    return metrics, json.loads((out / "reward.json").read_text())


@pytest.fixture(scope="module")
def trained(home, tmp_path_factory):
    out = tmp_path_factory.mktemp("reward")
    return out, *train(home, out, loss={"type": "bradley_terry", "margin": True, "centre": 0.01})


def test_learns_a_rule_that_length_gets_wrong(trained):
    """The polite answer is the shorter one: longer is better is never right."""
    _, metrics, found = trained
    assert metrics["held_accuracy"] > 0.9 and metrics["held_longer_is_better"] < 0.1
    assert metrics["held_loss"] < metrics["held_loss_before"]
    held = found["held_out"]
    assert held["accuracy"]["low"] < metrics["held_accuracy"] <= held["accuracy"]["high"] + 1e-9
    assert held["comparisons"] == 30 and set(held["by_category"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("edges", "knobs"),
    [
        (("rankings",), {"loss": {"type": "bradley_terry"}}),
        (("rankings",), {"loss": {"type": "plackett_luce"}}),
        (("pairs", "rankings"), {"loss": {"type": "robust", "label_smoothing": 0.1}}),
        (("pairs",), {"members": 3}),
        (("pairs",), {"lora": {"rank": 4}, "lr": 0.03}),
    ],
    ids=["rankings", "plackett_luce", "both-robust", "ensemble", "lora"],
)
def test_every_way_learns(home, tmp_path, edges, knobs):
    metrics, found = train(home, tmp_path, edges, **knobs)
    assert metrics["held_accuracy"] > 0.85
    assert len(found["scores"]["mean"]) == knobs.get("members", 1)
    if len(edges) == 2:
        assert set(found["held_out"]["by_source"]) == {"pairs", "rankings"}
    if "members" in knobs:
        assert set(found["held_out"]["by_agreement"]) and load_reward(tmp_path, FP32).members == 3


def test_flipped_labels_cost_the_robust_loss_less(home, tmp_path):
    """80 pairs, 20% of them flipped, eight epochs: plain Bradley-Terry learns the flips by heart."""
    rng = random.Random(1)

    def pair(n, flips):
        ask = (Message(role="user", content=f"Ask for {words(rng)}."),)
        text = words(rng)
        two = say(f"{text} please"), say(f"{text} at once {rng.choice(NAMES)}")
        good, bad = two[::-1] if rng.random() < flips else two
        return Pair(id=f"p{n}", prompt=ask, chosen=good, rejected=bad)

    rows = tmp_path / "pairs-0000000000"
    write_jsonl(rows / "train.jsonl", [pair(n, 0.2) for n in range(80)])
    write_jsonl(rows / "holdout.jsonl", [pair(n, 0.0) for n in range(60)])
    (tmp_path / "policy").symlink_to(home / "policy")
    losses = {"bradley_terry": {}, "robust": {"label_smoothing": 0.2}}
    found = {
        name: train(tmp_path, tmp_path / name, loss={"type": name} | more, steps=None, epochs=8, lr=0.005)[1][
            "held_out"
        ]
        for name, more in losses.items()
    }
    assert found["robust"]["log_loss"] < 0.9 * found["bradley_terry"]["log_loss"]
    assert min(f["accuracy"]["value"] for f in found.values()) > 0.8


def test_ratings_are_learned_by_regression(home, tmp_path):
    """6 and 2 of 1..7 are 2/3 and -2/3: always guessing the mean is off by 2/3."""
    metrics, found = train(home, tmp_path, ("ratings",), loss={"type": "regression"}, steps=40)
    assert found["ratings"]["rmse_of_mean"] == pytest.approx(2 / 3)
    assert metrics["held_rmse"] < 0.4 and metrics["held_r"] > 0.8


def test_transformers_loads_it_and_scores_alike(trained, home):
    """Through transformers alone: template, padded batch (both sides), classifier; equal to our packed scores."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    out, *_ = trained
    hf, tokenizer = AutoModelForSequenceClassification.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert hf.config.num_labels == 1 and hf.config.pad_token_id == tokenizer.pad_token_id
    texts = ["cat please", "river river stone at once dog", "x"]
    talks = [[{"role": "user", "content": "Ask for a cat."}, {"role": "assistant", "content": t}] for t in texts]
    ours = load_reward(out, FP32)
    doc = answers_doc(load_chat(out), [Message(**talks[0][0])], [say(t) for t in texts])
    expected = score_docs(ours, [doc], micro_tokens=256, pad_id=0)[0]
    for side in ("right", "left"):
        tokenizer.padding_side = side
        batch = tokenizer.apply_chat_template(talks, padding=True, return_tensors="pt", return_dict=True)
        assert_close(hf(**batch).logits.detach(), expected, rtol=1e-4, atol=1e-4)


def test_the_same_start_whatever_the_number_of_members(home):
    one, three = (from_policy(home / "policy", FP32, members=m, seed=5).base.score.weight for m in (1, 3))
    assert torch.equal(one[0], three[0]) and not torch.equal(three[0], three[1])
    assert float(one.detach().std()) == pytest.approx(0.1 * 33**-0.5, rel=0.5)  # hidden size 32


RESUMED = {"steps": 10, "members": 2, "eval_every": 3}


def test_killed_and_resumed_is_bit_equal(home, tmp_path):
    """SIGKILL in the fifth step, then to the end here: every byte of the run that nobody killed."""
    train(home, tmp_path / "whole", **RESUMED)
    assert outcome(train, home, tmp_path / "cut", kill_at=("step", 5), **RESUMED) == -signal.SIGKILL
    assert (tmp_path / "cut" / "checkpoint.pt").exists()
    train(home, tmp_path / "cut", **RESUMED)
    for name in ("model.safetensors", "reward.json", "held.jsonl", "log.jsonl"):
        whole, cut = ((tmp_path / d / name).read_bytes() for d in ("whole", "cut"))
        if name == "log.jsonl":
            whole, cut = ([json.loads(x) for x in t.splitlines()] for t in (whole, cut))
        assert whole == cut, name


def test_too_long_pairs_are_in_the_ledger(home, tmp_path):
    with pytest.raises(UserError, match="longer than 40 tokens"):
        train(home, tmp_path / "error", max_tokens=40)
    train(home, tmp_path / "drop", max_tokens=78, too_long="drop", steps=1)
    entries = [json.loads(x) for x in (tmp_path / "drop" / "ledger.jsonl").read_text().splitlines()]
    assert entries and {e["action"] for e in entries} == {"dropped"}
    assert {e.get("set", "training") for e in entries} == {"training", "held out"}


BAD = [
    ({}, "needs pairs, rankings or ratings"),
    ({"pairs": "p", "loss": {"type": "regression"}}, "regression learns from ratings"),
    ({"ratings": "p"}, "bradley_terry learns from pairs or rankings"),
    ({"pairs": "p", "ratings": "r"}, "bradley_terry learns from"),
]


@pytest.mark.parametrize(("knobs", "said"), BAD)
def test_edges_that_do_not_fit_the_loss_are_refused(knobs, said):
    with pytest.raises(UserError, match=said):
        Reward(policy="base", **knobs)


def test_a_policy_is_no_reward_model(home):
    with pytest.raises(UserError, match="no reward model but a LlamaForCausalLM"):
        load_reward(home / "policy", FP32)


def test_an_architecture_without_a_classifier_is_said(tmp_path):
    tiny.folder(tmp_path, "granite")
    with pytest.raises(UserError, match="cannot load the model"):
        from_policy(tmp_path, FP32)


# ---- the judge -------------------------------------------------------------------------------------------------------


def judged(judge, prompt, *answers):
    ask = (Message(role="user", content=prompt),)
    return asyncio.run(judge.score([Answered(prompt=ask, answer=a) for a in answers]))


def test_judge_prefers_what_was_preferred(trained):
    judge = RewardJudge.load([trained[0]], FP32)
    good, bad = judged(judge, "Ask for cat dog tree.", "cat dog please", "cat dog at once stone")
    assert good.score > bad.score
    assert asyncio.run(judge.score([])) == []


def test_judge_scores_are_centred_and_doubt_costs(home, trained, tmp_path):
    """Two models of two members: the mean over four centred scores, less k standard deviations."""
    train(home, tmp_path, members=2, seed=3)
    folders = [trained[0], tmp_path]
    plain, strict = (RewardJudge.load(folders, FP32, penalty=k) for k in (0.0, 2.0))
    answers = ("cat dog please", "river at once stone", "tree")
    for a, b in zip(judged(plain, "Ask.", *answers), judged(strict, "Ask.", *answers)):
        scores = torch.tensor(a.detail["scores"], dtype=torch.float64)
        assert len(scores) == 3
        assert a.score == pytest.approx(float(scores.mean()), abs=1e-5)
        assert b.score == pytest.approx(float(scores.mean() - 2 * scores.std()), abs=1e-5)
    means = json.loads((trained[0] / "reward.json").read_text())["scores"]["mean"]
    raw = score_docs(
        load_reward(trained[0], FP32),
        [answers_doc(load_chat(trained[0]), [Message(role="user", content="Ask.")], [say(answers[0])])],
        micro_tokens=256,
        pad_id=0,
    )
    assert judged(plain, "Ask.", answers[0])[0].detail["scores"][0] == pytest.approx(float(raw[0]) - means[0], abs=1e-4)


def test_judge_abstains_where_an_answer_is_too_long(trained):
    judge = RewardJudge.load([trained[0]], FP32, micro_tokens=96)
    short, long = judged(judge, "Ask.", "cat please", "river " * 200)
    assert short.score is not None
    assert long.score is None and "longer than 96 tokens" in long.detail["abstained"]


def test_from_pair_is_what_the_stage_reads(home):
    pair = Pair(prompt=ASK, chosen=say("a"), rejected=say("b"))
    assert from_pair(pair).answers == (say("a"), say("b"))
