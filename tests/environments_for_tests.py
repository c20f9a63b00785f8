"""Functions that the tests name as environments."""

import time


def guess(conversation, truth):
    """Ends when the answer begins as it should, else says so."""
    return None if conversation[-1].content.startswith(truth.get("wanted", "x")) else "no"


async def later(conversation, truth):
    return "go on" if len(conversation) < 6 else None


def always(conversation, truth):
    return "again"


def breaks(conversation, truth):
    raise ZeroDivisionError("division by zero")


def number(conversation, truth):
    return 42


def hangs(conversation, truth):
    while True:
        time.sleep(0.01)


def long(conversation, truth):
    return "one two " * 500


def letter(conversation, truth):
    """A first answer that begins with one of a third of the letters is answered, nothing else is."""
    first = conversation[-1].content[:1]
    return "two" if len(conversation) == 2 and first and first in "abcdefghijklm " else None


def called(items):
    """Reward: was the environment asked?"""
    return [float(len(item.prompt) > 1) for item in items]
