"""Pages of one file each: the template filled, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["filled", "write_whole"]


def filled(package: str, template: str, **values: Any) -> str:
    """A template that lies in a package, filled; what is not marked as markup is escaped."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write_whole(text: str, out: Path) -> None:
    """Write a file; one that is there already is replaced only by a complete one."""
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
