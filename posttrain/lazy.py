"""A module imported at its first use, so that files which only describe mathematics load in no time.

Used where a signature is needed without the library behind it: a recipe is validated and planned without torch.
"""

from importlib import import_module
from typing import Any


class Lazy:
    """`torch = Lazy("torch")`: attribute access imports the module."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
