"""Votes to rows: hand values of margins, soft labels and every filter; nothing is lost without a line in the ledger."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_votes import choices, item, votes

from posttrain import agreement
from posttrain.errors import UserError
from posttrain.feedback import Filters, frozen, snapshot_report, to_rows
from posttrain.feedback.croissant import write_croissant
from posttrain.feedback.frozen import Frozen
from posttrain.rows import Message, Pair, Rating, read_jsonl, write_jsonl
from posttrain.store.rows import Snapshot


def made(rows, items, said, **how):
    return to_rows(rows, items, said, filters=Filters(**how), project="p", snapshot="s")


def reasons(result):
    return [line.reason.split(":")[0] for line in result.ledger]


# ---- pairs -----------------------------------------------------------------------------------------------------------


def test_margin_and_soft_label_by_hand():
    """Significantly, slightly, one slightly for the other: margins 3, 1, -1, mean 1, on Llama 2's scale 3, 2, 1, 0.

    Soft: (2 wins + 0 ties + 1) / (3 + 2) = 0.6.
    """
    said = choices("q1", ("first", 4), ("first", 2), ("second", 2))
    (row,) = made("pairs", [item()], said, conflicts="soft").train
    assert (row.chosen.content, row.rejected.content) == ("good answer", "bad")
    assert row.margin == pytest.approx(1.0) and row.soft == pytest.approx(0.6)
    (hard,) = made("pairs", [item()], said).train
    assert hard.margin == pytest.approx(1.0) and hard.soft is None


def test_ties_are_half_a_win():
    """Second, tie: (1 + 0.5 + 1) / (2 + 2) = 0.625 for the second answer, margin (2 + 0) / 2 = 1."""
    (row,) = made("pairs", [item()], choices("q1", ("second", 3), "tie"), conflicts="soft").train
    assert row.chosen.content == "bad" and row.soft == pytest.approx(0.625) and row.margin == pytest.approx(1.0)


def test_margin_is_absent_where_somebody_gave_no_strength_and_never_negative():
    assert made("pairs", [item()], choices("q1", ("first", 4), "first")).train[0].margin is None
    said = choices("q1", ("first", 1), ("first", 1), ("second", 4))  # (0 + 0 - 3) / 3, though the first has more votes
    assert made("pairs", [item()], said).train[0].margin == 0.0


def test_an_even_item():
    """Majority leaves it out; soft keeps it at one half; both-bad is a tie."""
    said = choices("q1", "first", "second")
    assert made("pairs", [item()], said).train == [] and reasons(made("pairs", [item()], said)) == ["tie"]
    assert made("pairs", [item()], said, conflicts="soft").train[0].soft == 0.5
    assert reasons(made("pairs", [item()], choices("q1", "both_bad"))) == ["tie"]


def test_a_row_can_be_traced():
    said = choices("q1", "first", "first", "second")
    (row,) = made("pairs", [item(category="manners")], said).train
    assert row.meta == {"votes": [v.id for v in said], "item": "q1", "project": "p", "snapshot": "s"}
    assert (row.id, row.source, row.category, row.annotator) == ("p/q1", "human", "manners", None)
    assert made("pairs", [item()], said[:1]).train[0].annotator == "u1"


def test_conflicts_dropped():
    items = [item("q1"), item("q2", asks="Another?")]
    said = choices("q1", "first", "second", "first") + choices("q2", "first", "tie", start=3)
    result = made("pairs", items, said, conflicts="drop")
    assert [r.id for r in result.train] == ["p/q2"] and reasons(result) == ["conflict"]


@pytest.mark.parametrize(
    "how, reason", [({"min_votes": 4}, "too few votes"), ({"min_agreement": 0.7}, "too little agreement")]
)
def test_thresholds(how, reason):
    """Two of three agree: 0.67."""
    result = made("pairs", [item()], choices("q1", "first", "first", "second"), **how)
    assert not result.train and reasons(result) == [reason] and len(result.ledger[0].votes) == 3


def test_gold_items_train_nothing():
    items = [item("g", gold={"choice": "first"}), item("q1", asks="Other?")]
    result = made("pairs", items, choices("g", "first") + choices("q1", "first", start=1))
    assert [r.id for r in result.train] == ["p/q1"] and reasons(result) == ["gold item"]


def test_unreliable_people_by_gold_and_by_dawid_skene():
    """u3 always says the opposite. On gold 0 of 6; and against the two others his estimated accuracy is near 0."""
    open_items = [item(f"q{n}", asks=f"Question {n}?") for n in range(12)]
    gold = [item(f"g{n}", asks=f"Gold {n}?", gold={"choice": "first"}) for n in range(6)]
    said = []
    for n, one in enumerate(open_items + gold):
        good, wrong = ("first", "second") if n % 2 or one.gold else ("second", "first")
        said += choices(one.id, good, good, wrong, start=3 * n)
    for how in ("gold", "dawid_skene"):
        result = made("pairs", open_items + gold, said, reliability=how, min_reliability=0.5)
        assert reasons(result).count("unreliable person") == 12, how
        assert all(len(r.meta["votes"]) == 2 for r in result.train) and len(result.train) == 12
    careful = made("pairs", open_items + gold, said, reliability="gold", min_reliability=0.5, min_marks=7)
    assert "unreliable person" not in reasons(careful)  # six gold items are fewer than seven: not judged


def test_cap_per_person_is_stable():
    """Two of five votes of the one person, by hash: more votes later move none that is taken unless they come first."""
    items = [item(f"q{n}", asks=f"Question {n}?") for n in range(9)]
    said = [v for n in range(9) for v in choices(f"q{n}", "first", start=n)]
    few, again = (made("pairs", items, said, per_person=2) for _ in range(2))
    assert len(few.train) == 2 and few == again and reasons(few) == ["over the cap of 2 votes a person"] * 7


def test_twice_the_same_answer():
    result = made("pairs", [item(answers=("same", "same "))], choices("q1", "first"))
    assert not result.train and reasons(result) == ["twice the same answer"]


def test_holdout_is_by_request_and_stable():
    """Items with the same request stay together, and a new item moves no other."""
    items = [item(f"q{n}", asks=f"Question {n // 2}?") for n in range(40)]
    said = [v for n in range(40) for v in choices(f"q{n}", "first", start=n)]

    def split(upto):
        return to_rows("pairs", items[:upto], said[:upto], holdout=0.3, seed=1)

    whole = split(40)
    held = {r.prompt[0].content for r in whole.holdout}
    assert held and not held & {r.prompt[0].content for r in whole.train}
    assert {r.id for r in split(30).holdout} <= {r.id for r in whole.holdout}


# ---- the other kinds -------------------------------------------------------------------------------------------------

THREE = item("r", answers=("a", "b", "c"))


def test_rankings_settle_on_the_mean_rank():
    """(0, 1, 2) and (0, 2, 1): means 0, 1.5, 1.5 -> ranks 0, 1, 1."""
    said = votes(("r", "u1", "ranks", (0, 1, 2)), ("r", "u2", "ranks", (0, 2, 1)), kind="ranking")
    (row,) = made("rankings", [THREE], said).train
    assert row.ranks == (0, 1, 1) and [a.content for a in row.answers] == ["a", "b", "c"]
    assert [r.ranks for r in made("rankings", [THREE], said, conflicts="soft").train] == [(0, 1, 2), (0, 2, 1)]
    assert reasons(made("rankings", [THREE], said, conflicts="drop")) == ["conflict"]


def test_a_ranking_makes_pairs():
    """(0, 1, 1) and (0, 1, 2): a over b and a over c twice, b over c once with a tie: three pairs."""
    said = votes(("r", "u1", "ranks", (0, 1, 1)), ("r", "u2", "ranks", (0, 1, 2)), kind="ranking")
    rows = made("pairs", [THREE], said, conflicts="soft").train
    told = {(r.chosen.content, r.rejected.content): r.soft for r in rows}
    assert told == {("a", "b"): 0.75, ("a", "c"): 0.75, ("b", "c"): 0.625}  # (2+1)/4 and (1+.5+1)/4
    assert len({r.id for r in rows}) == 3


def test_ratings():
    """5 and 6: mean 5.5; 2 and 6 differ by more than one point."""
    one = item("t", answers=("text",))
    said = votes(("t", "u1", "rating", 5), ("t", "u2", "rating", 6, {"flags": ("opinion",)}), kind="rating")
    (row,) = made("ratings", [one], said, conflicts="drop").train
    assert row.value == 5.5 and row.answer.content == "text" and row.meta["flags"] == {"opinion": 1}
    wide = votes(("t", "u1", "rating", 2), ("t", "u2", "rating", 6), kind="rating")
    assert reasons(made("ratings", [one], wide, conflicts="drop")) == ["conflict"]


def test_a_rating_outside_its_scale_is_refused():
    with pytest.raises(ValueError, match="outside the scale 1 to 7"):
        Rating(prompt=THREE.prompt, answer=Message(role="assistant", content="x"), value=8)


def test_thumbs():
    one = item("t", answers=("text",))
    said = votes(*(("t", f"u{n}", "thumb", up) for n, up in enumerate([True, True, False])), kind="thumb")
    (row,) = made("thumbs", [one], said).train
    assert row.label is True and row.messages[-1].content == "text"
    assert sorted(r.label for r in made("thumbs", [one], said, conflicts="soft").train) == [False, True, True]


def test_a_rewrite_is_a_demonstration_and_a_pair():
    one = item("w", answers=("old text",))
    said = votes(("w", "u1", "text", " new text "), kind="rewrite")
    (pair,), (demo,) = made("pairs", [one], said).train, made("demos", [one], said).train
    assert (pair.chosen.content, pair.rejected.content) == ("new text", "old text")
    assert demo.messages[-1].content == "new text" and demo.meta["person"] == "u1"


def test_a_choice_with_a_rewrite_makes_both():
    said = votes(("q1", "u1", "choice", "first", {"text": "better still", "which": "second"}))
    rows = made("pairs", [item()], said).train
    assert {(r.chosen.content, r.rejected.content) for r in rows} == {("better still", "bad"), ("good answer", "bad")}


def test_wrong_kind_of_rows_says_which_fit():
    with pytest.raises(UserError, match="votes of kind pair make no ratings") as told:
        made("ratings", [item()], choices("q1", "first"))
    assert told.value.remedy == "rows: pairs"
    with pytest.raises(UserError, match="no votes yet"):
        made("pairs", [item()], [])


# ---- nothing is lost -------------------------------------------------------------------------------------------------

SAID = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from(["first", "second", "tie", "both_bad"])),
    min_size=1, max_size=30, unique_by=lambda x: x[:2],
)  # fmt: skip
HOW = st.fixed_dictionaries({
    "conflicts": st.sampled_from(["majority", "soft", "drop"]), "min_votes": st.integers(1, 3),
    "min_agreement": st.sampled_from([0.0, 0.6]), "per_person": st.sampled_from([None, 1, 4]),
    "min_reliability": st.sampled_from([0.0, 0.5]), "min_marks": st.integers(1, 3),
})  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(SAID, HOW, st.sampled_from([0.0, 0.4]))
def test_every_vote_is_in_one_row_or_in_the_ledger(said, how, holdout):
    items = [item(f"q{n}", asks=f"Question {n}?", gold={"choice": "first"} if n == 5 else None) for n in range(6)]
    cast = votes(*((f"q{i}", f"u{p}", "choice", c) for i, p, c in said))
    result = to_rows("pairs", items, cast, filters=Filters(**how), holdout=holdout)
    used = [v for r in result.train + result.holdout for v in r.meta["votes"]]
    left = [v for line in result.ledger for v in line.votes]
    assert sorted(used + left) == sorted(v.id for v in cast)
    swapped = [
        v.model_copy(update={"choice": {"first": "second", "second": "first"}.get(v.choice, v.choice)}) for v in cast
    ]
    turned = [i.model_copy(update={"answers": i.answers[::-1]}) for i in items if not i.gold]
    if how["min_reliability"] == 0:  # the order of an item's answers is no information, but for an even item's label
        other = to_rows(
            "pairs", turned + [i for i in items if i.gold], swapped, filters=Filters(**how), holdout=holdout
        )
        told = {r.id: (r.chosen, r.soft) for r in other.train + other.holdout}
        assert all(r.soft == 0.5 or told[r.id] == (r.chosen, r.soft) for r in result.train + result.holdout)


# ---- the report ------------------------------------------------------------------------------------------------------


def test_report_by_hand():
    """Two people on four items agree on three of them. a's answers: first shown is chosen 3 of 4 times."""
    items = [item(f"q{n}", asks=f"{n}?") for n in range(4)] + [
        item("none", asks="unseen?"),
        item("g", gold={"choice": "first"}),
    ]
    said = [("q0", "first"), ("q1", "first"), ("q2", "second"), ("q3", "first")]
    cast = votes(
        *((q, "a", "choice", c, {"presented": (0, 1), "seconds": 10.0}) for q, c in said),
        *((q, "b", "choice", c) for q, c in (("q0", "first"), ("q1", "tie"), ("q2", "second"), ("q3", "first"))),
        ("g", "a", "choice", "second"),
    )  # fmt: skip
    report = snapshot_report(items, cast, draws=50)
    assert (report["votes"], report["gold_votes"], report["people"]) == (9, 1, 2)
    told = report["agreement"]["preference"]
    assert told["raw"]["value"] == 0.75 and told["with_two_votes"] == 4 and told["level"] == "nominal"
    # n(first) 5, second 2, tie 1 of 8; D_o = 2 / 8; D_e = (64 - 25 - 4 - 1) / (8 * 7) = 34 / 56; alpha = 1 - 14 / 34
    assert told["alpha"]["value"] == pytest.approx(1 - (2 / 8) / (34 / 56))
    assert report["position_bias"]["value"] == 0.75 and report["position_bias"]["n"] == 4
    assert report["length_bias"]["value"] == pytest.approx(5 / 7)  # 'good answer' is longer: 5 of 7 decided votes
    assert report["coverage"]["with_votes"] == 4 and report["coverage"]["votes_per_item"] == {"0": 1, "2": 4}
    assert report["seconds"]["median"] == 10.0
    a, b = report["by_person"]
    assert a["gold"]["n"] == 1 and a["gold"]["value"] == pytest.approx(0.25)  # Beta(0.5, 1.5)
    assert a["peers"]["value"] == 0.75 and b["ties"] == 0.25
    json.dumps(report, allow_nan=False)


