"""A YAML file -> runtime and stages, with dotted overrides, errors that suggest the right key, and a JSON Schema.

Left out on purpose: includes, variables, conditionals. A recipe is read from top to bottom.
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from posttrain.errors import UserError, nearest
from posttrain.pipeline import ARTICLE, Runtime, Stage, check
from posttrain.progress import Progress

RESERVED = ("name", "runtime", "stages")  # keys of a recipe: as a stage's name they would make overrides ambiguous
EXAMPLE = "stages: {base: {type: base_model, model: bundled}}; recipes/sft.yaml is a short whole one"


class RuntimeKnobs(BaseModel):
    """How and where a run happens; never part of an artefact's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    sampler: Literal["local"] = "local"
    rows: Literal["auto", "memory", "mapped"] = "auto"  # mapped: rows stay on the disk
    # keep no activations of the layers, compute them again in the backward pass; offload: keep what is needed for that,
    # the input of each layer, in the machine's memory instead of the GPU's
    checkpointing: bool | Literal["offload"] = False
    moments: Literal["fp32", "int8"] = "fp32"  # AdamW's: 8 bytes a trained weight, or 2 with bitsandbytes
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
    if path.is_dir():
        raise UserError("this is a folder, not a recipe", where=name, remedy="give a YAML file, for example sft.yaml")
    here = Path(__file__).parent
    shipped = {p.stem: p for folder in (here / "recipes", here.parent / "recipes") for p in folder.glob("*.yaml")}
    if path.stem in shipped:
        return shipped[path.stem]
    raise UserError("no such recipe", where=name, remedy=nearest(path.stem, shipped) if shipped else "")


