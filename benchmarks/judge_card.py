"""Cards of judges on human labels: a weak one that must be refused, a scripted good one that must pass.

    python benchmarks/judge_card.py testset-v1.json --model bundled --limit 300
    python benchmarks/judge_card.py testset-v1.json --script 0.92 --limit 300
    python benchmarks/judge_card.py testset-v1.json --url http://127.0.0.1:8000/v1 --name NAME

The file is PandaLM's test set (Wang et al. 2024, arXiv:2306.05087): 999 pairs with three people's labels each; it is
not part of this repository. --script p is an endpoint on this machine that speaks the OpenAI protocol and says what the
majority of the people said, except in a share 1 - p of the pairs, where it says the opposite.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from math import log
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # the endpoint that speaks a script

from posttrain.judge import card as cards
from posttrain.judge.asking import Asker, Kept
from posttrain.judge.card import Labelled
from posttrain.judge.llm import Pairwise
from posttrain.rows import Message, digest
from posttrain.stages.judge import chosen

LABELS = {0: "tie", 1: "first", 2: "second"}


def read(path: Path) -> list[Labelled]:
    rows = []
    for r in json.loads(path.read_text()):
        question = r["instruction"] + (f"\n\n{r['input']}" if r["input"] else "")
        labels = tuple(LABELS[r[f"annotator{n}"]] for n in (1, 2, 3))
        first, second = str(r["response1"]), str(r["response2"])  # one of them is a bare `true`
        prompt = (Message(role="user", content=question),)
        rows.append(Labelled(id=str(r["idx"]), prompt=prompt, first=first, second=second, labels=labels))
    return rows


def script(rows: Sequence[Labelled], right: float) -> Any:
    """Knows every pair by its two answers; errs in both orders alike, so it is consistent."""
    from endpoint import chat

    known = {}
    for row in rows:
        said = row.majority
        if random.Random(digest(row.id)).random() > right:
            said = {"first": "second", "second": "first", "tie": "first"}[said]
        known[row.first, row.second] = {"first": "A", "second": "B", "tie": "C"}[said]
        known[row.second, row.first] = {"first": "B", "second": "A", "tie": "C"}[said]

    def answer(path: str, body: Any, number: int) -> Any:
        text = body["messages"][0]["content"]
        a = text.split("--- Answer A ---\n", 1)[1].rsplit("\n\n--- Answer B ---\n", 1)[0]
        b = text.rsplit("\n\n--- Answer B ---\n", 1)[1].rsplit("\n\n--- What counts ---\n", 1)[0]
        letter = known[a, b]
        return chat(letter, [{o: log(0.9 if o == letter else 0.05) for o in "ABC"}])

    return answer


def local(model: str) -> Asker:
    from posttrain.loading import load_model
    from posttrain.locate import model_folder
    from posttrain.pipeline import Runtime
    from posttrain.render import load_chat
    from posttrain.sampler.asking import Weights

    folder = model_folder(model)
    return Weights(load_model(folder, Runtime(), train=False), load_chat(folder), Path(model).name)


def remote(url: str, name: str) -> Asker:
    from posttrain.sampler.http import Client
    from posttrain.sampler.server import Endpoint

    return Endpoint(Client([url]), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--model")
    who.add_argument("--url")
    who.add_argument("--script", type=float)
    parser.add_argument("--name", default="model")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--words", action="store_true", help="read the judge's words instead of its log-probabilities")
    given = parser.parse_args()
    rows = chosen(read(given.file), given.limit)
    running: Any = nullcontext()
    if given.script is not None:
        from endpoint import endpoint

        running = endpoint(script(rows, given.script))
    with running as fake:
        asker = local(given.model) if given.model else remote(given.url or fake.url, given.name)
        judge = Pairwise(Kept(asker), log_probs=not given.words)
        begun = time.perf_counter()
        card = asyncio.run(cards.examine(judge, rows, data=given.file.name))
    print("\n".join(card.lines()))
    print(f"seconds        {time.perf_counter() - begun:.1f} for {2 * len(rows)} questions")


if __name__ == "__main__":
    main()
