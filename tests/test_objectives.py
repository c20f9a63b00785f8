"""Properties every objective must have, hand values, and the reduction that accumulation rests on."""

import math

import pytest
import torch

from posttrain.objectives import preference, supervised
from posttrain.objectives.reduce import reduce, sequence_mean, sequence_sum


def pairs(n=6, seed=0, requires_grad=True):
    g = torch.Generator().manual_seed(seed)
    logps = [-20 * torch.rand(n, generator=g, dtype=torch.float64) for _ in range(4)]
    lens = [torch.randint(3, 30, (n,), generator=g).double() for _ in range(2)]
    more = [torch.rand(n, generator=g, dtype=torch.float64) for _ in range(6)]
    policy = [x.requires_grad_(requires_grad) for x in logps[:2]]
    return preference.Pairs(*policy, *logps[2:], *lens, *more)


@pytest.mark.parametrize("loss", preference.LOSSES)
def test_one_value_per_pair_and_finite_gradients(loss):
    p = pairs()
    value = loss(p)
    assert value.shape == (6,)
    value.sum().backward()
    assert torch.isfinite(p.chosen_B.grad).all() and torch.isfinite(p.rejected_B.grad).all()


@pytest.mark.parametrize("loss", preference.LOSSES)
def test_pairs_do_not_see_each_other(loss):
    """The loss of the first two pairs is the same whether or not four others are in the batch."""
    p = pairs(requires_grad=False)
    part = preference.Pairs(*(x[:2] for x in p))
    torch.testing.assert_close(loss(part), loss(p)[:2])


@pytest.mark.parametrize("loss", [preference.dpo, preference.hinge, preference.robust, preference.simpo])
def test_swapping_chosen_and_rejected_turns_the_push_around(loss):
    """At z = 0 (both answers alike) the gradient on chosen is minus the gradient on rejected."""
    x = torch.full((1,), -5.0, dtype=torch.float64, requires_grad=True)
    y = torch.full((1,), -5.0, dtype=torch.float64, requires_grad=True)
    n = torch.full((1,), 7.0, dtype=torch.float64)
    r = torch.full((1,), -5.0, dtype=torch.float64)
    loss(preference.Pairs(x, y, r, r, n, n)).sum().backward()
    torch.testing.assert_close(x.grad, -y.grad)
    assert x.grad.item() < 0  # minimising raises the chosen answer


def test_dpo_by_hand():
    """beta 0.1, log-ratios +2 and -1: z = 0.1 (2 - -1) = 0.3, loss = log(1 + e^-0.3) = 0.554355."""
    one = torch.ones(1)
    p = preference.Pairs(-8 * one, -11 * one, -10 * one, -10 * one, 5 * one, 5 * one)
    torch.testing.assert_close(preference.dpo(p, beta=0.1), torch.tensor([0.554355]), atol=1e-6, rtol=0)


def test_the_others_by_hand():
    """c = 2, r = -1, lengths 4 and 2, beta 0.5.

    hinge: max(0, 1 - 0.5 * 3) = 0.  ipo: (2/4 + 1/2 - 1) ^ 2 = 0.  apo_zero: 1 - sigma(1) + sigma(-0.5) = 0.646482.
    robust, e 0.25, z = 1.5: [-0.75 log sigma(1.5) + 0.25 log sigma(-1.5)] / 0.5
        = (0.151060 - 0.425353) / 0.5 = -0.548587.
    simpo, beta 2, gamma 1: z = 2 (-8/4 + 11/2) - 1 = 6, log(1 + e^-6) = 0.002476.
    """
    one = torch.ones(1, dtype=torch.float64)
    p = preference.Pairs(-8 * one, -11 * one, -10 * one, -10 * one, 4 * one, 2 * one)
    expected = {
        preference.hinge(p, beta=0.5): 0.0,
        preference.ipo(p, beta=0.5): 0.0,
        preference.apo_zero(p, beta=0.5): 0.646482,
        preference.robust(p, beta=0.5, label_smoothing=0.25): -0.548587,
        preference.simpo(p, beta=2.0, gamma=1.0): 0.002476,
    }
    for value, hand in expected.items():
        assert value.item() == pytest.approx(hand, abs=2e-6)


def test_label_smoothing_is_the_mixture():
    p = pairs(requires_grad=False)
    flipped = preference.Pairs(
        p.rejected_B, p.chosen_B, p.ref_rejected_B, p.ref_chosen_B, p.rejected_len_B, p.chosen_len_B
    )
    mixture = 0.8 * preference.dpo(p) + 0.2 * preference.dpo(flipped)
    torch.testing.assert_close(preference.dpo(p, label_smoothing=0.2), mixture)


def test_dpo_gradient_at_the_reference_is_half_beta():
    """At the reference z = 0: d loss / d chosen = -beta sigma(0) = -beta / 2."""
    x = torch.tensor([-3.0], requires_grad=True)
    r, n = torch.tensor([-3.0]), torch.ones(1)
    preference.dpo(preference.Pairs(x, r, r, r, n, n), beta=0.4).sum().backward()
    assert x.grad.item() == pytest.approx(-0.2)


def test_dft_scales_the_gradient_by_the_probability():
    """d(-log p sg(p)) / d log p = -p: with p = 0.25 the gradient is -0.25, where nll has -1."""
    logp = torch.tensor([math.log(0.25)], requires_grad=True)
    supervised.dft(logp).sum().backward()
    assert logp.grad.item() == pytest.approx(-0.25)


@pytest.mark.parametrize("how", ["token", "sequence"])
def test_micro_batches_add_up_to_the_whole_batch(how):
    """5 sequences of 3, 1, 4, 2, 2 tokens: two micro-batches with the step's denominator give the batch's mean."""
    lengths = [3, 1, 4, 2, 2]
    x = torch.randn(sum(lengths), dtype=torch.float64)
    sequence = torch.repeat_interleave(torch.arange(5), torch.tensor(lengths))
    total = float(sum(lengths)) if how == "token" else 5.0
    whole = reduce(x, how, total, sequence, 5)
    first = reduce(x[:4], how, total, sequence[:4], 2)
    second = reduce(x[4:], how, total, sequence[4:] - 2, 3)
    torch.testing.assert_close(first + second, whole)


def test_sequence_sums_by_hand():
    """Tokens 1, 2 | 3, 4, 5: sums 3 and 12, means 1.5 and 4."""
    x, s = torch.arange(1.0, 6.0), torch.tensor([0, 0, 1, 1, 1])
    assert sequence_sum(x, s, 2).tolist() == [3, 12]
    assert sequence_mean(x, s, 2).tolist() == [1.5, 4]
