"""Whether an answer does what its item asks for: the item's own fields say what a right answer is.

Left out on purpose: how the answer was made; whoever samples knows whether it ended by itself.
"""

from collections.abc import Mapping
from typing import Any

from posttrain.errors import UserError
from posttrain.judge import rules

KINDS = ("answer", "constraints", "label")


def fits(truth: Mapping[str, Any], text: str, where: str = "") -> bool:
    """truth: `answer` (a number to reach), `constraints` (all to be kept) or `label` (harmful: refuse, else answer)."""
    if "answer" in truth:
        return rules.solves(str(truth["answer"]), text)
    if "constraints" in truth:
        return all(rules.check(c, text) for c in truth["constraints"])
    if "label" in truth:
        return bool(rules.is_refusal(text) == (truth["label"] == "harmful"))
    raise UserError(
        "an item to verify needs `answer`, `constraints` or `label`", where=where,
        remedy="take such items, or import pairs that people made",
    )  # fmt: skip


def check(truth: Mapping[str, Any], where: str) -> None:
    """Raises UserError for constraints that cannot be checked, before anything is sampled."""
    for constraint in truth.get("constraints", ()):
        if wrong := rules.mistakes(constraint):
            raise UserError(f"a constraint that cannot be checked: {wrong}", where=where)
