"""Reward losses by hand and by property; rows as comparisons; calibration by hand. No model here."""

import json
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posttrain import calibration
from posttrain.calibration import Judged
from posttrain.comparisons import all_pairs, from_pair, from_ranking, from_ratings, longer
from posttrain.errors import UserError
from posttrain.objectives import reward
from posttrain.objectives.reward import Compared, Ranked, Rated
from posttrain.pipeline import Inputs, Runtime
from posttrain.rows import Message, Pair, Ranking, Rating, read_jsonl
from posttrain.stages.data import RankingsFile, RatingsFile

DOUBLE = torch.float64
ASK = (Message(role="user", content="Which?"),)


def say(text):
    return Message(role="assistant", content=text)


def compared(better, worse, soft=1.0, margin=0.0):
    return Compared(*(torch.tensor([x], dtype=DOUBLE) for x in (better, worse, soft, margin)))


def batch(n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    better, worse = (3 * torch.randn(n, generator=g, dtype=DOUBLE) for _ in range(2))
    return Compared(
        better.requires_grad_(), worse.requires_grad_(), 0.5 + 0.5 * torch.rand(n, generator=g, dtype=DOUBLE),
        torch.rand(n, generator=g, dtype=DOUBLE),
    )  # fmt: skip


# ---- hand values -----------------------------------------------------------------------------------------------------


def test_bradley_terry_by_hand():
    """Scores 1.5 and 0.5: z = 1, log(1 + e^-1) = 0.313262. Margin 3: z = -2, log(1 + e^2) = 2.126928.

    Margin off: 0.313262 again. Centring 0.01: + 0.01 (1.5 + 0.5)^2 = 0.04.
    Probability 0.8: 0.8 * 0.313262 + 0.2 * 1.313262 = 0.513262.
    Smoothing 0.1 of a certain order: 0.9 * 0.313262 + 0.1 * 1.313262 = 0.413262.
    """
    hand = {
        reward.bradley_terry(compared(1.5, 0.5)): 0.313262,
        reward.bradley_terry(compared(1.5, 0.5, margin=3.0)): 2.126928,
        reward.bradley_terry(compared(1.5, 0.5, margin=3.0), margin=False): 0.313262,
        reward.bradley_terry(compared(1.5, 0.5), centre=0.01): 0.353262,
        reward.bradley_terry(compared(1.5, 0.5, soft=0.8)): 0.513262,
        reward.bradley_terry(compared(1.5, 0.5), label_smoothing=0.1): 0.413262,
    }
    for value, expected in hand.items():
        assert value.item() == pytest.approx(expected, abs=1e-6)


def test_robust_by_hand():
    """z = 1, e = 0.2: (0.8 * 0.313262 - 0.2 * 1.313262) / 0.6 = (0.250609 - 0.262652) / 0.6 = -0.020072."""
    assert reward.robust(compared(1.5, 0.5), label_smoothing=0.2).item() == pytest.approx(-0.020072, abs=2e-6)


def test_plackett_luce_by_hand():
    """Scores 2, 1, 0 in that order: log(e^2 + e + 1) - 2 = 0.407606, then log(e + 1) - 1 = 0.313262: 0.720868.

    A tie of the last two (Breslow): 0.407606 + 2 log(e + 1) - 1 - 0 = 0.407606 + 1.626523 = 2.034129.
    """
    score, prompt = torch.tensor([2.0, 1.0, 0.0], dtype=DOUBLE), torch.zeros(3, dtype=torch.long)
    strict = reward.plackett_luce(Ranked(score, torch.tensor([0, 1, 2]), prompt, 1))
    tied = reward.plackett_luce(Ranked(score, torch.tensor([0, 1, 1]), prompt, 1))
    assert strict.tolist() == pytest.approx([0.720868], abs=1e-6)
    assert tied.tolist() == pytest.approx([2.034129], abs=1e-6)


def test_regression_by_hand():
    """Score 0.25 for the rating -0.5: 0.75^2 = 0.5625."""
    value = reward.regression(Rated(torch.tensor([0.25]), torch.tensor([-0.5])))
    assert value.item() == pytest.approx(0.5625)


# ---- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", reward.PAIRWISE)
def test_swapping_the_answers_turns_margin_and_probability_around(loss):
    p = batch()
    swapped = Compared(p.worse_C, p.better_C, 1 - p.soft_C, -p.margin_C)
    torch.testing.assert_close(loss(p, centre=0.1), loss(swapped, centre=0.1))


@pytest.mark.parametrize("loss", reward.PAIRWISE)
def test_comparisons_do_not_see_each_other(loss):
    p = batch()
    torch.testing.assert_close(loss(Compared(*(x[:2] for x in p))), loss(p)[:2])


@pytest.mark.parametrize("loss", reward.PAIRWISE)
@given(shift=st.floats(-50, 50))
def test_a_constant_added_to_every_score_changes_nothing(loss, shift):
    p = batch()
    moved = p._replace(better_C=p.better_C + shift, worse_C=p.worse_C + shift)
    torch.testing.assert_close(loss(moved), loss(p))


def test_a_larger_margin_asks_for_more():
    """The loss and the push on the scores grow with the margin, whatever the scores are."""
    values, pushes = [], []
    for m in (0.0, 1.0, 2.0, 3.0):
        p = batch()
        p = p._replace(soft_C=torch.ones(6, dtype=DOUBLE), margin_C=torch.full((6,), m, dtype=DOUBLE))
        loss = reward.bradley_terry(p)
        loss.sum().backward()
        values.append(loss.detach())
        pushes.append(-p.better_C.grad)
    assert all((b > a).all() for a, b in pairwise(values))
    assert all((b > a).all() for a, b in pairwise(pushes))


def test_an_even_bet_pulls_scores_together():
    """soft 0.5: no gradient at equal scores, and towards each other anywhere else."""
    x = torch.tensor([0.3, 0.3, 2.0], dtype=DOUBLE, requires_grad=True)
    y = torch.tensor([0.3, 0.3, -1.0], dtype=DOUBLE, requires_grad=True)
    half, zero = torch.full((3,), 0.5, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE)
    reward.bradley_terry(Compared(x, y, half, zero)).sum().backward()
    assert x.grad[:2].tolist() == [0, 0] and x.grad[2] > 0 and y.grad[2] < 0


@pytest.mark.parametrize("smoothing", [0.05, 0.2, 0.4])
def test_robust_is_unbiased_under_flips(smoothing):
    """In expectation over flips with probability e, robust is the plain loss of the right order."""
    p = batch()._replace(soft_C=torch.ones(6, dtype=DOUBLE), margin_C=torch.zeros(6, dtype=DOUBLE))
    flipped = p._replace(better_C=p.worse_C, worse_C=p.better_C)
    noisy = [reward.robust(x, label_smoothing=smoothing) for x in (p, flipped)]
    torch.testing.assert_close((1 - smoothing) * noisy[0] + smoothing * noisy[1], reward.bradley_terry(p))


def test_smoothing_is_the_probability_that_the_order_is_right():
    p = batch()._replace(soft_C=torch.ones(6, dtype=DOUBLE))
    torch.testing.assert_close(
        reward.bradley_terry(p, label_smoothing=0.2), reward.bradley_terry(p._replace(soft_C=0.8 * p.soft_C))
    )


def test_two_answers_ranked_are_a_pair():
    p = batch()
    score = torch.stack([p.better_C, p.worse_C], 1).flatten()
    ranked = Ranked(score, torch.tensor([0, 1] * 6), torch.arange(6).repeat_interleave(2), 6)
    plain = p._replace(soft_C=torch.ones(6, dtype=DOUBLE), margin_C=torch.zeros(6, dtype=DOUBLE))
    torch.testing.assert_close(reward.plackett_luce(ranked), reward.bradley_terry(plain))


def test_rankings_do_not_see_each_other_nor_their_order():
    """A prompt's loss is the same beside another prompt, and with its answers listed in another order."""
    g = torch.Generator().manual_seed(1)
    score, rank = torch.randn(7, generator=g, dtype=DOUBLE), torch.tensor([0, 1, 1, 2, 0, 1, 2])
    prompt = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    both = reward.plackett_luce(Ranked(score, rank, prompt, 2), centre=0.1)
    alone = reward.plackett_luce(Ranked(score[:4], rank[:4], prompt[:4], 1), centre=0.1)
    torch.testing.assert_close(both[:1], alone)
    mixed = torch.tensor([5, 2, 0, 6, 3, 1, 4])
    shuffled = reward.plackett_luce(Ranked(score[mixed], rank[mixed], prompt[mixed], 2), centre=0.1)
    torch.testing.assert_close(shuffled, both)


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_a_ranking_is_every_two_of_its_answers_and_counts_once():
    """4 answers, two of them tied: C(4, 2) = 6 comparisons of weight 1/6, the tie an even bet, best answer first."""
    row = Ranking(prompt=ASK, answers=tuple(map(say, "wxyz")), ranks=(2, 0, 1, 1), meta={"category": "letters"})
    group = from_ranking(row)
    assert group.category == "letters"
    assert [a.content for a in group.answers] == ["x", "y", "z", "w"] and group.ranks == (0, 1, 1, 2)
    assert len(group.comparisons) == 6
    assert sum(c.weight for c in group.comparisons) == pytest.approx(1)
    assert [(c.better, c.worse) for c in group.comparisons if c.soft == 0.5] == [(1, 2)]


def test_a_pair_keeps_its_margin_and_a_probability_below_a_half_turns_it_around():
    pair = Pair(prompt=ASK, chosen=say("long one"), rejected=say("no"), margin=2.0, soft=0.25)
    (c,) = from_pair(pair).comparisons
    assert (c.better, c.worse, c.soft, c.margin) == (1, 0, 0.75, -2.0)
    (plain,) = from_pair(pair.model_copy(update={"soft": None, "margin": None})).comparisons
    assert (plain.better, plain.soft, plain.margin, plain.weight) == (0, 1.0, 0.0, 1.0)
    assert longer(from_pair(pair), plain) == 1.0


def test_ratings_of_a_prompt_are_one_group_on_a_common_scale():
    """5 and 7 of 1..7 for one answer are 1/3 and 1: mean 2/3; 1 of 1..5 is -1."""
    rows = [
        Rating(prompt=ASK, answer=say("bad"), value=1, scale=(1, 5)),
        Rating(prompt=ASK, answer=say("good"), value=5),
        Rating(prompt=ASK, answer=say("good"), value=7),
    ]
    (group,) = from_ratings(rows)
    assert [a.content for a in group.answers] == ["good", "bad"]
    assert group.values == pytest.approx((2 / 3, -1.0))
    assert [(c.better, c.worse, c.soft) for c in group.comparisons] == [(0, 1, 1.0)]
    assert all_pairs([0]) == ()


# ---- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_by_hand():
    """Four differences: log 9 (P 0.9) right twice and wrong once, log 1.5 (P 0.6) right once.

    Bins [0.9, 0.95) with accuracy 2/3 and [0.6, 0.65) with accuracy 1: ECE = 3/4 |2/3 - 0.9| + 1/4 |1 - 0.6| = 0.275.
    Brier = (2 * 0.1^2 + 0.9^2 + 0.4^2) / 4 = 0.2475. Log loss = (2 log(1/0.9) + log(1/0.1) + log(1/0.6)) / 4.
    """
    a, b = math.log(9) + 1e-9, math.log(1.5) + 1e-9
    found = [Judged(m, 0.0, 10, 20, str(n), "s") for n, m in enumerate((a, a, -a, b))]
    told = calibration.report(found)
    assert told["ece"] == pytest.approx(0.275, abs=1e-6)
    assert told["brier"] == pytest.approx(0.2475, abs=1e-6)
    assert told["log_loss"] == pytest.approx((2 * 0.105361 + 2.302585 + 0.510826) / 4, abs=1e-5)
    assert told["accuracy"]["value"] == 0.75 and told["longer_is_better"]["value"] == 0.0
    assert told["accuracy"]["low"] < 0.75 < told["accuracy"]["high"]
    assert sum(told["margins"]["counts"]) == 4


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=60))
def test_a_report_adds_up(margins):
    """Bins, histogram and breakdowns hold every comparison once."""
    found = [Judged(m, 0.1, n * 37 % 900, n * 91 % 900, str(n), f"s{n % 3}") for n, m in enumerate(margins)]
    told = calibration.report(found)
    n = len(margins)
    assert sum(r["n"] for r in told["reliability"]) == n == sum(told["margins"]["counts"])
    for by in ("by_source", "by_length", "by_length_ratio"):
        assert sum(v["n"] for v in told[by].values()) == n
    assert 0 <= told["ece"] <= 1


