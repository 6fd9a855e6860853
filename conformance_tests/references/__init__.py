"""Independent references: each published rule in plain NumPy float64, written from its source."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy

from samestep.parity import Trajectory
from samestep.parity.backend import Snapshot
from samestep.quirks import named
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
    """
    paths = list(trajectory.params)
    reference = _built(rule, [trajectory.params[path].copy() for path in paths])
    snapshots = [_taken(reference, rule, paths)]
    for step in trajectory.grads:
        grads = [step[path] for path in paths]
        reference.step([-g for g in grads] if rule.hypers["maximize"] else grads)
        snapshots.append(_taken(reference, rule, paths))
    return snapshots


def _built(rule: Rule, params: list[numpy.ndarray]) -> Any:
    """The reference of the rule, around that of the rule inside."""
    cls: Any = reference_for(rule.name)
    if cls is None:
        raise LookupError(f"there is no reference for {rule.name}")
    aside = ("maximize", "state_dtype")
    values = {name: rule.hypers[name] for name in rule.fields() if name not in aside}
    for quirk in named(type(rule), rule.quirks):  # an argument of the reference
        option, value, _ = quirk.formerly or (quirk.name, True, False)
        values[option] = value
    inside: Any = _built(rule.rule, params) if isinstance(rule, Wrapper) else params
    return cls(inside, **values)


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
