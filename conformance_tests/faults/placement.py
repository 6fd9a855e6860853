"""What faults show in placement: rules on pieces of parameters, in simulated processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import count
from types import ModuleType
from typing import Any

import array_api_compat
import numpy

from samestep import (
    adding,
    bringing,
    collectives,
    exchanges,
    owners,
    placed,
    placed_namespace,
    placement,
    step,
    wholes,
)
from samestep.conformance.harness.sharded import follow, on_ranks
from samestep.parity import record
from samestep.parity.backend import Snapshot
from samestep.rule import Rule

from .behaviour import Outcome, Run, bits
from .mechanical import faults_in
from .mutation import Fault, Pattern, changed, entered, functions_of, planted

__all__ = ["OnPieces", "faults_of_people", "faults_of_placement", "named_fault"]

XP = array_api_compat.array_namespace(numpy.zeros(1))
SHAPES = {"a": (7, 5), "b": (3, 8), "c": (4, 6), "d": (5,), "g": (5, 7), "k": (4, 3, 2)}
SIZES = 2, 2
CUTS = {"a": {0: 0, 1: 1}, "b": {1: 1}, "c": {0: (1, 0), ("bounds", 0): (0, 0, 3, 4, 4)},
        "d": {0: 0}, "g": {0: 0, 1: 1}, "k": {1: 1}}  # fmt: skip
"""A mesh, and axes that are cut along one or two dimensions of it; some pieces are empty."""
STEPS = 3
SECONDS = 10
"""How long a process waits for another that has a fault."""

MODULES: tuple[ModuleType, ...] = (
    adding, bringing, collectives, exchanges, owners, placed, placed_namespace, placement, wholes,
)  # fmt: skip

COSTS = "gathered", "swapped", "received"
"""What is exchanged: collectives, and elements."""

_meshes = count()


class OnPieces(Run):
    """A rule on pieces, compared with the rule on whole parameters.

    Args:
        rule: the rule.
        shapes: of the parameters.
        cuts: as of ``on_ranks``.
        long: the elements that ``adding.LONG`` is meanwhile.
    """

    def __init__(
        self,
        rule: Rule,
        shapes: Mapping[str, tuple[int, ...]] = SHAPES,
        cuts: Mapping[str, Any] = CUTS,
        long: int = adding.LONG,
    ) -> None:
        self.rule, self.long = rule, long
        own = {path: shape for path, shape in shapes.items() if len(shape) >= rule.min_ndim}
        self.trajectory = record(seed=3, steps=STEPS, shapes=own)
        self.cuts = {path: one for path, one in cuts.items() if path in own}
        *_, whole = self._stepped(follow)
        self.whole = whole.snapshot()
        self.found: Snapshot = {}
        self.functions = entered(self._follow)
        self.before = self.found

    def _stepped(self, how: Any, *where: Any, **more: Any) -> Any:
        params, grads = self.trajectory.params, self.trajectory.grads
        return how(XP, deepcopy(self.rule), params, grads, *where, **more)

    def _follow(self) -> None:
        """Step on a mesh that nothing is known of yet."""
        usual, adding.LONG = adding.LONG, self.long
        try:
            key = next(_meshes)
            run = self._stepped(on_ranks, SIZES, self.cuts, key=key, seconds=SECONDS)
        finally:
            adding.LONG = usual
        self.found = run.snapshot()
        self.found |= {(one, ""): numpy.asarray(run.counted[one]) for one in COSTS[:2]}
        self.found["received", ""] = numpy.asarray(run.received)

    def agrees(self) -> bool:
        """Whether parameters and state are those of whole parameters, with as much exchanged."""
        for key, expected in self.whole.items():
            if not numpy.allclose(self.found[key], expected, rtol=1e-9, atol=1e-12):
                return False
        return all((self.found[name, ""] == self.before[name, ""]).all() for name in COSTS)

    def shows(self, fault: Fault) -> Outcome:
        """What the run shows of a fault."""
        try:
            with planted(fault):
                self._follow()
            if bits([self.found]) == bits([self.before]):
                return "equivalent"
            return "rounding" if self.agrees() else "caught"
        except Exception:  # a test of the suite that raises anything fails
            return "caught"


def faults_of_placement(runs: Sequence[OnPieces]) -> list[Fault]:
    """Faults in the functions of placement that these runs enter."""
    functions = {function for run in runs for function in run.functions}
    suited = [f for module in MODULES for f in functions_of(module) if f in functions]
    return [*faults_in(suited)]


def named_fault(name: str, function: Any, *patterns: str) -> Fault:
    """A fault wherever one of the patterns fits in a function."""
    made = [Pattern(text) for text in patterns]

    def change(node: Any, function: Any) -> Any:
        return next((new for each in made if (new := each.replaced(node)) is not None), None)

    function = getattr(function, "__wrapped__", function)
    fault = changed(name, [function], change)
    assert fault is not None, name
    return fault


def faults_of_people() -> list[Fault]:
    """The faults that people make in placement."""
    return [
        named_fault(
            "a reduction is forgotten",
            adding._of_all,
            "getattr(X, K)(A, axis=O, **Q) => A[tuple(slice(0, 1) for _ in shape)]",
        ),
        named_fault(
            "copies count twice",
            adding.Item.group,
            "None if D in O else D in A => None if D in O or D not in A else True",
        ),
        named_fault(
            "an owner gets the pieces of another",
            owners.scheduled,
            "F.sent[O] => F.sent[O - 1]",
            "F.back[O] => F.back[O - 1]",
        ),
        named_fault("an owner gets all copies", owners.Task.counts, "all(A) => True"),
        named_fault(
            "padding is kept", adding.added, "start + rooms[place] => start + math.prod(own.shape)"
        ),
        named_fault(
            "an empty piece keeps its count",
            step.run,
            "A is None or E.is_empty => True",
        ),
        named_fault(
            "a mean divides by the elements of a piece",
            placed_namespace._mean,
            "A.shape[E] => A.local.shape[E]",
        ),
    ]
