"""The rows as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .models import IMPORT, MODELS
from .results import Results, Row

__all__ = ["draw"]

COLOURS = {"torch": "#c2410c", "jax": "#6d28d9", "mlx": "#047857"}
MARKERS = "osD^v"
"""By execution, in the order in which they appear."""
LINES = ("-", "--", ":", "-.")
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw(results: Results, paths: Sequence[Path]) -> None:
    """Draw the ratios, and how the cost grows, into each of the files."""
    rows = [row for row in results.rows if row.ratio is not None and row.model != IMPORT]
    growing = [name for name, model in MODELS.items() if len(model.sizes) > 1]
    ratios = [row for row in rows if row.model not in growing]
    swept = {name: [row for row in rows if row.model == name] for name in growing}
    swept = {name: found for name, found in swept.items() if found}
    labels = list(dict.fromkeys(map(_side, ratios)))
    with matplotlib.rc_context(STYLE):
        size = (6.5 + 5 * len(swept), max(4, 0.2 * len(labels) + 1.2))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(
            1, 1 + len(swept), squeeze=False, width_ratios=[6.5, *[5] * len(swept)]
        )[0]
        _draw_ratios(panels[0], ratios, labels)
        for axes, (name, found) in zip(panels[1:], swept.items(), strict=True):
            _draw_growth(axes, name, found)
        for path in paths:
            figure.savefig(path, dpi=150)


def _side(row: Row) -> str:
    return f"{row.framework} {row.execution} / {row.against}"


def _draw_ratios(axes: Axes, rows: Sequence[Row], labels: list[str]) -> None:
    """A line per pair of sides, and on it a point per rule, model and dtype."""
    models = list(dict.fromkeys(row.title for row in rows))
    for place, model in enumerate(models):
        found = [row for row in rows if row.title == model]
        axes.scatter(
            [row.ratio.median for row in found if row.ratio],
            [labels.index(_side(row)) for row in found],
            c=[COLOURS[row.framework] for row in found],
            marker=MARKERS[place % len(MARKERS)],
            s=14,
            alpha=0.6,
            label=model,
        )
    axes.axvline(1, color="#64748b", linewidth=0.8)
    axes.set(xscale="log", xlabel="ours / theirs; a point per rule and dtype")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    if len(models) > 1:
        axes.legend()


def _draw_growth(axes: Axes, model: str, rows: Sequence[Row]) -> None:
    """Milliseconds of every side as it grows; the least, where a side was timed several times."""
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        ours = row.framework, f"samestep.{row.framework} {row.execution}"
        theirs = row.framework, row.against
        for side, taken in ((ours, row.ours_ms), (theirs, row.theirs_ms)):
            if taken is not None:
                curves.setdefault(side, {}).setdefault(row.size, []).append(taken)
    for framework, colour in COLOURS.items():
        own = [side for side in curves if side[0] == framework]
        own.sort(key=lambda side: not side[1].startswith("samestep"))
        for place, side in enumerate(own):
            points = sorted((count, min(taken)) for count, taken in curves[side].items())
            bold = side[1].startswith("samestep")
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                linestyle=LINES[place % len(LINES)],
                linewidth=1.8 if bold else 0.9,
                marker="o" if bold else ".",
                markersize=3,
                label=side[1],
            )
    axes.set(xscale="log", yscale="log", ylabel="ms per step", xlabel=f"n in {MODELS[model].title}")
    axes.legend(fontsize=7)
