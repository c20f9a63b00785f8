"""A constitution: principles in a YAML file, each with what to ask a critic and how to ask for a better answer.

    name: general
    principles:
      - name: no help with harm
        about: harmlessness                # any word; the report groups by it
        critique: Say where the answer helps ...
        revision: Rewrite the answer so that ...
        weight: 2.0                        # how often it is drawn, how much it counts
        rules: [answers_harm]              # what a rule can find of it, see judge/principles.py; may be left out
        examples:                          # shown to a critic that is a model; may be left out
          - {prompt: ..., answer: ..., critique: ..., revision: ...}

Left out on purpose: the critics (judge/critic.py), and principles of other people.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from posttrain import bundled
from posttrain.errors import UserError, nearest
from posttrain.judge.principles import RULES
from posttrain.rows import Row, explain

FOLDER = bundled.HERE / "constitutions"


class Example(Row):
    """A critique and revision as they should be."""

    prompt: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    critique: str = Field(min_length=1)
    revision: str = Field(min_length=1)


class Principle(Row):
    name: str
    critique: str
    revision: str
    about: str = "general"
    weight: float = Field(default=1.0, gt=0)
    rules: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()


class Constitution(Row):
    name: str
    principles: tuple[Principle, ...] = Field(min_length=1)

    def principle(self, name: str) -> Principle:
        return next(p for p in self.principles if p.name == name)


def find(name: str) -> Path:
    """The file of a constitution: one that ships (general, support, healthcare, finance) or a path."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = {p.stem: p for p in FOLDER.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    raise UserError(f"there is no constitution {name!r}", remedy=f"{nearest(name, shipped)}; or the path of a file")


def identity(name: str) -> str:
    """Digest of the file's bytes, 16 hex digits."""
    return sha256(find(name).read_bytes()).hexdigest()[:16]


def load(name: str) -> Constitution:
    """Read and check. UserError with file, line and the principle's place for an empty or doubled principle."""
    path = find(name)
    text = path.read_text(encoding="utf-8")
    try:
        tree = yaml.safe_load(text)
        lines = _lines(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        raise UserError(f"not valid YAML: {getattr(error, 'problem', error)}", where=f"{path}{at}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("principles"), list) or not tree["principles"]:
        raise UserError("a constitution needs `principles:` with at least one principle", where=str(path))
    if extra := set(tree) - {"name", "principles"}:
        key = str(min(extra, key=str))
        raise UserError(f"unknown key {key!r}", where=str(path), remedy=nearest(key, ("name", "principles")))
    places = [f"{path}:{line}, principle {n}" for n, line in enumerate(lines, 1)]
    principles = [_principle(value, place) for value, place in zip(tree["principles"], places, strict=True)]
    _once(principles, places)
    return Constitution(name=str(tree.get("name", path.stem)), principles=tuple(principles))


def _lines(text: str) -> list[int]:
    """The line each principle starts on, counted from 1."""
    root = yaml.compose(text)
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    for key, value in pairs:
        if getattr(key, "value", "") == "principles" and isinstance(value.value, list):
            return [node.start_mark.line + 1 for node in value.value]
    return []


def _principle(value: Any, place: str) -> Principle:
    if not isinstance(value, dict):
        raise UserError("a principle is a mapping with name, critique and revision", where=place)
    for field in ("name", "critique", "revision"):
        if not isinstance(value.get(field), str) or not value[field].strip():
            raise UserError(f"the principle's {field} is empty", where=place, remedy=f"say in words what {field} means")
    try:
        found = Principle.model_validate(value)
    except ValidationError as error:
        raise UserError(explain(error), where=place) from None
    if unknown := next((rule for rule in found.rules if rule not in RULES), ""):
        raise UserError(
            f"there is no rule {unknown!r}", where=f"{place} ({found.name})", remedy=nearest(unknown, RULES)
        )
    return found


def _once(principles: list[Principle], places: list[str]) -> None:
    """No name and no critique twice; case and blanks do not make a difference."""
    for field in ("name", "critique"):
        seen: dict[str, str] = {}
        for principle, place in zip(principles, places):
            key = " ".join(getattr(principle, field).lower().split()).rstrip(".")
            if key in seen:
                raise UserError(
                    f"the {field} of {principle.name!r} is the same as that of {seen[key].rpartition('/')[2]}",
                    where=place, remedy="take one of the two out; `weight` makes a principle count more",
                )  # fmt: skip
            seen[key] = place
