"""A rule as three functions, as in ``jax.example_libraries.optimizers``, and its state as a dict.

    init, update, get_params = samestep.triple(samestep.Adam(lr=1e-3))
    state = init(params)
    for i in range(steps):
        state = update(i, gradient(get_params(state)), state)

``unpack_state`` turns a state into a flat dict of arrays, which every file format can hold, and
``pack_state`` turns it back.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import array_api_compat
import numpy

from . import tree
from .rule import Rule, State

__all__ = ["Triple", "TripleState", "pack_state", "triple", "unpack_state"]

Array = Any


class TripleState(NamedTuple):
    """Parameters and the rule's state. In JAX it is a pytree without being registered."""

    params: Any
    state: State


class Triple(NamedTuple):
    """An optimizer as three pure functions; see ``triple``."""

    init: Callable[[Any], TripleState]
    update: Callable[[Any, Any, TripleState], TripleState]
    get_params: Callable[[TripleState], Any]


def triple(rule: Rule) -> Triple:
    """A rule with the interface of ``jax.example_libraries.optimizers``, on any framework's arrays.

    Args:
        rule: any rule; its hyperparameters may be schedules.

    Returns:
        ``init(params)``, ``update(i, grads, state)`` and ``get_params(state)``. ``params`` is an
        array or a tree (dicts, lists, tuples) of them, ``grads`` is shaped like it, and ``i`` is
        the index of the step, from 0: a whole number, or a 0-d array of one, traced or not. It
        alone decides what schedules and bias corrections are; the state's own count follows it.

    Raises:
        TypeError: ``rule`` is no rule; in ``update``, ``i`` or ``state`` is of another type.

    In JAX's own, ``weight_decay`` and options do not exist, and parameters of any pytree are taken.
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"triple({rule!r}): give a rule such as samestep.Adam(lr=1e-3)")

    def init(params: Any) -> TripleState:
        return TripleState(params, rule.init(params))

    def update(i: Any, grads: Any, state: TripleState) -> TripleState:
        if not isinstance(state, TripleState):
            raise TypeError(
                f"{rule.name}: update(i, grads, state) got a state of {type(state).__name__}; "
                "it must be what init() or update() returned"
            )
        counted = state.state._replace(step=_index(rule, i))
        return TripleState(*rule.update(grads, state.params, counted))

    def get_params(state: TripleState) -> Any:
        return state.params

    return Triple(init, update, get_params)


def _index(rule: Rule, i: Any) -> Any:
    if isinstance(i, numbers.Integral):
        return int(i)
    if getattr(i, "shape", None) != ():
        raise TypeError(
            f"{rule.name}: update(i, grads, state) got i = {i!r}; it must be the index of the "
            "step, a whole number or a 0-d array"
        )
    return i


S = TypeVar("S", State, TripleState)


def unpack_state(state: State | TripleState) -> dict[str, Array]:
    """A state as a flat dict of arrays, for ``numpy.savez``, safetensors or pickle.

    Args:
        state: of ``rule.init``, ``rule.update`` or a ``triple``.

    Returns:
        The state's own arrays (no copies), by ``step``, ``slots/<slot>/<path>``,
        ``shared/<name>`` and, of a ``triple``, ``params/<path>``. A path is the keys and indices
        down a tree, joined by ``/``; in a key ``~`` is written ``~0`` and ``/`` is written ``~1``,
        as in JSON pointers (RFC 6901). A step that is a number becomes a 0-d array.

    Raises:
        TypeError: it is no state, or something in it is no array.
        ValueError: a dict has two keys that are written alike, such as 1 and ``"1"``.
    """
    flat: dict[str, Array] = {}
    for path, value in tree.leaves(_parts("unpack_state", state)):
        key = _key(path)
        if key in flat:
            raise ValueError(f"unpack_state: two entries are called {key!r}; rename one")
        flat[key] = value
    arrays = [value for value in flat.values() if _is_native(value)]
    xp = array_api_compat.array_namespace(*arrays[:1]) if arrays else numpy
    for key, value in flat.items():
        if isinstance(value, numbers.Integral):
            flat[key] = xp.asarray(int(value))
        elif not _is_native(value):
            raise TypeError(f"unpack_state: {key!r} is {type(value).__name__}, not an array")
    return flat


def pack_state(flat: Mapping[str, Array], like: S) -> S:
    """The state that ``unpack_state`` took apart.

    Args:
        flat: arrays by the keys of ``unpack_state``; those of another library, such as NumPy's
            from a file, become arrays of the library that ``like`` has, where ``like`` is.
        like: a state for the same rule and parameters, fresh from ``init``, say. It gives the
            structure, the shapes and the dtypes; its values are not used.

    Returns:
        A state of ``like``'s type; ``like`` is unchanged.

    Raises:
        TypeError: ``like`` is no state.
        ValueError: keys are missing or too many, or an array has another shape or dtype.
    """
    parts = _parts("pack_state", like)
    wanted = {_key(path) for path, _ in tree.leaves(parts)}
    differing = {"missing": wanted - {*flat}, "too many": {*flat} - wanted}
    if any(differing.values()):
        raise ValueError(
            "pack_state: "
            + "; ".join(f"{what}: {', '.join(sorted(k))}" for what, k in differing.items() if k)
        )
    new = tree.rebuild(parts, lambda path, old: _restored(_key(path), flat[_key(path)], old))
    if isinstance(like, TripleState):
        return TripleState(new.pop("params"), like.state._replace(**new))
    return like._replace(**new)


def _parts(function: str, state: Any) -> dict[str, Any]:
    """A state as a tree whose paths are the keys."""
    if isinstance(state, TripleState):
        return {"params": state.params, **_parts(function, state.state)}
    if not isinstance(state, State):
        raise TypeError(
            f"{function}: the state is {type(state).__name__}; it must be a samestep.State or a "
            "TripleState"
        )
    return state._asdict()


def _key(path: tuple[Any, ...]) -> str:
    return "/".join(str(key).replace("~", "~0").replace("/", "~1") for key in path)


def _is_native(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _restored(key: str, value: Any, old: Any) -> Any:
    """A stored value in place of ``old``: of its library, shape and dtype, or an error."""
    shape, wanted = (tuple(getattr(array, "shape", ())) for array in (value, old))
    if shape != wanted:
        raise ValueError(f"pack_state: {key!r} has shape {shape}; it must be {wanted}")
    if isinstance(old, numbers.Integral):
        return int(value)
    value = _native(value, old)
    if value.dtype == old.dtype:
        return value
    xp = array_api_compat.array_namespace(old)
    if not (xp.isdtype(value.dtype, "integral") and xp.isdtype(old.dtype, "integral")):
        raise ValueError(f"pack_state: {key!r} has dtype {value.dtype}; it must be {old.dtype}")
    return xp.astype(value, old.dtype)


def _native(value: Any, old: Array) -> Array:
    """An array as one of ``old``'s library, in the same place if it comes from another."""
    xp = array_api_compat.array_namespace(old)
    if not _is_native(value):
        value = numpy.asarray(value)
    if isinstance(value, numpy.ndarray) and value.dtype.kind == "V":
        value = value.view(numpy.asarray(old).dtype)  # a file does not name bfloat16
    if array_api_compat.array_namespace(value) is xp:
        return value
    place = {"device": old.device} if hasattr(old, "device") else {}
    if str(value.dtype) == str(old.dtype).rpartition(".")[2]:
        place["dtype"] = old.dtype  # MLX makes float32 of NumPy's float64 unless it is told
    return xp.asarray(numpy.array(value), **place)  # a copy, as torch shares and must own it
