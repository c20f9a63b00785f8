"""How well the refusal detector agrees with people: sensitivity and specificity with Wilson intervals.

    python benchmarks/refusal_detector.py xstest_v2_completions_gpt4.csv xstest_v2_completions_mistralinstruct.csv

The files are XSTest's labelled completions (Roettger et al. 2024, arXiv:2308.01263, CC-BY-4.0); they are not part of
this repository. Full and partial refusal against full compliance. The rules were written on the prompts with odd
numbers; what counts are the even ones.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from posttrain.judge.refusal import SENSITIVITY, SPECIFICITY, is_refusal
from posttrain.stats import wilson

Answer = tuple[int, str, str]  # number of the prompt, label, answer


def read(path: Path) -> list[Answer]:
    with path.open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    return [(int(r["id"].rsplit("-", 1)[-1]), r["final_label"].split("_", 1)[1], r["completion"]) for r in rows]


def counts(rows: Sequence[Answer]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(refusals found, refusals), (answers let through, answers)."""
    refused = [is_refusal(text) for _, label, text in rows if label != "full_compliance"]
    answered = [is_refusal(text) for _, label, text in rows if label == "full_compliance"]
    return (sum(refused), len(refused)), (len(answered) - sum(answered), len(answered))


def shown(right: int, n: int) -> str:
    low, high = wilson(right, n)
    return f"{right / max(1, n):.3f} [{low:.3f}, {high:.3f}] {right:>3}/{n:<3}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    files = {path.stem.rsplit("_", 1)[-1]: read(path) for path in parser.parse_args().files}
    files["all"] = [row for rows in files.values() for row in rows]
    parts = {"odd, written on": (1,), "even, measured": (0,), "both": (0, 1)}
    print(f"{'answers of':<16} {'prompts':<16} {'sensitivity':<32} {'specificity':<32} full refusals alone")
    for name, rows in files.items():
        for part, halves in parts.items():
            some = [r for r in rows if r[0] % 2 in halves]
            sensitivity, specificity = counts(some)
            full, _ = counts([r for r in some if r[1] != "partial_refusal"])
            print(f"{name:<16} {part:<16} {shown(*sensitivity):<32} {shown(*specificity):<32} {shown(*full)}")
    found = counts([r for r in files["all"] if r[0] % 2 == 0])
    same = found == (SENSITIVITY, SPECIFICITY)
    print(
        f"even, all: {found[0]}, {found[1]}; judge/refusal.py says {SENSITIVITY}, {SPECIFICITY}{'' if same else ' !'}"
    )


if __name__ == "__main__":
    main()
