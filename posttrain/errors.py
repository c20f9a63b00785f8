"""The one exception for mistakes a person can mend; the command line prints it without a traceback.

Left out on purpose: error codes, hierarchies. A bug stays an ordinary Python exception with its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What is wrong, where it is, and what to do about it: one short message.

    what: one sentence saying what is wrong.  where: file, line, YAML path.  remedy: the next thing to try.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = ""):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        return [*lines, f"  try: {self.remedy}"] if self.remedy else lines


def nearest(word: str, known: Iterable[str]) -> str:
    """', did you mean X?' for the closest known word, or the list of known words when none is close."""
    options = list(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(options))}"
