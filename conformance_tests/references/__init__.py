"""Independent references: each published rule in plain NumPy float64, written from its source."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import partial
from typing import Any

import numpy

from samestep.declaration import Storage
from samestep.parity import Trajectory
from samestep.parity.backend import Snapshot
from samestep.rule import Rule
from samestep.wrapper import Wrapper

__all__ = ["follow_reference", "reference_for"]


def reference_for(rule_name: str) -> type | None:
    """Return the reference class of that name, looked for in every module here, or None."""
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found = getattr(module, rule_name, None)
        if isinstance(found, type) and found.__module__ == module.__name__:
            return found
    return None


def follow_reference(rule: Rule, trajectory: Trajectory) -> list[Snapshot]:
    """Snapshots of the rule's reference before the first and after every step of a trajectory.

    Raises:
        LookupError: there is no reference for the rule.
        TypeError: the reference does not know an option that the rule has set.
    """
    paths = list(trajectory.params)
    reference = _built(rule, [trajectory.params[path].copy() for path in paths])
    snapshots = [_taken(reference, rule, paths)]
    for step in trajectory.grads:
        grads = [step[path] for path in paths]
        reference.step([-g for g in grads] if rule.hypers["maximize"] else grads)
        snapshots.append(_taken(reference, rule, paths))
    return snapshots


class Decayed:
    """A reference with weight decay done around it, as the family's definition says."""

    def __init__(
        self,
        params: list[numpy.ndarray],
        inner_class: type,
        family: str,
        amount: float,
        **values: Any,
    ) -> None:
        self.inner: Any = inner_class(params, **values)
        self.params: list[numpy.ndarray] = self.inner.params
        self.state: dict[str, Any] = self.inner.state
        self.family = family
        self.amount = amount
        self.lr = values["lr"]

    def step(self, grads: list[numpy.ndarray]) -> None:
        """Take one step."""
        before = [param.copy() for param in self.params]
        if self.family in ("l2", "l2+proximal"):
            grads = [g + self.amount * p for g, p in zip(grads, before, strict=True)]
        removed = {"decoupled": self.lr * self.amount, "absolute": self.amount}.get(
            self.family, 0.0
        )
        if not getattr(self.inner, "SEES_OLD", False):  # a norm is that of the decayed parameter
            for param in self.params:
                param[...] = param - removed * param
            removed = 0.0
        self.inner.step(grads)
        for param, old in zip(self.params, before, strict=True):
            param[...] = param - removed * old
            if self.family == "in_update":
                param[...] = param - self.lr * self.amount * old
            if self.family in ("proximal", "l2+proximal"):
                param[...] = param / (1 + self.lr * self.amount)


def _built(rule: Rule, params: list[numpy.ndarray]) -> Any:
    """The reference of the rule; a wrapper's has weight decay around the rule inside."""
    make, arguments = _maker(rule)
    return make(params, **arguments)


def _maker(rule: Rule) -> tuple[Any, dict[str, Any]]:
    cls = reference_for(rule.name)
    if cls is None:
        raise LookupError(f"there is no reference for {rule.name}")
    if not isinstance(rule, Wrapper):
        return partial(Decayed, inner_class=cls), _arguments(rule, cls)
    inside, arguments = _maker(rule.rule)
    fields = rule.fields()
    own = {name: rule.hypers[name] for name in fields if not isinstance(fields[name], Storage)}
    return partial(cls, inner_class=inside), own | arguments


def _arguments(rule: Rule, cls: Any) -> dict[str, Any]:
    """Constructor arguments of the reference, and the decay to do around it."""
    known = inspect.signature(cls.__init__).parameters
    values = {
        name: value
        for name, value in rule.hypers.items()
        if name not in ("maximize", "state_dtype", "decay", "weight_decay")
    }
    family, amount = rule.hypers["decay"], rule.hypers["weight_decay"]
    # A reference does its rule's own family itself, and those it lists.
    own = getattr(cls, "DECAYS", (type(rule).fields()["decay"].default,))
    inside = "weight_decay" in known and family in own
    if "weight_decay" in known:
        values["weight_decay"] = amount if inside else 0.0
    if hasattr(cls, "DECAYS") and inside:
        values["decay"] = family
    if not values.get("bare_decay", True) and values["momentum"] == 0:
        amount = 0.0  # SGD's option that leaves decay out where there is no momentum
    return values | {"family": family, "amount": 0.0 if inside else amount}


def _taken(reference: Any, rule: Rule, paths: list[str]) -> Snapshot:
    taken = {
        ("param", path): numpy.array(p) for path, p in zip(paths, reference.params, strict=True)
    }
    for slot in rule.slots():
        for path, value in zip(paths, reference.state[slot], strict=True):
            if isinstance(value, tuple):
                taken |= {(f"{slot}.{i}", path): numpy.array(v) for i, v in enumerate(value)}
            else:
                taken[slot, path] = numpy.array(value)
    return taken | {(name, ""): numpy.array(reference.state[name]) for name in rule.shared()}
