"""Verifiable constraints, as in IFEval: {"constraints": [{"kind": "bullets", "n": 3}]}.

strict and loose: all constraints of the prompt are met. instruction_*: share of constraints met, over all prompts.
"""

from typing import TYPE_CHECKING

from posttrain.judge.rules import check, loose, mistakes

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.rows import Item

METRICS: dict[str, bool | None] = {"strict": True, "loose": True, "instruction_strict": True, "instruction_loose": True}
GENERATES = True


def problem(item: "Item") -> str:
    constraints = (item.model_extra or {}).get("constraints")
    if not constraints or not isinstance(constraints, list):
        return "constraints must be a list with at least one constraint"
    return next((found for found in map(mistakes, constraints) if found), "")


def score(item: "Item", done: "Done") -> "Scores":
    from posttrain.evals.task import Share

    strict = [check(c, done.text) for c in item.constraints]
    lenient = [loose(c, done.text) for c in item.constraints]
    return {
        "strict": float(all(strict)),
        "loose": float(all(lenient)),
        "instruction_strict": Share(sum(strict), len(strict)),
        "instruction_loose": Share(sum(lenient), len(lenient)),
    }
