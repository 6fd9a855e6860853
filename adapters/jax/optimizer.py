"""A rule as an ``optax.GradientTransformationExtraArgs``."""

from __future__ import annotations

from typing import Any

import optax  # type: ignore[import-untyped]  # ships no types

import jax
import jax.numpy as xp
from samestep import packing
from samestep import step as stepping
from samestep.arrays import known, listed
from samestep.checkpoints.state import Checkpoint
from samestep.execution import Execution, checked, say
from samestep.rule import Rule, State

from . import checkpoint as checkpoints
from .trees import dotted, flattened, leaves, matched, parts, strong

__all__ = ["RuleTransformation", "bind"]


class RuleTransformation(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """A rule as an optax transformation, the pair ``(init, update)``; see ``bind``."""

    @property
    def rule(self) -> Rule:
        """The rule that ``update`` carries out."""
        rule: Rule = self.update.rule
        return rule

    def checkpoint(self, params: Any = None, state: State | None = None) -> Checkpoint:
        """Parameters and state as a checkpoint, without copies.

        ``samestep.checkpoint`` makes one that later steps do not change.

        Raises:
            TypeError: parameters or state are not given; a transformation holds neither.
        """
        if state is None:
            raise TypeError(
                f"{self.rule.name}: give the parameters and the state; a transformation of optax "
                "holds neither"
            )
        return checkpoints.taken(self.rule, params, state)

    def restore(self, checkpoint: Checkpoint, params: Any = None) -> tuple[Any, State]:
        """Parameters and state from a checkpoint; see ``samestep.restore``.

        Raises:
            TypeError: there are no parameters, whose structure is that of the state.
        """
        if params is None:
            raise TypeError(
                f"{self.rule.name}: give the parameters, for the structure of the state"
            )
        return checkpoints.restored(self.rule, checkpoint, params)


def bind(rule: Rule, *, execution: Execution = "auto") -> RuleTransformation:
    """A rule object (the package's, a user's own, a wrapped one) as an optax transformation.

    Args:
        rule: the rule.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers,
            if no parameter is spread over devices; the log says which, once.

    Raises:
        TypeError, ValueError: ``rule`` is no rule; there is no such execution.
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")
    checked(rule.name, execution)
    said: set[str] = set()

    def init(params: Any) -> State:
        return _init(rule, params)

    def update(grads: Any, state: State, params: Any = None, **extra: Any) -> Any:
        traced = any(isinstance(value, jax.core.Tracer) for value in rule.numbers())
        if execution == "compiled" and not traced:
            return _compiled(rule, "reference", grads, state, params)
        return _update(rule, execution, grads, state, params, said)

    update.rule = rule  # type: ignore[attr-defined]
    return RuleTransformation(init, update)


def _init(rule: Rule, params: Any) -> State:
    paths, structure = flattened(params)
    arrays: list[Any] = [
        leaf if isinstance(leaf, jax.ShapeDtypeStruct) else strong(rule, path, leaf)
        for path, leaf in paths
    ]
    own = [
        rule.of(dotted(path), array.shape) for (path, _), array in zip(paths, arrays, strict=True)
    ]
    for chosen, (path, _), array in zip(own, paths, arrays, strict=True):
        stepping.check(chosen, xp, dotted(path), array)
    first = [
        _first(chosen, path, array)
        for chosen, (path, _), array in zip(own, paths, arrays, strict=True)
    ]
    slots = {name: structure.unflatten([s.get(name) for s in first]) for name in rule.slots()}
    common = stepping.init_shared(rule, xp, arrays or [xp.zeros((), xp.float32)])
    return State(xp.zeros((), xp.int32), slots, common)


def _first(rule: Rule, path: Any, param: Any) -> dict[str, Any]:
    """The first slots of a parameter, of which only shape and dtype may be known."""
    try:
        return stepping.init_slots(rule, xp, param)
    except TypeError:
        if not isinstance(param, jax.ShapeDtypeStruct):
            raise
        raise TypeError(
            f"{rule.name}: parameter {dotted(path)!r} is ShapeDtypeStruct, and the state starts "
            "from its values; use jax.eval_shape(optimizer.init, params)"
        ) from None


def _update(
    rule: Rule,
    execution: str,
    grads: Any,
    state: State,
    params: Any,
    said: set[str] | None = None,
) -> tuple[Any, State]:
    if params is None:
        raise ValueError(f"{rule.name}: update(grads, state, params) needs params")
    if not isinstance(state, State):
        raise TypeError(
            f"{rule.name}: state is {type(state).__name__}; it must be what init() or "
            "update() returned"
        )
    stepping.check_slots(rule, "the parameters", state.slots)
    if set(state.shared) != set(rule.shared()):
        raise ValueError(
            f"{rule.name}: the shared state has {listed(state.shared)}; {rule.name} keeps "
            f"{listed(rule.shared())}"
        )
    paths, structure = flattened(params)
    arrays = [strong(rule, path, leaf) for path, leaf in paths]
    grads = matched(rule, "the gradients", grads, paths, structure)
    slots: dict[str, list[Any]] = {
        name: [*map(parts, matched(rule, f"slot {name} of the state", tree, paths, structure))]
        for name, tree in state.slots.items()
    }
    rule = rule.map_numbers(known)
    step = known(state.step)
    entries, places = [], []
    for place, ((path, _), array, grad) in enumerate(zip(paths, arrays, grads, strict=True)):
        if grad is None:
            continue
        own_grad = strong(rule, path, grad, "the gradient of ")
        chosen = rule.of(dotted(path), array.shape)
        stepping.check(chosen, xp, dotted(path), array, own_grad)
        own = {name: v[place] for name, v in slots.items() if v[place] is not None}
        stepping.check_slots(chosen, dotted(path), own, array.shape)
        entries.append(stepping.Entry(chosen, step, own_grad, array, own))
        places.append(place)
    if execution == "auto":
        execution, reason = _chosen(entries)
        if said is not None and execution not in said:
            said.add(execution)
            say(rule.name, execution, reason)
    run = packing.run if execution == "packed" and _together(entries) else stepping.run
    results, common = run(xp, entries, state.shared, _kernel, _hoisted)
    updates: list[Any] = [None] * len(arrays)
    for place, (new_param, new_slots) in zip(places, results, strict=True):
        updates[place] = new_param - arrays[place]
        for name, value in new_slots.items():
            slots[name][place] = value
    new_slots = {name: structure.unflatten(values) for name, values in slots.items()}
    return structure.unflatten(updates), State(state.step + 1, new_slots, common)


_compiled = jax.jit(_update, static_argnums=(0, 1))


def _chosen(entries: list[stepping.Entry]) -> tuple[str, str]:
    """What ``execution="auto"`` means for these entries, and why."""
    if _traced(entries):
        return "reference", "under jax.jit XLA compiles the whole step"
    if not _together(entries):
        return "reference", "the parameters are spread over devices"
    return "packed", "outside jax.jit small parameters are gathered"


def _traced(entries: list[stepping.Entry]) -> bool:
    arrays = (array for entry in entries for array in (entry.param, entry.grad))
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def _together(entries: list[stepping.Entry]) -> bool:
    """Whether arrays may be gathered: those being traced, and those on one device."""
    if _traced(entries):
        return True
    arrays = (array for entry in entries for array in (entry.param, entry.grad))
    return len({device for array in arrays for device in array.devices()}) <= 1


def _kernel(function: Any, xp: Any, rule: Rule) -> Any:
    """The function as it is; where shardings are in types, XLA chooses those of a matrix inside."""
    inside = stepping.plain(function, xp, rule)
    in_types = hasattr(jax.sharding, "auto_axes")  # from JAX 0.6 on
    if not (in_types and function is stepping.advance and rule.sees_axes):
        return inside

    def kernel(grad: Any, param: Any, slots: Any, common: Any, s: Any) -> Any:
        if jax.sharding.AxisType.Explicit not in jax.typeof(param).sharding.mesh.axis_types:
            return inside(grad, param, slots, common, s)
        flat, structure = leaves((common, s))

        def free(grad: Any, param: Any, slots: Any, arrays: Any) -> Any:
            pairs = zip(arrays, flat, strict=True)
            known_and_traced = [leaf if array is None else array for array, leaf in pairs]
            return inside(grad, param, slots, *structure.unflatten(known_and_traced))

        same = jax.tree.map(lambda array: jax.typeof(array).sharding, (param, slots))
        arrays = [leaf if isinstance(leaf, jax.Array) else None for leaf in flat]
        return jax.sharding.auto_axes(free, out_sharding=same)(grad, param, slots, arrays)

    return kernel


def _hoisted(values: Any, param: jax.Array) -> Any:
    """Traced scalars, computed once and not again in every kernel that reads them."""
    traced = [leaf for leaf in jax.tree.leaves(values) if isinstance(leaf, jax.core.Tracer)]
    kept = iter(jax.lax.optimization_barrier(traced))  # type: ignore[no-untyped-call]
    return jax.tree.map(
        lambda leaf: next(kept) if isinstance(leaf, jax.core.Tracer) else leaf, values
    )
