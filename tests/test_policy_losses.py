"""Policy losses: hand values, gradients on the policy itself, KL estimators, importance weights, the critic."""

import math

import pytest
import torch
from torch import tensor

from posttrain.objectives import policy, value
from posttrain.objectives.policy import LOSSES, Tokens, cispo, clip, clipped_share, gspo, importance, kl, sequence_clip
from posttrain.objectives.reduce import reduce

LOG2 = math.log(2)


def tokens(logp, old, adv, sequence=None):
    sequence = sequence if sequence is not None else [0] * len(logp)
    logp = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    rest = [torch.tensor(x, dtype=torch.float64) for x in (old, adv)]
    return Tokens(logp, *rest, torch.tensor(sequence), max(sequence) + 1)


def test_clip_by_hand():
    """Ratios 2, 2, 1/2, 1/2 with A = 1, -1, 1, -1 and range 0.8 to 1.2: -min(2, 1.2) = -1.2; -min(-2, -1.2) = 2;
    -min(0.5, 0.8) = -0.5; -min(-0.5, -0.8) = 0.8. With cap 1.5 the second becomes 1.5."""
    t = tokens([LOG2, LOG2, -LOG2, -LOG2], [0, 0, 0, 0], [1, -1, 1, -1])
    assert clip(t).tolist() == pytest.approx([-1.2, 2.0, -0.5, 0.8])
    assert clip(t, cap=1.5).tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8])
    assert clip(t, low=0.2, high=0.28).tolist() == pytest.approx([-1.28, 2.0, -0.5, 0.8])
    assert clipped_share(t, 0.2, 0.2).tolist() == [1, 0, 0, 1]


def test_cap_is_dual_clip():
    """Dual clip for A < 0 is max(min(rho A, clip(rho) A), c A) as an objective; for A >= 0 it does nothing."""
    g = torch.Generator().manual_seed(0)
    logp, adv = torch.randn(500, generator=g, dtype=torch.float64) * 2, torch.randn(500, generator=g).double()
    t = Tokens(logp, torch.zeros(500).double(), adv, torch.zeros(500, dtype=torch.long), 1)
    rho = logp.exp()
    plain = torch.minimum(rho * adv, rho.clamp(0.8, 1.2) * adv)
    dual = torch.where(adv < 0, torch.maximum(plain, 3.0 * adv), plain)
    torch.testing.assert_close(clip(t, cap=3.0), -dual)


def test_gspo_by_hand():
    """Log-ratios (0.2, 0.4) and (-0.3): sequence ratios e^0.3 and e^-0.3. A = 1 for both, high = 0.1:
    -1.1, -1.1 and -e^-0.3."""
    t = tokens([0.2, 0.4, -0.3], [0, 0, 0], [1, 1, 1], [0, 0, 1])
    assert gspo(t, low=0.1, high=0.1).tolist() == pytest.approx([-1.1, -1.1, -math.exp(-0.3)])


def test_gspo_gradient_is_that_of_the_sequence_ratio():
    """The mean over a sequence's tokens: -s A with s = exp(mean of log-ratios) has -s A / n."""
    t = tokens([0.02, 0.04, -0.01], [0, 0, 0], [2, 2, -1], [0, 0, 1])
    reduce(gspo(t, low=0.5, high=0.5), "sequence", 1.0, t.sequence_N, 2).backward()
    s = math.exp(0.03)
    assert t.logp_N.grad.tolist() == pytest.approx([-s * 2 / 2, -s * 2 / 2, math.exp(-0.01)])


def test_sequence_clip_by_hand():
    """Log-ratios log 2 and log 2: the sequence's ratio is 4, A = -1: loss 4 on both tokens, their mean 4."""
    t = tokens([LOG2, LOG2], [0, 0], [-1, -1])
    assert sequence_clip(t).tolist() == pytest.approx([4.0, 4.0])
    scalar = reduce(sequence_clip(t), "sequence", 1.0, t.sequence_N, 1)
    assert scalar.item() == pytest.approx(4.0)
    scalar.backward()
    assert t.logp_N.grad.tolist() == pytest.approx([4.0, 4.0])


def test_cispo_by_hand():
    """Ratio 8, high 1: weight 2; loss -2 A log pi = -2 * 1 * log 8; its gradient -2, though PPO's would be 0."""
    t = tokens([math.log(8)], [0], [1])
    loss = cispo(t, high=1.0)
    assert loss.tolist() == pytest.approx([-2 * math.log(8)])
    loss.sum().backward()
    assert t.logp_N.grad.tolist() == pytest.approx([-2.0])


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("how", ["token", "sequence"])
def test_on_policy_gradient_is_reinforce(loss, how):
    """Where pi is pi_old, every loss has the score function's gradient: -A per token; for the ratio of whole sequences
    (token sum or token mean alike) n tokens share A."""
    g = torch.Generator().manual_seed(3)
    old = torch.randn(12, generator=g, dtype=torch.float64)
    sequence = torch.tensor([0] * 5 + [1] * 4 + [2] * 3)
    n = torch.tensor([5.0, 4.0, 3.0], dtype=torch.float64)[sequence]
    adv = torch.tensor([1.5, -0.7, 0.3], dtype=torch.float64)[sequence]
    logp = old.clone().requires_grad_(True)
    reduce(loss(Tokens(logp, old, adv, sequence, 3)), how, 10.0, sequence, 3).backward()
    expected = -adv / 10 if how == "token" else -adv / n / 10
    if loss is sequence_clip:
        expected = expected * n
    torch.testing.assert_close(logp.grad, expected)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_zero_advantage_has_no_gradient(loss):
    t = tokens([0.3, -0.2], [0.1, 0.4], [0, 0])
    loss(t).sum().backward()
    assert t.logp_N.grad.abs().max() == 0


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_wild_ratios_stay_finite(loss):
    t = tokens([0.0, -900.0], [-900.0, 0.0], [1, -1], [0, 1])
    found = loss(t)
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(t.logp_N.grad).all()


