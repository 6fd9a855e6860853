"""What faults show in how parameters are kept: stacks, and outputs that are last."""

from __future__ import annotations

from copy import deepcopy
from types import ModuleType

import numpy

from samestep import kept, shaping
from samestep.conformance.harness.stacks import LAYERS, moved, run, stack_of
from samestep.parity import Trajectory
from samestep.parity.backend import NUMPY, Backend, Snapshot
from samestep.rule import Rule

from .behaviour import Outcome, Run, bits
from .mechanical import faults_in
from .mutation import Fault, entered, functions_of, planted

__all__ = ["OfLayers", "faults_of_keeping", "runs_of_keeping"]

SHAPE, AXES = (3, 5, 2, 4), (0, 2)
"""The shape of a stack, and its batch axes: layers and heads."""


class OfLayers(Run):
    """A rule on a stack, compared with the rule on each layer by itself.

    Args:
        rule: the rule.
        backend: where the stack is stepped.
    """

    def __init__(self, rule: Rule, backend: Backend = NUMPY) -> None:
        self.rule, self.backend = rule, backend
        layers = moved(LAYERS, lambda array: numpy.swapaxes(array, 1, 2))
        self.alone: list[list[Snapshot]] = []
        turned = "layout" in rule.hypers
        for at in range(len(LAYERS.params["w"])):
            source = layers if turned else LAYERS
            layer = moved(source, lambda array, at=at: array[at])  # type: ignore[misc]
            self.alone.append(run(rule, layer))
        self.kept = rule.replace(batch_axes=AXES, **({"layout": "io"} if turned else {}))
        self.stack: Trajectory = stack_of(LAYERS, AXES, SHAPE)
        self.found: list[Snapshot] = []
        self.functions = entered(self._follow)
        self.before = self.found

    def _follow(self) -> None:
        self.found = run(deepcopy(self.kept), self.stack, self.backend)

    def agrees(self) -> bool:
        """Whether parameters are those of the layers."""
        for step, snapshot in enumerate(self.found):
            stack = numpy.moveaxis(snapshot["param", "w"], AXES, range(len(AXES)))
            for at, layer in enumerate(stack.reshape(-1, *stack.shape[len(AXES) :])):
                expected = self.alone[at][step]["param", "w"]
                expected = expected if layer.shape == expected.shape else expected.T
                if not numpy.allclose(layer, expected, rtol=1e-9, atol=1e-12):
                    return False
        return True

    def shows(self, fault: Fault) -> Outcome:
        """What the run shows of a fault."""
        try:
            with planted(fault):
                self._follow()
            if bits(self.found) == bits(self.before):
                return "equivalent"
            return "rounding" if self.agrees() else "caught"
        except Exception:  # a test of the suite that raises anything fails
            return "caught"


def runs_of_keeping(rules: list[Rule]) -> list[Run]:
    """Runs of rules that are sound without a fault."""
    found = [OfLayers(rule) for rule in rules]
    assert all(one.agrees() for one in found)
    return [*found]


def faults_of_keeping(runs: list[Run]) -> list[Fault]:
    """Faults in the functions of the layers' home that these runs enter."""
    modules: tuple[ModuleType, ...] = (kept, shaping)
    functions = {function for one in runs for function in one.functions}
    suited = [f for module in modules for f in functions_of(module) if f in functions]
    return [*faults_in(suited)]
