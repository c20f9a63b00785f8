"""Plots of the quality page: SVG text written by hand, coloured by the style sheet, so light and dark share a drawing.

Matplotlib is not used here: importing it costs more than all pages of a minute. Left out on purpose: anything that
needs a script; the numbers stand in tables beside the plots.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH = 480


class Dot(NamedTuple):
    """A row of `dots`: a value in its interval. low_tone: drawn in the colour of what needs a look."""

    label: str
    value: float
    low: float
    high: float
    low_tone: bool = False


def dots(title: str, rows: Sequence[Dot], *, low: float = 0.0, high: float = 1.0, mark: float | None = None) -> str:
    """Values with intervals on one axis from low to high, a row each; mark: a dashed line to compare with."""
    left, right, step = 160, 436, 30
    height = step * len(rows) + 30

    def x(value: float) -> float:
        return left + (right - left) * (min(max(value, low), high) - low) / (high - low)

    tick = 0.5 if high - low > 1.5 else 0.25
    parts = [_axis(x(low + tick * i), height, f"{low + tick * i:g}") for i in range(round((high - low) / tick) + 1)]
    if mark is not None:
        parts.append(f'<line class="mark" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="4" y2="{height - 26}"/>')
    for i, row in enumerate(rows):
        y, tone = 18 + step * i, " low" if row.low_tone else ""
        parts.append(
            f'<text x="0" y="{y + 4}">{escape(_cut(row.label))}</text>'
            f'<line class="span{tone}" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot{tone}" cx="{x(row.value):.1f}" cy="{y}" r="5"/>'
            f'<text class="quiet" x="{WIDTH}" y="{y + 4}" text-anchor="end">{row.value:.2f}</text>'
        )
    return _svg(title, height, parts)


def bars(title: str, rows: Sequence[tuple[str, float]]) -> str:
    """Counts as horizontal bars."""
    left, right, step = 160, 430, 28
    top = max((n for _, n in rows), default=1) or 1
    parts = []
    for i, (label, n) in enumerate(rows):
        y, width = 16 + step * i, max(2.0, (right - left) * n / top)
        parts.append(
            f'<text x="0" y="{y + 4}">{escape(_cut(label))}</text>'
            f'<rect class="bars" x="{left}" y="{y - 7}" width="{width:.1f}" height="14" rx="3"/>'
            f'<text class="quiet" x="{left + width + 8:.1f}" y="{y + 4}">{n:g}</text>'
        )
    return _svg(title, step * len(rows) + 8, parts)


def _axis(x: float, height: int, label: str) -> str:
    return (
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 26}"/>'
        f'<text class="quiet" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{label}</text>'
    )


def _cut(label: str, most: int = 22) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg class="plot" role="img" aria-label="{escape(title, quote=True)}" viewBox="0 0 {WIDTH} {height}">'
        f"{''.join(parts)}</svg>"
    )
