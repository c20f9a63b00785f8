"""Micro-batches change nothing: every objective, as its own stage hands it to the loop, gives one gradient for a step.

A stage is run up to the loop, which is replaced by one that takes the gradient of a whole epoch, cut into micro-batches
of several sizes and orders. Several processes deal out micro-batches and add the gradients up, so what holds for these
holds for them; that the adding up is right, and for every loss, is the slow test. Policy losses: test_learner.py has
the algorithms, here are the parts they are made of. Left out on purpose: values (parity tests), curves
(test_parallel.py).
"""

import random

import pytest
import ranks
import test_learner as learners
import tiny
import torch
from test_parallel import same_curves

from posttrain import adamw, packing, train
from posttrain.loading import load_model
from posttrain.objectives import policy, preference, reward, supervised, unpaired
from posttrain.pipeline import Inputs, Runtime
from posttrain.render import load_chat
from posttrain.rl.critic import Trunk
from posttrain.rows import Message, Pair, Ranking, Rating, write_jsonl
from posttrain.stages.preference import Preference
from posttrain.stages.reward import Reward
from posttrain.stages.sft import Sft

FP32 = Runtime(precision="fp32", compile="off")
LARGEST = 4096  # holds all rows of a test


def names(losses):
    return [fn.__name__ for fn in losses]


