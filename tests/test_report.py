"""The page: it stands alone, escapes what it shows, says the right verdict, and its numbers are the records'."""

import re
from html.parser import HTMLParser

import made_run
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain import report
from posttrain.errors import UserError
from posttrain.pipeline import Record, Runtime, run
from posttrain.report import collect, compare, data, lineage, plots, samples, training, view, words


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run that passes its gate, and its page."""
    root, outcome = made_run.made(tmp_path_factory.mktemp("good"), price=3.6)
    path = report.write(root, "made", "stages: <none>", outcome.folders, outcome, 3.6)
    return outcome, path.read_text()


@pytest.fixture(scope="module")
def nodes(good):
    return collect.nodes_of(good[0].folders)


class Tags(HTMLParser):
    """Open tags, ids and references of a page; complains about a close tag that closes something else."""

    VOID = {"meta", "br", "wbr", "hr", "img", "link", "path", "use", "rect"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.refs, self.names = [], [], set(), set()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            self.refs |= set(re.findall(r"url\(#([^)]+)\)", value or ""))
            if name in ("href", "xlink:href"):
                assert value.startswith("#"), value
                self.refs.add(value[1:])

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_page_is_well_formed_and_stands_alone(good):
    """No script, no request; ids are unique, and every reference (links, markers, clips of plots) has its target."""
    tags = parsed(good[1])
    assert not tags.open
    assert not tags.names & {"script", "link", "img", "iframe"}
    assert not re.search(r"@import|url\((?!#)|\ssrc=", good[1])
    assert len(tags.ids) == len(set(tags.ids))
    assert tags.refs <= set(tags.ids)


def test_page_has_every_section(good):
    for title in ("Is SFT enough?", "Before and after", "Answers side by side", "Gate: gate", "What went in",
                  "Training curves", "Lineage", "Recipe", "Versions and machine"):  # fmt: skip
        assert f">{title}" in good[1]


def test_what_comes_from_data_is_escaped(good):
    assert made_run.NASTY not in good[1]
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; more" in good[1]
    assert "&lt;b&gt;odd&lt;/b&gt;" in good[1] and "<b>odd" not in good[1]
    assert "stages: &lt;none&gt;" in good[1]


def test_page_is_the_same_twice(good, tmp_path):
    again = report.write(tmp_path, "made", "stages: <none>", good[0].folders, good[0], 3.6)
    assert again.read_text() == good[1]


def test_verdict_of_a_passed_gate(good):
    assert "The gate passed" in good[1]
    assert "dpo was compared with base, item by item: all of 1 rule hold." in good[1]


@pytest.mark.parametrize(
    ("skill", "title", "line"),
    [(0, "The gate failed", "1 broken"), (6, "The gate could not decide", "1 undecided")],
)
def test_verdict_of_a_gate_that_did_not_pass(tmp_path, skill, title, line):
    """Asked for 30 points more. Skill 0 of 40 items gains nothing, 15 of 40 is 37 points with an interval around 30."""
    root, outcome = made_run.made(tmp_path, dpo=0 if skill == 0 else 15, sft=0, margin=0.3, items=40)
    page = report.write(root, "made", "", outcome.folders, outcome, 0.0).read_text()
    assert title in page and line in page
    assert "Not run because of it: release." in page and "release (gate gate did not pass)" in page


def test_half_a_run_and_no_run_make_a_page(tmp_path):
    made = made_run.stages(tmp_path)
    outcome = run({k: made[k] for k in ("base", "demos", "before")}, tmp_path / "r", Runtime())
    page = report.write(tmp_path / "r", "half", "", outcome.folders, None, 0.0).read_text()
    assert "No gate in this recipe" in page and "Before and after" in page and "Is SFT enough?" not in page
    assert not parsed(page).open
    empty = report.write(tmp_path / "empty", "empty", "", {}, None, 0.0).read_text()
    assert "nothing finished" in empty


def test_change_between_reports(nodes):
    """All 10 items gained: +1, exact McNemar p = 2 / 2**10 = 0.00195, times 5 by Holm over 5 metrics."""
    before, middle, after = collect.reports(nodes)
    found = compare.changes(before, middle)
    metrics = len(found)
    change = found["sums.accuracy"]
    assert (change.by, change.gained, change.lost, change.tone) == (1.0, 10, 0, "up")
    assert change.p == pytest.approx(metrics * 2 / 2**10)
    assert all(c.by == 0 and c.tone == "" for c in compare.changes(middle, after).values())


def test_a_number_that_falls_is_good_where_lower_is_better(nodes):
    from dataclasses import replace

    before, middle, _ = collect.reports(nodes)
    flipped = [replace(r, paired=r.paired._replace(better={"sums.accuracy": False})) for r in (middle, before)]
    change = compare.changes(*flipped)["sums.accuracy"]
    assert change.by == -1.0 and change.tone == "up" and change.low <= -1.0 <= change.high
    assert [name for name, _, _ in compare.lost_items("sums.accuracy", flipped[1], flipped[0])] == [
        f"sums/s{k}" for k in range(10)
    ]


def test_is_sft_enough(good, nodes):
    """dpo changes nothing: sft is enough. dpo cost its own 30 s and the 12 s of its data, evaluations do not count."""
    made = view.page("made", "", nodes, None, 3.6)
    sft, dpo = made.steps
    assert (sft.name, sft.before, dpo.before) == ("sft", "base", "sft")
    assert [s.label for s in sft.better] == ["sums: accuracy"] and not dpo.better
    assert made.enough[-1] == "By these numbers sft is enough: dpo added no clear improvement."
    assert dpo.seconds == 42.0 and dpo.money == "0.0420" and sft.tokens == 400.0


def test_cost(nodes):
    """2 + 12 + 30 s at 3.6 an hour is 44 / 3600 * 3.6 = 0.044."""
    spent = compare.cost([n for n in nodes if n.name in ("base", "demos", "sft")], 3.6)
    assert spent.seconds == 44.0 and spent.money == pytest.approx(0.044) and spent.flops == 4e6


def test_reports_are_named_after_their_models_and_noise_runs_are_left_out(tmp_path):
    made = made_run.stages(tmp_path)
    again = made_run.MadeReport(policy="base", suites=made["before"].suites)
    gate = made["gate"].model_copy(update={"noise": "again"})
    order = {k: made[k] for k in ("base", "demos", "sft", "sampled", "dpo", "after", "before", "middle")}
    outcome = run(order | {"again": again, "gate": gate}, tmp_path / "r", Runtime())
    nodes = collect.nodes_of(outcome.folders)
    assert [r.label for r in collect.reports(nodes)] == ["base", "sft", "dpo"]
    page = report.write(tmp_path / "r", "made", "", outcome.folders, outcome, 0.0).read_text()
    assert "Noise floor: the baseline against a second run of itself" in page


def test_ledger_audit_and_decontamination(good, nodes):
    d = collect.data(nodes)[0]
    assert [(g.title, g.count) for g in d.ledger] == [("duplicate", 2), ("holds an evaluation item", 1)]
    assert [(g.title, g.count, g.note) for g in d.audit] == [("contradictory answers", 2, "guess")]
    assert d.categories == {"lists": 2, "<b>odd</b>": 1, "stories": 1}
    assert data.decontamination(d) == [("checked against", "sums"), ("held an evaluation item", "1")]


def test_samples_are_the_same_every_time_and_cover_all_reports(nodes):
    reports = collect.reports(nodes)
    chosen = samples.choose(reports, {}, 4)
    assert [s.id for s in chosen] == [s.id for s in samples.choose(reports, {}, 4)] and len(chosen) == 4
    assert [a.label for a in chosen[0].answers] == ["base", "sft", "dpo"]
    assert [a.mark for a in chosen[0].answers] == ["✗ accuracy", "✓ accuracy", "✓ accuracy"]


def test_questions_of_a_changed_suite_are_not_shown(tmp_path):
    """The answers belong to other questions now."""
    root, outcome = made_run.made(tmp_path)
    reports = collect.reports(collect.nodes_of(outcome.folders))
    path = tmp_path / "sums.jsonl"
    path.write_text(path.read_text().replace("+2?", "+3?"))
    assert samples.choose(reports, {}) == []
    path.unlink()
    assert samples.choose(reports, {}) == []
    assert report.write(root, "made", "", outcome.folders, outcome, 0.0).exists()


def test_examples_for_the_terminal(good):
    lines = report.examples(good[0].folders, n=2)
    assert sum(line.startswith("Q ") for line in lines) == 2
    assert any(line.startswith("  base  It is <script>") for line in lines)


def test_regressions_are_named(tmp_path):
    """The candidate loses items 3 and 4 of the base's 5."""
    _, outcome = made_run.made(tmp_path, base=5, dpo=3)
    nodes = collect.nodes_of(outcome.folders)
    gate = view.page("made", "", nodes, outcome, 0.0).gates[0]
    assert ("sums.accuracy: 2 items got worse", ["sums/s3: 100.0% → 0.0%", "sums/s4: 100.0% → 0.0%"]) in gate.notes


