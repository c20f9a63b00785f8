"""Turn a plain function into a strict, frozen config: the signature is the schema. And configs into flat names.

Left out on purpose: defaults files, environment variables, inheritance of configs.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model


class Config(BaseModel):
    """A chosen function with its keyword arguments: `type` names it, the other fields are its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def bind(self) -> Callable[..., Any]:
        """The function with its keyword arguments filled in."""
        raise NotImplementedError


def config_of(fn: Callable[..., Any]) -> type[Config]:
    """A Config with `type: Literal[fn name]` and one field per keyword-only parameter of `fn`."""
    fields: dict[str, Any] = {"type": (Literal[fn.__name__], fn.__name__)}
    for p in inspect.signature(fn).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            kind = eval(p.annotation, fn.__globals__) if isinstance(p.annotation, str) else p.annotation
            fields[p.name] = (kind, ... if p.default is p.empty else p.default)
    model: type[Config] = create_model(fn.__name__, __base__=Config, __doc__=fn.__doc__, **fields)
    model.bind = lambda self: partial(fn, **self.model_dump(exclude={"type"}))  # type: ignore[method-assign]
    return model


def one_of(functions: Sequence[Callable[..., Any]]) -> Any:
    """Discriminated union over `type`: YAML says {type: dpo, beta: 0.1}."""
    return one_of_types([config_of(f) for f in functions])


def one_of_types(models: Sequence[type[BaseModel]]) -> Any:
    """Discriminated union of models that each have a `type: Literal[...]` field."""
    if len(models) == 1:
        return models[0]
    union = reduce(lambda a, b: a | b, models)  # type: ignore[arg-type, return-value]
    return Annotated[union, Field(discriminator="type")]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested knobs as dotted names, the way they are overridden on the command line: {'loss.beta': 0.1}."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
