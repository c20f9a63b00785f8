"""Evaluation suite of diversity: 160 open requests, forty subjects in four kinds. Any answer will do; what counts is
that they differ.
"""

from collections.abc import Iterator

SUBJECTS = (
    "a lonely clock", "a boat on a lake", "two brothers", "a lost glove", "a winter morning", "an old bridge", "a fox",
    "a market stall", "a letter from afar", "a broken window", "a red umbrella", "the last bus", "a garden wall",
    "a sleepy cat", "a new teacher", "a stone in a shoe", "a birthday cake", "a night train", "an empty house",
    "a wet dog", "a snowy field", "a blue bicycle", "a shy giant", "a song on the radio", "a mountain hut", "a key",
    "a rainy Sunday", "a baker at dawn", "a kite", "a mirror", "a quiet library", "a puppet", "a harbour at night",
    "an honest thief", "a forgotten name", "a long queue", "a wooden horse", "a lighthouse", "a spilled cup", "a bee",
)  # fmt: skip
KINDS = {
    "story": "Tell me a very short story about {}.",
    "sentence": "Write one sentence about {}.",
    "title": "Give me a title for a poem about {}.",
    "thought": "What does {} make you think of?",
}


def items(seed: int = 0) -> Iterator[dict]:
    """All items, numbered from 1."""
    number = 0
    for kind, wording in KINDS.items():
        for subject in SUBJECTS:
            number += 1
            messages = [{"role": "user", "content": wording.format(subject)}]
            yield {"id": f"div-{number:03}", "cluster": kind, "kind": kind, "messages": messages}
