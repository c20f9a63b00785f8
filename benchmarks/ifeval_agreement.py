"""Our verdicts on instructions beside those of lm-evaluation-harness' IFEval checker, strict and loose.

    python benchmarks/ifeval_agreement.py ifeval_input_data.jsonl --model runs/assistant --answers answers.jsonl
    python benchmarks/ifeval_agreement.py ifeval_input_data.jsonl --answers answers.jsonl --list 100

Answers: of a model, sampled once and kept in the file; and made ones, which try to keep what was asked, half of them
spoiled, so that both verdicts occur for every kind. Needs pip install 'lm-eval[ifeval]'. The checker splits sentences
with NLTK's Punkt, whose English model has to be fetched; without it Punkt is trained here on the bundled answers (the
same algorithm, other counts), which is said.
"""

import argparse
import asyncio
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from posttrain import bundled
from posttrain.agreement import cohen_kappa
from posttrain.judge import constraints, ifeval
from posttrain.rows import Demo, Message, read_jsonl


class Verdict(NamedTuple):
    key: str
    made: bool
    instruction: str
    how: str
    ours: bool
    theirs: bool
    answer: str
    given: Mapping[str, Any]


# ---- the public checker


def checker() -> Any:
    """lm-eval's two functions, with a Punkt of our own where NLTK's cannot be had."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        _own_punkt(nltk)
    from langdetect import DetectorFactory
    from lm_eval.tasks.ifeval import instructions_util, utils

    DetectorFactory.seed = 0  # it draws at random otherwise
    if PUNKT:
        instructions_util._get_sentence_tokenizer = lambda: PUNKT[0]
    return utils


PUNKT: list[Any] = []


def _own_punkt(nltk: Any) -> None:
    from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

    trainer = PunktTrainer()
    for row in read_jsonl(bundled.rows("demos"), Demo):
        trainer.train(row.messages[-1].content, finalize=False)
    trainer.finalize_training()
    PUNKT.append(PunktSentenceTokenizer(trainer.get_params()))
    word_tokenize = nltk.word_tokenize
    nltk.download = lambda *_, **__: False
    nltk.word_tokenize = lambda text: [w for s in PUNKT[0].tokenize(text) for w in word_tokenize(s, preserve_line=True)]
    print("Punkt: trained on the bundled answers; NLTK's English model is not here", file=sys.stderr)


# ---- answers


def sampled(records: Sequence[Mapping[str, Any]], model: str, file: Path) -> dict[str, str]:
    """key -> answer; kept in the file, drawn at temperature 0.7 when it is not there."""
    if file.exists():
        return dict(json.loads(line) for line in file.read_text().splitlines())
    from posttrain.loading import load_model
    from posttrain.locate import model_folder
    from posttrain.pipeline import Runtime
    from posttrain.render import load_chat
    from posttrain.sampler import Sampling
    from posttrain.sampler.local import Local

    folder = model_folder(model)
    chat = load_chat(folder)
    sampler = Local(load_model(folder, Runtime(), train=False), chat)
    prompts = [chat.prompt([Message(role="user", content=r["prompt"])]) for r in records]
    groups = asyncio.run(sampler.sample(prompts, 1, Sampling(max_new=200, temperature=0.7, seed=1)))
    found = {str(r["key"]): group[0].text for r, group in zip(records, groups)}
    file.write_text("".join(json.dumps(pair) + "\n" for pair in found.items()))
    return found


def made(record: Mapping[str, Any], texts: Sequence[str], rng: random.Random) -> str:
    """An answer that tries to keep each instruction, in an order that does not undo the earlier ones; or half so."""
    text = " ".join(rng.sample(texts, rng.randint(1, 6)))
    asked = list(zip(record["instruction_id_list"], record["kwargs"]))
    for instruction, given in sorted(asked, key=lambda a: ORDER.index(a[0].split(":")[0])):
        off = rng.choice((0, 0, 0, -1, 1))
        if rng.random() < 0.75:
            text = KEEP[instruction](text, SimpleNamespace(**{"off": off, "rng": rng, **given}))
    return spoiled(text, rng) if rng.random() < 0.3 else text


def spoiled(text: str, rng: random.Random) -> str:
    """What models do to answers: a line before or after, emphasis, a cut, capitals."""
    return rng.choice((
        lambda t: f"Sure, here it is:\n\n{t}", lambda t: f"{t}\n\nI hope this helps!", lambda t: t[: len(t) * 2 // 3],
        lambda t: t.replace(". ", ".\n"), lambda t: f"**{t.strip()}**", lambda t: t.capitalize(), lambda t: f"{t},",
        lambda t: t.replace("-", " "), lambda t: f"\n{t}\n",
    ))(text)  # fmt: skip


def _words(t: str, a: Any) -> str:
    n = max(1, a.num_words + a.off)
    return " ".join((t.split() * (1 + n // max(1, len(t.split()))))[:n])


def _sentences(t: str, a: Any) -> str:
    parts = constraints.sentences_of(t) or ["Yes."]
    return " ".join((parts * (1 + a.num_sentences))[: max(1, a.num_sentences + a.off)])


def _frequency(word: str, n: int, t: str, a: Any) -> str:
    form = a.rng.choice((word, word, word.upper(), word + "s", f"{word}-like", f"({word})"))
    return t + "".join(f" The {form} is here." for _ in range(max(0, n + a.off)))


def _nth(t: str, a: Any) -> str:
    parts = [f"Part {k} is about it." for k in range(1, a.num_paragraphs + 1 + a.off)]
    if a.nth_paragraph <= len(parts):
        parts[a.nth_paragraph - 1] = a.rng.choice(("", '"', "*")) + f"{a.first_word} {parts[a.nth_paragraph - 1]}"
    return "\n\n".join(parts)


def _dress(marks: Sequence[str], count: int, a: Any) -> list[str]:
    return [a.rng.choice(marks) for _ in range(max(0, count + a.off))]


ORDER = ("length_constraints", "language", "keywords", "detectable_content", "detectable_format", "change_case",
         "punctuation", "combination", "startend")  # fmt: skip
FOREIGN = {
    "de": "Der Hund ist ein treues Tier und lebt mit den Menschen.",
    "it": "Il cane è un animale fedele e vive con noi.",
    "pt": "O cão é um animal fiel e vive com as pessoas.",
    "ru": "Собака верное животное, и она живёт с людьми.",
    "bg": "Кучето е вярно животно и живее с хората, които го обичат. То е на двора.",
    "ar": "الكلب حيوان وفي يعيش مع الناس.",
    "fa": "سگ حیوانی وفادار است که با مردم زندگی می‌کند.",
    "ur": "کتا ایک وفادار جانور ہے جو لوگوں کے ساتھ رہتا ہے۔",
    "hi": "कुत्ता एक वफादार जानवर है और वह लोगों के साथ रहता है।",
    "mr": "कुत्रा हा एक निष्ठावान प्राणी आहे आणि तो माणसांसोबत राहतो.",
    "ne": "कुकुर एक वफादार जनावर हो र यो मानिसहरूसँग बस्छ। यो राम्रो छ।",
    "bn": "কুকুর একটি বিশ্বস্ত প্রাণী এবং মানুষের সাথে থাকে।",
    "ko": "개는 사람과 함께 사는 충실한 동물입니다.",
    "th": "สุนัขเป็นสัตว์ที่ซื่อสัตย์และอาศัยอยู่กับคน",
    "vi": "Con chó là một con vật trung thành và sống với người.",
    "sw": "Mbwa ni mnyama mwaminifu na anaishi na watu katika nyumba.",
    "fi": "Koira on uskollinen eläin ja se elää ihmisten kanssa.",
    "ta": "நாய் ஒரு விசுவாசமான விலங்கு.",
    "te": "కుక్క నమ్మకమైన జంతువు.",
    "kn": "ನಾಯಿ ನಿಷ್ಠಾವಂತ ಪ್ರಾಣಿ.",
    "gu": "કૂતરો એક વફાદાર પ્રાણી છે.",
    "pa": "ਕੁੱਤਾ ਇੱਕ ਵਫ਼ਾਦਾਰ ਜਾਨਵਰ ਹੈ।",
    "en": "The dog is a loyal animal and it lives with people.",
}
KEEP: dict[str, Any] = {
    "keywords:existence": lambda t, a: t + " " + " ".join(a.rng.choice((w, w.upper(), w + "s")) for w in a.keywords),
    "keywords:frequency": lambda t, a: _frequency(a.keyword, a.frequency, t, a),
    "keywords:forbidden_words": lambda t, a: t if a.off >= 0 else f"{t} {a.rng.choice(a.forbidden_words)}",
    "keywords:letter_frequency": lambda t, a: t + " " + a.letter * max(0, a.let_frequency + a.off),
    "language:response_language": lambda t, a: FOREIGN[a.language if a.off >= 0 else "en"],
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": lambda t, a: a.rng.choice(("\n***\n", "\n\n***\n\n", " *** ")).join(
        [t[:60]] * max(1, a.num_paragraphs + a.off)
    ),
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _nth,
    "detectable_content:number_placeholders": lambda t, a: " ".join(
        [t, *_dress(("[name]", "[your address]", "[1]", "[ ]", "[Name: full]"), a.num_placeholders, a)]
    ),
    "detectable_content:postscript": lambda t, a: t + a.rng.choice(("\n\n", "\n", " ")) + a.rng.choice(
        (a.postscript_marker, a.postscript_marker.lower(), a.postscript_marker.replace(".", ". ").strip())
    ) + a.rng.choice((" Bring tea.", ": Bring tea.", "")),
    "detectable_format:number_bullet_lists": lambda t, a: "\n".join(
        [t[:50], *(f"{m}one more thing" for m in _dress(("* ", "- ", "* ", "  - ", "*"), a.num_bullets, a))]
    ),
    "detectable_format:constrained_response": lambda t, a: a.rng.choice(
        ("My answer is yes.", "My answer is no.", "my answer is maybe", "My answer is maybe. " + t, "Yes.")
    ),
    "detectable_format:number_highlighted_sections": lambda t, a: " ".join(
        [t, *_dress(("*one part*", "**one part**", "*one  part*", "\n* *a part*"), a.num_highlights, a)]
    ),
    "detectable_format:multiple_sections": lambda t, a: "\n".join(
        f"{a.section_spliter} {k}\n{t[:40]}" for k in range(1, a.num_sections + 1 + a.off)
    ),
    "detectable_format:json_format": lambda t, a: a.rng.choice(
        (json.dumps({"answer": t}), f"```json\n{json.dumps([t])}\n```", json.dumps(t), '```\n{"a": 1}\n```')
    ),
    "detectable_format:title": lambda t, a: (
        a.rng.choice(("<<A title>>", "<<A <b> title>>", "<A title>", "<< >>")) + "\n" + t
    ),
    "combination:two_responses": lambda t, a: a.rng.choice(
        (f"{t}\n******\n{t}!", f"{t}******{t}", f"******\n{t}\n******\n{t}?", f"{t}\n***\n{t}")
    ),
    "combination:repeat_prompt": lambda t, a: a.prompt_to_repeat + a.rng.choice(("\n\n", " ", "\n")) + t,
    "startend:end_checker": lambda t, a: f"{t} {a.end_phrase}" + a.rng.choice(("", "", '"', ".", " Bye.")),
    "startend:quotation": lambda t, a: a.rng.choice(('"{}"', "“{}”", '"{}', "'{}'")).format(t),
    "change_case:capital_word_frequency": lambda t, a: " ".join(
        [t, *_dress(("VERY", "I", "WELL-KNOWN", "A", "USA"), a.capital_frequency, a)]
    ),
    "change_case:english_capital": lambda t, a: t.upper(),
    "change_case:english_lowercase": lambda t, a: t.lower(),
    "punctuation:no_comma": lambda t, a: t.replace(",", ""),
}  # fmt: skip


# ---- verdicts


def verdicts(record: Mapping[str, Any], answer: str, made: bool, utils: Any) -> Iterator[Verdict]:
    """For every instruction of a prompt, strict and loose."""
    asked = SimpleNamespace(
        key=record["key"], instruction_id_list=record["instruction_id_list"], prompt=record["prompt"],
        kwargs=record["kwargs"],
    )  # fmt: skip
    theirs = {
        "strict": utils.test_instruction_following_strict(asked, answer).follow_instruction_list,
        "loose": utils.test_instruction_following_loose(asked, answer).follow_instruction_list,
    }
    for n, (instruction, given) in enumerate(zip(record["instruction_id_list"], record["kwargs"])):
        wanted = ifeval.constraints_of(instruction, given)
        for how, judge in (("strict", constraints.check), ("loose", constraints.loose)):
            ours = all(judge(c, answer) for c in wanted)
            yield Verdict(str(record["key"]), made, instruction, how, ours, bool(theirs[how][n]), answer, given)


def table(found: Sequence[Verdict]) -> None:
    print(f"{'instruction':<46} {'how':<7} {'n':>5} {'both':>5} {'none':>5} {'ours':>5} {'theirs'} {'agree':>6}")
    groups: dict[tuple[str, str], Counter[tuple[bool, bool]]] = defaultdict(Counter)
    for v in found:
        for name in (v.instruction, "all"):
            groups[name, v.how][v.ours, v.theirs] += 1
    for (name, how), c in sorted(groups.items(), key=lambda g: (g[0][0] == "all", g[0])):
        n, same = c.total(), c[True, True] + c[False, False]
        counts = "".join(f"{c[key]:>6}" for key in ((True, True), (False, False), (True, False), (False, True)))
        print(f"{name:<46} {how:<7} {n:>5}{counts} {same / n:>7.3f}")
    print(f"kappa {cohen_kappa([v.ours for v in found], [v.theirs for v in found]):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--made", type=int, default=4, help="made answers a prompt")
    parser.add_argument("--list", type=int, default=0, help="disagreements to print of each kind")
    given = parser.parse_args()
    records = [json.loads(line) for line in given.file.read_text().splitlines()]
    for r in records:  # some copies of the file lack it: the request is the prompt before the instruction to repeat it
        for instruction, kwargs in zip(r["instruction_id_list"], r["kwargs"]):
            if instruction == "combination:repeat_prompt":
                kwargs.setdefault("prompt_to_repeat", r["prompt"].split("First repeat")[0].strip() or r["prompt"])
    answers = sampled(records, given.model, given.answers)
    utils, rng = checker(), random.Random(0)
    texts = [row.messages[-1].content for row in read_jsonl(bundled.rows("demos"), Demo)]
    real = [v for r in records for v in verdicts(r, answers[str(r["key"])], False, utils)]
    trial = [v for r in records for _ in range(given.made) for v in verdicts(r, made(r, texts, rng), True, utils)]
    for name, found in (
        (f"{len(records)} answers of the model", real),
        (f"{given.made * len(records)} made ones", trial),
    ):
        print(f"\n{name}")
        table(found)
        seen: Counter[str] = Counter()
        for v in found:
            if v.ours != v.theirs and seen[v.instruction] < given.list:
                seen[v.instruction] += 1
                shown = {k: x for k, x in v.given.items() if x is not None}
                text = v.answer if len(v.answer) < 300 else v.answer[:150] + " ... " + v.answer[-140:]
                print(f"  {v.key} {v.instruction} {v.how}: ours {v.ours}, theirs {v.theirs} {shown} {text!r}")


if __name__ == "__main__":
    main()
