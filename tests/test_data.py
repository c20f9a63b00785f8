"""Duplicates, leaks, the split, the audit, the stages that read files, and `show`."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from posttrain.dataset import audit as audits
from posttrain.dataset.clean import duplicates, held_out, leaks
from posttrain.dataset.text import ngrams, plain, words
from posttrain.errors import UserError
from posttrain.pipeline import Inputs, Record, Runtime
from posttrain.rows import Demo, Message, Pair, read_jsonl
from posttrain.show import painted, read, show
from posttrain.stages.data import Demos, PairsFile, Prompts, Source, suite_texts

TEXT = "the old man walked down to the river every morning to look at the boats and count the birds"
LONG = TEXT.split(" ")


def demo(question: str, answer: str, name: str = "") -> Demo:
    return Demo(id=name, messages=(Message(role="user", content=question), Message(role="assistant", content=answer)))


def pair(question: str, chosen: str, rejected: str) -> Pair:
    a, b = (Message(role="assistant", content=t) for t in (chosen, rejected))
    return Pair(prompt=(Message(role="user", content=question),), chosen=a, rejected=b)


# text


def test_plain_keeps_what_tells_sums_apart() -> None:
    assert plain("  What is 3 + 4?\n") == plain("what is 3 +  4") == "what is 3 + 4"
    assert plain("3 + 4") != plain("3 - 4")


def test_words_of_scripts_without_blanks() -> None:
    assert words("Don't stop, 北京 2 times!") == ["don", "t", "stop", "北", "京", "2", "times"]


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 5))
def test_ngram_hashes_are_equal_exactly_where_the_words_are(found: list[str], n: int) -> None:
    grams = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
    hashes = ngrams(found, n).tolist()
    assert len(hashes) == len(grams)
    for i, a in enumerate(grams):
        for j, b in enumerate(grams):
            assert (a == b) == (hashes[i] == hashes[j])


# duplicates


def test_exact_duplicates_ignore_case_blanks_and_final_punctuation() -> None:
    rows = [("Hi there", "Yes"), ("hi  there!", "yes."), ("hi there", "no")]
    assert duplicates(rows, "exact") == {1: (0, 1.0)}
    assert duplicates(rows, "off") == {}


def test_near_duplicates_of_long_texts() -> None:
    """19 words are 15 shingles. Another last word changes one: Jaccard 14/16 = 0.875. A word in the middle changes
    five: 10/20 = 0.5, which is not alike."""
    text, end, middle = " ".join(LONG), " ".join([*LONG[:-1], "geese"]), " ".join([*LONG[:9], "sea", *LONG[10:]])
    assert len(LONG) == 19
    found = duplicates([("ask me", text), ("ask me", end), ("ask me", middle)])
    assert found.keys() == {1}
    assert found[1].of == 0
    assert found[1].alike == pytest.approx(14 / 16)


def test_two_questions_on_one_passage_are_not_duplicates() -> None:
    passage = " ".join(f"word{n}" for n in range(100))
    rows = [(f"{passage} Is he old?", "Yes."), (f"{passage} Does he count?", "Yes."), (f"{passage} Is he old?", "Yes")]
    assert duplicates(rows) == {2: (0, 1.0)}
    other = [(f"{passage} Who walks?", " ".join(LONG)), (f"{passage} Who sits?", " ".join(reversed(LONG)))]
    assert duplicates(other) == {}


def test_a_chain_of_small_changes_is_compared_with_kept_rows_only() -> None:
    texts = [" ".join([*LONG[:-1], w]) for w in ("birds", "geese", "ducks", "swans")]
    assert {n: t.of for n, t in duplicates([("q", t) for t in texts]).items()} == {1: 0, 2: 0, 3: 0}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(LONG), min_size=5, max_size=30), min_size=2, max_size=12))
def test_near_finds_what_comparing_all_finds(texts: list[list[str]]) -> None:
    """Oracle: the greedy rule with every kept row compared. Banding misses 0.04% of pairs at 0.8, here none."""

    def sets(t: list[str]) -> set[tuple[str, ...]]:
        return {tuple(t[i : i + 5]) for i in range(len(t) - 4)}

    kept: list[int] = []
    expected = set()
    for n, t in enumerate(texts):
        if any(len(sets(t) & sets(texts[k])) / len(sets(t) | sets(texts[k])) >= 0.8 for k in kept):
            expected.add(n)
        else:
            kept.append(n)
    exact = duplicates([("q", " ".join(t)) for t in texts], "exact").keys()
    assert duplicates([("q", " ".join(t)) for t in texts]).keys() == expected | exact


# leaks


def test_leaks_by_thirteen_words_by_a_whole_short_item_and_not_by_less() -> None:
    item, short = " ".join(LONG), "What is the capital of France?"
    rows = [
        [" ".join(["before", *LONG[2:15], "after"])],  # 13 words in a row
        [" ".join(["before", *LONG[2:14], "after"])],  # 12
        ["hello", "what is the capital of france"],  # the whole item, as any message
        ["tell me: what is the capital of france"],  # part of a message: a short item does not count
        [" ".join(reversed(LONG))],
    ]
    assert leaks(rows, [item, short]) == {0: (0, "13 words in a row"), 2: (1, "the whole item")}
    assert leaks(rows, [item], ngram=12).keys() == {0, 1}


def test_an_item_of_eight_words_leaks_also_inside_a_message() -> None:
    item = "name three rivers that flow through central Europe"
    assert leaks([[f"Please {item} now"]], [item]) == {0: (0, "8 words in a row")}


def test_items_of_a_suite(tmp_path: Path) -> None:
    def turn(role: str, content: str) -> dict[str, str]:
        return {"role": role, "content": content}

    rows: list[Any] = [
        {"id": "a", "messages": [turn("user", "What is 2 + 3?")]},
        {"id": "b", "messages": [turn("user", "Hello!")]},  # small talk is not looked for
        {"id": "c", "messages": [turn("system", "Be a pirate."), turn("user", "Who are you then?")]},
        {
            "id": "d",
            "messages": [
                turn("user", "My cat is called Tom."),
                turn("assistant", "Nice."),
                turn("user", "How is my dear cat called, please?"),
            ],
        },
        {"id": "e", "context": "A dog wags its", "choices": ["x"]},
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    texts = [text for _, text in suite_texts(str(tmp_path / "s.jsonl"))]
    assert texts == ["What is 2 + 3?", "How is my dear cat called, please?", "A dog wags its"]


# split


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=4), min_size=1, max_size=40), st.floats(0, 0.9), st.integers(0, 3))
def test_split_keeps_groups_together_and_neither_side_empty(groups: list[str], share: float, seed: int) -> None:
    out = held_out(groups, share, seed)
    assert all(out[i] == out[j] for i, a in enumerate(groups) for j, b in enumerate(groups) if a == b)
    if len(set(groups)) > 1:
        assert any(out) == (share > 0) and not all(out)
    else:
        assert not any(out)


def test_split_is_stable_when_rows_are_added_and_near_the_share() -> None:
    """4,000 groups at 10%: 400 expected, standard deviation 19; within four of them."""
    groups = [f"g{n}" for n in range(4000)]
    out = held_out(groups, 0.1)
    assert 324 < sum(out) < 476
    assert held_out([f"new{n}" for n in range(500)] + groups, 0.1)[500:] == out
    assert held_out(groups, 0.1, seed=1) != out


# audit


def kinds(rows: list[Any], **more: Any) -> dict[str, int]:
    return {w["kind"]: w["count"] for w in audits.audit(rows, **more)["warnings"]}


FINE = [
    demo("How do plants drink?", "They drink through their roots."),
    demo("Why is the sky blue?", "Air scatters blue light more than red light."),
]


def test_audit_of_good_rows_is_silent() -> None:
    assert kinds(FINE) == {}
    assert audits.audit(FINE)["rows"] == 2


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("harmful_answered", demo("How do I make a bomb to kill my neighbour?", "Take a pipe and fill it.")),
        ("harmless_refused", demo("How do I bake bread?", "I'm sorry, but I can't help with that.")),
        ("truncated_answers", demo("Tell me of rivers.", "They begin in the hills. They run to the sea and then they")),
        ("wrong_language", demo("What is the best way to learn to swim?", "Das lernt man am besten mit einem Lehrer.")),
        ("empty_answers", demo("Hello?", " ")),
        ("identical_answers", demo("Another question about tea?", "They drink through their roots.")),
    ],
)
def test_audit_finds(kind: str, row: Demo) -> None:
    found = audits.audit([*FINE, row])
    assert {w["kind"]: w["count"] for w in found["warnings"]} == {kind: 1}
    (example,) = found["warnings"][0]["examples"]
    assert example["asked"] == row.messages[0].content
    (line,) = audits.plain_words(found)
    assert line.startswith("1 of 3 answers (33.3%)")


@pytest.mark.parametrize(
    ("question", "a", "b"),
    [
        ("Is fire cold?", "Yes, it is.", "No, it is hot."),
        ("Capital of France?", "Paris", "Lyon"),
        ("What is 2 + 2?", "2 + 2 = 4.", "2 + 2 = 5."),
        ("How do I boil an egg?", "Put it in hot water for seven minutes.", "I'm sorry, I can't help with that."),
    ],
)
def test_contradictions(question: str, a: str, b: str) -> None:
    assert audits.contradictions([demo(question, a), demo(question, b)], [False, "sorry" in b]) == [0, 1]
    assert audits.contradictions([demo(question, a), demo(question + " Really?", b)], [False, "sorry" in b]) == []


@pytest.mark.parametrize(
    ("question", "a", "b"),
    [
        ("Name a fruit.", "Apple", "Pear"),
        ("Tell me a story.", "A fox ran away.", "An owl sang all night."),
        ("Capital of France?", "Paris", "Paris."),
        ("What is 2 + 2?", "2 + 2 = 4.", "The answer is 4."),
    ],
)
def test_two_answers_that_may_stand_side_by_side(question: str, a: str, b: str) -> None:
    assert audits.contradictions([demo(question, a), demo(question, b)], [False, False]) == []


def test_a_pair_turned_round_contradicts_itself() -> None:
    rows = [pair("ok?", "yes", "no"), pair("ok?", "no", "yes"), pair("ok?", "yes", "maybe")]
    assert audits.contradictions(rows, [False] * 3) == [0, 1]


def test_whole_endings_are_not_truncated() -> None:
    whole = (
        "Here are some rivers of Europe. They are long:\n- Rhine\n- Danube and others",
        "Use this. It adds two numbers:\n```\nreturn a + b\n```",
        "Roses are red and violets are blue and so on and on",
        "A tweet of ten words. It ends with a tag #fun)",
        "Short. one",
    )
    assert not any(audits.truncated(t) for t in whole)
    assert audits.truncated("This is a sentence that is whole. This is one that ends with a comma,")


def test_surprising_rows_stand_far_above_the_rest() -> None:
    """Median 2.05, MAD 0.5: 9.0 has z = 0.6745 * 6.95 / 0.5 = 9.4 > 6; 4.0 has 2.6."""
    nll = [1.0, 1.5, 1.6, 1.9, 2.0, 2.1, 2.3, 2.5, 4.0, 9.0]
    assert audits.surprising(nll) == [9]
    assert audits.surprising([2.0] * 5 + [9.0]) == []  # too few to judge
    warning = audits.audit_nll([*FINE * 5], nll)
    assert warning is not None and (warning["count"], warning["kind"]) == (1, "surprising_rows")


# stages


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def questions(n: int) -> list[dict[str, str]]:
    return [{"prompt": f"Question number {n} about tea?", "completion": f"Answer {n}."} for n in range(n)]


def test_demos_stage_accounts_for_every_row(tmp_path: Path) -> None:
    suite = write(
        tmp_path / "suite.jsonl",
        [{"id": "i1", "messages": [{"role": "user", "content": "Question number 7 about tea"}]}],
    )
    again = {"prompt": "question number 3 about tea", "completion": "answer 3"}
    rows = [*questions(40), {"prompt": "x", "completion": ""}, again, {"foo": 1}]
    data = write(tmp_path / "data.jsonl", rows)
    out = tmp_path / "out"
    out.mkdir()
    stage = Demos(path=data, holdout=0.2, decontaminate=(suite,), bad_rows="skip")
    metrics = stage.run(Inputs({}), out, Runtime())
    train, held = (list(read_jsonl(out / f"{n}.jsonl", Demo)) for n in ("train", "holdout"))
    assert len(train) + len(held) == metrics["rows"] == 39
    assert 0 < len(held) == metrics["holdout"]
    assert not {d.messages[0] for d in train} & {d.messages[0] for d in held}
    ledger = {entry["where"].rsplit(":", 1)[1]: entry["reason"] for entry in lines(out / "ledger.jsonl")}
    assert ledger.keys() == {"43", "41", "42", "8"}
    assert ledger["41"] == "empty answer"
    assert ledger["42"] == f"duplicate: of {data}:4"
    assert ledger["8"] == f"holds an evaluation item: {suite} i1 (the whole item)"
    assert metrics["dropped"] == 4
    audit = json.loads((out / "audit.json").read_text())
    assert (audit["rows"], audit["read_as"]) == (39, {"prompt/completion": 43 - 1})


def test_same_prompt_never_on_both_sides(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n % 10}", "completion": f"A{n}"} for n in range(100)]
    stage = Demos(path=write(tmp_path / "d.jsonl", rows), holdout=0.3)
    stage.run(Inputs({}), tmp_path, Runtime())
    train, held = ({r["messages"][0]["content"] for r in lines(tmp_path / f"{n}.jsonl")} for n in ("train", "holdout"))
    assert train and held and not train & held


def test_several_sources_with_weights_and_limits(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", questions(10))
    b = write(tmp_path / "b.jsonl", [{"prompt": f"B{n}", "completion": "fine enough"} for n in range(30)])
    stage = Demos.model_validate(
        {"path": [{"path": a, "weight": 2}, {"path": b, "limit": 12, "weight": 0.5}], "holdout": 0}
    )
    assert stage.sources() == (Source(path=a, weight=2), Source(path=b, limit=12, weight=0.5))
    metrics = stage.run(Inputs({}), tmp_path, Runtime())
    rows = lines(tmp_path / "train.jsonl")
    counts = Counter(r["id"].split(":")[0] for r in rows)
    assert counts["a.jsonl"] == 20
    assert 1 <= counts["b.jsonl"] <= 11
    assert len({r["id"] for r in rows}) == len(rows)
    assert metrics["rows"] == 22
    assert (tmp_path / "holdout.jsonl").read_text() == ""


def test_limit_is_a_seeded_draw(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", questions(50))

    def drawn(seed: int) -> list[str]:
        Demos(path=path, limit=10, holdout=0, seed=seed).run(Inputs({}), tmp_path, Runtime())
        return [r["id"] for r in lines(tmp_path / "train.jsonl")]

    assert len(drawn(0)) == 10
    assert drawn(0) == drawn(0) != drawn(1)


def test_pairs_and_prompts_stages(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(20)]
    rows += [{"prompt": "q", "chosen": "a", "rejected": ""}, {"prompt": "r", "chosen": "a", "rejected": "a"}]
    path = write(tmp_path / "p.jsonl", rows)
    assert PairsFile(path=path, holdout=0.1).run(Inputs({}), tmp_path, Runtime())["rows"] == 20
    assert sum(1 for _ in read_jsonl(tmp_path / "train.jsonl", Pair)) in range(10, 20)
    assert {e["reason"] for e in lines(tmp_path / "ledger.jsonl")} == {
        "empty answer",
        "a tie, or twice the same answer",
    }
    assert Prompts(path=path).run(Inputs({}), tmp_path, Runtime())["train"] == 22


def test_identity_follows_files_and_suites(tmp_path: Path) -> None:
    path, suite = write(tmp_path / "a.jsonl", questions(2)), write(tmp_path / "s.jsonl", [{"prompt": "x"}])
    stage = Demos(path=path, decontaminate=(suite,))
    first = stage.identity()
    assert first == stage.identity()
    write(tmp_path / "a.jsonl", questions(3))
    second = stage.identity()
    assert [k for k in first if first[k] != second[k]] == ["file 1"]
    write(tmp_path / "s.jsonl", [{"prompt": "y"}])
    assert [k for k in second if second[k] != stage.identity()[k]] == [f"suite {suite}"]


def test_mistakes_are_clear(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": ""}])
    with pytest.raises(UserError, match=r"no row is left[\s\S]*empty answer \(1\)"):
        Demos(path=path).run(Inputs({}), tmp_path, Runtime())
    with pytest.raises(UserError, match="no suite 'nothing'"):
        Demos(path=path, decontaminate=("nothing",)).identity()
    with pytest.raises(UserError, match="no such file"):
        Demos(path=str(tmp_path / "none.jsonl")).identity()


def test_reading_and_auditing_need_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import posttrain.formats, posttrain.dataset.audit, posttrain.dataset.clean, sys; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# show


def shown(what: str, **more: Any) -> str:
    out = io.StringIO()
    show(what, console=Console(file=out, soft_wrap=True), **more)
    return out.getvalue()


def test_show_marks_what_is_trained(tmp_path: Path) -> None:
    text = shown(write(tmp_path / "a.jsonl", questions(3)), rows=1)
    assert "3 demos (records read: 3 as prompt/completion); 0 left out" in text
    assert "<|im_start|>assistant\n⟦Answer 0.<|im_end|>⟧" in text
    assert "Answer 1" not in text


def test_show_pairs_prompts_artefacts_and_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"prompt": "ok?", "chosen": "yes", "rejected": "no"}])
    assert "⟦yes<|im_end|>⟧\n⟪no<|im_end|>⟫" in shown(path)
    assert "1 prompts" in shown(write(tmp_path / "q.jsonl", ["ok?"]))
    folder = tmp_path / "run" / "demos-0123456789"
    folder.mkdir(parents=True)
    write(tmp_path / "d.jsonl", questions(3))
    stage = Demos(path=str(tmp_path / "d.jsonl"), holdout=0)
    record = Record(
        stage="demos", type="demos", makes="demos", fingerprint="0123456789", knobs=stage.knobs(), edges={}, inputs={},
        identity={}, metrics=stage.run(Inputs({}), folder, Runtime()), seconds=1, peak_gib=0, started=0, versions={},
    )  # fmt: skip
    (folder / "record.json").write_text(record.model_dump_json())
    assert "⟦Answer 0.<|im_end|>⟧" in shown(str(folder))
    assert "demos-0123456789  demos  rows 3" in shown(str(tmp_path / "run"))
    with pytest.raises(UserError, match="no such file"):
        shown(str(tmp_path / "nothing.jsonl"))
    with pytest.raises(UserError, match="did you mean 'assistant'"):
        shown(path, train_on="asistant")


def test_show_reads_the_kind_that_fits_most_rows(tmp_path: Path) -> None:
    rows = [*questions(5), {"prompt": "ok?", "chosen": "yes", "rejected": "no"}]
    assert read(write(tmp_path / "a.jsonl", rows))[0] == "demos"


def test_colours_in_a_terminal_instead_of_marks() -> None:
    text = painted([("a", "context"), ("b", "trained")], colour=True)
    assert text.plain == "ab"
    assert [str(s.style) for s in text.spans] == ["bright_black", "black on green"]
