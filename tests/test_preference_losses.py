"""The DPO family as mathematics: a hand value for every member, and properties over all of them at once."""

import math

import pytest
import torch

from posttrain.objectives import preference as pref
from posttrain.objectives import unpaired
from posttrain.objectives.preference import Pairs
from posttrain.objectives.unpaired import Thumbs
from posttrain.pipeline import Runtime
from posttrain.rows import Pair
from posttrain.spec import config_of

LOSSES = pref.LOSSES
FREE = pref.REFERENCE_FREE
name = lambda fn: fn.__name__  # noqa: E731


def one(x):
    return torch.tensor([float(x)], dtype=torch.float64)


def pair(c=2.0, r=-1.0, **more):
    """A pair with log-ratios c and r to a reference of -10 for both answers, of 4 and 2 tokens."""
    facts = {"margin_B": 1.0, "soft_B": 0.75, "chosen_tail_B": 0.8, "rejected_tail_B": 0.0, "weight_B": 0.4}
    known = {k: one(v) for k, v in (facts | {"step_B": 0.5} | more).items()}
    return Pairs(one(c - 10), one(r - 10), one(-10), one(-10), one(4), one(2), **known)


HAND = [
    ("dpo", {}, 0.201413),
    ("cdpo", {"label_smoothing": 0.25}, 0.576413),
    ("soft", {}, 0.576413),
    ("odpo", {"scale": 0.5}, 0.313262),
    ("robust", {"label_smoothing": 0.25}, -0.548587),
    ("hinge", {}, 0.0),
    ("ipo", {}, 0.0),
    ("norm_dpo", {"beta": 2.0}, 0.126928),
    ("ld_dpo", {"alpha": 0.5}, 0.241008),
    ("exo", {"label_smoothing": 0.25}, 0.013045),
    ("discopop", {"tau": 1.0}, 0.219168),
    ("f_dpo", {"divergence": "js"}, 0.439915),
    ("f_dpo", {"divergence": "forward_kl"}, 0.242841),
    ("f_dpo", {"divergence": "alpha", "alpha": 0.5}, 0.245142),
    ("wpo", {}, 0.080565),
    ("apo_zero", {}, 0.646482),
    ("apo_down", {}, 0.913484),
    ("sppo", {}, 1.0),
    ("nca", {}, 1.206931),
    ("bco_pair", {}, 0.787339),
    ("bco", {}, 0.773742),
    ("aot", {}, 0.251929),
    ("simpo", {"beta": 2.0, "gamma": 1.0}, 0.002476),
    ("cpo", {}, 2.201413),
    ("orpo", {"weight": 0.5}, 2.012940),
]


