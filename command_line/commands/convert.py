"""``samestep convert``: an optimizer state in one file as another file, for another framework."""

from __future__ import annotations

from pathlib import Path

import click

from samestep.command_line import options
from samestep.command_line.report import Line, Report, show

__all__ = ["command"]


@click.command()
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.argument("out", metavar="OUT", type=options.NOT_A_FOLDER)
@click.option(
    "--map",
    "mapping",
    metavar="FILE",
    help="A TOML file of the map to other names and shapes, or layers such as torch:flax.",
)
@click.option(
    "--to",
    default="samestep",
    show_default=True,
    type=click.Choice(["samestep", "torch", "optax", "mlx"]),
    help="The format of OUT: a checkpoint of samestep, or the state of a native optimizer.",
)
@click.option(
    "--rule",
    metavar="NAME",
    help="The optimizer, if the file does not say: AdamW, optimi.AdamW, "
    "\"AdamW(like='mlx', weight_decay=0.1)\".",
)
@click.option(
    "--max-shard-bytes",
    type=click.IntRange(min=1),
    help="Spread a checkpoint over files of at most this many bytes.",
)
@click.option(
    "--order",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="For --to torch, which goes by places: the order of the model's parameters. A file of "
    "torch.save with its state dict, a list of names, or a checkpoint of layout torch.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def command(
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
    from samestep.command_line.files.conversion import Target, convert, map_of

    if max_shard_bytes is not None and to != "samestep":
        raise click.UsageError(f"--max-shard-bytes is for --to samestep, not for --to {to}")
    if order is not None and to != "torch":
        raise click.UsageError(f"--order is for --to torch, not for --to {to}")
    options.refuse_missing_folder(str(out), out)
    with options.refusing():
        if out.exists() and not force:
            raise FileExistsError(f"{out}: it is there already; --force replaces it")
        chosen = None if mapping is None else map_of(mapping)
        target = Target(out, to, rule, max_shard_bytes, order)
        lines: list[Line] = []
        try:
            lines += (Line(line, whole=True) for line in convert(source, target, chosen))
        finally:  # a refusal is easier to understand after what the map has done
            show(Report(lines))
