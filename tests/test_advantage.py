"""Credit by hand, by the definitions that verl's core_algos.py gives, and by its properties."""

import pytest
import torch

from posttrain.objectives.advantage import Outcome, gae, group, leave_one_out, returns, to_go, whitened


def outcome(rewards, value=None, groups=None):
    """Ragged rows of rewards -> an Outcome."""
    t = max(map(len, rewards))

    def pad(rows):
        return torch.tensor([list(r) + [0.0] * (t - len(r)) for r in rows], dtype=torch.float64)

    mask = pad([[1.0] * len(r) for r in rewards]).bool()
    groups = torch.tensor(groups if groups is not None else [0] * len(rewards))
    return Outcome(pad(rewards), mask, groups, None if value is None else pad(value))


def test_gae_by_hand():
    """r = (0, 0, 1), V = (0.5, 0.4, 0.2), gamma 1, lambda 0.5:
    delta_3 = 1 - 0.2 = 0.8, delta_2 = 0.2 - 0.4 = -0.2, delta_1 = 0.4 - 0.5 = -0.1;
    A_3 = 0.8, A_2 = -0.2 + 0.5 * 0.8 = 0.2, A_1 = -0.1 + 0.5 * 0.2 = 0; returns A + V = (0.5, 0.6, 1.0)."""
    adv, ret = gae(outcome([[0, 0, 1]], [[0.5, 0.4, 0.2]]), gamma=1.0, lam=0.5, whiten=False)
    torch.testing.assert_close(adv, torch.tensor([[0.0, 0.2, 0.8]], dtype=torch.float64))
    torch.testing.assert_close(ret, torch.tensor([[0.5, 0.6, 1.0]], dtype=torch.float64))


def test_gae_with_discount_by_hand():
    """r = (1, 2), V = (3, 4), gamma 0.5, lambda 0.25: delta_2 = 2 - 4 = -2, delta_1 = 1 + 0.5 * 4 - 3 = 0;
    A_2 = -2, A_1 = 0 + 0.125 * -2 = -0.25."""
    adv, _ = gae(outcome([[1, 2]], [[3, 4]]), gamma=0.5, lam=0.25, whiten=False)
    torch.testing.assert_close(adv, torch.tensor([[-0.25, -2.0]], dtype=torch.float64))


def verl_gae(reward, value, gamma, lam):
    """verl's compute_gae_advantage_return for one sequence, as it is defined: backwards, before whitening."""
    last, next_value, adv = 0.0, 0.0, []
    for t in reversed(range(len(reward))):
        delta = reward[t] + gamma * next_value - value[t]
        last = delta + gamma * lam * last
        next_value = value[t]
        adv.append(last)
    return adv[::-1]


def test_gae_equals_verls_definition_on_ragged_rows():
    g = torch.Generator().manual_seed(1)
    rewards = [torch.randn(n, generator=g).tolist() for n in (5, 1, 3, 9)]
    values = [torch.randn(n, generator=g).tolist() for n in (5, 1, 3, 9)]
    o = outcome(rewards, values)
    adv, ret = gae(o, gamma=0.97, lam=0.9, whiten=False)
    for s, (r, v) in enumerate(zip(rewards, values)):
        expected = torch.tensor(verl_gae(r, v, 0.97, 0.9), dtype=torch.float64)
        torch.testing.assert_close(adv[s, : len(r)], expected)
        torch.testing.assert_close(ret[s, : len(r)], expected + torch.tensor(v, dtype=torch.float64))
    flat = adv[o.mask_ST]  # verl's masked_whiten: mean and variance with n - 1 over all tokens, eps 1e-8
    white, _ = gae(o, gamma=0.97, lam=0.9)
    torch.testing.assert_close(white[o.mask_ST], (flat - flat.mean()) * torch.rsqrt(flat.var() + 1e-8))


def test_gae_with_lambda_one_is_return_minus_value():
    o = outcome([[0.1, 0.2, 0.3]], [[5.0, 4.0, 3.0]])
    adv, ret = gae(o, lam=1.0, whiten=False)
    torch.testing.assert_close(adv, to_go(o) - o.value_ST)
    torch.testing.assert_close(ret, to_go(o))