@pytest.mark.parametrize(("loss", "how", "value"), HAND, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(HAND)])
def test_by_hand(loss, how, value):
    """c = 2, r = -1, n_w = 4, n_l = 2, beta 0.5, so z = 1.5. With ln(1 + e^-x) written as l(x):

    l(1.5) = 0.201413, l(-1.5) = 1.701413, sigma(1.5) = 0.817574, l(1) = 0.313262, l(-1) = 1.313262, l(0.5) = 0.474077.
    dpo l(1.5).  cdpo, e 1/4, and soft, q 3/4: 0.75 * 0.201413 + 0.25 * 1.701413.  odpo, m 1, scale 0.5: l(1.5 - 0.5).
    norm_dpo, beta 2: 2 (2/4 + 1/2) = 2, l(2).  ld_dpo, tail 0.8, alpha 0.5: 0.5 (3 - 0.4) = 1.3, l(1.3).
    exo, e 1/4: 0.817574 (-0.201413 - ln 0.75) + 0.182426 (-1.701413 - ln 0.25) = 0.070531 - 0.057486.
    discopop, tau 1: 0.201413 * 0.182426 + e^-1.5 * 0.817574 = 0.036743 + 0.182425.
    f_dpo js: s(2) = ln 2 - 0.126928 = 0.566219, s(-1) = ln 2 - 1.313262 = -0.620115, l(0.5 * 1.186334).
      forward_kl: s(2) = 1 - e^-2 = 0.864665, s(-1) = 1 - e = -1.718282, l(0.5 * 2.582947).
      alpha 1/2: s(x) = 2 (1 - e^(-x/2)): s(2) = 1.264241, s(-1) = -1.297443, l(0.5 * 2.561684).
    wpo, weight 0.4: 0.4 * 0.201413.  apo_down: sigma(1) + 1 - sigma(1.5) = 0.731059 + 0.182426.
    sppo: 1/(2 beta) = 1: (2 - 1)^2 + (-1 + 1)^2.  nca: l(1) + l(-1)/2 + l(0.5)/2 with beta c = 1, beta r = -0.5.
    bco_pair: l(1) + l(0.5).  bco, d 0.5: beta (2 - 0.5) = 0.75, -beta (-1 - 0.5) = 0.75: 2 l(0.75) = 2 * 0.386871.
    aot: u = -8 + 11 = 3 against a sorted reference of 0.5: l(0.5 * 2.5).
    cpo, alpha 1: l(0.5 * 3) + 8/4.  orpo, weight 0.5: w = -2, l = -5.5, log odds 3.5 + 0.145413 - 0.004095
      = 3.641318, 2 + 0.5 * 0.025880.  hinge, ipo, apo_zero, robust and simpo: as in test_objectives.py.
    """
    fn = getattr(pref, loss)
    beta = {} if loss == "orpo" or "beta" in how else {"beta": 0.5}
    assert fn(pair(), **beta, **how).item() == pytest.approx(value, abs=2e-6)


def test_every_member_has_a_hand_value():
    assert {n for n, *_ in HAND} == {fn.__name__ for fn in LOSSES}


def thumb(g, up, z=0.5):
    return Thumbs(one(g - 10), one(-10), torch.tensor([up]), torch.tensor(z))


def test_thumbs_by_hand():
    """g = 2, z = 0.5, beta 0.5: 1 - sigma(0.75) = 0.320821 up; 1.5 (1 - sigma(-0.75)) = 1.5 * 0.679179 down.

    Without z: 1 - sigma(1) = 0.268941 up, 1.5 sigma(1) = 1.096588 down.
    """
    how = {"beta": 0.5, "undesirable": 1.5}
    for fn, up, down in ((unpaired.kto, 0.320821, 1.018768), (unpaired.apo_zero_unpaired, 0.268941, 1.096588)):
        assert fn(thumb(2, True), **how).item() == pytest.approx(up, abs=2e-6)
        assert fn(thumb(2, False), **how).item() == pytest.approx(down, abs=2e-6)


def test_drift_by_hand():
    """Mean of 1 and -2 is below 0 and counts as 0; mean of 1 and 2 is 1.5. No gradient goes through it."""
    ref = torch.zeros(2)
    assert unpaired.drift(torch.tensor([1.0, -2.0]), ref).item() == 0
    found = unpaired.drift(torch.tensor([1.0, 2.0], requires_grad=True), ref)
    assert found.item() == 1.5 and not found.requires_grad


def test_step_statistics_by_hand():
    """u = 3, 1, 2 has ranks 2, 0, 1; v = 0, 5, -1 sorted is -1, 0, 5: matched 5, -1, 0.

    middle: c = 2, 0 and r = -1, -3: (1 + -2) / 2 = -0.5, for every pair.
    """
    t, zero = torch.tensor, torch.zeros(3)
    p = Pairs(t([3.0, 1, 2]), zero, t([0.0, 5, -1]), zero, zero, zero)
    assert pref.same_rank(p).tolist() == [5, -1, 0]
    p = Pairs(t([2.0, 0]), t([-1.0, -3]), t([0.0, 0]), t([0.0, 0]), t([1.0, 1]), t([1.0, 1]))
    assert pref.middle(p).tolist() == [-0.5, -0.5]