def test_ancestry_is_whole_and_in_order(good):
    folders = good[0].folders
    found = [n.name for n in lineage.ancestry([folders["gate"]])]
    assert set(found) == {"base", "demos", "sft", "sampled", "dpo", "before", "after", "gate"}
    for node in lineage.ancestry([folders["release"]]):
        position = found.index(node.name) if node.name in found else len(found)
        assert all(found.index(s) < position for edges in node.record.edges.values() for s in edges if s in found)


def test_ancestry_with_a_hole_is_refused(tmp_path):
    _, outcome = made_run.made(tmp_path)
    (outcome.folders["demos"] / "record.json").unlink()
    with pytest.raises(UserError, match="'sft' was made of is not here"):
        lineage.ancestry([outcome.folders["dpo"]])


def test_boxes_do_not_overlap_and_arrows_go_down(nodes):
    rows = lineage.rows_of(nodes)
    spots = [(lineage.lane(n), rows[n.key]) for n in nodes]
    assert len(spots) == len(set(spots))
    assert all(rows[n.key] >= rows[key] for n in nodes for _, key in n.parents())
    drawing = lineage.draw(nodes)
    assert drawing.count("<rect") == len(nodes) and 'class="box gate-pass"' in drawing
    assert lineage.draw([]) == ""


