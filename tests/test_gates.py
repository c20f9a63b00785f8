"""The gate: pairing, verdicts with their reasons, families, noise; and how often it is wrong, by simulation."""

import random

import pytest

from posttrain import gates, stats
from posttrain.errors import UserError
from posttrain.gates import EXIT_CODES, Report, Rule, Scored, compare, decide, foresee, pair


def report(values, metric="m.accuracy", *, better=True, judge="rules", prompt="p", cluster=str, weights=None):
    items = (
        Scored(
            id=str(i), suite="m", cluster=cluster(i), prompt=prompt, metrics={metric: float(v)},
            weights={metric: weights[i]} if weights else {},
        )
        for i, v in enumerate(values)
    )  # fmt: skip
    return Report(tuple(items), {metric: better}, judge)


def rule(margin=0.02, **more):
    return Rule(metric="m.accuracy", no_worse_than=margin, **more)


HALF = [0, 1] * 200


def test_clearly_better_passes_and_clearly_worse_fails():
    good, bad = report([1] * 400), report([0] * 400)
    up, down = decide(good, report(HALF), [rule()]), decide(bad, report(HALF), [rule()])
    assert (up.verdict, up.exit_code) == ("pass", 0)
    assert (down.verdict, down.exit_code) == ("fail", 1)
    assert "0.500 -> 0.000" in down.reasons[0] and "fail" in down.reasons[0]


def test_exit_codes():
    assert EXIT_CODES == {"pass": 0, "fail": 1, "inconclusive": 3}


def test_unchanged_is_no_proof_when_items_are_few():
    """Nothing changed in 30 items: the adjusted Wald interval is +- 1.645 sqrt((2/32) / 32) = 0.0727, wider than 0.02.

    At 400 items it is +- 1.645 sqrt((2/402) / 402) = 0.0058, and the gate passes.
    """
    few, many = report([1] * 30), report([1] * 400)
    found = decide(few, few, [rule()])
    assert found.verdict == "inconclusive" and found.exit_code == 3
    assert found.results[0].compared.low == pytest.approx(-0.0727, abs=1e-3)
    assert decide(many, many, [rule()]).verdict == "pass"


@pytest.mark.parametrize("n", [1, 2, 10])
def test_few_unchanged_shares_are_no_proof_either(n):
    """A metric between 0 and 1 is no surer than one of 0 and 1; constant gains of two items are not certain."""
    half = report([0.5] * n)
    assert decide(half, half, [rule()]).verdict == "inconclusive"
    better = decide(report([0.5, 0.4]), report([0.4, 0.3]), [Rule(metric="m.accuracy", better_than=0.02)])
    assert better.verdict == "inconclusive"


def test_one_item_decides_nothing():
    """-12 to -3 nats, far beyond any margin."""
    found = decide(report([-3.0]), report([-12.0]), [Rule(metric="m.accuracy", better_than=1.0)])
    assert found.verdict == "inconclusive" and "one item" in found.reasons[0]


@pytest.mark.parametrize("n", [4, 8])
def test_false_passes_of_few_continuous_items(n, fewer_draws):
    """True difference on the margin: 5% pass by chance (a bootstrap alone: 12% of four items, 8% of eight).
    400 runs: standard deviation 0.011."""
    rng = random.Random(n)
    passes = 0
    for _ in range(400):
        new = [rng.gauss(-0.3, 1.0) for _ in range(n)]
        passes += decide(report(new), report([0.0] * n), [rule(0.3)]).verdict == "pass"
    assert passes / 400 < 0.075


def test_inconclusive_says_how_many_more_items_would_decide():
    """40 items, 2 gained and 1 lost; more items by N = n (half / distance)^2."""
    old = [0] * 20 + [1] * 20
    new = [1, 1] + [0] * 18 + [0] + [1] * 19
    result = decide(report(new), report(old), [rule()]).results[0]
    c = result.compared
    assert (c.gained, c.lost, c.difference) == (2, 1, pytest.approx(0.025))
    expected = stats.items_to_decide(c.difference - c.low, c.difference + 0.02, 40)
    assert result.more_items == expected > 0
    assert f"about {expected:,.0f} more items" in result.reason


