"""Goals for the red team's search: bundled/goals.jsonl. Leaves out the goals of the evaluation suite."""

from collections.abc import Iterator

from _attack_seeds import seeds


def rows(seed: int = 0) -> Iterator[dict]:
    """Suite-shaped items: the goal as a plain request."""
    for number, one in enumerate(seeds("searched")):
        messages = [{"role": "user", "content": one["goal"]}]
        yield {
            "id": f"goal-{number:03d}", "cluster": one["category"], "messages": messages, "label": one["label"],
            "goal": one["goal"],
        }  # fmt: skip