def test_aot_is_dpo_for_one_pair():
    p = pair()
    torch.testing.assert_close(pref.aot(p._replace(step_B=pref.same_rank(p))), pref.dpo(p))


def gradient(fn, p, **how):
    """(d loss / d chosen, d loss / d rejected) of one pair, and its value."""
    leaves = [p.chosen_B.clone().requires_grad_(), p.rejected_B.clone().requires_grad_()]
    value = fn(p._replace(chosen_B=leaves[0], rejected_B=leaves[1]), **how)
    value.sum().backward()
    return (*(0.0 if x.grad is None else x.grad.item() for x in leaves), value.item())


AT_START = {
    "dpo": math.log(2), "cdpo": math.log(2), "soft": math.log(2), "robust": math.log(2), "hinge": 1.0, "ipo": 25.0,
    "norm_dpo": math.log(2), "ld_dpo": math.log(2), "f_dpo": math.log(2), "apo_zero": 1.0, "apo_down": 1.0,
    "sppo": 50.0, "nca": 2 * math.log(2), "bco_pair": 2 * math.log(2), "bco": 2 * math.log(2), "aot": math.log(2),
    "wpo": math.log(2), "odpo": math.log(2), "discopop": 0.5 * math.log(2) + 0.5,
    "exo": -math.log(2) - 0.5 * math.log(1e-3 * (1 - 1e-3)),
}  # fmt: skip


@pytest.mark.parametrize("fn", [f for f in LOSSES if f not in FREE], ids=name)
def test_value_at_the_reference(fn):
    """c = r = 0, beta 0.1: z = 0, so log 2, or 1/(2 beta)^2 = 25 for ipo, twice that for sppo."""
    p = pair(0, 0, margin_B=0, chosen_tail_B=0, weight_B=1, step_B=0)
    how = {} if fn is pref.norm_dpo else {"beta": 0.1}
    assert fn(p, **how).item() == pytest.approx(AT_START[fn.__name__], abs=1e-9)


@pytest.mark.parametrize("fn", LOSSES, ids=name)
def test_the_first_step_prefers_the_chosen_answer(fn):
    """At the reference no loss lowers chosen or raises rejected (apo_down, later, lowers both), and one of them moves.

    discopop with its paper's tau is an exception, which its docstring names: see below.
    """
    d_chosen, d_rejected, _ = gradient(fn, pair(0, 0, margin_B=0, chosen_tail_B=0, step_B=0))
    assert d_chosen <= 0 <= d_rejected and d_rejected - d_chosen > 1e-4


def test_where_discopop_points_the_wrong_way():
    """tau 0.05: between z = -0.118 and 0.072 the loss rises with z. tau 0.11: nowhere from -6 to 6."""
    z = torch.linspace(-6, 6, 12001, dtype=torch.float64, requires_grad=True)
    zero, one = torch.zeros_like(z), torch.ones_like(z)
    for tau, wrong in ((0.05, (-0.118, 0.072)), (0.11, None)):
        (slope,) = torch.autograd.grad(pref.discopop(Pairs(z, *[zero] * 3, one, one), beta=1, tau=tau).sum(), z)
        found = z.detach()[slope > 0]
        assert len(found) == 0 if wrong is None else (found.min(), found.max()) == pytest.approx(wrong, abs=2e-3)


DELTA = [pref.dpo, pref.cdpo, pref.soft, pref.odpo, pref.robust, pref.hinge, pref.exo, pref.discopop, pref.wpo,
         pref.ld_dpo, pref.aot]  # fmt: skip


@pytest.mark.parametrize("fn", DELTA, ids=name)
@pytest.mark.parametrize(("c", "r"), [(0.4, 0.1), (-3.0, 2.0), (5.0, -5.0)])
def test_losses_on_delta_pull_both_answers_alike(fn, c, r):
    d_chosen, d_rejected, _ = gradient(fn, pair(c, r))
    assert d_chosen == pytest.approx(-d_rejected, abs=1e-12)


