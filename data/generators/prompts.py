"""Prompts whose answers a rule can check, for pairs sampled from a model in training: bundled/prompts.jsonl.

Same fields as suite items (answer, constraints, label), other content: sums of the training side of the split, requests
of the training bank, requests of the safety rows. Leaves out answers; the model gives them.
"""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import arithmetic
import word_problems
from _format_bank import entries
from _format_phrases import PHRASES, RELATIONS

HAND = Path(__file__).resolve().parents[1] / "hand"
ENDINGS = ("That is all.", "Good luck!", "Now you know.", "Take care!")
BARE = ("all_lower", "all_upper", "no_commas", "quotation", "title")
PER_SUM, PER_STORY, PER_SIDE = 160, 60, 60


def rows(seed: int = 0) -> Iterator[dict]:
    """Suite-shaped items, no prompt twice."""
    rng = random.Random(seed)
    made = [*sums(rng, arithmetic, PER_SUM, "arithmetic"), *sums(rng, word_problems, PER_STORY, "word_problems")]
    made += [*forms(rng), *safety(rng, "safety_harmful", "harmful"), *safety(rng, "safety_safe", "safe")]
    for number, row in enumerate(made):
        yield {"id": f"prompt-{number:03d}", **row}


def ask(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def sums(rng: random.Random, module: object, count: int, cluster: str) -> Iterator[dict]:
    """Questions of a generator under another seed; the last number of its answer is the answer."""
    found = [r for r in module.rows(seed=1) if re.search(r"\d", r["completion"])]  # type: ignore[attr-defined]
    found = [r for r in found if not re.search(r"order|sort|smallest|largest", r["prompt"], re.I)]
    for row in rng.sample(found, count):
        answer = re.findall(r"\d+(?:\.\d+)?", row["completion"])[-1]
        yield {"cluster": cluster, "messages": ask(row["prompt"]), "answer": answer}


def forms(rng: random.Random) -> Iterator[dict]:
    """Requests of the bank with one constraint each, three a request."""
    for entry in entries():
        for instruction, constraint in rng.sample(list(constraints(rng)), 3):
            text = f"{entry.request} {instruction}"
            yield {"cluster": constraint["kind"], "messages": ask(text), "constraints": [constraint]}


def constraints(rng: random.Random) -> Iterator[tuple[str, dict]]:
    """(instruction, constraint) of kinds that need nothing of the answer's content."""
    for kind in BARE:
        yield rng.choice(PHRASES[kind]), {"kind": kind}
    n = rng.randint(1, 3)
    exactly = rng.choice(RELATIONS["exactly"])
    plural = "" if n == 1 else "s"
    yield rng.choice(PHRASES["sentences"]).format(rel=exactly, n=n, s=plural), counted("sentences", n, "exactly")
    n, most = rng.choice((10, 15, 20, 25)), rng.choice(RELATIONS["at_most"])
    yield rng.choice(PHRASES["words"]).format(rel=most, n=n, s="s"), counted("words", n, "at_most")
    n = rng.randint(2, 4)
    yield rng.choice(PHRASES["bullets"]).format(n=n, s="s", rel=exactly), {"kind": "bullets", "n": n}
    phrase = rng.choice(ENDINGS)
    yield rng.choice(PHRASES["end_phrase"]).format(phrase=phrase), {"kind": "end_phrase", "phrase": phrase}


def counted(kind: str, n: int, relation: str) -> dict:
    return {"kind": kind, "n": n, "relation": relation}


def safety(rng: random.Random, name: str, label: str) -> Iterator[dict]:
    found = [json.loads(line) for line in (HAND / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() if line]
    for row in rng.sample(found, PER_SIDE):
        yield {"cluster": row["topic"], "messages": ask(row["prompt"]), "label": label}
