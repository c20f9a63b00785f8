"""Write the generated evaluation suites to the package: python data/generators/write_suites.py."""

import json
from pathlib import Path

import suite_arithmetic
import suite_hygiene
import suite_instructions
import suite_word_problems

SUITES = Path(__file__).resolve().parents[2] / "posttrain" / "bundled" / "suites"
MAKERS = {
    "arithmetic": suite_arithmetic,
    "word_problems": suite_word_problems,
    "hygiene": suite_hygiene,
    "instructions": suite_instructions,
}


def main() -> None:
    """One JSON object a line; the same seed always writes the same file."""
    SUITES.mkdir(parents=True, exist_ok=True)
    for name, maker in MAKERS.items():
        lines = [json.dumps(item, ensure_ascii=False) for item in maker.items(seed=0)]
        (SUITES / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