def test_report_of_rankings_ratings_and_safety():
    three = [THREE.model_copy(update={"id": f"r{n}"}) for n in range(3)]
    cast = votes(*((f"r{n}", p, "ranks", (0, 1, 2)) for n in range(3) for p in "ab"), kind="ranking")
    told = snapshot_report(three, cast, draws=20)["agreement"]["preference"]
    assert told["alpha"]["value"] == 1.0 and told["items"] == 3
    one = [item(f"t{n}", answers=("x",)) for n in range(3)]
    cast = votes(
        *((f"t{n}", p, "rating", 2 * n + 1, {"safety": ("safe",)}) for n in range(3) for p in "ab"), kind="rating"
    )
    report = snapshot_report(one, cast, draws=20)
    assert report["agreement"]["rating"]["level"] == "interval" and report["agreement"]["rating"]["alpha"]["value"] == 1
    assert report["safety"] == {"safe": 6}


def test_strengths_near_each_other_agree_more_than_opposites():
    near = [
        v
        for n in range(6)
        for v in choices(f"q{n}", ("first" if n % 2 else "second", 4), ("first" if n % 2 else "second", 3), start=2 * n)
    ]
    far = [v for n in range(6) for v in choices(f"q{n}", ("first", 1 + n % 4), ("second", 1 + n % 3), start=2 * n)]
    items = [item(f"q{n}", asks=f"{n}?") for n in range(6)]
    alpha = [snapshot_report(items, cast, draws=20)["strength_agreement"]["value"] for cast in (near, far)]
    assert alpha[0] > 0.6 > 0 > alpha[1]


