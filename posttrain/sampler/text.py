"""From ids to text while an answer grows: stop strings, and what may be shown already.

Left out on purpose: templates and control tokens (render.py).
"""

from collections.abc import Callable, Sequence

BROKEN = "\ufffd"  # what a tokenizer shows for bytes that are not a character, or not yet


def stop_at(text_of: Callable[[Sequence[int]], str], ids: Sequence[int], stops: Sequence[str]) -> int | None:
    """Where in `text_of(ids)` the first stop string begins, None if there is none.

    Looks at the newest tokens first: a token gives at least one byte, so a stop string that ends with the last token
    lies in as many tokens as it has bytes, and a few more for tokens that give nothing.
    """
    reach = max(len(s.encode()) for s in stops) + 8
    tail = text_of(ids[-reach:])
    if not any(s in tail for s in stops):
        return None
    text = text_of(ids)
    return min((text.index(s) for s in stops if s in text), default=None)


def shown(text: str, ends: Sequence[str], lead: str = "") -> str:
    """The part of a growing text that is final: no unfinished character, no beginning of one of `ends`, and nothing as
    long as it may become the `lead` that is taken off a whole text."""
    text = text.rstrip(BROKEN)
    if lead.startswith(text):
        return ""
    held = (k for e in ends for k in range(1, len(e) + 1) if text.endswith(e[:k]))
    return text[: len(text) - max(held, default=0)]
