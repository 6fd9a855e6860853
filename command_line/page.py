"""A report as a page: one HTML file, which needs no network and no scripts."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from .curves import COLOURS, key, picture
from .report import Link, Report, Verdict, Words

__all__ = ["page"]


def page(report: Report) -> str:
    """Fill ``page.html``, which has a macro for each kind of block; all text is escaped."""
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["text"] = lambda cell: isinstance(cell, (str, Words, Link, Verdict))
    return environment.get_template("page.html").render(
        report=report, broken=broken, colours=COLOURS, key=key, picture=picture
    )


def broken(name: str) -> Markup:
    """A name that may be broken after its dots and the like."""
    text = str(escape(name))
    for sign in (".", ":", "/", "_"):
        text = text.replace(sign, f"{sign}<wbr>")
    return Markup(text)