def test_kappa_of_two_people_weighs_strengths_by_squared_distance():
    """Twelve items, always the same side, one step apart: unweighted they never agree."""
    strengths = [(("first", "second")[n % 2], 2 + n % 3) for n in range(12)]
    cast = [v for n, (side, s) in enumerate(strengths) for v in choices(f"q{n}", (side, s), (side, s - 1), start=2 * n)]
    (row,) = snapshot_report([item(f"q{n}", asks=f"{n}?") for n in range(12)], cast, draws=20)["cohen"]
    sign = {"first": 1, "second": -1}
    a, b = ([sign[side] * (s - less) for side, s in strengths] for less in (0, 1))
    assert row["n"] == 12 and row["kappa"] == pytest.approx(agreement.cohen_kappa(a, b, "quadratic"))
    assert row["kappa"] > 0.8 > 0 >= agreement.cohen_kappa(a, b)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_croissant_names_files_by_digest_and_fields_that_occur(tmp_path):
    rows = made("pairs", [item()], choices("q1", ("first", 4))).train
    write_jsonl(tmp_path / "train.jsonl", rows)
    path = write_croissant(tmp_path, {"train.jsonl": Pair}, name="n", description="d", published=0.0)
    found = json.loads(path.read_text())
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.1" and found["datePublished"] == "1970-01-01"
    assert {"@context", "@type", "name", "description", "license", "url", "creator", "distribution"} <= set(found)
    (file,) = found["distribution"]
    assert file["sha256"] == hashlib.sha256((tmp_path / "train.jsonl").read_bytes()).hexdigest()
    (records,) = found["recordSet"]
    fields = {f["name"]: f for f in records["field"]}
    assert {"prompt", "chosen", "rejected", "margin"} <= set(fields) and "soft" not in fields
    assert fields["prompt"]["repeated"] and [s["name"] for s in fields["chosen"]["subField"]] == [
        "chosen/role",
        "chosen/content",
    ]