def test_gate_box_shows_its_verdict(good):
    record = Record.read(good[0].folders["gate"]).model_copy(update={"verdict": "fail", "stage": "<x>"})
    drawing = lineage.draw([lineage.Node(good[0].folders["gate"], record)])
    assert "gate-fail" in drawing and "&lt;x&gt;" in drawing


@given(st.floats(-1e3, 1e3), st.integers(1, 60), st.floats(1, 30))
def test_smoothing_keeps_a_constant(value, n, span):
    """A weighted mean of equal numbers is that number, from the first point on."""
    assert plots.smooth([value] * n, span) == pytest.approx([value] * n)


def test_smoothing_by_hand():
    """span 2: weights 1/2, 1/4: (0 * 1/4 + 3 * 1/2) / (3/4) = 2."""
    assert plots.smooth([0.0, 3.0], 2) == pytest.approx([0.0, 2.0])


def test_reward_and_gold_over_kl(nodes):
    """One point an evaluation; steps without one, and runs without a reference, have none."""
    node = next(n for n in nodes if n.record.makes == "policy")
    held = [{"step": s, "held_kl": s / 2, "held_reward": s, "held_gold": -s} for s in (0, 4, 8)]
    made = collect.Training(node, [{"step": 2, "loss": 1.0}, *held], {}, [], [])
    ((title, svg),) = training.over_optimisation(made)
    assert "KL" in title and "nats an answer" in svg and "gold" in svg and "optimiser step" not in svg
    bare = [{k: v for k, v in e.items() if k != "held_kl"} for e in held]
    assert training.over_optimisation(collect.Training(node, bare, {}, [], [])) == []


def test_what_reinforcement_learning_logs_is_drawn_and_alarms_are_told(nodes):
    """Everything that design asks of an RL step has a curve; each detector is told once, with how often it fired."""
    node = next(n for n in nodes if n.record.makes == "policy")
    drawn = {k for _, _, wanted, _ in training.CURVES for k, _ in wanted}
    asked = "reward reward_std kl_k1 kl_k3 entropy clipped ratio_max ratio_min length stopped unique distinct explained"
    assert drawn >= {*asked.split(), "spread", "mismatch", "doubt", "held_gold"}
    log = [{"step": s, "rollout": s - 1, "spread": 0.1 * s, "reward.a": s, "reward.b": -s} for s in (1, 2, 3)]
    log[1] |= {"fired": ["length_drift"], "alarms": {"length_drift": "answers went from 5 to <11> tokens"}}
    log[2] |= {"fired": ["length_drift"]}
    found = training.curves(collect.Training(node, log), 0)
    assert found.alarms == ["length drift, first after step 2, in 2 rollouts of 3: answers went from 5 to <11> tokens"]
    titles = [title for title, _ in found.plots]
    assert "Spread of the rewards" in titles and "What each judge gave, unweighted" in titles
    quiet = training.curves(collect.Training(node, [{k: v for k, v in log[0].items() if k != "reward.b"}] * 2), 0)
    assert quiet.alarms == [] and "What each judge gave, unweighted" not in [title for title, _ in quiet.plots]


def test_the_gain_of_more_samples_is_drawn(nodes, tmp_path):
    node = next(n for n in nodes if n.record.makes == "demos")
    (tmp_path / "gain.json").write_text('{"best_of": {"1": 0.2, "2": 0.35, "3": 0.4}, "kl": [0.0, 0.19, 0.43]}')
    ((title, svg),) = data.gain(lineage.Node(tmp_path, node.record))
    assert title == "Expected best score of k answers" and "optimiser step" not in svg
    (tmp_path / "gain.json").write_text('{"best_of": {"1": 0.2}}')
    assert data.gain(lineage.Node(tmp_path, node.record)) == [] == data.gain(node)


def test_plots_take_their_colours_from_the_page():
    svg = plots.curves("a", 'x "y" <z>', [plots.Line("l", [0, 1], [1.0, 2.0])])
    assert "var(--s1)" in svg and "#0a0a0" not in svg and "#01010" not in svg
    assert 'aria-label="x &quot;y&quot; &lt;z>"' in svg


def test_numbers_in_words():
    assert (
        words.value(0.875, True) == "87.5%" and words.value(None, True) == "–" and words.value(18.4, False) == "18.40"
    )
    assert words.signed(-0.04, True) == "−4.0 pp" and words.signed(0.31, False) == "+0.310"
    assert words.count(1_240_000) == "1.24 M" and words.flops(3.1e14) == "310 TFLOP"
    assert words.money(1.0, 0.0) == "–" and words.money(0.0123, 2.0) == "0.0123"
    assert words.listed(["a", "b", "c"]) == "a, b and c" and words.listed(list("abcd"), 2) == "a, b and 2 more"
