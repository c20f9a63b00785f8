"""Rows become documents, or are refused with the reason and the remedy before any training."""

import dataclasses
from pathlib import Path

import pytest
import tiny

from posttrain.errors import UserError
from posttrain.packing import Branch, Doc, size
from posttrain.preflight import cut, preflight
from posttrain.render import PLAIN, Chat, load_chat
from posttrain.rows import Demo, Message, Pair


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.tokenizer().save_pretrained(folder)
    return load_chat(folder)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


def demo(question: str, answer: str, name: str = "") -> Demo:
    return Demo(id=name, messages=(user(question), said(answer)))


def pair(chosen: str = "yes", rejected: str = "no", name: str = "") -> Pair:
    return Pair(id=name, prompt=(user("ok?"),), chosen=said(chosen), rejected=said(rejected))


DEMOS = [demo(f"question {n}", "word " * n + "end", f"r{n}") for n in range(1, 7)]


def test_a_demo_is_one_branch_without_prefix(chat: Chat) -> None:
    found = preflight(DEMOS, chat, max_tokens=200)
    assert found.names == ["r1", "r2", "r3", "r4", "r5", "r6"]
    assert [d.prefix for d in found.docs] == [[]] * 6
    assert found.docs[2].branches == [Branch(*chat.example(DEMOS[2].messages))]
    assert found.ledger == []
    sizes = [size(d) for d in found.docs]
    assert (found.facts["rows"], found.facts["tokens"], found.facts["longest"]) == (6, sum(sizes), max(sizes))
    assert found.facts["target_tokens"] == sum(sum(d.branches[0].mask) for d in found.docs)


def test_a_pair_shares_its_prompt(chat: Chat) -> None:
    (doc,) = preflight([pair()], chat, max_tokens=200).docs
    assert doc.prefix == chat.prompt([user("ok?")])
    assert [chat.decode(b.ids) for b in doc.branches] == ["yes<|im_end|>", "no<|im_end|>"]
    assert all(all(b.mask) for b in doc.branches)


def test_train_on_reaches_the_renderer(chat: Chat) -> None:
    talk = Demo(messages=(user("a"), said("one"), user("b"), said("two")))
    counts = {
        how: preflight([talk], chat, max_tokens=200, train_on=how).facts["target_tokens"]
        for how in ("last", "assistant", "all")
    }  # type: ignore[arg-type]
    assert counts["last"] < counts["assistant"] < counts["all"] == len(chat.example(talk.messages, "all")[0]) - 1


def test_long_rows_are_refused_with_the_number_that_would_do(chat: Chat) -> None:
    sizes = [size(d) for d in preflight(DEMOS, chat, max_tokens=200).docs]
    with pytest.raises(UserError) as error:
        preflight(DEMOS, chat, max_tokens=sizes[3])
    assert error.value.what == f"2 of 6 rows are longer than {sizes[3]} tokens; the longest has {sizes[5]}"
    assert error.value.where == "r6"
    assert str(sizes[5]) in error.value.remedy and "too_long" in error.value.remedy
    preflight(DEMOS, chat, max_tokens=sizes[5])


def test_long_rows_are_dropped_or_cut_and_written_down(chat: Chat) -> None:
    docs = preflight(DEMOS, chat, max_tokens=200).docs
    limit = size(docs[3])
    dropped = preflight(DEMOS, chat, max_tokens=limit, too_long="drop")
    assert dropped.names == ["r1", "r2", "r3", "r4"]
    assert [(e["row"], e["action"], e["tokens"]) for e in dropped.ledger] == [
        ("r5", "dropped", size(docs[4])), ("r6", "dropped", size(docs[5])),
    ]  # fmt: skip
    shortened = preflight(DEMOS, chat, max_tokens=limit, too_long="truncate")
    assert [size(d) for d in shortened.docs[3:]] == [limit] * 3
    assert shortened.docs[5].branches[0].ids == docs[5].branches[0].ids[:limit]
    assert [e["action"] for e in shortened.ledger] == ["cut", "cut"]
    assert "2 of 6 answers are cut" in shortened.facts["warnings"][0]


