"""Refusals of the store, told apart so that a web server can answer with the right status.

Each is a UserError: what, where, remedy. Any other UserError of the store is plain bad input (422).
"""

from posttrain.errors import UserError


class Forbidden(UserError):
    """The person is known and may not do this (403); a sign-in that failed."""


class Missing(UserError):
    """No such thing, or none that this person may know of (404)."""


class Conflict(UserError):
    """It was already done otherwise: another answer to the same task, a name that is taken (409)."""


class Closed(UserError):
    """The project takes no more work; a link that is used up or too old (410)."""


class TooMany(UserError):
    """Too many failures in a row (429); `seconds` says when the next try is allowed."""

    def __init__(self, what: str, seconds: float):
        self.seconds = seconds
        super().__init__(what, remedy=f"wait {max(1, round(seconds))} s")


class Unavailable(UserError):
    """The database is locked or gone, after several tries (503). Nothing half-done is left behind."""