def load(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override, validate. Raises UserError naming file, YAML path, value and the nearest right name."""
    path = find(name)
    text, tree = _parsed(path)
    if isinstance(tree, dict):
        _only(tree, RESERVED, str(path))
    if not isinstance(tree, dict) or not isinstance(tree.get("stages"), dict) or not tree["stages"]:
        raise UserError("a recipe needs a `stages:` mapping with at least one stage", where=str(path), remedy=EXAMPLE)
    tree["stages"] = {k: deepcopy(v) for k, v in tree["stages"].items()}  # what an anchor shares, overrides must not
    for override in overrides:
        _override(tree, override)
    stages = {k: _stage(k, v, path) for k, v in tree["stages"].items()}
    runtime = _validated(RuntimeKnobs, tree.get("runtime") or {}, "runtime", path)
    try:
        check(stages)
    except UserError as error:
        raise UserError(error.what, where=f"{path}: {error.where}", remedy=error.remedy) from None
    return Recipe(_name(tree, path), runtime, stages, path, text, tuple(overrides))


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand once in a mapping: otherwise the last of two stages of one name would win."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    problem = f"{key.value!r} stands here twice, first in line {seen[key.value]}"
                    raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
                seen[key.value] = key.start_mark.line + 1
        return node


def _parsed(path: Path) -> tuple[str, Any]:
    """(text, what it says). UserError for what is not YAML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", error))
        line = f":{mark.line + 1}" if mark else ""
        remedy = "check brackets, colons and indentation on this line and the one above"
        if "twice" in problem:
            remedy = "rename one of the two, or take it out"
        elif "'\\t'" in problem:
            problem, remedy = "a tab where YAML wants blanks", "indent with blanks"
        raise UserError(f"not valid YAML: {problem}", where=f"{path}{line}", remedy=remedy) from None
    except UnicodeDecodeError:
        remedy = "give a recipe, a YAML file in UTF-8"
        raise UserError("this is not a text file", where=str(path), remedy=remedy) from None


def _name(tree: Mapping[str, Any], path: Path) -> str:
    """The run's folder is called so; the file's own name where the recipe gives none."""
    name = tree.get("name", path.stem)
    if "name" in tree and (not isinstance(name, str) or not re.fullmatch(r"\w[\w .-]*", name)):
        raise UserError(
            f"a run's name is a text of letters, digits, '-', '_' and '.', got {name!r}", where=f"{path}: name",
            remedy=f"name: {path.stem}, or leave it out; --runs says which folder it lies in",
        )  # fmt: skip
    return str(name)


def _only(tree: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in tree:
        if key not in known:
            raise UserError(f"unknown key {key!r}", where=where, remedy=nearest(str(key), known))


def _override(tree: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    keys = dotted.removeprefix("stages.").split(".")
    if not equals or len(keys) < 2:
        raise UserError(f"{override!r} is not of the form stage.key=value", remedy="for example dpo.loss.beta=0.2")
    place, known = (tree, ["runtime"]) if keys[0] == "runtime" else (tree["stages"], list(map(str, tree["stages"])))
    if keys[0] not in (*known, "runtime"):
        raise UserError(f"no stage {keys[0]!r} to override", where=override, remedy=nearest(keys[0], known))
    for key in keys[:-1]:
        place[key] = {} if place.get(key) is None else place[key]
        place = place[key]
        if not isinstance(place, dict):
            raise UserError(
                f"{key!r} is a plain value, it has no keys of its own", where=override,
                remedy=f"{override.partition(key)[0]}{key}=VALUE replaces it",
            )  # fmt: skip
    try:
        place[keys[-1]] = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        if value.lstrip()[:1] in "[{":  # meant as a list or a mapping; anything else is a text with a colon in it
            remedy = "quote the whole argument, and close what is open: 'demos.path=[a.jsonl, b.jsonl]'"
            raise UserError(
                f"not valid YAML: {getattr(error, 'problem', error)}", where=override, remedy=remedy
            ) from None
        place[keys[-1]] = value


def _stage(name: Any, body: Any, path: Path) -> Stage:
    where = f"stages.{name}"
    if not isinstance(name, str):
        remedy = f"put it in quotes, here and where it is used: '{name}'"
        raise UserError(f"YAML reads this name as {name!r}, which is no text", where=f"{path}: {where}", remedy=remedy)
    if not name.replace("_", "").replace("-", "").isalnum():
        what, remedy = "a stage's name may hold letters, digits, - and _", re.sub(r"[^\w-]+", "_", name)
        raise UserError(what, where=f"{path}: {where}", remedy=f"call it {remedy}")
    if name in RESERVED:
        what = f"a stage cannot be called {name!r}: a recipe has a key of that name"
        raise UserError(what, where=f"{path}: {where}", remedy="give the stage another name")
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
        made = model.model_validate(body)
    except ValidationError as error:
        raise _explain(error, body, model, where, path) from None
    _no_truths(body, made, f"{path}: {where}")
    return made


def _no_truths(body: Any, made: Any, where: str) -> None:
    """Refuses `steps: yes`, which would be taken as 1."""
    if isinstance(body, bool) and isinstance(made, int | float) and not isinstance(made, bool):
        raise UserError(f"expected a number, got {str(body).lower()}", where=where, remedy="write digits")
    if isinstance(body, dict):
        for key, value in body.items():
            _no_truths(
                value, made.get(key) if isinstance(made, dict) else getattr(made, str(key), None), f"{where}.{key}"
            )
    elif isinstance(body, list) and isinstance(made, list | tuple):
        for n, (value, inner) in enumerate(zip(body, made)):
            _no_truths(value, inner, f"{where}.{n}")


EXPECTED = {
    "int": "expected a whole number", "float": "expected a number", "bool": "expected true or false",
    "string": "expected a text", "tuple": "expected a list", "list": "expected a list",
    "model": "expected a mapping of keys to values", "dict": "expected a mapping of keys to values",
}  # fmt: skip


def _explain(error: ValidationError, body: Any, model: type[BaseModel], where: str, path: Path) -> UserError:
    errors = error.errors()  # a wrong key is the likely reason for a missing one; of a union the branch that came far
    deepest = max(errors, key=lambda e: len(_place(e["loc"], body, e["type"])))
    first = next((e for e in errors if e["type"] == "extra_forbidden"), deepest)
    kind, got = first["type"], first.get("input")
    loc = _place(first["loc"], body, kind)
    place = f"{path}: {'.'.join([where, *loc])}"
    if kind == "extra_forbidden":
        return UserError(f"unknown key {loc[-1]!r}", where=place, remedy=nearest(loc[-1], _keys(first["loc"], model)))
    if kind == "missing":
        return UserError("this key is required", where=place, remedy=_example(model, loc, None))
    if kind.startswith("union_tag"):
        expected = str(first.get("ctx", {}).get("expected_tags", "")).replace("'", "")
        got_tag = got.get("type") if isinstance(got, dict) else got
        return UserError(f"unknown type {got_tag!r}", where=place, remedy=nearest(str(got_tag), expected.split(", ")))
    if kind == "literal_error":
        options = [o.strip("'") for o in re.split(r", | or ", str(first["ctx"]["expected"]))]
        what = f"expected one of {', '.join(options)}, got {got!r}"
        return UserError(what, where=place, remedy=nearest(str(got), options))
    return UserError(
        f"{_expected(kind, first['msg'])}, got {got!r}", where=place, remedy=_example(model, loc, got, kind)
    )


def _place(loc: Sequence[int | str], body: Any, kind: str) -> list[str]:
    """The part of a validation error's location that is in the file: branches of unions and tags are not."""
    found = []
    for step in loc:
        if (isinstance(body, dict) and step in body) or (isinstance(body, list) and isinstance(step, int)):
            found.append(str(step))
            body = body[step]
    return [*found, str(loc[-1])] if kind == "missing" else found


def _expected(kind: str, message: str) -> str:
    said = message.removeprefix("Value error, ").replace("Input should be", "must be")
    said = re.sub(r"^\w+ should have (.*?) after validation, not .*", r"must have \1", said)
    said = said.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return EXPECTED.get(kind.split("_")[0], said)


def _example(model: type[BaseModel], loc: Sequence[str], got: Any, kind: str = "") -> str:
    """`key: value` as it could stand in the file: what was meant, the default, or what kind of stage to name there."""
    key, field = (loc[-1], model.model_fields.get(loc[0])) if loc else ("", None)
    if kind.startswith("model") and isinstance(got, str) and loc:
        return f"{key}: {{type: {got}}}"
    if kind.startswith(("tuple", "list")) and isinstance(got, str):
        return f"{key}: [{got}]"
    if len(loc) == 1 and issubclass(model, Stage) and key in model.edge_kinds():
        return f"{key}: the name of a stage above that makes {ARTICLE.get(model.edge_kinds()[key]) or 'it'}"
    default = None if field is None or len(loc) > 1 or field.is_required() else field.default
    if isinstance(default, str | int | float) and default != "":
        return f"for example {key}: {str(default).lower() if isinstance(default, bool) else default}"
    return "`posttrain schema` says what may stand here, and recipes/ has examples"


def _keys(loc: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The keys that would have been right beside the unknown one: of the stage, or of the config nested in it."""
    if len(loc) == 1:
        return [k for k in model.model_fields if k != "type"]
    schema = model.model_json_schema()
    nested = next((d for n, d in schema.get("$defs", {}).items() if n == str(loc[-2]) or n.lower() == str(loc[-2])), {})
    every = {k for d in schema.get("$defs", {}).values() for k in d.get("properties", {})}
    return list(nested.get("properties", {})) or sorted(every)


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
