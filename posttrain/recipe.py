"""A YAML file -> runtime and stages, with dotted overrides, errors that suggest the right key, and a JSON Schema.

Left out on purpose: includes, variables, conditionals. A recipe is read from top to bottom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from posttrain.errors import UserError, nearest
from posttrain.pipeline import Runtime, Stage, check
from posttrain.progress import Progress


class RuntimeKnobs(BaseModel):
    """How and where a run happens; never part of an artefact's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field(default="auto", pattern="^(auto|cpu|cuda)$")
    precision: str = Field(default="auto", pattern="^(auto|bf16|fp32)$")
    compile: str = Field(default="auto", pattern="^(auto|on|off)$")
    sampler: str = Field(default="local", pattern="^local$")
    rows: str = Field(default="auto", pattern="^(auto|memory|mapped)$")  # mapped: rows stay on the disk
    checkpointing: bool = False  # keep no activations of the layers, compute them again in the backward pass
    deterministic: bool = False  # on an accelerator: only kernels that give the same bits every time
    not_finite: str = Field(default="stop", pattern="^(stop|skip)$")  # a step with a NaN or infinite loss or gradient
    price_per_hour: float = Field(default=0.0, ge=0)  # money for an hour of this machine, for the report


@dataclass(frozen=True)
class Recipe:
    """A validated recipe. text: the file as it was read, overrides: what the command line changed."""

    name: str
    runtime: RuntimeKnobs
    stages: dict[str, Stage]
    path: Path
    text: str
    overrides: tuple[str, ...]

    def start(self, progress: Progress) -> Runtime:
        return Runtime(**self.runtime.model_dump(), progress=progress)


def stage_types() -> dict[str, type[Stage]]:
    from posttrain.stages import STAGES

    return {get_args(s.model_fields["type"].annotation)[0]: s for s in STAGES}


def find(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that ships with the package."""
    path = Path(name)
    if path.is_file():
        return path
    here = Path(__file__).parent
    shipped = {p.stem: p for folder in (here / "recipes", here.parent / "recipes") for p in folder.glob("*.yaml")}
    if path.stem in shipped:
        return shipped[path.stem]
    raise UserError("no such recipe", where=name, remedy=nearest(path.stem, shipped) if shipped else "")


def load(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override, validate. Raises UserError naming file, YAML path, value and the nearest right name."""
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"not valid YAML: {getattr(error, 'problem', error)}", where=f"{path}{line}") from None
    except UnicodeDecodeError:
        raise UserError("this is not a text file", where=str(path)) from None
    if not isinstance(tree, dict) or not isinstance(tree.get("stages"), dict) or not tree["stages"]:
        raise UserError("a recipe needs a `stages:` mapping with at least one stage", where=str(path))
    _only(tree, ("name", "runtime", "stages"), str(path))
    for override in overrides:
        _override(tree, override)
    stages = {str(k): _stage(str(k), v, path) for k, v in tree["stages"].items()}
    runtime = _validated(RuntimeKnobs, tree.get("runtime") or {}, "runtime", path)
    try:
        check(stages)
    except UserError as error:
        raise UserError(error.what, where=f"{path}: {error.where}", remedy=error.remedy) from None
    return Recipe(str(tree.get("name", path.stem)), runtime, stages, path, text, tuple(overrides))


def _only(tree: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in tree:
        if key not in known:
            raise UserError(f"unknown key {key!r}", where=where, remedy=nearest(str(key), known))


def _override(tree: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    keys = dotted.removeprefix("stages.").split(".")
    if not equals or len(keys) < 2:
        raise UserError(f"{override!r} is not of the form stage.key=value", remedy="for example dpo.loss.beta=0.2")
    place = tree.setdefault("runtime", {}) if keys[0] == "runtime" else tree["stages"].get(keys[0])
    if place is None:
        raise UserError(f"no stage {keys[0]!r} to override", where=override, remedy=nearest(keys[0], tree["stages"]))
    for key in keys[1:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise UserError(f"{key!r} is a plain value, it has no keys of its own", where=override)
    try:
        place[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError:
        place[keys[-1]] = value


def _stage(name: str, body: Any, path: Path) -> Stage:
    where = f"stages.{name}"
    if not name.replace("_", "").replace("-", "").isalnum():
        raise UserError("a stage's name may hold letters, digits, - and _", where=f"{path}: {where}")
    types = stage_types()
    if not isinstance(body, dict) or "type" not in body:
        raise UserError(
            "a stage is a mapping with a `type`", where=f"{path}: {where}", remedy=f"types: {', '.join(types)}"
        )
    if body["type"] not in types:
        remedy = nearest(str(body["type"]), types)
        raise UserError(f"unknown stage type {body['type']!r}", where=f"{path}: {where}.type", remedy=remedy)
    return _validated(types[body["type"]], body, where, path)


def _validated(model: type[Any], body: Any, where: str, path: Path) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _explain(error, model, where, path) from None


def _explain(error: ValidationError, model: type[BaseModel], where: str, path: Path) -> UserError:
    first = error.errors()[0]
    spot = ".".join([where, *(str(x) for x in first["loc"] if not str(x).startswith(("function-", "tagged-")))])
    kind, got = first["type"], first.get("input")
    if kind == "extra_forbidden":
        key = str(first["loc"][-1])
        return UserError(f"unknown key {key!r}", where=f"{path}: {spot}", remedy=nearest(key, _keys(error, model)))
    if kind == "missing":
        return UserError("this key is required", where=f"{path}: {spot}")
    if kind.startswith("union_tag"):
        expected = str(first.get("ctx", {}).get("expected_tags", "")).replace("'", "")
        got_tag = got.get("type") if isinstance(got, dict) else got
        remedy = nearest(str(got_tag), expected.split(", "))
        return UserError(f"unknown type {got_tag!r}", where=f"{path}: {spot}", remedy=remedy)
    return UserError(f"{first['msg']}, got {got!r}", where=f"{path}: {spot}")


def _keys(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """The keys that would have been right beside the unknown one: of the stage, or of the config nested in it."""
    loc = error.errors()[0]["loc"]
    if len(loc) == 1:
        return [k for k in model.model_fields if k != "type"]
    schema = model.model_json_schema()
    nested = next((d for n, d in schema.get("$defs", {}).items() if n == str(loc[-2]) or n.lower() == str(loc[-2])), {})
    return list(nested.get("properties", {})) or ["type"]


def schema() -> dict[str, Any]:
    """JSON Schema of recipe files, for editors: `# yaml-language-server: $schema=recipe.schema.json`."""
    defs: dict[str, Any] = {}
    options = []
    for name, stage in stage_types().items():
        body = stage.model_json_schema(ref_template="#/$defs/{model}")
        defs |= body.pop("$defs", {})
        body["required"] = sorted({"type", *body.get("required", [])})
        defs[f"stage_{name}"] = body
        options.append({"$ref": f"#/$defs/stage_{name}"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "posttrain recipe",
        "type": "object",
        "required": ["stages"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"},
            "runtime": RuntimeKnobs.model_json_schema(),
            "stages": {"type": "object", "minProperties": 1, "additionalProperties": {"oneOf": options}},
        },
        "$defs": defs,
    }
