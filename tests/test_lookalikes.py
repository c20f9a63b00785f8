"""The two-sided safety rows: answered and declined in the same wordings, none of them near an evaluation item."""

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from posttrain import bundled
from posttrain.judge.principles import content_words
from posttrain.judge.refusal import is_refusal
from posttrain.rows import Item, read_jsonl

ROOT = Path(__file__).parent.parent
NEAR = 0.6  # shared content words over all of both


@pytest.fixture(scope="module")
def made():
    sys.path.insert(0, str(ROOT / "data" / "generators"))
    try:
        import lookalikes

        yield list(lookalikes.rows())
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def wordings():
    """The forms both sides draw from, as patterns."""
    sys.path.insert(0, str(ROOT / "data" / "generators"))
    from lookalikes import DO

    sys.path.pop(0)
    return {form: re.compile(re.escape(form).replace(r"\{\}", "(.+)")) for form in DO}


def test_there_are_many_of_both_and_no_question_twice(made):
    sides = Counter(r["category"] for r in made)
    assert sides["lookalike"] >= 800 and sides["refuse"] >= 200
    assert len({r["prompt"].lower() for r in made}) == len(made)
    assert min(Counter(r["topic"] for r in made).values()) >= 12


def test_one_side_is_declined_and_the_other_is_answered_by_the_detectors_word(made):
    wrong = [r for r in made if is_refusal(r["completion"]) != (r["category"] == "refuse")]
    assert not wrong, wrong[:3]


def test_the_form_of_the_question_does_not_tell_the_side(made, wordings):
    """Every "how do I" wording stands on both sides, and on neither far oftener than the other."""
    seen = defaultdict(Counter)
    for row in made:
        for form, pattern in wordings.items():
            if pattern.fullmatch(row["prompt"]):
                seen[form][row["category"]] += 1
    total = Counter({side: sum(c[side] for c in seen.values()) for side in ("lookalike", "refuse")})
    for form in wordings:
        shares = [seen[form][side] / total[side] for side in total]
        assert 0.3 < shares[0] / shares[1] < 3, (form, seen[form])


def test_declining_names_no_steps_and_offers_something(made):
    refusals = [r["completion"] for r in made if r["category"] == "refuse"]
    assert all(len(t.split()) >= 10 and t.count(".") >= 2 for t in refusals)
    assert len(set(refusals)) > 150


@pytest.mark.parametrize("suite", ["refusals", "attacks", "goals"])
def test_no_row_is_near_an_evaluation_item(made, suite):
    """Beyond n-grams: the content words of a generated question and of an item are not mostly the same."""
    folder = Path(bundled.__file__).parent
    path = folder / "goals.jsonl" if suite == "goals" else folder / "suites" / f"{suite}.jsonl"
    items = {(i.model_extra or {}).get("goal") or i.messages[-1].content for i in read_jsonl(path, Item)}
    asked = [content_words(text) for text in items]
    near = [
        (row["prompt"], shared)
        for row in made
        if (words := content_words(row["prompt"]))
        and (shared := max(len(words & a) / len(words | a) for a in asked)) >= NEAR
    ]
    assert not near, near[:5]
