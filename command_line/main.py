"""The ``samestep`` command.

    samestep demo          train one network in every framework and show how far they agree
    samestep list [RULE]   the rules, everything that one of them declares, or with --differences
                           how it differs from library to library
    samestep parity A B    whether two optimizers take the same steps, and why not
    samestep parity --all  the same for every optimizer that several libraries have, as a matrix
    samestep replay FILE   whether a recorded run does what its rule says
    samestep bench         one optimizer step beside those of other libraries, taking turns
    samestep inspect FILE  what is in a checkpoint, or what else a file is
    samestep convert IN OUT  an optimizer's state for another framework, under other names

What ``pip install "samestep[demo]"`` brings is imported where it is used, so that ``main`` can say
what is missing.
"""

# ruff: noqa: PLC0415  (imports inside functions, as said above)

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

__all__ = ["commands", "main"]

PACKAGES = ("click", "jinja2", "markupsafe", "matplotlib", "rich", "sklearn")
"""What the demonstration needs, by import name."""
FRAMEWORKS = {"torch": "torch", "jax": "jax", "optax": "jax", "mlx": "mlx"}
"""What brings each of them."""


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
        from samestep.spelling import unknown

        from .demonstration import listing

        if rule is None and differences:
            raise click.UsageError("--differences needs a rule: samestep list Adam --differences")
        if rule is None:
            listing.print_rules(Console())
        elif rule not in registry:
            raise click.UsageError(unknown("rule", rule, sorted(registry, key=str.casefold)))
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

        from samestep.spelling import unknown

        from .demonstration import measurement, page, terminal

        known = [*measurement.FRAMEWORKS]
        names = known if frameworks is None else [name.strip() for name in frameworks.split(",")]
        for name in names:
            if name not in known:
                raise click.UsageError(unknown("framework", name, known))
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
        help="Show what earlier runs have measured (bench.jsonl; may be given several times).",
    )
    @click.option(
        "--checkpoint",
        is_flag=True,
        help="Time saving and loading instead, in the folder of --out.",
    )
    @click.option(
        "--megabytes",
        default=2000,
        show_default=True,
        type=click.IntRange(min=1),
        help="Of state, with --checkpoint.",
    )
    def bench(**asked: Any) -> None:
        """Time one optimizer step beside other libraries' own, taking turns in one process.

        Prints a table, and writes it with a picture; the figures so far are kept after every row.
        """
        from samestep.benchmarks.command import bench as measure

        measure(**asked)

    _add_inspect(samestep)
    _add_convert(samestep)
    _add_parity(samestep)
    _add_replay(samestep)
    return samestep


def _add_parity(samestep: click.Group) -> None:
    import click

    from .pairs.numbers import Finite

    @samestep.command()
    @click.argument("a", required=False)
    @click.argument("b", required=False)
    @click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="SIDE.NAME=VALUE",
        help="An argument: a.lr=1e-4, b.learning_rate=1e-4; without a side it is for both. A "
        "schedule is a call: lr='samestep.schedules.CosineDecay(0.1, 100)'.",
    )
    @click.option("--steps", default=None, type=click.IntRange(min=3), help="40 by default.")
    @click.option("--seed", default=None, type=click.IntRange(min=0), help="Of the gradients.")
    @click.option(
        "--dtype",
        default=None,
        type=click.Choice(["float32", "float64"]),
        help="Of the parameters; float64 if both have it.",
    )
    @click.option(
        "--ulp",
        default=None,
        type=Finite(min=0),
        help="How many units in the last place apart they may be and still agree.",
    )
    @click.option(
        "--html",
        default=None,
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write a page that shows everything, in one file.",
    )
    @click.option("--json", "as_json", is_flag=True, help="For machines.")
    @click.option("--traceback", is_flag=True, help="Show where it failed, if it does.")
    @click.option("--all", "every", is_flag=True, help="Compare all libraries; no A and B then.")
    @click.option("--only", default=None, metavar="NAME,...", help="With --all: these optimizers.")
    @click.option(
        "--with",
        "others",
        default=None,
        metavar="MODULE,...",
        help="With --all: compare what else is installed with ours, as holocron.optim.",
    )
    @click.option(
        "--write",
        default=None,
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="With --all: write the matrix as Markdown.",
    )
    def parity(**asked: Any) -> None:
        """Say whether the optimizers A and B take the same steps, and if not, what differs.

        A and B are names such as torch.optim.AdamW, optax.adan, samestep:Adan, my_module.MyOpt or
        file.py:MyOpt. The exit code is 0 where they agree, 1 where they differ, and 2 where they
        could not be compared. With --all every optimizer is compared with those of the same name
        in the other libraries; the exit code is then 0 once the matrix is made.
        """
        from .pairs.options import run

        sys.exit(run(**asked))


