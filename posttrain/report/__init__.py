"""One self-contained page per run: what went in, what came out, what each stage added and cost, and what the gate said.

Left out on purpose: scripts, requests to anywhere, and numbers that are not in the run's records.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from posttrain.pipeline import Outcome, write_text

if TYPE_CHECKING:
    from markupsafe import Markup


def write(
    root: Path,
    recipe_name: str,
    recipe_text: str,
    folders: Mapping[str, Path],
    outcome: Outcome | None,
    price_per_hour: float,
) -> Path:
    """Write root/report.html from the finished stages in `folders` (stage name -> its directory) and return its path.

    recipe_text is shown as it is; outcome, when known, tells which stages a gate held back; price_per_hour is money
    for an hour of the machine, 0 when unknown.
    """
    from posttrain.report import collect, view

    page = view.page(recipe_name, recipe_text, collect.nodes_of(folders), outcome, price_per_hour)
    path = root / "report.html"
    root.mkdir(parents=True, exist_ok=True)
    write_text(path, render(page))
    return path


def render(page: object) -> str:
    """The page as HTML; everything that comes from data is escaped, drawings are not (they escape their own texts)."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from posttrain.progress import clock
    from posttrain.report import words

    environment = Environment(
        loader=PackageLoader("posttrain", "report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"clock": clock, **{f.__name__: f for f in (words.value, words.signed, words.count)}}
    environment.filters |= {"breakable": breakable, "flops": words.flops, "shorten": words.shorten, "many": words.many}
    return environment.get_template("template.html").render(page=page)


def breakable(name: str) -> "Markup":
    """A metric's name that may be broken at its dots and underscores, where a phone's column is narrow."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"_|\.(?=[a-z])", r"\g<0><wbr>", str(escape(name))))


def examples(folders: Mapping[str, Path], n: int = 3) -> list[str]:
    """Lines for a terminal: n questions with the answers of the first and the last model that were evaluated."""
    from posttrain.report import collect, samples

    return samples.examples(collect.reports(collect.nodes_of(folders)), n)
