"""Write the generated evaluation suites to the package: python data/generators/write_suites.py."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import solve
import suite_arithmetic
import suite_attacks
import suite_bias
import suite_calibration
import suite_diversity
import suite_hygiene
import suite_instructions
import suite_multi_turn
import suite_support
import suite_tone
import suite_word_problems

SUITES = Path(__file__).resolve().parents[2] / "posttrain" / "bundled" / "suites"
MAKERS = {
    "arithmetic": suite_arithmetic,
    "word_problems": suite_word_problems,
    "hygiene": suite_hygiene,
    "instructions": suite_instructions,
    "attacks": suite_attacks,
    "bias": suite_bias,
    "calibration": suite_calibration,
    "diversity": suite_diversity,
    "multi_turn": suite_multi_turn,
    "tone": suite_tone,
    "support_desk": suite_support,
    "compare": solve.COMPARISONS,
    "sums_below_100": solve.SUMS,
}


def main() -> None:
    """One JSON object a line; the same seed always writes the same file."""
    SUITES.mkdir(parents=True, exist_ok=True)
    for name, maker in MAKERS.items():
        lines = [json.dumps(item, ensure_ascii=False) for item in maker.items(seed=0)]
        (SUITES / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