def _add_replay(samestep: click.Group) -> None:
    import click

    from .pairs.numbers import Finite

    @samestep.command()
    @click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_a_path())
    @click.option("--rule", default=None, metavar="NAME", help="By default what was recorded.")
    @click.option("--like", default=None, metavar="NAME", help="Its dialect: torch, optax, mlx.")
    @click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="A number or an option of the rule, in the place of what was recorded: lr=1e-3.",
    )
    @click.option(
        "--ulp",
        default=None,
        type=Finite(min=0),
        help="How many units in the last place a step may be off; by default what rounding "
        "explains.",
    )
    @click.option(
        "--against",
        "other",
        default=None,
        metavar="FILE",
        type=_a_path(),
        help="Another recording of the same run: did gradients or optimizer differ first?",
    )
    @click.option(
        "--map",
        "mapping",
        default=None,
        metavar="FILE",
        help="With --against: a TOML file, or layers such as torch:flax, from FILE to the other.",
    )
    @click.option(
        "--tolerance",
        default=None,
        type=Finite(min=0, min_open=True),
        help="With --against: how far gradients may be apart, relative to the largest.",
    )
    @click.option("--json", "as_json", is_flag=True, help="For machines.")
    def replay(**asked: Any) -> None:
        """Recompute the runs recorded in FILE and say where they depart from their rule.

        Several files are parts of one run, each of which was resumed from the one before it. The
        exit code is 0 where all agrees, 1 where something departs, and 2 where nothing could be
        recomputed.
        """
        from .replaying.command import run

        sys.exit(run(**asked))


def _a_path() -> Any:
    import click

    return click.Path(path_type=Path)


def _add_inspect(samestep: click.Group) -> None:
    import click

    @samestep.command()
    @click.argument("file", type=click.Path(exists=True, path_type=Path))
    @click.option("--slots", default=None, metavar="NAME,NAME,...", help="All if not given.")
    @click.option(
        "--parameter",
        default=None,
        metavar="PATTERN",
        help="Only parameters like this, one by one: 'layers.*.weight'; '*' shows all.",
    )
    @click.option(
        "--norms/--no-norms",
        default=True,
        show_default=True,
        help="Read the arrays, for their norms and what is not finite in them.",
    )
    @click.option("--json", "as_json", is_flag=True, help="For machines.")
    def inspect(
        file: Path, slots: str | None, parameter: str | None, norms: bool, as_json: bool
    ) -> None:
        """Show what is in FILE: rule, numbers, steps, and every array of the state.

        Of more than 40 arrays there is a summary. Of a file that is no checkpoint of samestep it
        says what it is; nothing in it is run.
        """
        from rich.console import Console

        from .files.inspection import inspect as show
        from .files.rows import Asked

        names = () if slots is None else tuple(name.strip() for name in slots.split(","))
        with _refusing():
            show(file, Asked(names, parameter, norms, as_json), Console())


def _add_convert(samestep: click.Group) -> None:
    import click

    @samestep.command()
    @click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
    @click.argument("out", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
    @click.option(
        "--map",
        "mapping",
        default=None,
        metavar="FILE",
        help="A TOML file of the map to other names and shapes, or layers such as torch:flax.",
    )
    @click.option(
        "--to",
        default="samestep",
        show_default=True,
        type=click.Choice(["samestep", "torch", "optax", "mlx"]),
        help="Whose OUT is to be: a checkpoint, or a native optimizer's state.",
    )
    @click.option(
        "--rule",
        default=None,
        metavar="NAME",
        help="The optimizer, where a file does not say: AdamW, optimi.AdamW, "
        "\"AdamW(like='mlx', weight_decay=0.1)\".",
    )
    @click.option(
        "--max-shard-bytes",
        default=None,
        type=click.IntRange(min=1),
        help="Spread a checkpoint over files of at most so many bytes.",
    )
    @click.option(
        "--order",
        default=None,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="For --to torch, which goes by places: the order of the model's parameters. A file of "
        "torch.save with its state dict, a list of names, or a checkpoint of layout torch.",
    )
    @click.option("--force", is_flag=True, help="Write in the place of what OUT is.")
    def convert(
        source: Path,
        out: Path,
        mapping: str | None,
        to: str,
        rule: str | None,
        max_shard_bytes: int | None,
        order: Path | None,
        force: bool,
    ) -> None:
        """Write the optimizer state in IN to OUT, for another framework or under other names.

        IN is a checkpoint of samestep, a state dict that torch.save has written, or a flattened
        state of mlx.optimizers in safetensors.
        """
        from rich.console import Console

        from .files import conversion

        if max_shard_bytes is not None and to != "samestep":
            raise click.UsageError(f"--max-shard-bytes is for --to samestep, not for --to {to}")
        if order is not None and to != "torch":
            raise click.UsageError(f"--order is for --to torch, not for --to {to}")
        if not out.parent.is_dir():
            raise click.UsageError(f"{out}: there is no folder {out.parent}")
        with _refusing():
            if out.exists() and not force:
                raise FileExistsError(f"{out}: it is there already; --force replaces it")
            chosen = None if mapping is None else conversion.map_of(mapping)
            target = conversion.Target(out, to, rule, max_shard_bytes, order)
            conversion.convert(source, target, chosen, Console())


@contextmanager
def _refusing() -> Iterator[None]:
    """Say in a sentence what went wrong with a file."""
    import click

    try:
        yield
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name not in FRAMEWORKS:
            raise
        raise click.ClickException(
            f'this needs {name}, which is not installed: pip install "samestep[{FRAMEWORKS[name]}]"'
        ) from None
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise click.ClickException(text) from None
    except (TypeError, ValueError) as error:
        raise click.ClickException(" ".join(str(error).split())) from None


if __name__ == "__main__":
    main()
