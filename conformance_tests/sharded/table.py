"""What every engine makes of every need: ``python -m samestep.conformance.sharded.table``.

A cell is one of three: ``equal bits`` with one process, after 20 steps; ``within the bound``, where
sums are added in another order; ``refused``, in words that name the rule, on every rank. Each is
measured with the rule in the head of its column, in float32 and in float64.
"""

from __future__ import annotations

import argparse
import importlib
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from samestep.conformance.harness.agreement import between_markers
from samestep.conformance.harness.ranks import Ranks
from samestep.conformance.harness.settings import typical
from samestep.rule import Rule, registry

from .given import Arrays, Outcome, compared

__all__ = ["ORDER", "RULES", "cell", "engines", "groups", "measured", "rule_of", "table"]

RULES = {
    "element": "AdamW",
    "tensor": "LAMB",
    "axes": "AdamP",
    "factored": "Adafactor",
    "matrix": "Muon",
    "tree": "Prodigy",
}
"""The rule of a column, by what it needs."""
KINDS = {"torch": {}, "jax": {"JAX_NUM_CPU_DEVICES": "4", "JAX_ENABLE_X64": "1"}, "mlx": {}}
"""Variables that are set for the processes of a library."""
ORDER = ("wrong", "refused", "within the bound", "equal bits")
DTYPES = {"torch": ("float32", "float64"), "jax": ("float32", "float64"), "mlx": ("float32",)}


def engines() -> list[tuple[str, str, tuple[int, ...]]]:
    """Library, name and numbers of ranks of every engine."""
    return [
        (kind, name, worlds)
        for kind in KINDS
        for name, (worlds, _) in _module(kind).ENGINES.items()
    ]


def _module(kind: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"samestep.conformance.sharded.{kind}_engines")


_ALONE: dict[tuple[str, Rule, str, str], list[Arrays]] = {}


def measured(ranks: Ranks, name: str, rule: Rule) -> list[Outcome]:
    """What an engine makes of a rule; the second number of ranks takes the second dtype."""
    own, found = _module(ranks.kind), []
    worlds, dtypes = own.ENGINES[name][0], DTYPES[ranks.kind]
    if len(worlds) > 1:
        dtypes = dtypes[worlds.index(ranks.world) % len(dtypes) :][:1]
    for dtype in dtypes:
        execution = "compiled" if name == getattr(own, "COMPILED", "") else "auto"
        if execution == "compiled" and dtype != dtypes[0]:
            continue  # which takes a moment
        key = ranks.kind, rule, dtype, execution
        if key not in _ALONE:
            _ALONE[key] = ranks.run(own.alone, rule, dtype, execution, seconds=300)[0]
        each = ranks.run(own.trained, name, rule, dtype, seconds=300)
        keys = next((one.keys() for one in each if isinstance(one, dict)), ())
        wanted = [{name: arrays[name] for name in keys} for arrays in _ALONE[key]]
        found.append(compared(each, wanted, dtype))
    return found


def cell(outcomes: list[Outcome]) -> str:
    """The text of a cell: the least that holds for all numbers of ranks and all dtypes."""
    found = {outcome.kind for outcome in outcomes}
    return next(kind for kind in ORDER if kind in found)


def rule_of(need: str) -> Rule:
    """The rule of a column."""
    return typical(registry[RULES[need]])


@contextmanager
def groups(folder: Path) -> Iterator[Callable[[str, int], Ranks]]:
    """Groups of ranks by library and number, which are started once."""
    started: dict[tuple[str, int], Ranks] = {}

    def group(kind: str, world: int) -> Ranks:
        if (kind, world) not in started:
            started[kind, world] = Ranks(kind, world, folder / f"{kind}{world}", **KINDS[kind])
        return started[kind, world]

    try:
        yield group
    finally:
        for ranks in started.values():
            ranks.end()


def table(only: str = "", known: str = "") -> str:
    """Every engine and need, as a Markdown table.

    Args:
        only: part of the names of the engines to measure.
        known: a table that has the others.
    """
    there = {line.split(" | ")[0].strip("| "): line for line in known.splitlines()[2:]}
    heads = [f"`{need}` ({name})" for need, name in RULES.items()]
    rows = []
    with tempfile.TemporaryDirectory() as folder, groups(Path(folder)) as group:
        for kind, name, worlds in engines():
            if only not in name and name in there:
                rows.append(there[name].strip("| ").split(" | "))
                continue
            every = [[(group(kind, world), rule_of(need)) for world in worlds] for need in RULES]
            rows.append([name, *(_cell(name, runs) for runs in every)])
    return "\n".join(_line(cells) for cells in (["engine", *heads], ["---"] * 7, *rows))


def _cell(name: str, runs: list[tuple[Ranks, Rule]]) -> str:
    """The text of a cell.

    Raises:
        ValueError: the engine goes elsewhere than one process.
    """
    outcomes = [one for ranks, rule in runs for one in measured(ranks, name, rule)]
    found = cell(outcomes)
    if found == "wrong":
        raise ValueError(f"{name}, {runs[0][1].name}: {outcomes}")
    return found


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, or put it into a Markdown file between its markers."""
    parser = argparse.ArgumentParser(
        prog="python -m samestep.conformance.sharded.table", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into FILE")
    parser.add_argument("--only", default="", help="measure only the engines with this in the name")
    arguments = parser.parse_args()
    if arguments.write is None:
        print(table(arguments.only))
        return
    text = arguments.write.read_text(encoding="utf-8")
    known = re.search(r"<!-- engines -->\n(.*?)<!-- /engines -->", text, re.S)
    new = between_markers(text, "engines", table(arguments.only, known[1] if known else ""))
    arguments.write.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
