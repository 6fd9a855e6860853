"""The kernels that a step of every rule launches on a pretended GPU, as a table for the docs.

python -m samestep.conformance.harness.launch_table
"""

from __future__ import annotations

from collections.abc import Iterable

from samestep import torch as adapter
from samestep.execution import Execution
from samestep.rule import Rule

from .accelerators import Accelerator
from .settings import all_rules, is_own, typical

__all__ = ["SMALL", "table"]

SMALL = [(7, 3), (5,), (64, 8), (31,), (16, 16)] * 20
"""100 parameters of 5 to 512 elements."""
EXECUTIONS: tuple[Execution, ...] = ("packed", "compiled")
HEAD = "rules", *(f"`{name}`" for name in EXECUTIONS)


def counted(rule: Rule, execution: Execution) -> int:
    """The launches of a step of the small parameters that a rule takes."""
    shapes = [shape for shape in SMALL if len(shape) >= rule.min_ndim]
    with Accelerator("cuda") as device:
        device.step(adapter.bind(rule, device.parameters(shapes), execution=execution))
        return device.launches


def table(rules: Iterable[type[Rule]]) -> list[str]:
    """The lines of the table; rules with the same numbers share one."""
    found: dict[tuple[int, ...], list[str]] = {}
    for rule in rules:
        counts = tuple(counted(typical(rule), execution) for execution in EXECUTIONS)
        found.setdefault(counts, []).append(f"`{rule.__name__}`")
    rows = [(", ".join(sorted(names)), *counts) for counts, names in sorted(found.items())]
    return [f"| {' | '.join(map(str, row))} |" for row in (HEAD, ["---"] * len(HEAD), *rows)]


if __name__ == "__main__":
    print("\n".join(table(rule for rule in all_rules() if is_own(rule))))
