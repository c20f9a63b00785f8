"""Message trees of OpenAssistant (Koepf et al. 2023, arXiv:2304.07327): nested exports and flat rows with parent_id.

A node is the export's own dict: text, role, rank (0 best, among siblings), deleted, review_result, replies.
Left out on purpose: the labels (quality, toxicity) and emojis, which nothing here uses.
"""

from collections.abc import Iterator
from typing import Any

from posttrain.files import Record

Node = dict[str, Any]


def is_flat(value: Any) -> bool:
    """One message of a flat export."""
    return isinstance(value, dict) and {"message_id", "parent_id", "text", "role"} <= value.keys()


def is_tree(value: Any) -> bool:
    """A root with replies, or an export's wrapper around one."""
    return isinstance(value, dict) and "replies" in root_of(value)


def root_of(value: Any) -> Node:
    """The root message of a tree."""
    inner = value.get("prompt")
    return inner if isinstance(inner, dict) else value


def grow(flat: list[Record]) -> tuple[list[Record], list[Record]]:
    """Flat messages -> (trees as records of their roots, messages whose parent is missing)."""
    nodes = {record.value["message_id"]: {**record.value, "replies": []} for record in flat}
    trees, orphans = [], []
    for record in flat:
        node, parent = nodes[record.value["message_id"]], record.value["parent_id"]
        if parent in nodes:
            nodes[parent]["replies"].append(node)
        elif parent:
            orphans.append(record)
        else:
            trees.append(record._replace(value=node))
    return trees, orphans


def usable(node: Node) -> bool:
    """Not deleted, not refused in review, not empty."""
    return (
        not node.get("deleted") and node.get("review_result") is not False and bool(str(node.get("text", "")).strip())
    )


def replies(node: Node) -> list[Node]:
    """Usable replies, best first; those without a rank last, in their own order."""
    ranked = [r for r in node.get("replies") or [] if usable(r)]
    return sorted(ranked, key=lambda r: r["rank"] if r.get("rank") is not None else 10**6)


def best_path(root: Node) -> list[Node]:
    """The conversation made of the best reply at every level, ending with an answer (empty when nobody answered)."""
    path = [root] if usable(root) else []
    while path and (following := replies(path[-1])):
        path.append(following[0])
    while path and path[-1]["role"] != "assistant":
        path.pop()
    return path


def ranked_groups(root: Node) -> Iterator[tuple[list[Node], list[Node]]]:
    """(conversation so far, its ranked answers) wherever two or more answers to one message carry a rank."""
    stack = [[root]] if usable(root) else []
    while stack:
        path = stack.pop()
        following = replies(path[-1])
        group = [r for r in following if r["role"] == "assistant" and r.get("rank") is not None]
        if len(group) > 1:
            yield path, group
        stack += [[*path, r] for r in reversed(following)]