def test_cutting_a_pair_keeps_the_answers_equally_long() -> None:
    """Prefix 10, answers 40 and 20, at most 40 tokens: 30 are left for both, so 15 each."""
    doc = Doc([1] * 10, [Branch([2] * 40, [True] * 40), Branch([3] * 20, [True] * 20)])
    short = cut(doc, 40)
    assert short is not None
    assert [len(b.ids) for b in short.branches] == [15, 15]
    assert cut(doc, 25) is None  # 7 each would be too little to learn from
    assert cut(Doc([1] * 100, doc.branches), 90) is None  # a prompt that is too long by itself
    uneven = cut(Doc([1] * 10, [Branch([2] * 40, [True] * 40), Branch([3] * 9, [True] * 9)]), 40)
    assert uneven is not None
    assert [len(b.ids) for b in uneven.branches] == [21, 9]


def refused(rows: list[Demo] | list[Pair], chat: Chat, says: str, names: str = "") -> None:
    with pytest.raises(UserError, match=says) as error:
        preflight(rows, chat, max_tokens=500)
    assert error.value.remedy
    assert names in str(error.value)


def test_rows_that_teach_nothing_are_refused(chat: Chat) -> None:
    refused([*DEMOS, demo("x", "", "empty")], chat, "without a token to learn", "empty")
    refused([pair(), pair("yes", "", "half")], chat, "without a token to learn", "half")
    refused([pair("same", "same", "twin")], chat, "twice the same answer", "twin")
    refused([], chat, "no row")


def test_one_answer_everywhere_is_refused(chat: Chat) -> None:
    same = [demo(f"q{n}", "always") for n in range(19)]
    refused([*same, demo("q", "always")], chat, "20 of 20 rows have the same answer, 'always'")
    preflight([*same, demo("q", "x"), demo("r", "y")], chat, max_tokens=500)  # 19 of 21 is under the limit
    preflight(same, chat, max_tokens=500)  # and too few rows say nothing


def test_a_stop_token_outside_the_mask_is_refused(chat: Chat) -> None:
    refused(DEMOS, dataclasses.replace(chat, stop_ids=(0,)), "unstable|stop|earlier turns")

    class Endless(Chat):
        def example(self, messages, train_on="assistant"):  # type: ignore[no-untyped-def]
            ids, mask = super().example(messages, train_on)
            return ids, [wanted and i not in self.stop_ids for i, wanted in zip(ids, mask)]

    broken = Endless(**{f.name: getattr(chat, f.name) for f in dataclasses.fields(chat)})
    refused(DEMOS, broken, "without a stop token among the targets", "r1")


def test_a_template_that_changes_answered_prompts_is_refused(chat: Chat) -> None:
    class Unstable(Chat):
        def prompt(self, messages):  # type: ignore[no-untyped-def]
            return [*super().prompt(messages), 5]

    broken = Unstable(**{f.name: getattr(chat, f.name) for f in dataclasses.fields(chat)})
    refused(DEMOS, broken, "differently once it is answered", "r1")


def test_doubled_beginning_is_refused(chat: Chat) -> None:
    """tiny's <|endoftext|> is both beginning and end of text."""
    doubled = dataclasses.replace(chat, template="{{ bos_token + bos_token }}" + chat.template)
    refused(DEMOS, doubled, "beginning-of-text token twice", "r1")


def test_ids_that_the_model_lacks_are_refused(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 100}')
    refused(DEMOS, load_chat(tmp_path), r"ids that the model does not have \(it has 100\)", "r1")


def test_a_template_without_room_for_a_role_names_the_row(chat: Chat) -> None:
    strict = dataclasses.replace(
        chat, template="{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + chat.template
    )
    rows = [*DEMOS, Demo(id="sys", messages=(Message(role="system", content="s"), user("a"), said("b")))]
    with pytest.raises(UserError, match="refuses") as error:
        preflight(rows, strict, max_tokens=500)
    assert error.value.where == "sys"


def test_works_with_the_plain_template(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path)
    chat = load_chat(tmp_path, "plain")
    assert chat.template == PLAIN
    assert preflight([*DEMOS], chat, max_tokens=500).facts["rows"] == 6