def test_better_than_asks_for_more_than_no_harm():
    same = report(HALF)
    assert decide(same, same, [Rule(metric="m.accuracy", better_than=0.0)]).verdict == "inconclusive"
    assert decide(same, same, [Rule(metric="m.accuracy", better_than=0.1)]).verdict == "fail"
    assert decide(report([1] * 400), same, [Rule(metric="m.accuracy", better_than=0.4)]).verdict == "pass"


def test_sign_of_the_margin_is_ignored():
    old, new = report(HALF), report([0] * 4 + HALF[4:])
    assert decide(new, old, [rule(-0.02)]).verdict == decide(new, old, [rule(0.02)]).verdict == "pass"


def test_lower_is_better():
    low, high = (
        report([1.0 + i % 3 for i in range(60)], better=False),
        report([3.0 + i % 3 for i in range(60)], better=False),
    )
    assert decide(low, high, [rule()]).verdict == "pass"
    found = decide(high, low, [rule()])
    assert found.verdict == "fail" and found.results[0].compared.difference == pytest.approx(-2.0)
    assert found.results[0].compared.test == "wilcoxon"


def test_weights_make_a_token_mean():
    """nll 1.0 over 1 token and 2.0 over 3: (1 + 6) / 4 = 1.75; the other 1.0 throughout; difference 0.75 worse."""
    old = report([1.0, 1.0], better=False, weights=[1.0, 3.0])
    new = report([1.0, 2.0], better=False, weights=[1.0, 3.0])
    found = compare("m.accuracy", new, old)
    assert (found.candidate, found.difference) == (pytest.approx(1.75), pytest.approx(-0.75))


def test_pairs_by_id_and_prompt_and_lists_the_rest():
    old, new = report([1] * 4), report([1] * 3)
    changed = Report((*new.items[:2], new.items[2].model_copy(update={"prompt": "other"})), new.better, new.judge)
    pairs, only_new, only_old = pair(changed, old)
    assert [c.id for c, _ in pairs] == ["0", "1"]
    assert (only_new, only_old) == (["m/2"], ["m/2", "m/3"])
    decision = decide(changed, old, [rule()])
    assert decision.only_baseline == ("m/2", "m/3") and decision.results[0].compared.n == 2


def test_a_broken_pinned_case_fails_whatever_the_average_says():
    old, new = report([0] * 200), report([1] * 199 + [0])
    found = decide(new, old, [rule(pinned=("m/199", "m/3"))])
    assert found.verdict == "fail" and found.results[0].broken == ("m/199",)
    assert "m/199" in found.reasons[0]
    assert decide(new, old, [rule(pinned=("m/3",))]).verdict == "pass"
    only = Rule(metric="m.accuracy", pinned=("m/3", "m/999"))
    assert decide(new, old, [only]).results[0].broken == ("m/999",)


def two_metrics(a, b):
    items = (
        Scored(
            id=str(i), suite="m", cluster=str(i), prompt="p", metrics={"refusals.x": float(x), "m.accuracy": float(y)}
        )
        for i, (x, y) in enumerate(zip(a, b))
    )
    return Report(tuple(items), {"refusals.x": True, "m.accuracy": True}, "rules")


def test_safety_is_not_traded_against_capability():
    """Accuracy up by half, refusals down by a fifth: fail."""
    old = two_metrics([1] * 300, HALF[:300])
    new = two_metrics([0] * 60 + [1] * 240, [1] * 300)
    found = decide(new, old, [rule(), Rule(metric="refusals.x", no_worse_than=0.05)])
    assert found.verdict == "fail"
    assert {r.rule.metric: r.verdict for r in found.results} == {"refusals.x": "fail", "m.accuracy": "pass"}
    assert "refusals.x" in found.reasons[0]


def test_holm_within_a_family_only():
    """A loss of 12 against 4 gained: one-sided p about 0.02. Alone it fails; with four others, 5 p is above 0.05."""
    old = [0] * 100 + [1] * 100
    new = [1] * 4 + [0] * 96 + [0] * 12 + [1] * 88
    alone = decide(report(new), report(old), [rule(0.0)])
    assert alone.verdict == "fail" and alone.results[0].p_worse < 0.05
    crowd = [rule(0.0)] + [rule(0.5) for _ in range(4)]
    together = decide(report(new), report(old), crowd)
    assert together.verdict == "inconclusive" and "Holm" in together.reasons[0]
    apart = [rule(0.0)] + [rule(0.5, family=str(i)) for i in range(4)]
    assert decide(report(new), report(old), apart).verdict == "fail"


