"""Steps rules, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from samestep.parity.backend import NUMPY
from samestep.rule import Rule

from .slots import apart, called
from .subject import Arrays, Slots, Stepper
from .subject import Runner as BaseRunner

__all__ = ["Runner"]


class Runner(BaseRunner):
    """Runs a rule, or the rule that a class makes with arguments."""

    def __init__(
        self, target: Any, arguments: Mapping[str, Any], dtype: str, rule: str = ""
    ) -> None:
        self.rule: Rule = target if isinstance(target, Rule) else target(**arguments)
        self.dtype = dtype

    def start(self, params: Arrays) -> Stepper:
        """The rule on copies of the parameters."""
        return _Stepper(self.rule, params, self.dtype)


class _Stepper(Stepper):
    def __init__(self, rule: Rule, params: Arrays, dtype: str) -> None:
        self.run = NUMPY.start(rule, params, dtype)
        self.lr_inside = rule.hypers.get("lr_at") == "inside"

    def step(self, grads: Arrays) -> None:
        self.run.step(grads)

    def params(self) -> dict[str, numpy.ndarray]:
        return {path: NUMPY.numpy(value) for path, value in self.run.params().items()}

    def slots(self) -> Slots:
        found: Slots = {}
        for slot, by_path in self.run.slots().items():
            for path, value in by_path.items():
                for name, array in apart(called(slot, self.lr_inside), value):
                    found.setdefault(name, {})[path] = array
        return found
