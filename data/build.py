"""Write the rows that ship in the package from what is written by hand (hand/) and generated (generators/).

    python data/build.py            writes posttrain/bundled/{demos,sums,formats,...}.jsonl, prints counts
    python data/build.py --check    exits 1 when the shipped files are not what this would write

Left out on purpose: the evaluation suites (generators/write_suites.py and hand-written files), and any judgement of
quality: that is the data stage's audit.
"""

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "generators"), str(HERE.parent)]

from posttrain.rows import Demo, Item, Message, Pair, Ranking, Row, digest, dump  # noqa: E402

BUNDLED = HERE.parent / "posttrain" / "bundled"
GENERATORS = ("arithmetic", "word_problems", "recall", "extraction", "classification", "editing")
SEED = 0


def hand(pattern: str) -> Iterator[dict[str, Any]]:
    """Hand-written rows of the files that match, in name order."""
    for path in sorted((HERE / "hand").glob(pattern)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise SystemExit(f"{path}:{number}: {error}") from None


def generated(name: str) -> Iterator[dict[str, Any]]:
    yield from importlib.import_module(name).rows(SEED)


def demo(row: dict[str, Any], source: str) -> Demo:
    """The shorthand {prompt, completion, system} or {messages} as a Demo whose id names category and content."""
    messages = row.get("messages")
    if messages is None:
        system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
        turn = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        messages = system + turn
    meta = {"topic": row["topic"]} if row.get("topic") else {}
    made = Demo(messages=[Message(**m) for m in messages], category=row["category"], source=source, meta=meta)
    return made.model_copy(update={"id": f"{row['category']}-{digest([m.model_dump() for m in made.messages])[:8]}"})


def pair(row: dict[str, Any], source: str) -> Pair:
    made = Pair(
        prompt=[Message(**m) for m in row["prompt"]], chosen=Message(**row["chosen"][0]),
        rejected=Message(**row["rejected"][0]), reason=row["reason"], category=row["category"], source=source,
    )  # fmt: skip
    return made.model_copy(update={"id": f"pair-{made.digest()[:10]}"})


def ranking(row: dict[str, Any]) -> Ranking:
    facts = {"source": "template", "meta": {"category": row["category"]}}
    made = Ranking.model_validate({k: row[k] for k in ("prompt", "answers", "ranks")} | facts)
    return made.model_copy(update={"id": f"rank-{made.digest()[:10]}"})


def unique(rows: Iterable[Row]) -> list[Row]:
    seen: dict[str, Row] = {}
    for row in rows:
        seen.setdefault(row.id, row)  # type: ignore[attr-defined]
    return list(seen.values())


def build() -> dict[str, list[Row]]:
    """File name -> rows, deterministic."""
    plain = (r for r in hand("*.jsonl") if r["category"] not in ("refuse", "lookalike") and "rejected" not in r)
    demos = [demo(r, "authored") for r in plain] + [demo(r, "template") for g in GENERATORS for r in generated(g)]
    looks = [demo(r, "template") for r in generated("lookalikes")]
    pairs = [pair(r, "authored") for r in hand("pairs_*.jsonl")] + [pair(r, "template") for r in generated("pairs")]
    return {
        "demos": unique(demos),
        "sums": unique(demo(r, "template") for r in generated("drills")),
        "formats": unique(demo(r, "template") for r in generated("formats")),
        "tools": unique(demo(r, "template") for r in generated("tools") if r["category"] == "tool"),
        "large_sums": unique(demo(r, "template") for r in generated("tools") if r["category"] == "large_sum"),
        "safety": unique([demo(r, "authored") for r in hand("safety_*.jsonl")] + looks),
        "pairs": unique(pairs),
        "rankings": unique(ranking(r) for r in generated("rankings")),
        "prompts": unique(Item.model_validate(r) for r in generated("prompts")),
        "support": unique(demo(r, "template") for r in generated("support")),
        "support_poor": [demo(r, "template") for r in importlib.import_module("support").poor(SEED)],
        "goals": unique(Item.model_validate(r) for r in generated("goals")),
        "comparisons": unique(Item.model_validate(r) for r in importlib.import_module("solve").comparisons(SEED)),
        "additions": unique(Item.model_validate(r) for r in importlib.import_module("solve").sums(SEED)),
    }


def kind(row: Any) -> str:
    return str(getattr(row, "category", "") or getattr(row, "cluster", "") or row.meta["category"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a shipped file differs")
    check, stale = parser.parse_args().check, []
    for name, rows in build().items():
        text = "".join(dump(row) + "\n" for row in rows)
        path = BUNDLED / f"{name}.jsonl"
        if check:
            stale += [path.name] if not path.exists() or path.read_text(encoding="utf-8") != text else []
            continue
        path.write_text(text, encoding="utf-8")
        counts = Counter(kind(row) for row in rows)
        print(f"{name}: {len(rows)} rows in {len(counts)} categories: {dict(counts.most_common())}")
    if stale:
        print(f"not what data/build.py writes: {', '.join(stale)}; run it and commit", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