def test_group_by_hand():
    """Scores 1, 0, 0, 0: mean 1/4, std sqrt((9/16 + 3/16) / 3) = 1/2; (3/4) / (1/2 + 1e-4) and (-1/4) / (1/2 + 1e-4).
    The reward stands at the last token, the advantage at every token."""
    adv, _ = group(outcome([[0, 1], [0], [0, 0, 0], [0]]))
    assert adv[0, :2].tolist() == pytest.approx([0.75 / 0.5001] * 2)
    assert adv[2].tolist() == pytest.approx([-0.25 / 0.5001] * 3)
    assert adv[0, 2] == 0  # behind the end
    centred, _ = group(outcome([[0, 1], [0], [0, 0, 0], [0]]), std=False)
    assert centred[:, 0].tolist() == [0.75, -0.25, -0.25, -0.25]


def test_leave_one_out_by_hand():
    """Scores 3, 1, 2: the others' means are 1.5, 2.5, 2."""
    adv, _ = leave_one_out(outcome([[3], [1], [2]]))
    assert adv[:, 0].tolist() == pytest.approx([1.5, -1.5, 0.0])


def test_a_group_of_one_or_without_spread_teaches_nothing():
    o = outcome([[2], [5], [5], [5]], groups=[7, 3, 3, 3])
    for credit in (group, leave_one_out):
        assert credit(o)[0].abs().max() == 0


def test_groups_do_not_see_each_other():
    """The same numbers, groups mixed up in the batch: each group as if it were alone."""
    together = group(outcome([[1], [10], [0], [30], [2], [20]], groups=[0, 1, 0, 1, 0, 1]))[0][:, 0]
    first, second = group(outcome([[1], [0], [2]]))[0][:, 0], group(outcome([[10], [30], [20]]))[0][:, 0]
    torch.testing.assert_close(together[::2], first)
    torch.testing.assert_close(together[1::2], second)


def test_returns_by_hand():
    """Rewards (1, 2, 4) with gamma 0.5: 4, 2 + 2 = 4, 1 + 2 = 3."""
    assert returns(outcome([[1, 2, 4]]), gamma=0.5, whiten=False)[0].tolist() == [[3, 4, 4]]
    white, plain = returns(outcome([[1, 2, 4], [0]]))
    real = white[outcome([[1, 2, 4], [0]]).mask_ST]
    assert float(real.mean()) == pytest.approx(0, abs=1e-9) and float(real.var()) == pytest.approx(1, abs=1e-6)
    assert plain.tolist() == [[7, 6, 4], [0, 0, 0]]


def test_whitening():
    """1, 2, 3 -> -1, 0, 1 (variance with n - 1 is 1); places outside the mask are 0; one number has no spread."""
    x, mask = torch.tensor([[1.0, 2.0], [3.0, 99.0]]), torch.tensor([[True, True], [True, False]])
    torch.testing.assert_close(whitened(x, mask), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(whitened(x, mask, shift=False), torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    assert whitened(torch.tensor([[5.0]]), torch.tensor([[True]])).tolist() == [[0.0]]


def test_what_is_outside_the_mask_cannot_matter():
    o = outcome([[1, 2, 3], [4], [0, 1]], [[1, 1, 1], [2], [3, 3]])
    dirty = o._replace(
        reward_ST=torch.where(o.mask_ST, o.reward_ST, 1e6), value_ST=torch.where(o.mask_ST, o.value_ST, -1e6)
    )
    for credit in (gae, group, leave_one_out, returns):
        for clean_x, dirty_x in zip(credit(o), credit(dirty)):
            torch.testing.assert_close(clean_x, dirty_x)


@pytest.mark.parametrize("n", [3, 5, 6, 7])
@pytest.mark.parametrize("reward", [0.1, -100.7, 1000.1])
def test_equal_rewards_teach_nothing_whatever_their_size(n, reward):
    """In fp32 the mean of three times 1000.1 is another number, and (x - mean) / (std + 1e-4) was 0.35."""
    score = torch.full((n,), reward)
    o = Outcome(score[:, None], torch.ones(n, 1, dtype=torch.bool), torch.zeros(n, dtype=torch.long))
    for credit in (group, leave_one_out):
        advantage = credit(o)[0]
        assert advantage.dtype == torch.float32 and not advantage.any()
