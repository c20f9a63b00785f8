"""IFEval's instructions as our constraints, by hand; languages that share a script; the conventions that fields name.

Verdicts beside the public checker's on many answers: benchmarks/ifeval_agreement.py.
"""

from typing import Any

import pytest

from posttrain.errors import UserError
from posttrain.evals.suites import instructions
from posttrain.judge.constraints import check, mistakes
from posttrain.judge.ifeval import KINDS, constraints_of, items
from posttrain.judge.language import language_of

# instruction, its arguments, answers that keep it, answers that do not
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["boat", " tea"]}, ["A boathouse with teapots."], ["A boat."]),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "at least"}, ["Sunny sun."], ["Sun."]),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "less than"}, ["Sun."], ["Sunny sun."]),
    ("keywords:forbidden_words", {"forbidden_words": ["car"]}, ["A carpet."], ["A CAR."]),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": "at least"}, ["eEe"], ["ee"]),
    ("language:response_language", {"language": "fi"}, ["Koira on eläin ja se on hyvä."], ["The dog is good."]),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, ["One."], ["One. Two."]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["A\n***\nB", "***\nA *** B"],
     ["A\n\nB", "A******B"]),
    ("length_constraints:number_words", {"num_words": 4, "relation": "at least"}, ["It's well-known"], ["It is well"]),
    (
        "length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        ["A.\n\nthen, B."], ["Then.\n\nB.", "A.\n\nThen.\n\nC."],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] and [b c]"], ["[a] and [ ]"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["Bye. p. p. s", "P.P.S. More."], ["P.S. More."]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n- b"], ["* a\n- b\n- c", "**a**\n* b"]),
    ("detectable_format:constrained_response", {}, ["So: My answer is no."], ["my answer is no"]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*a* and **b**"], ["* a\n* b", "*a*"]),
    ("detectable_format:multiple_sections", {"section_spliter": "PART", "num_sections": 2}, ["PART 2\nPART 1 PART 3"],
     ["PART 1"]),
    ("detectable_format:json_format", {}, ['```JSON\n{"a": 1}\n```'], ['{"a": 1} ok', "so"]),
    ("detectable_format:title", {}, ["x <<A <b> c>>"], ["<< >>", "<a>"]),
    ("combination:two_responses", {}, ["******\nA\n******\nB"], ["A\n******\nA", "A\n***\nB", "A******B******C"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why? "}, ["WHY? So."], ["So. Why?"]),
    ("startend:end_checker", {"end_phrase": "The end. "}, ['Yes. The end."'], ["The end. Bye."]),
    ("startend:quotation", {}, ['"So."'], ['"So.', "So."]),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, ["I am A man"],
     ["I am"]),
    ("change_case:english_capital", {}, ["THE DOG IS IN THE HOUSE"], ["The dog", "DER HUND IST IN DEM HAUS"]),
    ("change_case:english_lowercase", {}, ["the dog is in the house"], ["The dog", "der hund ist in dem haus"]),
    ("punctuation:no_comma", {}, ["a b"], ["a, b"]),
]  # fmt: skip


@pytest.mark.parametrize(("instruction", "given", "good", "bad"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_each_instruction(instruction: str, given: dict[str, Any], good: list[str], bad: list[str]) -> None:
    found = constraints_of(instruction, given)
    assert [mistakes(c) for c in found] == [""] * len(found)
    for answer in good:
        assert all(check(c, answer) for c in found), answer
    for answer in bad:
        assert not all(check(c, answer) for c in found), answer


def test_every_instruction_has_a_case() -> None:
    assert {instruction for instruction, *_ in CASES} == set(KINDS)
    assert len(KINDS) == 25


def test_rows_become_items_of_a_suite() -> None:
    row = {"key": 7, "prompt": "Say it.", "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"],
           "kwargs": [{}, {"language": None}]}  # fmt: skip
    (item,) = items([row])
    assert item.id == "ifeval-7" and instructions.problem(item) == ""
    assert [c["kind"] for c in item.constraints] == ["no_commas", "title"]


def test_unknown_instructions_and_arguments() -> None:
    with pytest.raises(UserError, match="did you mean 'punctuation:no_comma'"):
        constraints_of("punctuation:no_commas", {})
    with pytest.raises(UserError, match="keywords:existence"):
        constraints_of("keywords:existence", {"words": ["a"]})


def test_fields_that_name_a_convention_are_checked() -> None:
    assert "does not fit" in mistakes({"kind": "keywords_include", "words": ["a"], "match": "letters"})
    assert mistakes({"kind": "words", "n": 3, "relation": "exactly", "hyphens": "split"}) == ""
    assert check({"kind": "words", "n": 2, "relation": "exactly"}, "It's well-known")
    assert check({"kind": "words", "n": 4, "relation": "exactly", "hyphens": "split"}, "It's well-known")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Кучето е вярно животно и ще живее с хората, които са добри.", "bg"), ("Собака живёт с людьми.", "ru"),
        ("Собака живе з людьми і їсть хліб.", "uk"), ("الكلب حيوان وفي يعيش مع الناس.", "ar"),
        ("سگ حیوانی وفادار است که با مردم زندگی می‌کند.", "fa"),
        ("کتا ایک وفادار جانور ہے جو لوگوں کے ساتھ رہتا ہے۔", "ur"),
        ("कुत्ता एक वफादार जानवर है।", "hi"),
        ("कुत्रा हा एक निष्ठावान प्राणी आहे.", "mr"), ("कुकुर एक वफादार जनावर हो र यो राम्रो छ।", "ne"),
        ("Con chó là một con vật trung thành và sống với người.", "vi"), ("నాయి నమ్మకమైన జంతువు.", "te"),
        ("Mbwa ni mnyama mwaminifu na anaishi na watu katika nyumba.", "sw"), ("ನಾಯಿ ನಿಷ್ಠಾವಂತ ಪ್ರಾಣಿ.", "kn"),
        ("Pies jest w domu i nie lubi się kąpać.", "pl"), ("ਕੁੱਤਾ ਇੱਕ ਵਫ਼ਾਦਾਰ ਜਾਨਵਰ ਹੈ।", "pa"), ("કૂતરો પ્રાણી છે.", "gu"),
    ],
)  # fmt: skip
def test_languages_that_share_a_script(text: str, code: str) -> None:
    assert language_of(text) == code
