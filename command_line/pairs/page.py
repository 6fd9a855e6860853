"""A comparison as a page: one HTML file, which needs no network and no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from samestep.command_line.figures import decimal, in_ulp
from samestep.command_line.pages import filled

from .account import READABLE, Account, Curve
from .curves import COLOURS, DASHES, picture

__all__ = ["page"]

KINDS = {"parameter": "Parameters", "slot": "State"}


def page(account: Account) -> str:
    """The page."""
    found = account.found
    return filled(
        __package__,
        "page.html",
        account=account,
        found=found,
        colours=COLOURS,
        figures=_figures(account),
        charts=_charts,
        broken=_broken,
        decimal=decimal,
    )


def _figures(account: Account) -> list[tuple[str, str, str]]:
    """A few numbers with what they are, and a word more."""
    found = account.found
    step, path = found.first or (None, "")
    ulp = max(found.ulps)
    units = f"{in_ulp(ulp)} ULP of {found.dtype}" if ulp < READABLE else "relative to the parameter"
    return [
        ("They part", "never" if step is None else f"step {step}", f"in {path}" if path else ""),
        ("Largest difference", decimal(found.distance), units),
        ("Bound", f"{found.bound:g}", "what rounding may do"),
        ("Compared", f"{found.steps} steps", f"in {found.dtype}"),
    ]


def _charts(account: Account) -> list[dict[str, Any]]:
    kinds = zip(KINDS.items(), (account.parameters, account.slots), strict=True)
    return [_chart(account, *kind, curves) for kind, curves in kinds if curves]


def _chart(account: Account, kind: str, title: str, curves: Sequence[Curve]) -> dict[str, Any]:
    first = sorted(curves, key=lambda curve: (curve.parts is None, curve.parts, -curve.largest))
    words = f"Relative difference of each {kind} after each step, on a logarithmic scale"
    keys = [_key(place if place < len(COLOURS) else None) for place in range(len(first))]
    return {
        "title": title,
        "kind": kind,
        "svg": picture(words, first, account.found.bounds),
        "rows": [*zip(keys, first, strict=True)],
    }


def _key(place: int | None) -> Markup:
    """The sample of a line in a table."""
    if place is None:
        line = '<line class="rest" x1="0" x2="26" y1="5" y2="5"/>'
    else:
        line = (
            f'<line x1="0" x2="26" y1="5" y2="5" stroke="var(--c{place})" stroke-width="2.6" '
            f'stroke-dasharray="{DASHES[place]}"/>'
        )
    return Markup(f'<svg class="key" viewBox="0 0 26 10" aria-hidden="true">{line}</svg>')


def _broken(name: str) -> Markup:
    """A name that may be broken after its dots and the like."""
    text = str(escape(name))
    for sign in (".", ":", "/", "_"):
        text = text.replace(sign, f"{sign}<wbr>")
    return Markup(text)
