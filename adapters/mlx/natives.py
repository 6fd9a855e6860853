"""The state of ``mlx.optimizers``' own optimizers as a ``Checkpoint``, and back.

    samestep.save("adamw.safetensors", mlx_optimizer, model)
    samestep.load("adamw.safetensors", mlx_optimizer, model)

Class and attributes say which rule computes the same, with ``like="mlx"``; the learning rate is the
number that it is now, in float32 as MLX keeps it. ``MultiOptimizer`` is one checkpoint, in which
parameters have different rules. ``from_state`` reads a state without an optimizer, such as a file
of ``mx.save_safetensors(path, dict(tree_flatten(optimizer.state)))``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import mlx.core as xp
import mlx.optimizers
from mlx.nn.layers.base import Module
from mlx.optimizers.optimizers import Optimizer
from mlx.utils import tree_map_with_path
from samestep.arrays import listed
from samestep.checkpoints import correspondence
from samestep.checkpoints.correspondence import About, Native, called, natives
from samestep.checkpoints.description import on_schedules
from samestep.checkpoints.state import (
    Checkpoint,
    CheckpointError,
    ParameterState,
    Wanted,
    common_count,
)
from samestep.checkpoints.tensor import Tensor, tensors
from samestep.checkpoints.trees import by_path, check_value
from samestep.kept import rule_of, saying
from samestep.notice import warn
from samestep.rule import Rule

from .tables import ENTRIES, FORM, MLX, REFUSED, relative
from .trees import leaves

__all__ = ["MLX", "checkpoint", "counterpart", "from_state", "restore"]


class _Own(NamedTuple):
    """A parameter, its optimizer, and the rule that computes the same."""

    path: str
    param: Any
    who: str
    native: Native
    rule: Rule
    step: int
    state: Mapping[str, Any]
    """Entries of its state in MLX; empty if there is no state yet."""
    schedules: Mapping[str, Any] = {}
    """The schedules of its optimizer by MLX's names of the numbers."""


class _One(NamedTuple):
    """One optimizer, not several, with its parameters and its flattened state."""

    optimizer: Any
    tree: Any
    params: dict[str, Any]
    flat: dict[str, Any]


def counterpart(rule: str, values: Mapping[str, Any], dtype: str = "float32") -> partial[Any]:
    """The class of mlx.optimizers that computes the same as a rule, with the rule's numbers.

    Raises:
        LookupError: mlx.optimizers has no such class.
    """
    return correspondence.counterpart(mlx.optimizers, MLX, rule, values, dtype)


def checkpoint(optimizer: Any, params: Any = None) -> Checkpoint:
    """State and parameters; ``params`` is a model, or a tree of its parameters.

    Raises:
        CheckpointError: no rule of ours computes the same, or state is missing.
    """
    tree = _tree(optimizer, params)
    return _taken(tree, [own for one in _ones(optimizer, tree) for own in _owned(one)])


def restore(optimizer: Any, saved: Checkpoint, params: Any = None) -> Any:
    """Take over state, numbers and values; a model in place, a tree is returned.

    A learning rate on a schedule is the checkpoint's until the next step asks the schedule.

    Raises:
        CheckpointError: the checkpoint does not fit; nothing has been changed.
    """
    tree = _tree(optimizer, params)
    ones = _ones(optimizer, tree)
    known = {path for one in ones for path in one.params}
    spare = [path for path in saved.parameters if path not in known]
    if spare:
        raise CheckpointError(
            f"the checkpoint has parameters that are not in the model: {listed(spare[:5])}"
        )
    planned = [(one, *_planned(one, saved)) for one in ones]
    if saved.others:
        warn(f"the checkpoint has more than the parameters here: {listed(saved.others)}")
    values = {
        path: own.value.like(param) if own.value is not None else param
        for one in ones
        for path, param in one.params.items()
        for own in (saved.parameters[path],)
    }
    for one, state, attributes in planned:
        one.optimizer.state = state
        for name, value in attributes.items():
            setattr(one.optimizer, name, value)
    new = tree_map_with_path(lambda path, _: values[path], tree)
    if not isinstance(params, Module):
        return new
    params.update(new)
    return None


