"""Edges between stages: each must name an earlier stage that makes what is needed. Left out: running them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from posttrain.errors import UserError, nearest

if TYPE_CHECKING:
    from posttrain.pipeline import Kind, Stage

ARTICLE = {
    "report": "an evaluation report",
    "demos": "a set of demos",
    "pairs": "a set of pairs",
    "prompts": "a set of prompts",
    "rankings": "a set of rankings",
    "ratings": "a set of ratings",
    "thumbs": "a set of thumbs",
    "judge": "a judge with its card",
    "decision": "a gate's decision",
}


@contextmanager
def in_stage(name: str) -> Iterator[None]:
    """A mistake that a stage finds is told with the stage's name."""
    try:
        yield
    except UserError as error:
        raise UserError(
            error.what, where=f"stages.{name}: {error.where}" if error.where else f"stages.{name}", remedy=error.remedy
        ) from None


def check(stages: "Mapping[str, Stage]") -> None:
    """Every edge must name an earlier stage of the right kind. Runs before any work."""
    seen: dict[str, Kind] = {}
    for name, stage in stages.items():
        kinds = stage.edge_kinds()
        for edge, sources in stage.edges().items():
            for source in sources:
                _check_edge(f"stages.{name}.{edge}", source, kinds[edge], seen, stages)
        with in_stage(name):
            stage.fits({edge: tuple(stages[s] for s in sources) for edge, sources in stage.edges().items()})
        seen[name] = stage.makes


def _check_edge(
    where: str, source: str, needs: "Kind", seen: "Mapping[str, Kind]", stages: "Mapping[str, Stage]"
) -> None:
    want = ARTICLE.get(needs, f"a {needs}")
    if source not in seen:
        later = source in stages
        name = where.split(".")[1]
        if later and name in {source, *_behind(source, stages)}:
            what = "a stage cannot be its own input" if source == name else f"{name!r} and {source!r} need each other"
            remedy = f"name a stage above that makes {want}"
            raise UserError(f"{what}: a cycle", where=where, remedy=remedy)
        what = f"stage {source!r} comes later in the file" if later else f"there is no stage {source!r} above"
        remedy = "move it up" if later else nearest(source, [s for s, k in seen.items() if k == needs] or seen)
        raise UserError(f"{what}; {want} is needed here", where=where, remedy=remedy)
    if seen[source] != needs:
        fitting = [s for s, k in seen.items() if k == needs]
        remedy = f"stages that make one: {', '.join(fitting)}" if fitting else f"add a stage that makes {want}"
        made = ARTICLE.get(seen[source], f"a {seen[source]}")
        raise UserError(f"needs {want}, but {source!r} makes {made}", where=where, remedy=remedy)


def _behind(name: str, stages: "Mapping[str, Stage]") -> set[str]:
    """Every stage that `name` is made from, also through others, whatever their order in the file."""
    found: set[str] = set()
    todo = [name]
    while todo:
        stage = stages.get(todo.pop())
        new = {s for sources in stage.edges().values() for s in sources} - found if stage else set()
        found |= new
        todo += new
    return found