def test_swapping_a_pair_costs_its_margin():
    """log sigma(-z) = log sigma(z) - z: dpo of a pair less dpo of the pair turned around is -z."""
    p, q = pair(2, -1), pair(-1, 2)
    torch.testing.assert_close(pref.dpo(p, beta=0.5) - pref.dpo(q, beta=0.5), -one(1.5))


@pytest.mark.parametrize("fn", [f for f in LOSSES if f not in FREE], ids=name)
def test_only_the_ratio_to_the_reference_counts(fn):
    """Adding 7 nats to an answer under policy and reference alike changes nothing; a loss with a reference needs it."""

    def value(p):
        return fn(p._replace(step_B=pref.STEP[fn](p)) if fn in pref.STEP else p)

    p = pair(1.0, -2.0)
    q = p._replace(chosen_B=p.chosen_B + 7, ref_chosen_B=p.ref_chosen_B + 7)
    torch.testing.assert_close(value(q), value(p))
    assert not torch.equal(value(p._replace(ref_chosen_B=p.ref_chosen_B + 1)), value(p))


@pytest.mark.parametrize("fn", FREE, ids=name)
def test_reference_free_losses_do_not_look_at_it(fn):
    p = pair()
    nan = one(math.nan)
    torch.testing.assert_close(fn(p._replace(ref_chosen_B=nan, ref_rejected_B=nan, step_B=None)), fn(p))


@pytest.mark.parametrize("fn", LOSSES, ids=name)
@pytest.mark.parametrize("c", [-1000.0, -30.0, 30.0, 1000.0])
def test_far_from_the_reference_everything_is_finite(fn, c):
    """Also in fp32, where e^89 is infinite; and answers that are certain (log-prob 0) are no exception."""
    policy, ref = torch.tensor([min(c, 0.0)]), torch.tensor([min(-c, 0.0)])  # c is their difference
    p = Pairs(*(x.float() for x in pair()))
    p = p._replace(chosen_B=policy, rejected_B=ref, ref_chosen_B=ref, ref_rejected_B=policy)
    d_chosen, d_rejected, value = gradient(fn, p)
    assert all(map(math.isfinite, (d_chosen, d_rejected, value)))