def from_state(state: Mapping[str, Any], rule: Any, params: Any) -> Checkpoint:
    """A checkpoint from a state alone, as MLX users save it.

    Args:
        state: ``optimizer.state``, or its arrays by dotted path, as ``mx.load`` gives them.
        rule: what has written it: an optimizer of ``mlx.optimizers``, or a class of these, whose
            arguments are then its defaults; or a rule, such as ``samestep.AdamW(like="mlx")``, or a
            ``samestep.route`` of such rules for a MultiOptimizer.
        params: a model, or a tree of parameters.

    Raises:
        CheckpointError: no rule of ours computes the same, or state is missing.
        TypeError: ``rule`` is a class that is not in ``mlx.optimizers``.
    """
    flat = dict(leaves(state))
    rates = [float(value) for name, value in flat.items() if name.endswith("learning_rate")]
    if isinstance(rule, type):
        if not issubclass(rule, Optimizer):
            raise TypeError(f"{rule.__name__} is no class of mlx.optimizers; give one, or a rule")
        rule = rule(**({"learning_rate": rates[0]} if rates else {}))
    tree = _tree(rule, params)
    if isinstance(rule, Rule):
        arrays = by_path(leaves(tree))
        return _taken(tree, [_ruled(rule, path, array, flat) for path, array in arrays.items()])
    ones = [
        one._replace(flat=_below(flat, at) if "states" in rule.state else flat)
        for at, one in enumerate(_ones(rule, tree))
    ]
    return _taken(tree, [own for one in ones for own in _owned(one)])


def _taken(tree: Any, owned: list[_Own]) -> Checkpoint:
    """The checkpoint of parameters, in the order of the model."""
    states = {own.path: _state_of(own) for own in owned}
    ordered = by_path(leaves(tree))
    return Checkpoint({path: states[path] for path in ordered}, {}, "mlx")


def _state_of(own: _Own) -> ParameterState:
    own.native.refuse_others(own.who, own.path, own.state)
    _refuse_unread(own)
    begun = bool(own.state) or (own.step > 0 and not own.rule.slots())
    slots = _slots(own) if begun else None
    step = own.step if begun else 0
    state = ParameterState.of(own.rule, own.param, step, slots, Tensor.of(own.param))
    return replace(state, rule=on_schedules(state.rule, _scheduled(own)))


def _scheduled(own: _Own) -> dict[tuple[str, int | None], Any]:
    """The schedules of a parameter's optimizer by our names of the numbers."""
    pairs = own.native.fields.items()
    return {(ours, None): own.schedules[str(name)] for ours, name in pairs if name in own.schedules}


def _refuse_unread(own: _Own) -> None:
    """Refuse a momentum that a rule without momentum would not have; MLX keeps zeros of it."""
    unread = [theirs for ours, theirs in own.native.slots.items() if ours not in own.rule.slots()]
    arrays = {n: own.state[n] for n in unread if isinstance(n, str) and n in own.state}
    held = [name for name, array in arrays.items() if bool(xp.any(array != 0).item())]
    if held:
        raise CheckpointError(
            f"the state of {own.path!r} has {listed(held)}, which {own.rule!r} does not keep; give "
            "the class, or the numbers, that the state is of"
        )


