"""The page: one self-contained HTML file with the result, the tables and the curves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from samestep.command_line.environment import machine, versions
from samestep.command_line.figures import in_ulp
from samestep.command_line.pages import filled, write_whole

from .measurement import RULES, Measured, Series, landmarks

__all__ = ["headline", "write"]

COLOURS = {
    "numpy": ("#64748b", "#94a3b8"),
    "torch": ("#c2410c", "#fb923c"),
    "jax": ("#6d28d9", "#a78bfa"),
    "mlx": ("#047857", "#34d399"),
}
"""Light and dark. Figures are drawn in the light ones, which the page makes into variables."""
INK, GRID = "#010101", "#020202"
"""Drawn in these, shown in the page's colours for text and rules."""
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
SIZE = (5.2, 4.0)
PACKAGES = (
    "samestep",
    "numpy",
    "array-api-compat",
    "torch",
    "jax",
    "jaxlib",
    "optax",
    "mlx",
    "scikit-learn",
    "matplotlib",
)


def write(measured: Measured, out: Path) -> None:
    """Write the page; a file that is there already is replaced only by a complete one."""
    write_whole(_render(measured), out)


def headline(measured: Measured) -> list[str]:
    """The result in sentences: samestep first, then the libraries' own optimizers."""
    ours = [series for series in measured.replayed["Adan"] if series.ours]
    if not ours:
        return ["Only NumPy was run, so there is nothing to compare."]
    same = [series.framework for series in ours if series.largest == 0]
    apart = [
        f"on {series.framework} it differs by at most {in_ulp(series.largest)} ULP"
        for series in ours
        if series.largest > 0
    ]
    equal = [f"on {_listed(same)} it has NumPy's parameters bit for bit"] if same else []
    sentences = [
        f"samestep's Adan, {measured.steps} steps on the same gradients: "
        f"{'; '.join(equal + apart)}."
    ]
    own = [
        f"{series.name} by up to {in_ulp(series.largest)} ULP"
        for by_rule in measured.replayed.values()
        for series in by_rule
        if not series.ours
    ]
    if own:
        sentences.append(
            "The libraries' own optimizers, compared with the same rule in samestep, "
            f"differ: {_listed(own)}."
        )
    return sentences


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _render(measured: Measured) -> str:
    names = [run.framework for run in measured.trained]
    return filled(
        __package__,
        "report.html",
        measured=measured,
        headline=headline(measured),
        rules=RULES,
        colours=COLOURS,
        landmarks=landmarks(measured.steps),
        in_ulp=in_ulp,
        versions=machine() | versions(PACKAGES, "not installed"),
        command=f"samestep demo --steps {measured.steps} --frameworks {','.join(names)}",
        replayed={
            rule: _divergence(series) for rule, series in measured.replayed.items() if series
        },
        training=_divergence(measured.training) if measured.training else None,
        losses=_losses(measured),
    )


def _divergence(series: list[Series]) -> Markup:
    """Distance from NumPy by step, on a logarithmic axis with a line of its own for zero."""
    positive = [ulps for one in series for ulps in one.ulps if ulps > 0]
    identical = 10 ** (math.floor(math.log10(min(positive, default=1))) - 1)

    def draw(axes: Axes) -> None:
        axes.set_yscale("log")
        axes.axhspan(identical / 3, identical * 3, color=GRID, alpha=0.35, linewidth=0)
        for place, one in enumerate(series):
            shown = [ulps or identical for ulps in one.ulps]
            axes.plot(
                range(1, len(shown) + 1),
                shown,
                label=one.label,
                color=COLOURS[one.framework][0],
                linestyle="-" if one.ours else "--",
                linewidth=_width(place) if one.ours else 2,
            )
        top = math.ceil(math.log10(max(positive, default=1)) + 0.3)
        decades = range(int(math.log10(identical)) + 1, top + 1, 2 if top > 4 else 1)
        number = EngFormatter(sep="")
        axes.set_yticks(
            [identical, *(10.0**n for n in decades)],
            ["identical", *(number(10.0**n) for n in decades)],
        )
        axes.set_ylim(identical / 3, 10.0**top)
        axes.minorticks_off()
        axes.set_ylabel("ULP from NumPy")

    return _figure(draw, "Difference from NumPy after each step, in ULP")


def _losses(measured: Measured) -> Markup:
    def draw(axes: Axes) -> None:
        axes.set_yscale("log")
        for place, run in enumerate(measured.trained):
            axes.plot(
                range(1, measured.steps + 1),
                run.losses,
                label=run.framework,
                linewidth=_width(place),
                color=COLOURS[run.framework][0],
            )
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_ylabel("loss of the batch")

    return _figure(draw, "Loss of each training step")


def _width(place: int) -> float:
    """Curves that lie on one another are drawn ever thinner, so that all are seen."""
    return float(6 / 1.9**place)


def _figure(draw: Callable[[Axes], None], title: str) -> Markup:
    """A figure as an SVG element whose colours are the page's."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_xlabel("step")
        figure.legend(loc="outside lower center", ncols=2)
        written = io.StringIO()
        figure.savefig(
            written,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--rule)")
    for framework, (colour, _) in COLOURS.items():
        svg = svg.replace(colour, f"var(--{framework})")
    return Markup(svg)
