"""IFEval's prompts as this project's constraints: its instruction ids and keyword arguments -> constraints, its rows ->
items of an evaluation suite.

Where IFEval's checker counts in its own way (keywords inside other words, "I" as a word in capitals, sections in any
order), the constraint's fields say so; benchmarks/ifeval_agreement.py lists where the verdicts still differ, and why.
Left out on purpose: IFEval's prompts (Zhou et al. 2023, arXiv:2311.07911; Apache-2.0), which are not shipped.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from posttrain.errors import UserError, nearest
from posttrain.rows import Item, Message

Constraint = dict[str, Any]
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")  # the only ones that IFEval has


def _relation(n: int, relation: str) -> Constraint:
    """'less than' is at most one fewer."""
    return {"n": n - 1, "relation": "at_most"} if relation == "less than" else {"n": n, "relation": "at_least"}


def _english(kind: str) -> Callable[..., list[Constraint]]:
    return lambda: [{"kind": kind}, {"kind": "language", "language": "en"}]


KINDS: dict[str, Callable[..., list[Constraint]]] = {
    "keywords:existence": lambda keywords: [
        {"kind": "keywords_include", "words": [w.strip() for w in keywords], "match": "part"}
    ],
    "keywords:frequency": lambda keyword, frequency, relation: [
        {"kind": "keyword_count", "word": keyword.strip(), "match": "part", **_relation(frequency, relation)}
    ],
    "keywords:forbidden_words": lambda forbidden_words: [{"kind": "words_forbidden", "words": forbidden_words}],
    "keywords:letter_frequency": lambda letter, let_frequency, let_relation: [
        {"kind": "letter_count", "letter": letter, **_relation(let_frequency, let_relation)}
    ],
    "language:response_language": lambda language: [{"kind": "language", "language": language}],
    "length_constraints:number_sentences": lambda num_sentences, relation: [
        {"kind": "sentences", **_relation(num_sentences, relation)}
    ],
    "length_constraints:number_paragraphs": lambda num_paragraphs: [
        {"kind": "paragraphs", "n": num_paragraphs, "separator": "***"}
    ],
    "length_constraints:number_words": lambda num_words, relation: [
        {"kind": "words", "hyphens": "split", **_relation(num_words, relation)}
    ],
    "length_constraints:nth_paragraph_first_word": lambda num_paragraphs, nth_paragraph, first_word: [
        {"kind": "nth_paragraph_starts", "n": nth_paragraph, "total": num_paragraphs, "word": first_word}
    ],
    "detectable_content:number_placeholders": lambda num_placeholders: [
        {"kind": "placeholders", "n": num_placeholders}
    ],
    "detectable_content:postscript": lambda postscript_marker: [
        {"kind": "postscript", "marker": postscript_marker.strip(), "place": "anywhere"}
    ],
    "detectable_format:number_bullet_lists": lambda num_bullets: [{"kind": "bullets", "n": num_bullets}],
    "detectable_format:constrained_response": lambda: [
        {"kind": "choose_from", "options": list(OPTIONS), "place": "anywhere"}
    ],
    "detectable_format:number_highlighted_sections": lambda num_highlights: [
        {"kind": "highlighted", "n": num_highlights}
    ],
    "detectable_format:multiple_sections": lambda section_spliter, num_sections: [
        {"kind": "sections", "marker": section_spliter.strip(), "n": num_sections, "relation": "at_least"}
    ],
    "detectable_format:json_format": lambda: [{"kind": "json"}],
    "detectable_format:title": lambda: [{"kind": "title"}],
    "combination:two_responses": lambda: [{"kind": "two_responses"}],
    "combination:repeat_prompt": lambda prompt_to_repeat: [{"kind": "repeat_prompt", "text": prompt_to_repeat.strip()}],
    "startend:end_checker": lambda end_phrase: [{"kind": "end_phrase", "phrase": end_phrase.strip()}],
    "startend:quotation": lambda: [{"kind": "quotation"}],
    "change_case:capital_word_frequency": lambda capital_frequency, capital_relation: [
        {"kind": "capital_words", "single": "yes", **_relation(capital_frequency, capital_relation)}
    ],
    "change_case:english_capital": _english("all_upper"),
    "change_case:english_lowercase": _english("all_lower"),
    "punctuation:no_comma": lambda: [{"kind": "no_commas"}],
}


def constraints_of(instruction: str, given: Mapping[str, Any]) -> list[Constraint]:
    """The constraints that all have to hold for one of IFEval's instructions. Raises UserError for an unknown one."""
    if instruction not in KINDS:
        raise UserError(f"IFEval has no instruction {instruction!r}", remedy=nearest(instruction, KINDS))
    fields = {k: v for k, v in given.items() if v is not None}
    try:
        return KINDS[instruction](**fields)
    except TypeError as error:
        raise UserError(f"{instruction}: {str(error).split('() ')[-1]}", where="kwargs") from None


def items(records: Sequence[Mapping[str, Any]]) -> Iterator[Item]:
    """IFEval's rows (key, prompt, instruction_id_list, kwargs) as items of an `instructions` suite."""
    for r in records:
        found = [
            c for i, given in zip(r["instruction_id_list"], r["kwargs"], strict=True) for c in constraints_of(i, given)
        ]
        asked = (Message(role="user", content=r["prompt"]),)
        row = {"id": f"ifeval-{r['key']}", "cluster": r["instruction_id_list"][0], "messages": asked}
        yield Item.model_validate(row | {"constraints": found})
