"""Independent references: each published rule in plain NumPy float64, written from its source."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import numpy

from ...backend import Snapshot
from ...parity import Trajectory
from ...rule import Rule, Wrapper

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
    reference, outside = _built(rule, [trajectory.params[path].copy() for path in paths])
    snapshots = [_taken(reference, rule, paths)]
    for step in trajectory.grads:
        grads = [step[path] for path in paths]
        _decayed_step(reference, [-g for g in grads] if rule.hypers["maximize"] else grads, outside)
        snapshots.append(_taken(reference, rule, paths))
    return snapshots


def _built(rule: Rule, params: list[numpy.ndarray]) -> tuple[Any, dict[str, Any]]:
    """The reference, and the weight decay that is to be done around it."""
    cls = reference_for(rule.name)
    if cls is None:
        raise LookupError(f"there is no reference for {rule.name}")
    inner = rule.rule if isinstance(rule, Wrapper) else rule
    inner_class = reference_for(inner.name) if isinstance(rule, Wrapper) else cls
    values, outside = _arguments(inner, inner_class)
    if isinstance(rule, Wrapper):
        own = {name: rule.hypers[name] for name in rule.fields()}
        return cls(params, inner_class, **own, **values), outside
    return cls(params, **values), outside


def _arguments(rule: Rule, cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constructor arguments of the reference, and the decay that it does not know itself."""
    known = inspect.signature(cls.__init__).parameters
    values = {
        name: value
        for name, value in rule.hypers.items()
        if name not in ("maximize", "state_dtype", "decay", "weight_decay")
    }
    family, amount = rule.hypers["decay"], rule.hypers["weight_decay"]
    inside = "weight_decay" in known and family == type(rule).fields()["decay"].default
    if "weight_decay" in known:
        values["weight_decay"] = amount if inside else 0.0
    return values, {"family": family, "amount": 0.0 if inside else amount, "lr": values["lr"]}


def _decayed_step(reference: Any, grads: list[numpy.ndarray], decay: dict[str, Any]) -> None:
    """A step with weight decay done around the reference, as the family's definition says."""
    family, amount, lr = decay["family"], decay["amount"], decay["lr"]
    before = [param.copy() for param in reference.params]
    if family == "l2":
        grads = [g + amount * p for g, p in zip(grads, before, strict=True)]
    reference.step(grads)
    for i, old in enumerate(before):
        if family in ("decoupled", "in_update"):
            reference.params[i] = numpy.asarray(reference.params[i] - lr * amount * old)
        if family == "proximal":
            reference.params[i] = numpy.asarray(reference.params[i] / (1 + lr * amount))


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
