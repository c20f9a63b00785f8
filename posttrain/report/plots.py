"""Plots as SVG text that goes into the page: no files, no scripts, colours from the page's CSS variables.

Matplotlib draws with stand-in colours, which are replaced by var(--...) afterwards, so that one drawing serves light
and dark; text stays text. Every drawing is phone-sized, the page puts several side by side where there is room.
Left out on purpose: reading files (collect.py), and anything interactive.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#010101", "#020202", "#030303"
SERIES = tuple(f"#0a0a0{i}" for i in range(6))
PAPER = "#040404"
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper"} | {c: f"s{i}" for i, c in enumerate(SERIES)}
WIDTH = 4.1  # inches at 96 per inch: the width of a phone's text column
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.linewidth": 1.0,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
    "path.simplify_threshold": 0.4,
}


@dataclass(frozen=True)
class Line:
    """One curve: y over x. series: number of its colour. dots: draw the points too (few
    measurements). noisy: draw a running mean over the points, which stay visible behind it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    series: int = 1
    dots: bool = False
    noisy: bool = True


@dataclass(frozen=True)
class Dot:
    """A value with its interval; low and high may equal the value when there is none."""

    value: float
    low: float
    high: float
    series: int


@dataclass(frozen=True)
class DotRow:
    label: str
    dots: Sequence[Dot]


@contextmanager
def _figure(height: float, margins: tuple[float, float]) -> Iterator[tuple["Figure", "Axes"]]:
    """A bare figure outside pyplot: nothing global is touched but the style, which is put back. Inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        left, below = margins  # fixed, because working them out costs half of the drawing time
        figure.subplots_adjust(left / WIDTH, below / height, 1 - 0.06 / WIDTH, 1 - 0.12 / height)
        yield figure, figure.add_subplot()


def _svg(figure: "Figure", salt: str, title: str) -> str:
    """The figure as an inline element: ids made unique by `salt`, colours and fonts left to the page."""
    import matplotlib

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, f"var(--{variable})")
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)  # figure_1, axes_1 ...: in every drawing, and never referred to
    size = re.search(r'viewBox="([^"]*)"', text)
    box = size.group(1) if size else "0 0 400 300"
    head = f'<svg class="plot" role="img" aria-label="{_attribute(title)}" viewBox="{box}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + text[text.index(">") + 1 :].strip()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def curves(
    salt: str, title: str, lines: Sequence[Line], *, unit: str = "", height: float = 2.35, zero: bool = False,
    over: str = "optimiser step",
) -> str:  # fmt: skip
    """Curves over optimiser steps, or what `over` says. zero: draw the line y = 0 that separates better from worse."""
    with _figure(height, (0.62, 0.42)) as (figure, axes):
        for line in lines:
            _draw(axes, line)
        if zero:
            axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_xlabel(over)
        axes.set_ylabel(unit, labelpad=3)
        axes.margins(x=0.02)
        axes.tick_params(length=0)
        axes.locator_params(axis="y", nbins=5)
        if len(lines) > 1:
            axes.legend(frameon=False, loc="best", handlelength=1.4, fontsize=9)
        return _svg(figure, salt, title)


def _draw(axes: "Axes", line: Line) -> None:
    color = SERIES[line.series % len(SERIES)]
    if line.dots:
        axes.plot(line.x, line.y, color=color, label=line.label, marker="o", markersize=4.2, linewidth=1.3)
    elif line.noisy and len(line.x) > 40:
        axes.plot(line.x, line.y, color=color, alpha=0.28, linewidth=0.9)
        axes.plot(line.x, smooth(line.y, len(line.y) / 25), color=color, label=line.label)
    else:
        axes.plot(line.x, line.y, color=color, label=line.label)


def smooth(y: Sequence[float], span: float) -> list[float]:
    """Exponential running mean over about `span` points, without the bias of its start."""
    keep = 1 - 1 / max(1.0, span)
    total = weight = 0.0
    found = []
    for value in y:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        found.append(total / weight)
    return found


def forest(salt: str, title: str, rows: Sequence[DotRow], labels: Mapping[int, str], *, share: bool = True) -> str:
    """Dots with intervals, a row for each metric, the label above its dots; one colour for each report.

    share: values are shares of 1, drawn on a common axis from 0 to 100%.
    """
    step = 0.18
    heights = [0.38 + step * len(row.dots) for row in rows]
    with _figure(sum(heights) + 0.35, (0.08, 0.22)) as (figure, axes):
        top = 0.0
        for row, height in zip(rows, heights):
            axes.text(0.0, top + 0.14, row.label, transform=axes.get_yaxis_transform(), va="center", fontsize=9.5)
            for i, dot in enumerate(row.dots):
                y, color = top + 0.36 + step * i, SERIES[dot.series % len(SERIES)]
                axes.plot([dot.low, dot.high], [y, y], color=color, linewidth=2.2, alpha=0.55)
                axes.plot([dot.value], [y], color=color, marker="o", markersize=5.8, label=labels.get(dot.series, ""))
            top += height
        axes.set_ylim(top + 0.02, -0.02)
        axes.set_yticks([])
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        if share:
            axes.set_xlim(-0.02, 1.02)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0%", "25%", "50%", "75%", "100%"])
        return _svg(figure, salt, title)


def reliability(salt: str, title: str, confidence: Sequence[float], dots: Sequence[Dot]) -> str:
    """Accuracy over confidence with intervals; on the diagonal a model is as often right as it says."""
    with _figure(2.35, (0.62, 0.42)) as (figure, axes):
        axes.plot([0.5, 1.0], [0.5, 1.0], color=MUTED, linewidth=0.8)
        for x, dot in zip(confidence, dots):
            color = SERIES[dot.series % len(SERIES)]
            axes.plot([x, x], [dot.low, dot.high], color=color, linewidth=2.2, alpha=0.55)
            axes.plot([x], [dot.value], color=color, marker="o", markersize=5)
        axes.set_xlim(0.49, 1.01)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("how sure it is")
        axes.set_ylabel("how often right", labelpad=3)
        axes.tick_params(length=0)
        return _svg(figure, salt, title)


def bars(salt: str, title: str, edges: Sequence[float], counts: Sequence[float], unit: str) -> str:
    """A histogram over a range around 0; what lies left of 0 has another colour."""
    with _figure(2.35, (0.62, 0.42)) as (figure, axes):
        for left, right, n in zip(edges, edges[1:], counts):
            color = SERIES[1] if left + right >= 0 else SERIES[0]
            axes.bar(left, n, width=0.94 * (right - left), align="edge", color=color, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_xlabel(unit)
        axes.set_ylabel("comparisons", labelpad=3)
        axes.tick_params(length=0)
        axes.locator_params(axis="y", nbins=5)
        return _svg(figure, salt, title)
