"""The ``samestep`` command. Each module in the folder ``commands`` adds the command of its name.

A plain install has what most commands need. The packages of ``pip install "samestep[demo]"`` are
imported where they are used, so that ``main`` can name a missing one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

__all__ = ["commands", "main"]

PACKAGES = {
    **dict.fromkeys(("click", "rich"), "samestep"),
    **dict.fromkeys(("jinja2", "markupsafe", "matplotlib", "sklearn"), "samestep[demo]"),
}
"""What installs a package, by its import name."""


def main() -> None:
    """Run the command line."""
    try:
        commands()(prog_name="samestep")
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name not in PACKAGES:
            raise
        print(
            f'this needs {name}, which is not installed: pip install "{PACKAGES[name]}"',
            file=sys.stderr,
        )
        sys.exit(2)


def commands() -> click.Group:
    """The group of all commands; a command's module is imported when the command is used."""
    from .commands import Commands  # noqa: PLC0415

    return Commands("samestep", help="The same optimizer step on every framework.")


if __name__ == "__main__":
    main()
