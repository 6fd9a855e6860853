"""The ``samestep`` command.

    samestep demo          train one network in every framework and show how far they agree
    samestep list [RULE]   the rules, everything that one of them declares, or with --differences
                           how it differs from library to library
    samestep bench         one optimizer step beside those of other libraries, taking turns

What ``pip install "samestep[demo]"`` brings is imported where it is used, so that ``main`` can say
what is missing.
"""

# ruff: noqa: PLC0415  (imports inside functions, as said above)

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

__all__ = ["commands", "main"]

PACKAGES = ("click", "jinja2", "markupsafe", "matplotlib", "rich", "sklearn")
"""What the demonstration needs, by import name."""


def main() -> None:
    """Run the command line."""
    try:
        commands()(prog_name="samestep")
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name not in PACKAGES:
            raise
        print(
            f'samestep needs {name}, which is not installed: pip install "samestep[demo]"',
            file=sys.stderr,
        )
        sys.exit(2)


def commands() -> click.Group:
    """The group of all commands."""
    import click

    @click.group()
    def samestep() -> None:
        """The same optimizer step on every framework."""

    @samestep.command("list")
    @click.argument("rule", required=False)
    @click.option(
        "--differences", is_flag=True, help="Show what each library does under RULE's name instead."
    )
    def list_rules(rule: str | None, differences: bool) -> None:
        """List the rules, or show everything that RULE declares."""
        from rich.console import Console

        from samestep.rule import registry

        from .demo import listing

        if rule is None and differences:
            raise click.UsageError("--differences needs a rule: samestep list Adam --differences")
        if rule is None:
            listing.print_rules(Console())
        elif rule not in registry:
            raise click.UsageError(listing.unknown("rule", rule, listing.rules()))
        elif differences:
            listing.print_differences(Console(), rule)
        else:
            listing.print_rule(Console(), rule)

    @samestep.command()
    @click.option(
        "--steps",
        default=300,
        show_default=True,
        type=click.IntRange(min=1),
        help="Training steps.",
    )
    @click.option(
        "--out",
        default=Path("samestep-demo.html"),
        show_default=True,
        type=click.Path(dir_okay=False, path_type=Path),
        help="The page to write.",
    )
    @click.option(
        "--frameworks",
        default=None,
        metavar="NAME,NAME,...",
        help="Which to run, next to NumPy; all if not given.",
    )
    @click.option("--open", "opens", is_flag=True, help="Show the page in a browser.")
    def demo(steps: int, out: Path, frameworks: str | None, opens: bool) -> None:
        """Train one network with one rule in every framework and compare them step by step.

        NumPy is the baseline. Writes one HTML file that needs no network.
        """
        from rich.console import Console

        from .demo import listing, measurement, page, terminal

        known = [*measurement.FRAMEWORKS]
        names = known if frameworks is None else [name.strip() for name in frameworks.split(",")]
        for name in names:
            if name not in known:
                raise click.UsageError(listing.unknown("framework", name, known))
        if not out.parent.is_dir():
            raise click.UsageError(f"--out {out}: there is no folder {out.parent}")
        console = Console()
        chosen = measurement.frameworks(names)
        with terminal.watching(console, chosen, steps) as watch:
            measured = measurement.measure(steps, chosen, watch)
        terminal.print_tables(console, measured)
        page.write(measured, out)
        click.echo(out.resolve())
        if opens:
            click.launch(str(out.resolve()))

    @samestep.command()
    @click.option(
        "--against",
        default="all",
        show_default=True,
        metavar="NAME,NAME,...|all",
        help="Libraries; copy is a plain copy, for rules that none of them has.",
    )
    @click.option("--rules", default=None, metavar="NAME,...", help="All if not given.")
    @click.option("--models", default=None, metavar="NAME,...", help="Shapes; all if not given.")
    @click.option("--dtypes", default=None, metavar="NAME,...", help="All if not given.")
    @click.option("--executions", default=None, metavar="NAME,...", help="All if not given.")
    @click.option(
        "--rounds", default=None, type=click.IntRange(min=1), help="Steps per side; 15 by default."
    )
    @click.option(
        "--threads", default=None, type=click.IntRange(min=1), help="Cores to use; all by default."
    )
    @click.option("--quick", is_flag=True, help="One small model, two rules, three rounds.")
    @click.option(
        "--out",
        default=Path("samestep-bench"),
        show_default=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="The folder for the figures and the picture.",
    )
    @click.option(
        "--read",
        multiple=True,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Show what earlier runs have measured (bench.json; may be given several times).",
    )
    def bench(**asked: Any) -> None:
        """Time one optimizer step beside other libraries' own, taking turns in one process.

        Prints a table, and writes it with a picture; the figures so far are kept after every row.
        """
        from samestep.benchmarks.command import bench as measure

        measure(**asked)

    return samestep


if __name__ == "__main__":
    main()