def test_clipped_share_is_of_what_the_loss_clips():
    """Two tokens with ratios e^0.3 and e^-0.3, then e^0.3 twice, A > 0, range 0.2: by tokens the first and the last two
    are clipped; sequence means are 1 and e^0.3, sums 1 and e^0.6. A gradient of 0 says the same."""
    log = torch.tensor([0.3, -0.3, 0.3, 0.3], requires_grad=True)
    t = Tokens(log, torch.zeros(4), torch.ones(4), torch.tensor([0, 0, 1, 1]), 2)
    wanted = {"clip": [1, 0, 1, 1], "gspo": [0, 0, 1, 1], "sequence_clip": [0, 0, 1, 1]}
    for name, expected in wanted.items():
        level = policy.LEVELS.get(name, "token")
        assert policy.clipped_share(t, 0.2, 0.2, level).tolist() == expected
        (grad,) = torch.autograd.grad(getattr(policy, name)(t, low=0.2, high=0.2).sum(), log)
        assert (grad == 0).float().tolist() == expected
    assert policy.clipped_share(t._replace(adv_N=-t.adv_N), 0.2, 0.2).tolist() == [0, 1, 0, 0]


def test_kl_estimators_by_hand():
    """log pi - log ref = log 2: k1 = log 2, k2 = (log 2)^2 / 2, k3 = 1/2 - 1 + log 2."""
    p, r = tensor([LOG2]), tensor([0.0])
    assert float(kl(p, r, "k1")) == pytest.approx(LOG2)
    assert float(kl(p, r, "k2")) == pytest.approx(LOG2**2 / 2)
    assert float(kl(p, r, "k3")) == pytest.approx(LOG2 - 0.5)
    assert float(kl(tensor([500.0]), tensor([0.0]), "k3")) == pytest.approx(19.0)  # clamped, not infinite
    assert math.isfinite(float(kl(tensor([-500.0]), tensor([0.0]), "k3")))


def test_kl_estimators_are_unbiased_and_k2_has_the_gradient_of_the_kl():
    """Expectations taken exactly over a distribution of 6 outcomes: k1 and k3 give KL(p || r). As a loss on samples,
    the gradient is E[d k / d theta]: k2's is the gradient of the KL, k1's is 0."""
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    ref = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log_softmax(0)
    p = logits.log_softmax(0)
    true = (p.exp() * (p - ref)).sum()
    for name in ("k1", "k3"):
        assert float((p.exp() * kl(p, ref, name)).sum()) == pytest.approx(float(true))
    (wanted,) = torch.autograd.grad(true, logits, retain_graph=True)
    for name, expected in (("k2", wanted), ("k1", torch.zeros(6, dtype=torch.float64))):
        (found,) = torch.autograd.grad((p.exp().detach() * kl(p, ref, name)).sum(), logits, retain_graph=True)
        torch.testing.assert_close(found, expected)


def test_importance_by_hand():
    """pi_old / behaviour = 4, 1, 1/2 of sequences 0, 0, 1; per sequence 4 * 1 and 1/2."""
    old, behaviour, sequence = tensor([math.log(4), 0.0, -LOG2]), torch.zeros(3), tensor([0, 0, 1])
    assert importance(old, behaviour, sequence, 2).tolist() == pytest.approx([2, 1, 0.5])
    assert importance(old, behaviour, sequence, 2, how="mask").tolist() == pytest.approx([0, 1, 0.5])
    assert importance(old, behaviour, sequence, 2, level="sequence", cap=8).tolist() == pytest.approx([4, 4, 0.5])


def test_value_loss_by_hand():
    """V = 1, V_old = 0, R = 1: plain error 0, clipped value 0.2 has error 0.64: 0.5 * 0.64. Without clip: 0."""
    v, old, ret = tensor([1.0]), tensor([0.0]), tensor([1.0])
    assert float(value.clipped(v, old, ret)) == pytest.approx(0.32)
    assert float(value.clipped(v, old, ret, clip=0)) == 0
    assert float(value.clipped(tensor([0.1]), old, ret)) == pytest.approx(0.5 * 0.81)  # inside the range: plain


def test_explained_variance():
    """R = (0, 2): variance 1. V = R explains all, a constant nothing, V = -R: R - V = (0, 4), variance 4: 1 - 4."""
    r = tensor([0.0, 2.0])
    assert value.explained_variance(r, r) == 1
    assert value.explained_variance(tensor([5.0, 5.0]), r) == 0
    assert value.explained_variance(-r, r) == -3
    assert value.explained_variance(r, tensor([1.0, 1.0])) == 0
