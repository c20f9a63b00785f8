"""Learning from a rollout that is given: the gradient beside plain autograd, micro-batches, KL, masks, critics."""

import math

import pytest
import tiny
import torch
from pydantic import TypeAdapter

from posttrain import packing
from posttrain.adamw import Master, Optim
from posttrain.errors import UserError
from posttrain.loading import load_model
from posttrain.model import Model
from posttrain.pipeline import Runtime
from posttrain.rl.algorithms import ALGORITHMS, AnyAlgorithm
from posttrain.rl.critic import Separate, Trunk, separate
from posttrain.rl.learner import How, Learner, Running, units
from posttrain.rl.rollout import Ask, Group
from posttrain.rows import Sample

NAMES = [a.model_fields["type"].default for a in ALGORITHMS]
FP32 = Runtime(precision="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("tiny"))


def logps_of(model, prompt, answer):
    pack = packing.build([packing.Doc(prompt, [packing.Branch(answer, [True] * len(answer))])])
    with torch.no_grad():
        return model.token_logps(pack)


def made_groups(model, prompts=3, n=4, seed=0, shift=0.0):
    """Random answers with the log-probs that the model gives them (plus `shift`), and random rewards."""
    g = torch.Generator().manual_seed(seed)
    groups = []
    for k in range(prompts):
        prompt = torch.randint(5, 300, (int(torch.randint(3, 12, (1,), generator=g)),), generator=g).tolist()
        answers = [
            torch.randint(5, 300, (int(m),), generator=g).tolist() for m in torch.randint(1, 9, (n,), generator=g)
        ]
        samples = [
            Sample(
                text="x", ids=tuple(a), logps=tuple((logps_of(model, prompt, a) + shift).tolist()),
                ended="length" if j == 1 else "stop",
            )
            for j, a in enumerate(answers)
        ]  # fmt: skip
        rewards = torch.randn(n, generator=g).tolist()
        groups.append(Group(Ask(f"p{k}", (), {}, prompt), samples, {"r": rewards}, rewards))
    return groups


def learner(model, groups, knobs, *, critic=None, reference=None, **how):
    algorithm = TypeAdapter(AnyAlgorithm).validate_python(knobs)
    settings = {"temperature": 1.0, "max_new": 10, "epochs": 1, "minibatches": 1, "micro_tokens": 512} | how
    return Learner(model, reference, critic, algorithm, How(**settings), lambda number: (groups, {}))


def gradient(model, work):
    """The gradient of the first optimiser step, by parameter; that of a layer on the trunk with it."""
    layer = list(work.critic.layer.parameters()) if isinstance(work.critic, Trunk) else []
    master = Master([*model.parameters(), *layer], Optim(1.0))
    micro = next(work.batches())
    total = sum(work.rows.counts[i] for indices in micro for i in indices)
    for indices in micro:
        work.loss(indices, total)[0].backward()
        master.collect()
    return master.grads


def reference_of(folder):
    model = load_model(folder, FP32, train=False)
    with torch.no_grad():
        for p in model.hf.parameters():
            p.mul_(0.9)
    return lambda pack: model.token_logps(pack).detach()


@pytest.mark.parametrize(
    ("knobs", "divide"),
    [
        ({"type": "dr_grpo"}, "constant"),
        ({"type": "dr_grpo", "aggregate": "token"}, "token"),
        ({"type": "dr_grpo", "aggregate": "sequence"}, "sequence"),
    ],
)
def test_the_gradient_is_reinforce_by_plain_autograd(folder, knobs, divide):
    """transformers' own forward, one answer at a time: -(R - mean of the group) log pi, divided as each name says."""
    model = load_model(folder, FP32, train=True)
    groups = made_groups(model)
    found = gradient(model, learner(model, groups, knobs))
    oracle = tiny.model().requires_grad_(True)
    oracle.load_state_dict(model.hf.state_dict())
    loss, tokens = 0.0, sum(len(s.ids) for g in groups for s in g.samples)
    for g in groups:
        mean = sum(g.reward) / len(g.reward)
        for sample, reward in zip(g.samples, g.reward):
            ids = torch.tensor([[*g.ask.ids, *sample.ids]])
            logp = oracle(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[-len(sample.ids) :]
            by = {"constant": 12 * 10, "token": tokens, "sequence": 12 * len(sample.ids)}[divide]
            loss = loss - (reward - mean) * logp.sum() / by
    loss.backward()
    names = model.named_parameters()
    expected = dict(oracle.named_parameters())
    for name, grad in zip(names, found):
        torch.testing.assert_close(grad, expected[name].grad, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_micro_batches_cannot_matter(folder, name):
    """The whole rollout in one pack with shared prompts, or each answer alone with its own copy of the prompt."""
    found = []
    for micro_tokens in (512, 20):
        model = load_model(folder, FP32, train=True)
        critic = Trunk(model) if name == "ppo" else None
        knobs = {"type": name} | ({"critic": {"separate": False}} if critic else {})
        groups = made_groups(model)
        work = learner(model, groups, knobs, critic=critic, reference=reference_of(folder), micro_tokens=micro_tokens)
        found.append(gradient(model, work))
        assert len(work.batch.docs) == (3 if micro_tokens == 512 else len(units(groups, 20)[0]))
    scale = max(float(g.abs().max()) for g in found[0])
    assert scale > 0
    for one, many in zip(*found):
        torch.testing.assert_close(many, one, rtol=1e-3, atol=2e-5 * scale)


def test_units_by_hand():
    """A budget of 10 with a prompt of 4 holds 6 answer tokens: (2, 3), (5), (6); the next group begins anew."""

    def group(prompt, *lengths):
        samples = [Sample(text="", ids=(7,) * n, logps=(0.0,) * n, ended="stop") for n in lengths]
        return Group(Ask("", (), {}, [1] * prompt), samples)

    docs, owner = units([group(4, 2, 3, 5, 6), group(2, 1)], 10)
    assert [[len(b.ids) for b in d.branches] for d in docs] == [[2, 3], [5], [6], [1]]
    assert owner == [[(0, 0), (0, 1)], [(0, 2)], [(0, 3)], [(1, 0)]]
    assert all(packing.size(d) <= 10 for d in docs)


def test_every_document_is_seen_once_an_epoch(folder):
    model = load_model(folder, FP32, train=True)
    work = learner(
        model, made_groups(model, prompts=5), {"type": "grpo", "kl": {"where": "none"}}, epochs=2, minibatches=2
    )
    steps = work.batches()
    seen = [sorted(i for micro in next(steps) for i in micro) for _ in range(4)]
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == [0, 1, 2, 3, 4]
    assert not work.batch.queue and work.rollout == 1


def test_kl_in_the_reward(folder):
    """REINFORCE++ without whitening: the return from token t on is R - coef x the sum of k1 from t on."""
    model = load_model(folder, FP32, train=True)
    groups = made_groups(model, prompts=1, n=2)
    knobs = {"type": "reinforce++", "credit": {"whiten": False}, "kl": {"coef": 0.5}}
    work = learner(model, groups, knobs, reference=reference_of(folder))
    next(work.batches())
    columns = {k: v[0] for k, v in work.batch.columns.items()}
    k1 = columns["old"] - columns["ref"]
    n = len(groups[0].samples[0].ids)
    for part, reward in ((slice(0, n), groups[0].reward[0]), (slice(n, None), groups[0].reward[1])):
        expected = reward - 0.5 * k1[part].flip(0).cumsum(0).flip(0)
        torch.testing.assert_close(columns["adv"][part], expected)
    assert work.news["kl_answer"] == pytest.approx(float(k1.sum()) / 2, rel=1e-4)


def test_what_a_step_earned_is_credited_from_there(folder):
    """Returns without discount: 1 + 0.5 up to the step, 0.5 behind; the sum, and so a group's credit, is as before."""
    model = load_model(folder, FP32, train=False)
    groups = made_groups(model, prompts=1, n=2)
    sizes = [len(s.ids) for s in groups[0].samples]
    longer = sizes.index(max(sizes))
    start, n = sum(sizes[:longer]), sizes[longer]
    assert n > 2
    groups[0].reward = [1.5 * (j == longer) for j in range(2)]
    groups[0].steps = {longer: [(1, 1.0)]}
    knobs = {"type": "reinforce++", "credit": {"whiten": False}, "kl": {"where": "none"}}
    work = learner(model, groups, knobs)
    next(work.batches())
    assert work.batch.columns["adv"][0][start:][:n].tolist() == pytest.approx([1.5, 1.5] + [0.5] * (n - 2))
    work = learner(model, groups, {"type": "dr_grpo"})
    next(work.batches())
    assert work.batch.columns["adv"][0][start:][:n].tolist() == pytest.approx([0.75] * n)


def test_the_kl_controller_by_hand(folder):
    """Target 2: a KL of 2.2 is 10% too much, coef x 1.01; a KL of 20 counts as 20%, x 1.02; none at all x 0.98."""
    model = load_model(folder, FP32, train=False)
    work = learner(model, [], {"type": "grpo", "kl": {"coef": 1.0, "target": 2.0}})
    for kl, factor in ((2.2, 1.01), (20.0, 1.02), (0.0, 0.98)):
        before = work.coef
        work._steer(kl)
        assert work.coef == pytest.approx(before * factor)


def test_the_price_of_entropy_by_hand(folder):
    """Target 1 nat: 0.005 dearer for each rollout below it, cheaper above it, never below 0; it is in the loss."""
    model = load_model(folder, FP32, train=True)
    work = learner(model, made_groups(model), {"type": "dr_grpo", "entropy_target": 1.0})
    for entropy, price in ((0.5, 0.005), (0.9, 0.01), (1.2, 0.005), (2.0, 0.0), (2.0, 0.0), (None, 0.0)):
        work._reprice(entropy)
        assert work.bonus == pytest.approx(price)
    next(work.batches())
    assert work.news["entropy_coef"] == 0
    free = float(work.loss([0], 10.0)[0].detach())
    work.bonus = 0.3
    scalar, facts = work.loss([0], 10.0)
    assert float(scalar.detach()) == pytest.approx(free - 0.3 * facts["entropy"][0] / 10.0, rel=1e-4)
    fixed = learner(model, made_groups(model), {"type": "dr_grpo", "entropy": 0.02})
    fixed._reprice(0.1)
    assert fixed.bonus == 0.02


def test_unfinished_answers_can_be_masked(folder):
    """The second answer of each group did not stop: no gradient from it, but it counts in the group's mean."""
    model = load_model(folder, FP32, train=True)
    groups = made_groups(model, prompts=2)
    work = learner(model, groups, {"type": "dr_grpo", "aggregate": "sequence"}, mask_unfinished=True)
    next(work.batches())
    assert work.rows.counts == [3.0, 3.0]
    n = [len(s.ids) for s in groups[0].samples]
    keep = work.batch.columns["keep"][0].split(n)
    assert [float(k.mean()) for k in keep] == [1, 0, 1, 1]
    mean = sum(groups[0].reward) / 4
    assert float(work.batch.columns["adv"][0][0]) == pytest.approx(groups[0].reward[0] - mean, rel=1e-5)


def test_a_sampler_that_disagrees_is_refused(folder):
    model = load_model(folder, FP32, train=True)
    work = learner(model, made_groups(model, shift=0.3), {"type": "dapo"})
    with pytest.raises(UserError, match=r"disagree about the same tokens by 0\.3 nats"):
        next(work.batches())


def test_mismatch_is_logged_and_corrected(folder):
    """Behaviour log-probs lower by log 1.5: weights 1.5, and K3 = 1.5 - 1 - log 1.5 nats a token."""
    model = load_model(folder, FP32, train=True)
    plain = learner(model, made_groups(model), {"type": "dapo"})
    next(plain.batches())
    work = learner(model, plain.batch and made_groups(model), {"type": "dapo", "correction": {"cap": 9.0}})
    next(work.batches())
    for x in work.batch.columns["behaviour"]:
        x -= math.log(1.5)
    (loss, _), (weighed, facts) = (w.loss([0, 1, 2], w.tokens) for w in (plain, work))
    assert float(weighed.detach()) == pytest.approx(1.5 * float(loss.detach()), rel=1e-3)
    total, n = facts["mismatch"]
    assert total / n == pytest.approx(0.5 - math.log(1.5), rel=1e-3)


def test_running_mean_and_spread():
    """1, 2, 3: mean 2, std 1."""
    r = Running()
    for x in (1.0, 2.0, 3.0):
        r.add(x)
    assert (r.n, r.mean, r.std) == (3, 2.0, 1.0)


def test_normalised_rewards_of_a_rollout_are_measured_alike(folder):
    """Groups that are flat at 0, 1 and 2 stay flat, whatever the order in which the running mean meets them."""
    model = load_model(folder, FP32, train=True)
    groups = made_groups(model)
    for k, g in enumerate(groups):
        g.reward = [float(k)] * 4
    work = learner(model, groups, {"type": "grpo", "kl": {"where": "none"}}, normalise=True)
    next(work.batches())
    assert not torch.cat(work.batch.columns["adv"]).any()
    assert (
        work._normal([5.0, 5.0]) == [pytest.approx((5 - 22 / 14) / work.running.std)] * 2
    )  # mean of 4 x (0, 1, 2), 5, 5


def test_critics_begin_at_nothing_and_learn_the_returns(folder):
    """Both kinds say 0 before training; a separate one, trained on one rollout, explains most of its returns."""
    model = load_model(folder, FP32, train=True)
    groups = made_groups(model)
    for critic in (Trunk(model), separate(folder, FP32, lr=3e-3, clip=1.0)):
        knobs = {
            "type": "ppo",
            "kl": {"where": "none"},
            "critic": {"separate": isinstance(critic, Separate), "range": 0},
        }
        work = learner(model, groups, knobs, critic=critic, epochs=40)
        steps = work.batches()
        micro = next(steps)
        assert work.news["value"] == 0 and work.news["explained"] == 0
        assert torch.cat(work.batch.columns["return"]).abs().max() > 0
        losses = []
        for _ in range(30):
            loss, facts = work.loss(micro[0], 1.0)
            if isinstance(critic, Trunk):
                loss.backward()
            losses.append(facts["value_loss"][0] / facts["value_loss"][1])
            entry = {}
            work.after(entry)
            assert entry["critic_norm"] > 0
        assert losses[-1] < (0.3 if isinstance(critic, Separate) else 0.9) * losses[0]


def with_flat_groups(model, flat):
    groups = made_groups(model, prompts=4)
    for g in groups[:flat]:
        g.reward = [1.0] * len(g.reward)
    return groups


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo"])
def test_groups_without_spread_are_counted_and_not_computed(folder, name):
    """The gradient is the one with all documents: what is left out has none, and stays in the denominator."""
    model = load_model(folder, FP32, train=True)
    groups = with_flat_groups(model, 2)
    knobs = {"type": name, "kl": {"where": "none"}}
    short, whole = (learner(model, groups, knobs) for _ in range(2))
    whole._idle = lambda columns: set()
    found, wanted = gradient(model, short), gradient(model, whole)
    assert len(short.rows.counts) == 4 and short.share == pytest.approx(0.5, abs=0.2) and whole.share == 1
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-4)
    assert max(float(b.abs().max()) for b in wanted) > 1e-4


def test_a_rollout_without_any_spread_still_is_a_step_and_a_price_of_kl_keeps_every_document(folder):
    model = load_model(folder, FP32, train=True)
    flat = learner(model, with_flat_groups(model, 4), {"type": "grpo", "kl": {"where": "none"}})
    assert max(float(g.abs().max()) for g in gradient(model, flat)) == 0
    dear = learner(model, with_flat_groups(model, 4), {"type": "grpo"}, reference=reference_of(folder))
    assert sorted(i for micro in next(dear.batches()) for i in micro) == [0, 1, 2, 3]


def test_warm_up_of_the_critic_leaves_the_policy_alone(folder):
    model = load_model(folder, FP32, train=True)
    critic = separate(folder, FP32, lr=1e-3, clip=1.0)
    work = learner(
        model, made_groups(model), {"type": "ppo", "kl": {"where": "none"}, "critic": {"warmup": 1}}, critic=critic
    )
    assert max(float(g.abs().max()) for g in gradient(model, work)) == 0
    work.batch.queue = []
    assert max(float(g.abs().max()) for g in gradient(model, work)) > 0  # the second rollout


def test_warm_up_of_a_layer_on_the_trunk_leaves_the_trunk_alone(folder):
    """The value loss would go on into the policy; in the warm-up only the layer learns."""
    model = load_model(folder, FP32, train=True)
    critic = Trunk(model)
    torch.nn.init.normal_(critic.layer.weight)
    knobs = {"type": "ppo", "kl": {"where": "none"}, "critic": {"separate": False, "warmup": 1}}
    work = learner(model, made_groups(model), knobs, critic=critic)
    found, own = gradient(model, work), len(model.parameters())
    assert max(float(g.abs().max()) for g in found[:own]) == 0
    assert max(float(g.abs().max()) for g in found[own:]) > 0


def test_temperature_stands_on_both_sides(folder):
    """Samples drawn at temperature 0.5 agree with a trainer at 0.5 and not with one at 1."""
    model = load_model(folder, FP32, train=True)
    groups = made_groups(model)
    for g in groups:
        for j, s in enumerate(g.samples):
            pack = packing.build([packing.Doc(g.ask.ids, [packing.Branch(list(s.ids), [True] * len(s.ids))])])
            logps = model.token_logps(pack, temperature=0.5).tolist()
            g.samples[j] = s.model_copy(update={"logps": tuple(logps)})
    next(learner(model, groups, {"type": "dapo"}, temperature=0.5).batches())
    with pytest.raises(UserError, match="disagree"):
        next(learner(model, groups, {"type": "dapo"}).batches())


def test_adapter_off_is_the_reference(folder):
    pytest.importorskip("peft")
    from posttrain.lora import Lora

    model: Model = load_model(folder, FP32, train=True, lora=Lora(rank=2))
    groups = made_groups(model, prompts=1)

    def reference(pack):
        with torch.no_grad(), model.reference():
            return model.token_logps(pack)

    with torch.no_grad():
        for name, p in model.named_parameters().items():
            if "lora_B" in name:
                p.normal_(0, 0.05)
    groups = made_groups(model, prompts=1)
    work = learner(model, groups, {"type": "grpo"}, reference=reference)
    next(work.batches())
    torch.testing.assert_close(
        work.batch.columns["ref"][0], torch.cat([
            logps_of(load_model(folder, FP32, train=False), groups[0].ask.ids, list(s.ids)) for s in groups[0].samples
        ]), rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    assert work.news["kl_k3"] > 0


# ---- rollouts that were made ahead ---------------------------------------------------------------------------------


def stale_learner(model, made, knobs, **how):
    """A learner whose rollouts are made by `made(number)`, at the weights of that moment."""
    algorithm = TypeAdapter(AnyAlgorithm).validate_python(knobs)
    settings = {"temperature": 1.0, "max_new": 10, "epochs": 1, "minibatches": 1, "micro_tokens": 512} | how
    return Learner(model, None, None, algorithm, How(**settings), lambda number: (made(number), {}))


def test_rollouts_wait_in_a_queue(folder):
    """Staleness 2: rollouts 0, 1, 2 are made at once, then one a step; none is made that would not be used."""
    model, calls = load_model(folder, FP32, train=True), []

    def made(number):
        calls.append((work.rollout, number))
        return made_groups(model, prompts=1, seed=number)

    work = stale_learner(model, made, {"type": "dapo"}, max_staleness=2, rollouts=5)
    ages = []
    steps = work.batches()
    for _ in range(5):
        next(steps)
        work.after({})
        ages.append(work.age)
    assert calls == [(0, 0), (0, 1), (0, 2), (1, 3), (2, 4)]
    assert ages == [0, 1, 2, 2, 2] and work.history[-1]["staleness"] == 2


def test_importance_weights_of_stale_rollouts_by_hand(folder):
    """Rollout 1 is drawn by the first weights, then the weights change: each token's loss is that of REINFORCE times
    min(pi_now / pi_then, 2), pi_then being the sampler's; without a correction it would be the loss alone."""
    model = load_model(folder, FP32, train=True)
    rollouts = [made_groups(model, prompts=2, seed=n) for n in range(2)]
    work = stale_learner(
        model, lambda n: rollouts[n], {"type": "dr_grpo", "aggregate": "token"}, max_staleness=1, rollouts=2
    )
    steps = work.batches()
    next(steps)
    work.after({})
    with torch.no_grad():  # what an optimiser step would do
        for p in model.hf.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
    micro = next(steps)
    total = sum(work.rows.counts[i] for indices in micro for i in indices)
    losses, facts = zip(*(work.loss(indices, total) for indices in micro))
    expected, weights = 0.0, []
    for g in rollouts[1]:
        mean = sum(g.reward) / len(g.reward)
        for s, reward in zip(g.samples, g.reward):
            now = logps_of(model, g.ask.ids, list(s.ids))
            weight = torch.exp(now - torch.tensor(s.logps))
            weights += weight.tolist()
            expected -= float(((reward - mean) * weight.clamp(max=2.0)).sum()) / total
    assert sum(float(x.detach()) for x in losses) == pytest.approx(expected, rel=1e-4)
    assert max(weights) > 2 and min(weights) < 0.7  # the weights matter
    capped, n = facts[0]["capped"]
    assert capped / n == pytest.approx(sum(w > 2 for w in weights) / len(weights))
    assert "mismatch" not in facts[0] and facts[0]["off_policy"][0] > 0
