"""A rule as an ``optax.GradientTransformationExtraArgs``."""

from __future__ import annotations

from typing import Any

import optax  # type: ignore[import-untyped]  # ships no types

import jax
import jax.numpy as xp

from .. import packing
from .. import step as stepping
from ..arrays import known, listed
from ..execution import checked
from ..rule import Rule, State

__all__ = ["RuleTransformation", "bind"]


class RuleTransformation(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """A rule as an optax transformation, the pair ``(init, update)``; see ``bind``."""

    @property
    def rule(self) -> Rule:
        """The rule that ``update`` carries out."""
        rule: Rule = self.update.rule
        return rule


def bind(rule: Rule, *, execution: str = "auto") -> RuleTransformation:
    """A rule object (the package's, a user's own, a wrapped one) as an optax transformation.

    Args:
        rule: the rule.
        execution: one of ``EXECUTIONS``. Under ``jax.jit`` XLA compiles the whole step, and
            ``auto`` leaves it to that; elsewhere small parameters are gathered, if none of them is
            spread over devices. ``compiled`` puts ``update`` into a ``jax.jit`` of its own.
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")
    checked(rule.name, execution)

    def init(params: Any) -> State:
        return _init(rule, params)

    def update(grads: Any, state: State, params: Any = None, **extra: Any) -> Any:
        traced = any(isinstance(value, jax.core.Tracer) for value in rule.numbers())
        if execution == "compiled" and not traced:
            return _compiled(rule, "reference", grads, state, params)
        return _update(rule, execution, grads, state, params)

    update.rule = rule  # type: ignore[attr-defined]
    return RuleTransformation(init, update)


def _init(rule: Rule, params: Any) -> State:
    paths, structure = _flattened(params)
    arrays: list[Any] = [
        leaf if isinstance(leaf, jax.ShapeDtypeStruct) else _strong(rule, path, leaf)
        for path, leaf in paths
    ]
    own = [
        rule.of(_dotted(path), array.shape) for (path, _), array in zip(paths, arrays, strict=True)
    ]
    for chosen, (path, _), array in zip(own, paths, arrays, strict=True):
        stepping.check(chosen, xp, _dotted(path), array)
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
            f"{rule.name}: parameter {_dotted(path)!r} is ShapeDtypeStruct, and the state starts "
            "from its values; use jax.eval_shape(optimizer.init, params)"
        ) from None


def _update(rule: Rule, execution: str, grads: Any, state: State, params: Any) -> tuple[Any, State]:
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
    paths, structure = _flattened(params)
    arrays = [_strong(rule, path, leaf) for path, leaf in paths]
    grads = _matched(rule, "the gradients", grads, paths, structure)
    slots: dict[str, list[Any]] = {
        name: _matched(rule, f"slot {name} of the state", tree, paths, structure)
        for name, tree in state.slots.items()
    }
    rule = rule.map_numbers(known)
    step = known(state.step)
    entries, places = [], []
    for place, ((path, _), array, grad) in enumerate(zip(paths, arrays, grads, strict=True)):
        if grad is None:
            continue
        strong = _strong(rule, path, grad, "the gradient of ")
        chosen = rule.of(_dotted(path), array.shape)
        stepping.check(chosen, xp, _dotted(path), array, strong)
        own = {name: v[place] for name, v in slots.items() if v[place] is not None}
        stepping.check_slots(chosen, _dotted(path), own, array.shape)
        entries.append(stepping.Entry(chosen, step, strong, array, own))
        places.append(place)
    packs = _together(entries, traced=execution == "packed") and execution != "reference"
    run = packing.run if packs else stepping.run
    results, common = run(xp, entries, state.shared, _kernel, _hoisted)
    updates: list[Any] = [None] * len(arrays)
    for place, (new_param, new_slots) in zip(places, results, strict=True):
        updates[place] = new_param - arrays[place]
        for name, value in new_slots.items():
            slots[name][place] = value
    new_slots = {name: structure.unflatten(values) for name, values in slots.items()}
    return structure.unflatten(updates), State(state.step + 1, new_slots, common)


_compiled = jax.jit(_update, static_argnums=(0, 1))


def _leaves(tree: Any) -> tuple[list[Any], Any]:
    """Every leaf, and the structure, whose class has no stub."""
    return jax.tree.flatten(tree)


def _flattened(params: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Every leaf with its path, and the structure, whose class has no stub."""
    return jax.tree_util.tree_flatten_with_path(params)


def _dotted(path: Any) -> str:
    """A path as predicates see it in every framework: names joined by dots."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _strong(rule: Rule, path: Any, leaf: Any, of: str = "") -> jax.Array:
    """A leaf as an array whose type is not weak, so that the types in a state never change."""
    try:
        return xp.asarray(leaf, dtype=xp.result_type(leaf))
    except TypeError:
        raise TypeError(
            f"{rule.name}: {of}parameter {_dotted(path)!r} is {type(leaf).__name__}; it must be an "
            "array or a number"
        ) from None


def _matched(rule: Rule, what: str, tree: Any, paths: list[Any], structure: Any) -> list[Any]:
    """What a tree holds for each parameter."""
    try:
        found: list[Any] = structure.flatten_up_to(tree)
    except (TypeError, ValueError) as error:
        of_params = {_dotted(path) for path, _ in paths}
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is None)
        of_tree = {_dotted(path) or type(leaf).__name__ for path, leaf in leaves}
        apart = {"only there": of_tree - of_params, "only in the parameters": of_params - of_tree}
        words = [f"{where}: {listed(names)}" for where, names in apart.items() if names]
        raise ValueError(
            f"{rule.name}: the tree of {what} is not that of the parameters; "
            + ("; ".join(words) or "its nodes are of other types")
        ) from error
    return found


def _together(entries: list[stepping.Entry], traced: bool) -> bool:
    """Whether arrays may be gathered: those on one device; ``traced``: and those being traced."""
    arrays = [array for entry in entries for array in (entry.param, entry.grad)]
    if any(isinstance(array, jax.core.Tracer) for array in arrays):
        return traced
    return len({device for array in arrays for device in array.devices()}) == 1


def _kernel(function: Any, xp: Any, rule: Rule) -> Any:
    """The function as it is; where shardings are in types, XLA chooses those of a matrix inside."""
    inside = stepping.plain(function, xp, rule)
    in_types = hasattr(jax.sharding, "auto_axes")  # from JAX 0.6 on
    if not (in_types and function is stepping.advance and rule.sees_axes):
        return inside

    def kernel(grad: Any, param: Any, slots: Any, common: Any, s: Any) -> Any:
        if jax.sharding.AxisType.Explicit not in jax.typeof(param).sharding.mesh.axis_types:
            return inside(grad, param, slots, common, s)
        leaves, structure = _leaves((common, s))

        def free(grad: Any, param: Any, slots: Any, arrays: Any) -> Any:
            pairs = zip(arrays, leaves, strict=True)
            known_and_traced = [leaf if array is None else array for array, leaf in pairs]
            return inside(grad, param, slots, *structure.unflatten(known_and_traced))

        same = jax.tree.map(lambda array: jax.typeof(array).sharding, (param, slots))
        arrays = [leaf if isinstance(leaf, jax.Array) else None for leaf in leaves]
        return jax.sharding.auto_axes(free, out_sharding=same)(grad, param, slots, arrays)

    return kernel


def _hoisted(values: Any, param: jax.Array) -> Any:
    """Traced scalars, computed once and not again in every kernel that reads them."""
    leaves: list[Any] = jax.tree.leaves(values)
    traced = [leaf for leaf in leaves if isinstance(leaf, jax.core.Tracer)]
    kept = iter(jax.lax.optimization_barrier(traced))  # type: ignore[no-untyped-call]
    return jax.tree.map(
        lambda leaf: next(kept) if isinstance(leaf, jax.core.Tracer) else leaf, values
    )