def test_croissant_loads_with_the_reference_library(tmp_path):
    library = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    rows = made("pairs", [item()], choices("q1", ("first", 4))).train
    write_jsonl(tmp_path / "train.jsonl", rows)
    path = write_croissant(tmp_path, {"train.jsonl": Pair}, name="n", description="d", published=0.0)
    (record,) = library.Dataset(jsonld=path).records("train")
    assert record["train/chosen"]["train/chosen/content"] == b"good answer"


def export(folder, items, cast):
    about = Snapshot(digest="d" * 16, project="p", votes=len(cast), items=len(items), events=0, head_hash="", at=0.0)
    Frozen(about, items, cast, []).write(folder)


def test_a_folder_without_chain_is_read_and_called_unchecked(tmp_path):
    export(tmp_path, [item()], choices("q1", "first"))
    found = frozen.read(tmp_path / "votes.jsonl")
    assert found.snapshot.digest == "d" * 16 and len(found.votes) == 1
    assert found.problems() == ["there are no events, so the votes cannot be checked"]
    (tmp_path / "snapshot.json").unlink()
    assert len(frozen.read(tmp_path).snapshot.digest) == 16  # named by what it holds
    for name in ("votes", "items"):
        (tmp_path / f"{name}.jsonl").rename(tmp_path / f"p-0123456789ab-{name}.jsonl")  # as a browser saves downloads
    assert frozen.read(tmp_path).votes == found.votes
    (tmp_path / "q-votes.jsonl").touch()
    with pytest.raises(UserError, match="which one is votes"):
        frozen.read(tmp_path)


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda f: (f / "votes.jsonl").unlink(), "no votes.jsonl"),
        (lambda f: (f / "votes.jsonl").write_text('{"event": "x"}\n'), "votes.jsonl:1: event"),
        (lambda f: write_jsonl(f / "items.jsonl", [item(), item()]), "two items have the id 'q1'"),
        (lambda f: write_jsonl(f / "items.jsonl", [item("other")]), "on an item that is not here: 'q1'"),
        (lambda f: (f / "snapshot.json").write_text("[]"), "not a JSON object"),
        (lambda f: (f / "snapshot.json").write_text("{}"), "digest"),
    ],
)
def test_spoilt_exports_are_refused(tmp_path, spoil, says):
    export(tmp_path, [item()], choices("q1", "first"))
    spoil(tmp_path)
    with pytest.raises(UserError, match=says):
        frozen.read(tmp_path)


def test_rows_survive_their_files(tmp_path):
    rows = made("pairs", [item()], choices("q1", ("first", 4), ("second", 2)), conflicts="soft").train
    write_jsonl(tmp_path / "t.jsonl", rows)
    assert list(read_jsonl(tmp_path / "t.jsonl", Pair)) == rows
