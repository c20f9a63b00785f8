"""Every shape of data set that is read without configuration, and every mistake with its place."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from posttrain import files, formats
from posttrain.errors import UserError
from posttrain.rows import Demo, Message, Pair, dump

USER, YES, NO = (
    {"role": "user", "content": "ok?"},
    {"role": "assistant", "content": "yes"},
    {"role": "assistant", "content": "no"},
)
HH = "\n\nHuman: ok?\n\nAssistant: sure\n\nHuman: really?\n\nAssistant: "
CONVERSATION = "user: ok? | assistant: yes"

DEMOS: dict[str, tuple[dict[str, Any], str]] = {
    "messages": ({"messages": [USER, YES]}, CONVERSATION),
    "a last question is left off": ({"messages": [USER, YES, USER]}, CONVERSATION),
    "sharegpt": ({"conversations": [{"from": "human", "value": "ok?"}, {"from": "gpt", "value": "yes"}]}, CONVERSATION),
    "sharegpt with system": (
        {"system": "Be kind.", "conversations": [{"from": "human", "value": "ok?"}, {"from": "gpt", "value": "yes"}]},
        "system: Be kind. | " + CONVERSATION,
    ),
    "prompt and completion": ({"prompt": "ok?", "completion": " yes"}, CONVERSATION),
    "with system": ({"system": "Be kind.", "prompt": "ok?", "completion": "yes"}, "system: Be kind. | " + CONVERSATION),
    "messages as prompt": ({"prompt": [USER], "completion": [YES]}, CONVERSATION),
    "alpaca": ({"instruction": "Add.", "input": "1 2", "output": "3"}, "user: Add.\n\n1 2 | assistant: 3"),
    "alpaca without input": ({"instruction": "ok?", "input": "", "output": "yes"}, CONVERSATION),
    "alpaca with history": (
        {"history": [["a", "b"]], "instruction": "ok?", "output": "yes"},
        "user: a | assistant: b | " + CONVERSATION,
    ),
    "dolly": (
        {"instruction": "Who?", "context": "It was Ann.", "response": "Ann"},
        "user: Who?\n\nIt was Ann. | assistant: Ann",
    ),
    "question and answer": (
        {"question": "2+2", "answer": "<<2+2=4>>4 #### 4"},
        "user: 2+2 | assistant: <<2+2=4>>4 #### 4",
    ),
    "a number as answer": (
        {"Body": "Two apples.", "Question": "How many?", "Answer": 2.0},
        "user: Two apples. How many? | assistant: 2",
    ),
    "self-instruct": ({"instruction": "ok?", "instances": [{"input": "", "output": "yes"}]}, CONVERSATION),
    "chosen of a pair": ({"prompt": "ok?", "chosen": "yes", "rejected": "no"}, CONVERSATION),
    "best of a ranking": ({"prompt": "ok?", "answers": ["no", "yes"], "ranks": [2, 1]}, CONVERSATION),
    "content in parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "ok?"}]}, YES]},
        CONVERSATION,
    ),
    "a list of turns": ({"conversation": ["ok?", "yes"]}, CONVERSATION),
}
PAIR = "user: ok? | yes > no"
PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "texts": ({"prompt": "ok?", "chosen": "yes", "rejected": "no"}, PAIR),
    "orca": ({"system": "S", "question": "ok?", "chosen": "yes", "rejected": "no"}, "system: S | " + PAIR),
    "messages": ({"chosen": [USER, YES], "rejected": [USER, NO]}, PAIR),
    "ultrafeedback": (
        {"prompt": "ok?", "chosen": [USER, YES], "rejected": [USER, NO], "messages": [USER, YES], "score_chosen": 8.0},
        PAIR,
    ),
    "answers as messages": ({"prompt": [USER], "chosen": [YES], "rejected": [NO]}, PAIR),
    "conversations and messages": (
        {
            "conversations": [{"from": "human", "value": "ok?"}],
            "chosen": {"from": "gpt", "value": "yes"},
            "rejected": {"from": "gpt", "value": "no"},
        },
        PAIR,
    ),
    "hh": ({"chosen": HH + "yes", "rejected": HH + "no"}, "user: ok? | assistant: sure | user: really? | yes > no"),
    "hh with prompt": ({"prompt": "\n\nHuman: ok?\n\nAssistant:", "chosen": " yes", "rejected": " no"}, PAIR),
    "prompt repeated in the answers": ({"prompt": "ok?", "chosen": "ok? yes", "rejected": "ok? no"}, PAIR),
    "openai": (
        {"input": {"messages": [USER]}, "preferred_output": [YES], "non_preferred_output": [NO]},
        PAIR,
    ),
    "two outputs": ({"instruction": "ok?", "input": "", "output": ["yes", "no"]}, PAIR),
    "annotators, majority": (
        {
            "instruction": "ok?",
            "response1": "no",
            "response2": "yes",
            "annotator1": 2,
            "annotator2": 1,
            "annotator3": 2,
        },
        PAIR,
    ),
    "winner": ({"prompt": "ok?", "response_a": "no", "response_b": "yes", "winner": "model_b"}, PAIR),
    "better_response_id": ({"prompt": "ok?", "response_0": "no", "response_1": "yes", "better_response_id": 1}, PAIR),
    "labels": ({"history": "ok?", "human_ref_A": "yes", "human_ref_B": "no", "labels": 1}, PAIR),
    "overall_preference": ({"context": [USER], "response1": "yes", "response2": "no", "overall_preference": -2}, PAIR),
    "scores": (
        {
            "instruction": "ok?",
            "completions": [{"response": "no", "overall_score": 3}, {"response": "yes", "overall_score": 7}],
        },
        PAIR,
    ),
}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def told(row: Any) -> str:
    asked = row.prompt if isinstance(row, Pair) else row.messages
    said = " | ".join(f"{m.role}: {m.content}" for m in asked)
    return f"{said} | {row.chosen.content} > {row.rejected.content}" if isinstance(row, Pair) else said


@pytest.mark.parametrize("name", DEMOS)
def test_demos(name: str, tmp_path: Path) -> None:
    row, expected = DEMOS[name]
    assert [told(r) for r in formats.load(write(tmp_path / "a.jsonl", [row]), "demos").rows] == [expected]


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str, tmp_path: Path) -> None:
    row, expected = PAIRS[name]
    assert [told(r) for r in formats.load(write(tmp_path / "a.jsonl", [row]), "pairs").rows] == [expected]


@pytest.mark.parametrize("name", {**DEMOS, **PAIRS})
def test_every_shape_gives_prompts(name: str, tmp_path: Path) -> None:
    row, _ = {**DEMOS, **PAIRS}[name]
    (prompt,) = formats.load(write(tmp_path / "a.jsonl", [row]), "prompts").rows
    assert prompt.messages[-1].role == "user"


def test_other_prompts(tmp_path: Path) -> None:
    rows = [
        "ok?",
        {"prompt": "ok?"},
        {"turns": ["ok?", "and then?"], "question_id": 7},
        {"question": "ok?", "type": "x"},
    ]
    loaded = formats.load(write(tmp_path / "a.jsonl", rows), "prompts")
    assert [told(r) for r in loaded.rows] == ["user: ok?"] * 4
    assert [r.id for r in loaded.rows] == ["a.jsonl:1", "a.jsonl:2", "7", "a.jsonl:4"]
    assert loaded.rows[3].category == "x"
    assert loaded.shapes == {"text": 1, "prompt": 2, "turns": 1}


def test_thumbs(tmp_path: Path) -> None:
    rows = [{"messages": [USER, YES], "label": True}, {"prompt": "ok?", "completion": "no", "label": "false"}]
    loaded = formats.load(write(tmp_path / "a.jsonl", rows), "thumbs")
    assert [(told(r), r.label) for r in loaded.rows] == [(CONVERSATION, True), ("user: ok? | assistant: no", False)]


def test_a_thumb_down_is_not_imitated_but_a_class_label_is_no_thumb(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"messages": [USER, NO], "label": False},
        {"messages": [USER, YES], "label": True},
        {"prompt": "ok?", "completion": "0", "label": 0},
    ]
    loaded = formats.load(write(tmp_path / "a.jsonl", rows), "demos")
    assert [told(r) for r in loaded.rows] == [CONVERSATION, "user: ok? | assistant: 0"]
    assert [d.reason for d in loaded.ledger] == ["a thumb down is nothing to imitate"]


def test_a_pair_is_two_thumbs_and_a_ranking(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [PAIRS["texts"][0]])
    assert [(r.messages[-1].content, r.label) for r in formats.load(path, "thumbs").rows] == [
        ("yes", True),
        ("no", False),
    ]
    (ranking,) = formats.load(path, "rankings").rows
    assert (ranking.answers[0].content, ranking.ranks) == ("yes", (0, 1))


def test_a_ranking_of_three_with_a_tie_gives_two_pairs(tmp_path: Path) -> None:
    """Scores 1, 5, 5: the two good answers each beat the bad one, and say nothing of each other."""
    path = write(
        tmp_path / "a.jsonl", [{"id": "r", "prompt": "ok?", "answers": ["bad", "good", "fine"], "scores": [1, 5, 5]}]
    )
    rows = formats.load(path, "pairs").rows
    assert [(r.id, r.chosen.content, r.rejected.content) for r in rows] == [
        ("r-0", "good", "bad"),
        ("r-1", "fine", "bad"),
    ]
    assert formats.load(path, "rankings").rows[0].ranks == (1, 0, 0)


def test_votes_on_each_two_of_three_answers(tmp_path: Path) -> None:
    """Votes 1, 0, 2 on (1,2), (1,3), (2,3): 1 beats 2, 1 ties 3, 3 beats 2."""
    row = {"question": "ok?", "prediction 1": "a", "prediction 2": "b", "prediction 3": "c", "preference": [1, 0, 2]}
    rows = formats.load(write(tmp_path / "a.jsonl", [row]), "pairs").rows
    assert [told(r) for r in rows] == ["user: ok? | a > b", "user: ok? | c > b"]


def test_ties_and_conversations_that_part_early_go_to_the_ledger(tmp_path: Path) -> None:
    rows = [
        {"prompt": "ok?", "chosen": "yes", "rejected": "yes"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
        PAIRS["texts"][0],
    ]
    loaded = formats.load(write(tmp_path / "a.jsonl", rows), "pairs")
    assert len(loaded.rows) == 1
    assert [d.where.rsplit(":", 1)[1] for d in loaded.ledger] == ["1", "2"]
    assert "differs" in loaded.ledger[1].reason


def node(id: str, parent: str | None, role: str, text: str, rank: int | None = None, **more: Any) -> dict[str, Any]:
    return {"message_id": id, "parent_id": parent, "role": role, "text": text, "rank": rank, **more}


FLAT = [
    node("1", None, "prompter", "ok?"),
    node("2", "1", "assistant", "no", 1),
    node("3", "1", "assistant", "yes", 0),
    node("4", "1", "assistant", "spam", 2, deleted=True),
    node("5", "3", "prompter", "sure?"),
    node("6", "5", "assistant", "quite", None),
    node("7", "missing", "assistant", "lost", 0),
]


def nested() -> dict[str, Any]:
    """The same tree in the nested export."""
    two, four = {**FLAT[1], "replies": []}, {**FLAT[3], "replies": []}
    three = {**FLAT[2], "replies": [{**FLAT[4], "replies": [{**FLAT[5], "replies": []}]}]}
    return {"message_tree_id": "1", "prompt": {**FLAT[0], "replies": [two, three, four]}}


@pytest.mark.parametrize("rows", [FLAT, [nested()]], ids=["flat", "nested"])
def test_message_trees(rows: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path / "tree.jsonl", rows)
    (demo,) = formats.load(path, "demos").rows
    assert told(demo) == "user: ok? | assistant: yes | user: sure? | assistant: quite"
    assert [told(r) for r in formats.load(path, "pairs").rows] == [PAIR]
    (ranking,) = formats.load(path, "rankings").rows
    assert ([a.content for a in ranking.answers], ranking.ranks) == (["yes", "no"], (0, 1))
    assert told(formats.load(path, "prompts").rows[0]) == "user: ok?"
    missing = [d.reason for d in formats.load(path, "demos").ledger]
    assert missing == (["the parent message is missing"] if rows is FLAT else [])


def test_own_rows_come_back_as_they_were(tmp_path: Path) -> None:
    m = [Message.model_validate(x) for x in (USER, YES, NO)]
    demo = Demo(id="d", messages=(m[0], m[1]), category="c", source="authored", meta={"k": [1]})
    pair = Pair(
        id="p", prompt=(m[0],), chosen=m[1], rejected=m[2], margin=0.5, reason="r", annotator="ann", source="human"
    )
    for row, kind in ((demo, "demos"), (pair, "pairs")):
        (tmp_path / "a.jsonl").write_text(dump(row) + "\n")
        assert formats.load(tmp_path / "a.jsonl", kind).rows == [row]  # type: ignore[arg-type]


# files


def test_all_file_kinds_say_the_same(tmp_path: Path) -> None:
    rows = [{"prompt": "ok?", "completion": "yes"}, {"prompt": 'commas, "quotes"\nlines', "completion": "é"}]
    expected = [CONVERSATION, 'user: commas, "quotes"\nlines | assistant: é']
    write(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "c.json").write_text(json.dumps({"data": rows}))
    (tmp_path / "d.json").write_bytes((tmp_path / "a.jsonl").read_bytes())  # JSON lines under another name
    (tmp_path / "e.jsonl").write_text(json.dumps(rows, indent=1))  # an array under another name
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    (tmp_path / "g.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes())
    for name, delimiter in (("h.csv", ","), ("i.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as f:
            table = csv.DictWriter(f, ["prompt", "completion"], delimiter=delimiter)
            table.writeheader()
            table.writerows(rows)
    for path in sorted(tmp_path.iterdir()):
        assert [told(r) for r in formats.load(path, "demos").rows] == expected, path.name
    assert len(formats.load(tmp_path, "demos").rows) == 2 * 9  # the folder


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"messages": [[USER, YES]], "label": [True]}), tmp_path / "a.parquet")
    assert told(formats.load(tmp_path / "a.parquet", "demos").rows[0]) == CONVERSATION


def test_message_lists_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        'id,messages\nx,"[{""role"":""user"",""content"":""ok?""},{""role"":""assistant"",""content"":""yes""}]"\n'
    )
    (row,) = formats.load(tmp_path / "a.csv", "demos").rows
    assert (row.id, told(row)) == ("x", CONVERSATION)


GOOD = json.dumps({"prompt": "ok?", "completion": "yes"})
BROKEN = {
    "bad JSON": ("{oops", "not valid JSON"),
    "not an object": ("12", "expected an object"),
    "unknown fields": ('{"foo": 1}', "foo; expected messages"),
    "unknown role": ('{"messages": [{"role": "usr", "content": "a"}]}', "did you mean 'user'"),
    "no content": ('{"messages": [{"role": "user"}]}', "messages.0: expected content"),
    "an image": ('{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', "expected a text"),
    "no answer": ('{"prompt": "ok?"}', "no answer to imitate"),
    "no question": ('{"messages": [{"role": "assistant", "content": "a"}]}', "nobody asks"),
    "empty list": ('{"messages": []}', "expected a list of messages"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_row_is_named_with_line_and_field_or_skipped(name: str, tmp_path: Path) -> None:
    line, says = BROKEN[name]
    path = tmp_path / "a.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(UserError) as error:
        formats.load(path, "demos")
    assert error.value.where == f"{path}:3"
    assert says in str(error.value)
    loaded = formats.load(path, "demos", bad_rows="skip")
    assert len(loaded.rows) == 2
    assert loaded.where == [f"{path}:1", f"{path}:4"]
    (drop,) = loaded.ledger
    assert drop.where == f"{path}:3" and drop.reason


def test_lines_of_a_json_array_and_a_table_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"prompt": "a",\n "completion": "b"},\n\n{"x": 1}]')
    (tmp_path / "b.csv").write_text('prompt,completion\n"two\nlines",b\na,b,c\n')
    for name, line in (("a.json", 5), ("b.csv", 4)):
        with pytest.raises(UserError) as error:
            formats.load(tmp_path / name, "demos")
        assert error.value.where == f"{tmp_path / name}:{line}"


UNREADABLE = {
    "empty.jsonl": (b" \n", "is empty"),
    "latin.jsonl": (GOOD.encode() + b'\n{"prompt": "caf\xe9"}', "not UTF-8"),
    "cut.json": (b'[{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prom', "not valid JSON"),
    "half.jsonl.gz": (gzip.compress(GOOD.encode())[:20], "gzip"),
    "text.docx": (b"x", "not read"),
    "only_bad.jsonl": (b'{"prompt": "ok?", "chosen": "a", "rejected": "a"}', "no pairs found"),
    "broken.parquet": (b"PAR1", "Parquet"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_are_one_clear_message(name: str, tmp_path: Path) -> None:
    content, says = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        formats.load(tmp_path / name, "pairs")
    if name == "latin.jsonl":
        assert error.value.where.endswith(":2")


def test_missing_files(tmp_path: Path) -> None:
    write(tmp_path / "demos.jsonl", [GOOD])
    with pytest.raises(UserError, match=r"did you mean 'demos\.jsonl'"):
        formats.load(tmp_path / "demo.jsonl", "demos")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no data files"):
        formats.load(tmp_path / "empty", "demos")
    with pytest.raises(UserError, match="bundled"):
        formats.load("bundled:nothing", "demos")


def test_hub_ids_are_told_from_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.resolve("owner/name:test") == "owner/name:test"
    assert files.resolve("hf:owner/name") == "owner/name"
    assert files.identity("owner/name") == "owner/name"
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)  # as if it were not installed
    with pytest.raises(UserError, match="posttrain\\[hub\\]"):
        formats.load("owner/name", "demos")


def test_identity_follows_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [1])
    first = files.identity(path)
    assert files.identity(path) == first
    write(path, [2])
    assert files.identity(path) != first