@pytest.mark.parametrize("fn", LOSSES, ids=name)
def test_gradients_are_those_of_the_values(fn):
    """Central differences, where the loss has a derivative."""
    p, h = pair(1.3, -0.7), 1e-5
    d_chosen, d_rejected, _ = gradient(fn, p)
    for field, d in (("chosen_B", d_chosen), ("rejected_B", d_rejected)):
        up, down = (fn(p._replace(**{field: getattr(p, field) + e})).item() for e in (h, -h))
        assert d == pytest.approx((up - down) / (2 * h), abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("fn", [pref.soft, pref.odpo, pref.ld_dpo, pref.wpo, pref.bco, pref.aot], ids=name)
def test_what_a_loss_needs_is_asked_for(fn):
    with pytest.raises(ValueError, match="needs"):
        fn(Pairs(*pair()[:6]))


def test_limits():
    """alpha = 1 of f_dpo is dpo and alpha = 0 forward KL; alpha = 1 of ld_dpo is dpo, 0 forgets the tail; robust and
    cdpo with e = 0 are dpo; soft at q = 1/2 pulls nowhere when both answers are alike."""
    p, same = pair(), torch.testing.assert_close
    same(pref.f_dpo(p, divergence="alpha", alpha=1.0), pref.dpo(p))
    same(pref.f_dpo(p, divergence="alpha", alpha=0.0), pref.f_dpo(p, divergence="forward_kl"))
    same(pref.ld_dpo(p, alpha=1.0), pref.dpo(p))
    same(pref.ld_dpo(p, alpha=0.0), pref.dpo(pair(c=2 - 0.8)))
    same(pref.robust(p, label_smoothing=0.0), pref.dpo(p))
    same(pref.cdpo(p, label_smoothing=0.0), pref.dpo(p))
    assert gradient(pref.soft, pair(0, 0, soft_B=0.5))[:2] == (0.0, 0.0)


def test_robust_is_unbiased():
    """Mean of the loss over labels that are flipped with probability e is dpo of the true label."""
    e = 0.2
    noisy = (1 - e) * pref.robust(pair(2, -1), label_smoothing=e) + e * pref.robust(pair(-1, 2), label_smoothing=e)
    torch.testing.assert_close(noisy, pref.dpo(pair(2, -1)))


def test_exo_is_a_divergence():
    """KL(Bernoulli(sigma(z)) || Bernoulli(1 - e)) is 0 where sigma(z) = 1 - e, and positive elsewhere."""
    e = 0.1
    best = math.log((1 - e) / e) / 0.5
    assert pref.exo(pair(best, 0), beta=0.5, label_smoothing=e).item() == pytest.approx(0, abs=1e-12)
    assert all(pref.exo(pair(c, 0), beta=0.5, label_smoothing=e).item() > 0 for c in (-3.0, 0.0, best - 1, best + 1))


def test_orpo_is_exact_at_both_ends():
    """log(1 - e^x) in fp32 beside fp64 through log1p and expm1."""
    x = torch.tensor([-1e-4, -1e-2, -0.5, -0.7, -5.0, -20.0])
    exact = torch.log(-torch.expm1(x.double()))
    torch.testing.assert_close(pref._log1mexp(x).double(), exact, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("bad", [{"beta": 0}, {"beta": -0.1}, {"label_smoothing": 0.5}, {"label_smoothing": -0.1}])
def test_knobs_out_of_range_are_refused(bad):
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        config_of(pref.robust).model_validate(bad)


def test_a_loss_without_soft_labels_sees_no_ties_and_the_better_answer_first():
    """Soft 0.5 prefers neither: nothing to learn for dpo. 0.2 says that the other answer is better, with 0.8."""
    from posttrain.errors import UserError
    from posttrain.rows import Message
    from posttrain.stages.preference import count_ties, decided

    def row(soft, margin=None):
        said = [Message(role="assistant", content=c) for c in ("a", "b")]
        asked = (Message(role="user", content="q"),)
        return Pair(prompt=asked, chosen=said[0], rejected=said[1], soft=soft, margin=margin)

    rows = [row(None), row(0.5), row(0.2, margin=2.0), row(0.9)]
    sure, other, likely = decided("dpo", rows)
    assert (sure, likely) == (rows[0], rows[3])
    assert (other.chosen.content, other.rejected.content, other.soft, other.margin) == ("b", "a", 0.8, -2.0)
    assert decided("soft", rows) == rows and decided("dpo", []) == []
    assert count_ties(rows, decided("kto", rows), Runtime()) == 1
    with pytest.raises(UserError, match="all 2 pairs prefer neither"):
        count_ties([row(0.5)] * 2, [], Runtime())


def test_soft_labels_and_margins_are_rows_of_their_own():
    from posttrain.errors import UserError
    from posttrain.rows import Message
    from posttrain.stages.preference import check, unread

    row = {"prompt": [Message(role="user", content="x")], "chosen": Message(role="assistant", content="a"),
           "rejected": Message(role="assistant", content="b")}  # fmt: skip
    for loss, field in (("soft", "soft"), ("odpo", "margin")):
        with pytest.raises(UserError, match="no pair has any"):
            check(loss, [Pair(**row)])
        check(loss, [Pair(**row), Pair(**row, **{field: 0.7})])
    sure = [Pair(**row), Pair(**row, margin=2.0)]
    assert unread("dpo", sure) == "" and unread("soft", [Pair(**row, soft=0.7)]) == ""
    assert unread("dpo", [*sure, Pair(**row, soft=0.7), Pair(**row, soft=1.0)]) == (
        "1 of 4 pairs have soft labels; dpo takes each order as certain, soft reads them"
    )
