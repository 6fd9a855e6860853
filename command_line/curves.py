"""Curves of differences on a log scale, as SVG that has the page's colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from .report import Curve, decimal

__all__ = ["COLOURS", "key", "picture"]

COLOURS = (
    ("#c2410c", "#fb923c"),
    ("#1d4ed8", "#7ea6ff"),
    ("#047857", "#34d399"),
    ("#86198f", "#e08bef"),
    ("#a16207", "#facc15"),
    ("#0e7490", "#22d3ee"),
)
"""Light and dark. Curves beyond these are thin and grey."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4")
"""Patterns of the lines, for readers who cannot tell the colours apart."""
POINTS = 60
"""Steps of a curve whose value is told under the pointer, at most."""
WIDTH, HEIGHT = 420.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 12.0, 40.0
DECADES = 6
"""Marks on the log scale, at most."""


class _Scales:
    """Coordinates of steps and differences in the picture."""

    def __init__(self, curves: Sequence[Curve], bounds: Sequence[float]) -> None:
        drawn = [*(curve.values for curve in curves), bounds]
        values = [v for one in drawn for v in one[1:] if 0 < v < math.inf] or [1.0]
        self.steps, lowest = max(map(len, drawn)) - 1, math.floor(math.log10(min(values)))
        highest = math.ceil(math.log10(max(values)) + 0.1)
        self.floored = bool(bounds) or any(0 in one[1:] for one in drawn)
        """Whether there is a place for zero, a decade below the smallest number."""
        self.zero = lowest - 1 if self.floored else lowest
        self.top = max(highest, self.zero + (3 if self.floored else 1))

    def x(self, step: float) -> float:
        share = (step - 1) / max(self.steps - 1, 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        power = math.log10(value) if value > 0 else self.zero
        share = (min(power, self.top) - self.zero + 0.4) / (self.top - self.zero + 0.4)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def picture(title: str, curves: Sequence[Curve], bounds: Sequence[float]) -> Markup:
    """The curves after each step, the bound, and the step after which the first one parts.

    Args:
        title: what it shows, for those who do not see it.
        curves: those that matter most first.
        bounds: within which the two agree, after each step; empty where there are none.
    """
    scales = _Scales(curves, bounds)
    body = [*(_within(scales, bounds) if bounds else ()), *_marks(scales)]
    for place, curve in sorted(enumerate(curves), key=lambda one: (-one[1].width, -one[0])):
        body += _line(scales, place, curve)
    body += _parting(scales, curves)
    body += _labelled(bounds[-1]) if bounds else ()
    return Markup(
        f'<svg role="img" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" aria-label="{escape(title)}">'
        f"{''.join(body)}</svg>"
    )


def _within(scales: _Scales, bounds: Sequence[float]) -> Iterator[str]:
    """The area within the bound."""
    floor = HEIGHT - BOTTOM
    steps = [*enumerate(bounds)][1:]
    edge = " ".join(f"{scales.x(step):.1f},{scales.y(bound):.1f}" for step, bound in steps)
    corners = f"{WIDTH - RIGHT},{floor} {LEFT},{floor}"
    yield f'<polygon class="within" points="{edge} {corners}"/>'
    yield f'<polyline class="bound" points="{edge}"/>'


def _labelled(bound: float) -> Iterator[str]:
    yield (
        f'<text class="bound" x="{WIDTH - RIGHT - 3}" y="{HEIGHT - BOTTOM - 6}" text-anchor="end">'
        f"within {decimal(bound)}: they agree</text>"
    )


def _marks(scales: _Scales) -> Iterator[str]:
    floor = HEIGHT - BOTTOM
    every = max(math.ceil((scales.top - scales.zero) / DECADES), 1)
    for power in range(scales.top, scales.zero - (not scales.floored), -every):
        at = scales.y(10.0**power)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        label = f"10<tspan dy='-5' font-size='8.5'>{power}</tspan>" if power else "1"
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
    if scales.floored:
        yield f'<text x="{LEFT - 6}" y="{scales.y(0) + 4:.1f}" text-anchor="end">identical</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>'
    for step in _ticks(scales.steps):
        at = scales.x(step)
        yield f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 4}"/>'
        yield f'<text x="{at:.1f}" y="{floor + 16}" text-anchor="middle">{step}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">step</text>'


def _ticks(steps: int) -> list[int]:
    size = next(
        (
            size * 10**power
            for power in range(12)
            for size in (1, 2, 5)
            if steps / (size * 10**power) <= 6
        ),
        steps,
    )
    return [1, *(step for step in range(size, steps + 1, size) if step > 1)]


def _line(scales: _Scales, place: int, curve: Curve) -> Iterator[str]:
    after = [*enumerate(curve.values)][1:]
    points = [(scales.x(step), scales.y(value)) for step, value in after]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if place >= len(COLOURS):
        name = escape(curve.name)
        yield f'<polyline class="rest" points="{path}"><title>{name}</title></polyline>'
        return
    yield f'<polyline class="curve" points="{path}" {_stroke(place, curve)}/>'
    every = math.ceil(len(points) / POINTS)
    for (step, value), (x, y) in [*zip(after, points, strict=True)][::-every]:
        yield (
            f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="6"><title>'
            f"{escape(curve.name)}, step {step}: {decimal(value)}</title></circle>"
        )


def _stroke(place: int, curve: Curve) -> str:
    colour = place if curve.colour is None else curve.colour
    dashes = DASHES[place] if curve.dash is None else curve.dash
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'stroke="var(--c{colour})" stroke-width="{curve.width:.2g}"{dash}'


def key(place: int, curve: Curve) -> Markup:
    """The sample of a curve's line, for a table."""
    how = _stroke(place, curve) if place < len(COLOURS) else 'class="rest"'
    line = f'<line x1="0" x2="26" y1="5" y2="5" {how}/>'
    return Markup(f'<svg class="key" viewBox="0 0 26 10" aria-hidden="true">{line}</svg>')


def _parting(scales: _Scales, curves: Sequence[Curve]) -> Iterator[str]:
    """The step after which something is beyond the bound for the first time."""
    parted = [curve for curve in curves if curve.parts is not None]
    if not parted:
        return
    first = min(parted, key=lambda curve: (curve.parts or 0, -curve.values[curve.parts or 0]))
    step = first.parts or 0
    x, y = scales.x(step), scales.y(first.values[step])
    right = x < WIDTH * 0.6
    at = HEIGHT - BOTTOM - 6 if x < WIDTH * 0.35 else TOP + 9
    yield f'<line class="parting" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    yield f'<circle class="parting" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    yield (
        f'<text class="parting" x="{x + (9 if right else -9):.1f}" y="{at}" '
        f'text-anchor="{"start" if right else "end"}">they part at step {step}</text>'
    )