def _slots(own: _Own) -> dict[str, Any]:
    """The slots of a parameter, in our shapes."""
    found = {}
    about = About({}, str(own.param.dtype), own.step)
    for slot, item in own.rule.slots().items():
        value = own.native.slot(slot, own.state, about)
        if value is None:
            raise CheckpointError(
                f"{own.who}: the state of parameter {own.path!r} has nothing for slot {slot}, only "
                f"{listed(own.state)}"
            )
        shape = tuple(own.param.shape)
        shapes, rule = item.init.shapes, own.rule.owner(slot)
        wanted = shape if shapes is None else shapes(shape, rule)
        several = isinstance(value, tuple)
        pairs = zip(value, wanted, strict=True) if several else [(value, wanted)]
        what = f"slot {slot} of parameter {own.path!r}"
        parts = tuple(_fitted(what, array, of) for array, of in pairs)
        found[slot] = parts if several else parts[0]
    return tensors(found)


def _fitted(what: str, array: Any, shape: Any) -> Any:
    """An array in another shape that differs in axes of size 1."""
    if [n for n in array.shape if n != 1] != [n for n in shape if n != 1]:
        raise CheckpointError(f"{what} has shape {tuple(array.shape)}; it must be {tuple(shape)}")
    return xp.reshape(array, shape)


def _tree(optimizer: Any, params: Any) -> Any:
    """The parameters of a model as a tree."""
    if params is None:
        raise TypeError(
            f"{type(optimizer).__name__}: give the model (or a tree of its parameters); a state of "
            "MLX has no names but those"
        )
    return params.parameters() if isinstance(params, Module) else params  # type: ignore[no-untyped-call]


def _below(flat: Mapping[str, Any], at: int) -> dict[str, Any]:
    """The part of a flattened state that belongs to one of several optimizers."""
    start = f"states.{at}."
    return {name[len(start) :]: array for name, array in flat.items() if name.startswith(start)}


def _ones(optimizer: Any, tree: Any) -> list[_One]:
    """Every optimizer with its share of the parameters."""
    found = [(optimizer, tree)]
    if type(optimizer).__name__ == "MultiOptimizer":
        found = [*zip(optimizer.optimizers, optimizer._split_dictionary(tree), strict=True)]
    return [_One(one, part, by_path(leaves(part)), dict(leaves(one.state))) for one, part in found]


def _owned(one: _One) -> Iterator[_Own]:
    """Every parameter of an optimizer with its state."""
    name = type(one.optimizer).__name__
    who = called(one.optimizer, {"mlx": "mlx.optimizers"})
    native = natives(MLX if who.startswith("mlx.") else {}, REFUSED, who, name)
    numbers = {n: v for n, v in vars(one.optimizer).items() if not n.startswith("_")}
    if "learning_rate" in one.flat:
        numbers["learning_rate"] = float(one.flat["learning_rate"])
    if name == "Adafactor" and numbers["relative_step"]:
        native = relative(native)
    for path, param in one.params.items():
        about = About(numbers, str(param.dtype), shape=tuple(param.shape))
        mine = native.of(about)
        own = saying(mine.rule_of(who, about), {"batch_axes": ()})  # MLX's own knows no stacks
        rule, entries = rule_of(own, path, param), _entries(one.flat, path)
        schedules = one.optimizer._schedulers
        yield _Own(path, param, who, mine, rule, _step(who, one.flat), entries, schedules)


def _step(who: str, flat: Mapping[str, Any]) -> int:
    if "step" not in flat:
        raise CheckpointError(f"{who}: the state has no step, only {listed([*flat][:5])}")
    return int(flat["step"].item())


