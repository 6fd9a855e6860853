"""The commands of ``samestep``, a module each: its function ``command`` is the command.

A module imports the packages that its command needs inside functions, so that ``samestep --help``
is quick and needs click alone.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import click

__all__ = ["Commands"]


class Commands(click.Group):
    """A group with a command for every module in this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted(module.name for module in iter_modules(__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or ``None``."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(f"{__name__}.{cmd_name}").command
        found.name = cmd_name
        return found
