"""A rule as an ``optax.GradientTransformationExtraArgs``."""

from __future__ import annotations

from typing import Any

import optax  # type: ignore[import-untyped]  # ships no types

import jax
import jax.numpy as xp

from .. import step as stepping
from ..rule import Rule, State

__all__ = ["RuleTransformation", "bind"]


class RuleTransformation(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """A rule as an optax transformation, the pair ``(init, update)``; see ``bind``."""

    @property
    def rule(self) -> Rule:
        """The rule that ``update`` carries out."""
        rule: Rule = self.update.rule
        return rule


def bind(rule: Rule) -> RuleTransformation:
    """A rule object (the package's, a user's own, a wrapped one) as an optax transformation."""
    if not isinstance(rule, Rule):
        raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")

    def init(params: Any) -> State:
        return _init(rule, params)

    def update(grads: Any, state: State, params: Any = None, **extra: Any) -> Any:
        return _update(rule, grads, state, params)

    update.rule = rule  # type: ignore[attr-defined]
    return RuleTransformation(init, update)


def _init(rule: Rule, params: Any) -> State:
    paths, structure = _flattened(params)
    arrays = [_strong(leaf) for _, leaf in paths]
    for (path, _), array in zip(paths, arrays, strict=True):
        stepping.check(rule, xp, jax.tree_util.keystr(path), array)
    first = [
        stepping.init_slots(rule.of(_dotted(path), array.shape), xp, array)
        for (path, _), array in zip(paths, arrays, strict=True)
    ]
    slots = {name: structure.unflatten([s[name] for s in first]) for name in rule.slots()}
    common = stepping.init_shared(rule, xp, arrays) if arrays else {}
    return State(xp.zeros((), xp.int32), slots, common)


def _update(rule: Rule, grads: Any, state: State, params: Any) -> tuple[Any, State]:
    if params is None:
        raise ValueError(f"{rule.name}: update(grads, state, params) needs params")
    if not isinstance(state, State):
        raise TypeError(
            f"{rule.name}: state is {type(state).__name__}; it must be what init() or "
            "update() returned"
        )
    stepping.check_slots(rule, "the parameters", state.slots)
    paths, structure = _flattened(params)
    arrays = [_strong(leaf) for _, leaf in paths]
    grads = structure.flatten_up_to(grads)
    slots: dict[str, list[Any]] = {
        name: structure.flatten_up_to(tree) for name, tree in state.slots.items()
    }
    rule = rule.map_numbers(_on_host)
    step = _on_host(state.step)
    entries, places = [], []
    for place, ((path, _), array, grad) in enumerate(zip(paths, arrays, grads, strict=True)):
        if grad is None:
            continue
        stepping.check(rule, xp, jax.tree_util.keystr(path), array, grad)
        own = {name: values[place] for name, values in slots.items()}
        stepping.check_slots(rule, jax.tree_util.keystr(path), own, array.shape)
        chosen = rule.of(_dotted(path), array.shape)
        entries.append(stepping.Entry(chosen, step, _strong(grad), array, own))
        places.append(place)
    results, common = stepping.run(xp, entries, state.shared)
    updates: list[Any] = [None] * len(arrays)
    for place, (new_param, new_slots) in zip(places, results, strict=True):
        updates[place] = new_param - arrays[place]
        for name, value in new_slots.items():
            slots[name][place] = value
    new_slots = {name: structure.unflatten(values) for name, values in slots.items()}
    return structure.unflatten(updates), State(state.step + 1, new_slots, common)


def _flattened(params: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Every leaf with its path, and the structure, whose class has no stub."""
    return jax.tree_util.tree_flatten_with_path(params)


def _dotted(path: Any) -> str:
    """A path as predicates see it in every framework: names joined by dots."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _strong(leaf: Any) -> jax.Array:
    """A leaf as an array whose type is not weak, so that the types in a state never change."""
    return xp.asarray(leaf, dtype=xp.result_type(leaf))


def _on_host(value: Any) -> Any:
    """A Python number where the value is known, the array itself where it is traced."""
    known = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    return value.item() if known else value