PAIRED, UNPAIRED = names(preference.LOSSES), names(unpaired.LOSSES)
OFTEN = ["dpo", "odpo", *names((*preference.STEP, *preference.WEIGHTED))]  # test_preference_family.py has them all too
RARELY = [("pairs", {"loss": {"type": name}, "sft": 0.3}) for name in PAIRED if name not in OFTEN]
STAGES = (
    [("sft", {"loss": name}) for name in names(supervised.LOSSES)]
    + [("pairs", {"loss": {"type": name}, "sft": 0.3}) for name in (*OFTEN, *UNPAIRED)]
    + [("judge", {"loss": {"type": name}, "members": 2}) for name in names((*reward.PAIRWISE, *reward.LISTWISE))]
    + [("judge", {"loss": {"type": name}}) for name in names(reward.POINTWISE)]
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two models and rows of uneven length for every kind of stage."""
    home = tmp_path_factory.mktemp("invariance")
    for name, seed in (("model", 0), ("reference", 4)):
        load_chat(tiny.folder(home / name, seed=seed), "chatml").save(home / name)
    ranks.rows(home)
    rng = random.Random(2)

    def answers(n):
        return tuple(Message(role="assistant", content=ranks.words(rng)) for _ in range(n))

    for kind, count in (("pairs", 14), ("rankings", 9), ("ratings", 14)):
        rows = []
        for n in range(count):
            ask = (Message(role="user", content=f"Say {ranks.words(rng)} {n}."),)
            if kind == "pairs":
                chosen, rejected = answers(2)
                more = {"soft": rng.choice((0.8, 1.0)), "margin": rng.choice((0.0, 1.5))}
                rows.append(Pair(id=f"p{n}", prompt=ask, chosen=chosen, rejected=rejected, **more))
            elif kind == "rankings":
                rows.append(Ranking(id=f"r{n}", prompt=ask, answers=answers(3), ranks=tuple(rng.sample((0, 1, 2), 3))))
            else:
                rows.append(Rating(id=f"v{n}", prompt=ask, answer=answers(1)[0], value=rng.uniform(1, 7)))
        write_jsonl(home / kind / "train.jsonl", rows)
    demos = (home / "demos.jsonl").read_text().splitlines()[:16]
    (home / "demos").mkdir()
    (home / "demos" / "train.jsonl").write_text("".join(f"{line}\n" for line in demos))
    return home


class Enough(Exception):
    """The gradients are there."""


def gradients(model, rows, loss, *, before=None, **_):
    """Of one step over all rows, cut in several ways; raised, since the stage need not go on."""
    found, total = [], sum(rows.counts)
    rng = random.Random(len(rows.sizes))
    budgets = [LARGEST, max(rows.sizes), *(rng.randint(max(rows.sizes), sum(rows.sizes)) for _ in range(2))]
    for seed, budget in enumerate(budgets):
        master = adamw.Master(list(model.parameters()), adamw.Optim(1.0))
        plan = packing.plan(rows.sizes, budget, seed=seed)
        if before:
            before(plan)
        for indices in plan:
            loss(indices, total)[0].backward()
            master.collect()
        found.append((len(plan), master.grads))
    raise Enough(found)


def same(found):
    (_, whole), *others = found
    scale = max(float(g.abs().max()) for g in whole)
    assert scale > 0
    assert max(count for count, _ in others) > 3, "this says nothing about micro-batches"
    for _, grads in others:
        for one, many in zip(whole, grads, strict=True):
            torch.testing.assert_close(many, one, rtol=2e-3, atol=2e-5 * scale)


@pytest.mark.parametrize(
    ("kind", "knobs"), [*STAGES, *(pytest.param(*x, marks=pytest.mark.slow) for x in RARELY)], ids=str
)
def test_micro_batches_change_nothing(home, tmp_path, monkeypatch, kind, knobs):
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(train, "train", gradients)
    how = {"policy": "policy", "micro_tokens": LARGEST, "max_tokens": 512} | knobs
    edges = {"policy": (home / "model",)}
    if kind == "sft":
        stage, edges["data"] = Sft(data="data", **how), (home / "demos",)
    elif kind == "pairs":
        stage = Preference(pairs="pairs", reference="reference", watch=0, **how)
        edges |= {"pairs": (home / "pairs",), "reference": (home / "reference",)}
    else:
        wants = {"plackett_luce": "rankings", "regression": "ratings"}.get(knobs["loss"]["type"], "pairs")
        stage, edges[wants] = Reward(**{wants: wants}, **how), (home / wants,)
    with pytest.raises(Enough) as enough:
        stage.run(Inputs(edges), tmp_path, FP32)
    same(enough.value.args[0])


PARTS = [{"loss": {"type": name}, "aggregate": "token"} for name in names(policy.LOSSES)] + [
    {"aggregate": "sequence"}, {"aggregate": "constant"}, {"entropy": 0.1},
    {"kl": {"where": "loss", "estimator": "k2", "coef": 0.3}},
    {"correction": {"level": "token", "cap": 1.1}}, {"correction": {"level": "sequence", "how": "mask"}},
]  # fmt: skip


@pytest.mark.parametrize("knobs", PARTS, ids=str)
def test_micro_batches_change_nothing_of_a_policy_loss(home, knobs):
    """One pack, or one for each answer with its own copy of the prompt; behaviour a little off, so ratios are not 1."""
    found = []
    for micro_tokens in (512, 20):
        model = load_model(home / "model", FP32, train=True)
        groups = learners.made_groups(model)
        work = learners.learner(
            model, groups, {"type": "dapo", "resample": 0} | knobs, micro_tokens=micro_tokens, epochs=2,
            reference=learners.reference_of(home / "model"),
        )  # fmt: skip
        micro = next(work.batches())
        for name, shift in (("old", 0.05), ("behaviour", -0.1)):
            for doc in work.batch.columns[name]:
                doc += shift
        found.append((len(micro), taken(model, work, micro)))
    assert found[0][0] == 1
    same(found)


def taken(model, work, micro):
    layer = list(work.critic.layer.parameters()) if isinstance(work.critic, Trunk) else []
    master = adamw.Master([*model.parameters(), *layer], adamw.Optim(1.0))
    total = sum(work.rows.counts[i] for indices in micro for i in indices)
    for indices in micro:
        work.loss(indices, total)[0].backward()
        master.collect()
    return master.grads


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_processes_change_nothing(tmp_path, part):
    """Two processes and one: the same curves for every loss of pairs and thumbs, and the others of test_parallel.py."""
    how = "lr: 0.003, batch_tokens: 768, micro_tokens: 256, max_tokens: 250, steps: 2, eval_every: 1"
    stages = {}
    for name in (*PAIRED, *UNPAIRED)[part::4]:
        if name not in ("soft", "odpo"):  # rows with soft labels and margins, which these have not
            stages[name] = f"{{type: preference, policy: base, pairs: votes, {how}, watch: 0, loss: {{type: {name}}}}}"
    if part == 0:
        stages["dft"] = f"{{type: sft, policy: base, data: demos, {how}, loss: dft}}"
        stages["smoothed"] = f"{{type: reward, policy: base, pairs: votes, {how}, loss: {{type: robust}}}}"
    path = ranks.recipe(tmp_path, **stages)
    for world in (1, 2):
        ranks.run(world, path, tmp_path / str(world))
    same_curves(tmp_path / "1", tmp_path / "2")
