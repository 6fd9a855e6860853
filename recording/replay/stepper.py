"""The rule on NumPy, one step of recorded parameters at a time, each with a state of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy

from samestep import step as stepping
from samestep.arrays import map_parts
from samestep.checkpoints.state import Checkpoint
from samestep.checkpoints.tensor import Tensor
from samestep.parity.ulp import rounded
from samestep.rule import Rule

__all__ = ["Machine", "Own", "values_of"]

NARROW = ("bfloat16", "float16")
"""Dtypes that state and parameters are rounded to as they are stored; arithmetic is wider."""

Values = dict[str, numpy.ndarray]


class Own(NamedTuple):
    """The state of a parameter."""

    step: int
    slots: dict[str, Any]


def values_of(tensors: Mapping[str, Tensor]) -> Values:
    """Values in float64, which holds them all exactly."""
    return {name: tensor.values() for name, tensor in tensors.items()}


class Machine:
    """A state, and steps from it.

    Args:
        wide: whether to compute in float64; else in float32, float64 parameters apart.
        dtypes: of the parameters, as they were recorded.
        each: whether each parameter counts its own steps.
    """

    def __init__(self, wide: bool, dtypes: Mapping[str, str], each: bool) -> None:
        self.wide, self.dtypes, self.each = wide, dtypes, each
        self.own: dict[str, Own] = {}
        self.shared: dict[str, Any] = {}
        self.count = 0

    def copy(self) -> Machine:
        """Another with the same state; steps write into no array."""
        made = copy.copy(self)
        made.own, made.shared = dict(self.own), dict(self.shared)
        return made

    def fresh(self, rules: Mapping[str, Rule], params: Values) -> None:
        """Take the state before the first step."""
        self.own, self.count, self.shared = {}, 0, {}
        for name, value in params.items():
            self.own[name] = self.begun(name, rules[name], value)
        self.share(rules, params)

    def begun(self, name: str, rule: Rule, value: numpy.ndarray) -> Own:
        """The first state of a parameter."""
        slots = stepping.init_slots(_bare(rule), numpy, self.array(name, value))
        return Own(0, self._stored(name, rule, slots))

    def share(self, rules: Mapping[str, Rule], params: Values) -> None:
        """Take the first shared state, where some rule has one."""
        found = [name for name in params if rules[name].shared()]
        arrays = [self.array(name, params[name]) for name in found]
        self.shared = stepping.init_shared(_bare(rules[found[0]]), numpy, arrays) if found else {}

    def take(self, saved: Checkpoint, rules: Mapping[str, Rule], params: Values) -> None:
        """Take a recorded state; what has none yet begins."""
        self.fresh(rules, params)
        for name in params:
            state = saved.parameters.get(name)
            if state is not None and state.slots is not None:
                slots = {
                    slot: map_parts(lambda part, name=name: self.array(name, part.values()), value)
                    for slot, value in state.slots.items()
                }
                self.own[name] = Own(state.step, slots)
        self.count = max((own.step for own in self.own.values()), default=0)
        for name, tensor in saved.shared.items():
            self.shared[name] = numpy.asarray(tensor.values(), numpy.float64)
            if not self.wide:
                self.shared[name] = self.shared[name].astype(numpy.float32)

    def array(self, name: str, value: Any) -> numpy.ndarray:
        """Values of a parameter in the dtype that is computed in."""
        wide = self.wide or self.dtypes[name] == "float64"
        return numpy.asarray(value, numpy.float64 if wide else numpy.float32)

    def step(self, rules: Mapping[str, Rule], grads: Values, params: Values) -> Values:
        """Step the parameters that have gradients; the others stay as they are."""
        names = [name for name in params if name in grads]
        bare = {id(rules[name]): _bare(rules[name]) for name in names}
        for name in names:
            if name not in self.own:
                self.own[name] = self.begun(name, rules[name], params[name])
        entries = [
            stepping.Entry(
                bare[id(rules[name])],
                self.own[name].step if self.each else self.count,
                self.array(name, grads[name]),
                self.array(name, params[name]),
                self.own[name].slots,
            )
            for name in names
        ]
        new = {name: self.array(name, value) for name, value in params.items()}
        if entries:
            with numpy.errstate(all="ignore"):
                results, self.shared = stepping.run(numpy, entries, self.shared)
                for name, (param, slots) in zip(names, results, strict=True):
                    own = self._stored(name, rules[name], slots)
                    self.own[name] = Own(self.own[name].step + 1, own)
                    new[name] = _narrowed(param, self.dtypes[name])
        self.count += 1
        return {name: value.astype(numpy.float64) for name, value in new.items()}

    def _stored(self, name: str, rule: Rule, slots: Mapping[str, Any]) -> dict[str, Any]:
        """Slots as they are stored: rounded where that is in 16 bits."""
        found = {}
        for slot, value in slots.items():
            dtype = _dtype(rule, slot, self.dtypes[name])
            found[slot] = map_parts(lambda part, dtype=dtype: _narrowed(part, dtype), value)
        return found


def _bare(rule: Rule) -> Rule:
    """The rule without dtypes of state, of which NumPy lacks one."""
    return rule.replace(state_dtype=None) if rule.hypers.get("state_dtype") else rule


def _narrowed(array: Any, dtype: str) -> Any:
    if dtype not in NARROW:
        return array
    return rounded(numpy.asarray(array, numpy.float64), dtype).astype(array.dtype)


def _dtype(rule: Rule, slot: str, own: str) -> str:
    """The dtype in which a slot of a parameter of dtype ``own`` is stored."""
    item = rule.slots().get(slot)
    kind = "parameter" if item is None else item.init.dtype
    if kind == "compute":
        return "float64" if own == "float64" else "float32"
    name = rule.storage(slot)
    if kind == "parameter" and name is not None:
        return own if stepping.WIDTHS[name] <= stepping.WIDTHS[own] else name
    return name or own
