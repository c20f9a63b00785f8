"""The golden numbers of recipes/smoke.yaml: what a run made, what it should have made, where the two differ.

    python tests/golden_smoke.py            # run the recipe, print every difference, exit 1 if there is one
    python tests/golden_smoke.py --rewrite  # run it and keep its numbers: look at `git diff` and say why in the commit

Rows that no floating-point number has touched are compared by their digest, counts and gates exactly. Numbers of
training and evaluation are compared within RELATIVE and ABSOLUTE: fp32 sums are taken in another order by other
processors, and training carries the difference on. Measured on this recipe: kernels for SSE4, or AVX2 and two threads,
against AVX-512 (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA) move no number by more than 6e-5 of itself; RELATIVE is eight
times that, and a beta of 0.11 instead of 0.1 moves the loss of the second step by far more.
Left out on purpose: weights (no two processors share their last bits) and seconds.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from posttrain import pipeline
from posttrain import recipe as recipes
from posttrain.pipeline import Record

GOLDEN = Path(__file__).parent / "golden" / "smoke.json"
RECIPE = Path(__file__).parent.parent / "recipes" / "smoke.yaml"
RELATIVE, ABSOLUTE = 5e-4, 5e-5
UNTOUCHED = ("demos", "pairs", "prompts", "rankings", "ratings", "thumbs")  # stage types that only read files
NOISE = ("flops", "mismatch", "seconds", "megabytes")  # rounding itself, or the machine


def run(runs: Path, *overrides: str, only: str = "") -> dict[str, Any]:
    """Run the recipe (or one stage of it, its inputs finished in `runs`) and collect its numbers, stage by stage."""
    loaded = recipes.load(str(RECIPE), overrides)
    runtime = loaded.start(pipeline.Progress("silent"))
    if only:
        folders = pipeline.run_one(loaded.stages, runs, runtime, only).folders
    else:
        folders = pipeline.run(loaded.stages, runs, runtime).folders
    return {name: collect(folder) for name, folder in folders.items()}


def collect(folder: Path) -> dict[str, Any]:
    """Metrics and verdict of an artefact; its loss curve; digests of its rows where no number had a say in them."""
    record = Record.read(folder)
    found: dict[str, Any] = {"metrics": _kept(record.metrics), "verdict": record.verdict}
    if record.type in UNTOUCHED:
        found["rows"] = {p.name: sha256(p.read_bytes()).hexdigest()[:16] for p in sorted(folder.glob("*.jsonl"))}
    if (folder / "log.jsonl").exists():
        found["curve"] = [_kept(json.loads(line)) for line in (folder / "log.jsonl").read_text().splitlines()]
    return found


def _kept(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in numbers.items() if not any(k.startswith(n) for n in NOISE)}


def differences(found: Any, golden: Any, where: str = "") -> Iterator[str]:
    """'stage.curve.3.loss: 8.781, golden 8.780' for each place where two collections are not the same."""
    if isinstance(golden, float | int) and isinstance(found, float | int):
        if not math.isclose(found, golden, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            yield f"{where}: {found:.7g}, golden {golden:.7g}"
    elif isinstance(golden, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*golden, *found]):
            yield from differences(found.get(key), golden.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        for n, (mine, theirs) in enumerate(zip(found, golden)):
            yield from differences(mine, theirs, f"{where}.{n}")
    elif found != golden:
        yield f"{where}: {found}, golden {golden}"


def golden() -> dict[str, Any]:
    return dict(json.loads(GOLDEN.read_text()))


def main(words: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as runs:
        found = run(Path(runs))
    if "--rewrite" in words:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        print(f"kept in {GOLDEN}")
        return 0
    wrong = list(differences(found, golden()))
    print("\n".join(wrong) or "the same")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