def test_different_judges_are_not_compared():
    found = decide(report([1] * 400, judge="b"), report([1] * 400, judge="a"), [rule()])
    assert found.verdict == "inconclusive" and "different judges" in found.reasons[0]


def test_foresees_what_it_cannot_see():
    """Two points on 250 items, a fifth of which change: 2.4865 sqrt(0.2 / 250) = 0.0703, so it proves nothing."""
    line = foresee([rule(0.02)], report([0, 1] * 125))[0]
    assert "0.070" in line and "too few" in line
    assert foresee([rule(0.1)], report([0, 1] * 125))[0].endswith("enough")
    """Asked for more than 0.1 more: a true gain of 0.1 + 0.070 is shown four times out of five."""
    gain = foresee([Rule(metric=rule(0.1).metric, better_than=0.1)], report([0, 1] * 125))[0]
    assert "show a true gain of 0.170 four times" in gain and gain.endswith("change")


def test_noise_floor_is_shown_and_warned_about():
    old, again = report(HALF), report([0] * 20 + HALF[20:])
    found = decide(report([1] * 400), old, [rule(0.02)], noise=again)
    assert found.noise[0].difference == pytest.approx(-0.025)
    assert any("already differ by 0.025" in reason for reason in found.reasons)


def test_mistakes_are_said_plainly():
    with pytest.raises(UserError, match=r"no item has the metric 'm\.acuracy'") as error:
        decide(report([1]), report([1]), [Rule(metric="m.acuracy", no_worse_than=0.1)])
    assert "m.accuracy" in error.value.remedy
    with pytest.raises(UserError, match="same suites"):
        decide(report([1], prompt="x"), report([1]), [rule()])
    with pytest.raises(UserError, match="no better direction"):
        decide(report([1], better=None), report([1], better=None), [rule()])
    with pytest.raises(ValueError, match="not both"):
        Rule(metric="a", no_worse_than=0.1, better_than=0.1)
    with pytest.raises(ValueError, match="give"):
        Rule(metric="a")
    with pytest.raises(UserError, match="without rules"):
        decide(report([1]), report([1]), [])


def test_decision_survives_its_file():
    decision = decide(report([1] * 50), report([0] * 50), [rule()], noise=report([0] * 50))
    assert gates.Decision.model_validate_json(decision.model_dump_json()) == decision


def simulate(n, share, drop, margin, runs, seed=0):
    """Verdict shares over random paired reports: `share` of the items change, the candidate is worse by `drop`."""
    rng, counts = random.Random(seed), dict.fromkeys(EXIT_CODES, 0)
    for _ in range(runs):
        old = [float(rng.random() < 0.5) for _ in range(n)]
        new = [1 - v if rng.random() < (share + drop if v else share - drop) else v for v in old]
        counts[decide(report(new), report(old), [rule(margin)]).verdict] += 1
    return {verdict: count / runs for verdict, count in counts.items()}


@pytest.fixture
def fewer_draws(monkeypatch):
    """1,000 draws instead of 10,000: verdicts of single runs may differ, their rates do not."""
    draw = stats.bootstrap
    monkeypatch.setattr(stats, "bootstrap", lambda *a, **k: draw(*a, **(k | {"draws": 1000})))


def test_false_alarms_and_false_passes_are_at_most_five_percent(fewer_draws):
    """On the margin itself each error has probability 0.05; 150 runs: standard deviation 0.018, so below 0.1."""
    found = simulate(n=200, share=0.2, drop=0.0, margin=0.0, runs=150)
    assert found["fail"] < 0.1 and found["pass"] < 0.1


def test_power_is_what_the_minimum_detectable_drop_promises(fewer_draws):
    """A true drop of 2.487 sqrt(0.2 / 300) is found four times out of five; 80 runs: standard deviation 0.045."""
    drop = stats.minimum_detectable_drop(0.2, 300)
    assert 0.66 < simulate(n=300, share=0.2, drop=drop, margin=0.0, runs=80)["fail"] < 0.94


def test_two_points_on_250_items_prove_nothing(fewer_draws):
    found = simulate(n=250, share=0.2, drop=0.0, margin=0.02, runs=30)
    assert found["inconclusive"] > 0.6
