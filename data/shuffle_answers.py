"""Damage a data set on purpose: every question keeps its place, every answer goes to another question.

    python data/shuffle_answers.py posttrain/bundled/demos.jsonl damaged.jsonl

What a gate must stop: a model trained on the result talks fluently beside the point. Left out on purpose: subtlety.
"""

import json
import random
import sys
from pathlib import Path


def shuffled(lines: list[str], seed: int = 0) -> list[str]:
    """The rows with their last answers permuted; no row keeps its own."""
    rows = [json.loads(line) for line in lines if line.strip()]
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    answers = {a: rows[b]["messages"][-1] for a, b in zip(order, order[1:] + order[:1])}  # one cycle: nobody stays
    for n, row in enumerate(rows):
        row["messages"] = [*row["messages"][:-1], answers[n]]
    return [json.dumps(row, ensure_ascii=False) for row in rows]


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text("\n".join(shuffled(source.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8")