def _entries(flat: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The entries of a flattened state that belong to a parameter."""
    return {n: flat[f"{path}.{n}"] for n in ENTRIES if f"{path}.{n}" in flat}


def _ruled(rule: Rule, path: str, param: Any, flat: Mapping[str, Any]) -> _Own:
    """A parameter under a given rule, in the state of one optimizer or of several."""
    own = rule_of(rule, path, param)
    table = {native.rule: native for native in MLX.values()}
    who = f"mlx.optimizers.{own.name}"
    native = natives(table, {}, who, own.name)
    preset = type(own).dialects.get("mlx")
    for name in sorted(FORM & own.fields().keys()):
        theirs = preset.values.get(name, own.fields()[name].default) if preset else None
        if preset and own._values[name] != theirs:
            raise CheckpointError(
                f"{own!r}: {name} is {own._values[name]!r} here and {theirs!r} in MLX; give "
                f'{own.name}(..., like="mlx")'
            )
    parts = [flat]
    if any(name.startswith("states.") for name in flat):
        count = 1 + max(int(name.split(".")[1]) for name in flat if name.startswith("states."))
        parts = [_below(flat, at) for at in range(count)]
    mine = [part for part in parts if _entries(part, path)] or parts[:1]
    if len(mine) > 1:
        raise CheckpointError(f"parameter {path!r} is in the states of {len(mine)} optimizers")
    ignored = own.name == "Adafactor" and own.hypers["relative_step"]
    if (
        "learning_rate" in mine[0]
        and isinstance(own.hypers.get("lr"), (int, float))
        and not ignored
    ):
        own = own.replace(lr=float(mine[0]["learning_rate"]))
    return _Own(path, param, who, native, own, _step(who, mine[0]), _entries(mine[0], path))


def _planned(one: _One, saved: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state that an optimizer is to have, and its attributes."""
    owned = [*_owned(one)]
    found = _matched(owned, saved) if owned else {}
    attributes: dict[str, Any] = {}
    for native in {id(own.native): own.native for own in owned}.values():
        mine = [own for own in owned if own.native is native]
        rules, kept = [own.rule for own in mine], [found[own.path] for own in mine]
        on_schedules = ("lr",) if "learning_rate" in one.optimizer._schedulers else ()
        attributes |= native.taken_over(mine[0].who, rules, kept, About({}), on_schedules)
    states = {own.path: _native_state(one, own, found[own.path]) for own in owned}
    rate = attributes.pop("learning_rate", None)
    old = one.optimizer.state
    step = common_count(type(one.optimizer).__name__, found)
    state = {"step": xp.array(step, old["step"].dtype)}
    if "learning_rate" in old:
        kept = old["learning_rate"]
        dtype = getattr(kept, "dtype", xp.float32)
        state["learning_rate"] = kept if rate is None else xp.array(rate, dtype)
    state |= tree_map_with_path(lambda path, _: states[path], one.tree)
    return state, attributes


def _matched(owned: list[_Own], saved: Checkpoint) -> dict[str, ParameterState]:
    there = {own.path: saved.parameters[own.path] for own in owned if own.path in saved.parameters}
    wanted = {own.path: Wanted(own.rule, own.param) for own in owned}
    natives = {own.path: own.native for own in owned}
    found = correspondence.matched(owned[0].who, natives, replace(saved, parameters=there), wanted)
    for own in owned:
        check_value(own.path, found[own.path], own.param)
    return found


def _native_state(one: _One, own: _Own, saved: ParameterState) -> dict[str, Any]:
    """The entries of a parameter in MLX's state."""
    if saved.slots is None:
        return {}
    first: dict[str, Any] = {}
    one.optimizer.init_single(own.param, first)
    given = own.native.given(saved.slots, About({}, str(own.param.dtype), saved.step))
    if not given.keys() <= first.keys():
        raise CheckpointError(
            f"{own.who} keeps {listed(first)} of parameter {own.path!r}; the checkpoint has "
            f"{listed(given)}"
        )
    return first | {name: _like(own.path, tensor, first[name]) for name, tensor in given.items()}


def _like(path: str, tensor: Tensor, old: xp.array) -> xp.array:
    """An array in shape and dtype of another, if that dtype has it exactly."""
    what = f"the state of parameter {path!r}"
    new = _fitted(what, tensor.like(old), tuple(old.shape))
    cast: xp.array = new.astype(old.dtype)
    if new.dtype != old.dtype and not bool(xp.all(cast.astype(new.dtype) == new).item()):
        raise CheckpointError(
            f"{what} is {new.dtype} in the checkpoint and {old.dtype} in MLX, which cannot hold "
            "its values"
        )
    return cast