def test_a_model_that_knows_its_own_doubts_is_calibrated():
    """20,000 comparisons won with the probability the difference says: the calibration error is sampling noise."""
    g = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(20_000, generator=g, dtype=DOUBLE)
    won = torch.rand(20_000, generator=g, dtype=DOUBLE) < torch.sigmoid(z)
    margin = torch.where(won, z, -z).numpy()
    assert calibration.expected_calibration_error(margin) < 0.015
    assert calibration.expected_calibration_error(3 * margin) > 0.05  # three times too sure of itself


# ---- files -----------------------------------------------------------------------------------------------------------


def lines(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def stage(kind, path, out, **knobs):
    out.mkdir()
    metrics = kind(path=path, **knobs).run(Inputs({}), out, Runtime())
    return metrics, [json.loads(x) for x in (out / "ledger.jsonl").read_text().splitlines()]


def test_rankings_from_files(tmp_path):
    """Ranks beside the answers, scores beside them, a message tree; twice the same answer is no ranking."""
    tree = {
        "message_id": "m", "text": "Name a bird.", "role": "prompter",
        "replies": [{"text": t, "role": "assistant", "rank": r, "replies": []} for t, r in (("Owl.", 1), ("Wren.", 0))],
    }  # fmt: skip
    rows = [
        {"prompt": "Name a tree.", "answers": ["Oak.", "Elm.", "Car."], "ranks": [1, 1, 2]},
        {"prompt": "Name a city.", "responses": ["Rome.", "Dog."], "scores": [9, 2]},
        {"prompt": "Name a sea.", "answers": ["North.", "North."], "ranks": [0, 1]},
        tree,
    ]
    metrics, ledger = stage(RankingsFile, lines(tmp_path / "r.jsonl", rows), tmp_path / "out", holdout=0.0)
    found = list(read_jsonl(tmp_path / "out" / "train.jsonl", Ranking))
    assert metrics["rows"] == 3 and [e["reason"] for e in ledger] == ["twice the same answer"]
    best = {r.prompt[0].content: from_ranking(r).answers[0].content for r in found}
    assert best == {"Name a tree.": "Oak.", "Name a city.": "Rome.", "Name a bird.": "Wren."}


def test_ratings_from_files(tmp_path):
    rows = [
        {"prompt": "Name a tree.", "response": "Oak.", "rating": 6},
        {"prompt": "Name a tree.", "response": "Car.", "rating": 1, "scale": [1, 5]},
        {"prompt": "Name a city.", "answers": ["Rome.", "Dog."], "scores": [7, 2]},
    ]
    stage(RatingsFile, lines(tmp_path / "r.jsonl", rows), tmp_path / "out", holdout=0.0)
    found = list(read_jsonl(tmp_path / "out" / "train.jsonl", Rating))
    assert [(r.answer.content, r.value) for r in found] == [("Oak.", 6), ("Car.", 1), ("Rome.", 7), ("Dog.", 2)]
    groups = {g.prompt[0].content: g.values for g in from_ratings(found)}
    assert groups["Name a tree."] == pytest.approx((2 / 3, -1.0))


def test_a_rating_outside_its_scale_names_the_line(tmp_path):
    path = lines(tmp_path / "r.jsonl", [{"prompt": "Name a tree.", "response": "Oak.", "rating": 9}])
    with pytest.raises(UserError, match=r"r\.jsonl:1.*outside the scale 1 to 7"):
        stage(RatingsFile, path, tmp_path / "out")
