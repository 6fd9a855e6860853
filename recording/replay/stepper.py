"""Rules stepped on NumPy from recorded parameters, one step at a time."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy

from samestep import step as stepping
from samestep.arrays import map_parts
from samestep.checkpoints.state import Checkpoint
from samestep.checkpoints.tensor import Tensor
from samestep.counts import Counts, withheld
from samestep.parity.ulp import rounded
from samestep.rule import Rule

__all__ = ["Machine", "Own", "values_of"]

NARROW = ("bfloat16", "float16")
"""Dtypes of storage: parameters and state are rounded to them, and arithmetic is wider."""

Values = dict[str, numpy.ndarray]


class Own(NamedTuple):
    """The state of one parameter."""

    step: int
    slots: dict[str, Any]
    missed: Mapping[str, int] = {}
    """As in ``Counts``: of the steps that a wrapper withheld, how many it had missed anyway."""


def values_of(tensors: Mapping[str, Tensor]) -> Values:
    """The values in float64, which holds every narrower dtype exactly."""
    return {name: tensor.values() for name, tensor in tensors.items()}


class Machine:
    """The state of an optimizer, and its steps.

    Args:
        wide: whether to compute in float64; else only float64 parameters are computed in it.
        dtypes: dtypes of the recorded parameters, by name.
        each: whether each parameter counts its own steps.
    """

    def __init__(self, wide: bool, dtypes: Mapping[str, str], each: bool) -> None:
        self.wide, self.dtypes, self.each = wide, dtypes, each
        self.own: dict[str, Own] = {}
        self.shared: dict[str, Any] = {}
        self.count = 0

    def copy(self) -> Machine:
        """A machine with the same arrays, which no step changes in place."""
        made = copy.copy(self)
        made.own, made.shared = dict(self.own), dict(self.shared)
        return made

    def fresh(self, rules: Mapping[str, Rule], params: Values) -> None:
        """Set the state before the first step."""
        self.own, self.count, self.shared = {}, 0, {}
        for name, value in params.items():
            self.own[name] = self.begun(name, rules[name], value)
        self.share(rules, params)

    def begun(self, name: str, rule: Rule, value: numpy.ndarray) -> Own:
        """The first state of a parameter."""
        slots = stepping.init_slots(_bare(rule), numpy, self.array(name, value))
        return Own(0, self._stored(name, rule, slots))

    def share(self, rules: Mapping[str, Rule], params: Values) -> None:
        """Set the first shared state, if a rule has any."""
        found = [name for name in params if rules[name].shared()]
        arrays = [self.array(name, params[name]) for name in found]
        self.shared = stepping.init_shared(_bare(rules[found[0]]), numpy, arrays) if found else {}

    def take(self, saved: Checkpoint, rules: Mapping[str, Rule], params: Values) -> None:
        """Set a recorded state; a parameter without one of its rule starts with its first state."""
        self.fresh(rules, params)
        for name in params:
            state = saved.parameters.get(name)
            if state is not None and {*(state.slots or ())} == {*rules[name].slots()}:
                slots = {
                    slot: map_parts(lambda part, name=name: self.array(name, part.values()), value)
                    for slot, value in (state.slots or {}).items()
                }
                self.own[name] = Own(state.step, slots, state.missed)
        self.count = saved.all_calls
        for name, tensor in saved.shared.items():
            self.shared[name] = numpy.asarray(tensor.values(), numpy.float64)
            if not self.wide:
                self.shared[name] = self.shared[name].astype(numpy.float32)

    def array(self, name: str, value: Any) -> numpy.ndarray:
        """Values of a parameter in the dtype of the arithmetic."""
        wide = self.wide or self.dtypes[name] == "float64"
        return numpy.asarray(value, numpy.float64 if wide else numpy.float32)

    def step(self, rules: Mapping[str, Rule], grads: Values, params: Values) -> Values:
        """Step the parameters that have gradients; the others stay unchanged."""
        names = [name for name in params if name in grads]
        bare = {id(rules[name]): _bare(rules[name]) for name in names}
        for name in names:
            if name not in self.own:
                self.own[name] = self.begun(name, rules[name], params[name])
        entries = [
            stepping.entry(
                bare[id(rules[name])],
                numpy,
                name,
                self._counts(self.own[name]),
                self.array(name, grads[name]),
                self.array(name, params[name]),
                self.own[name].slots,
            )
            for name in names
        ]
        new = {name: self.array(name, value) for name, value in params.items()}
        if entries:
            with numpy.errstate(all="ignore"):
                before = self.shared
                results, self.shared = stepping.run(numpy, entries, self.shared)
                for name, (param, slots) in zip(names, results, strict=True):
                    own = self._stored(name, rules[name], slots)
                    self.own[name] = self.own[name]._replace(
                        step=self.own[name].step + 1, slots=own
                    )
                    new[name] = _narrowed(param, self.dtypes[name])
                self._miss(rules, before, names)
        self.count += 1
        return {name: value.astype(numpy.float64) for name, value in new.items()}

    def _counts(self, own: Own) -> Any:
        """The counts of a parameter before a step."""
        if not self.each:
            return self.count
        return Counts(self.count, own.step, tuple(own.missed.items()))

    def _miss(
        self, rules: Mapping[str, Rule], before: Mapping[str, Any], stepped: Collection[str]
    ) -> None:
        """Note the withheld steps that parameters without gradients have missed."""
        for name in (self.own.keys() & rules.keys()) - {*stepped} if self.each else ():
            old, new = (withheld(numpy, rules[name], s, 0) for s in (before, self.shared))
            missed = {n: self.own[name].missed.get(n, 0) + new[n] - old[n] for n in new}
            self.own[name] = self.own[name]._replace(missed=missed)

    def _stored(self, name: str, rule: Rule, slots: Mapping[str, Any]) -> dict[str, Any]:
        """Slots as they are stored: those in 16 bits are rounded."""
        found = {}
        for slot, value in slots.items():
            dtype = _dtype(rule, slot, self.dtypes[name])
            found[slot] = map_parts(lambda part, dtype=dtype: _narrowed(part, dtype), value)
        return found


def _bare(rule: Rule) -> Rule:
    """The rule without state dtypes: NumPy has no bfloat16."""
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
