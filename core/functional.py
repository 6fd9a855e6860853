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
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import array_api_compat
import numpy

from . import tree
from .arrays import dtype_name, is_array, known
from .counts import MISSED, OF, PLACES, split
from .rule import Rule, State

__all__ = ["Triple", "TripleState", "pack_state", "triple", "unpack_state"]

Array = Any
COUNT = re.compile(rf"shared/(?P<name>\w+{MISSED}{PLACES}({OF}[0-9a-f]{{8}})?)")
"""The key of a count of missed calls."""


class TripleState(NamedTuple):
    """``params`` and the rule's ``state``. In JAX it is a pytree without being registered."""

    params: Any
    state: State


class Triple(NamedTuple):
    """The functions ``init``, ``update`` and ``get_params`` of an optimizer; see ``triple``."""

    init: Callable[[Any], TripleState]
    update: Callable[[Any, Any, TripleState], TripleState]
    get_params: Callable[[TripleState], Any]


def triple(rule: Rule) -> Triple:
    """A rule with the interface of ``jax.example_libraries.optimizers``, on any framework's arrays.

    Args:
        rule: any rule; its hyperparameters may be schedules.

    Returns:
        ``init(params)``, ``update(i, grads, state)`` and ``get_params(state)``. ``params`` is an
        array or a tree (dicts, lists, tuples) of arrays, and ``grads`` is shaped like it. ``i`` is
        the 0-based index of the step, a whole number or a 0-d array. The count in the state is set
        to it, for schedules and bias corrections.

    Raises:
        TypeError: ``rule`` is not a rule; in ``update``, ``i`` or ``state`` has another type.

    JAX's own triples have no ``weight_decay`` and no options, and take parameters of any pytree.
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
    number = known(i)
    traced = is_array(number) and "int" in dtype_name(number.dtype)
    if not (traced or _counts(number)):
        raise TypeError(
            f"{rule.name}: update(i, grads, state) got i = {i!r}; it must be the index of the "
            "step, a whole number >= 0 or a 0-d array of one"
        )
    host = isinstance(i, (numbers.Integral, numpy.ndarray))
    return int(number) if host else i


def _counts(number: Any) -> bool:
    whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
    return whole and number >= 0


S = TypeVar("S", State, TripleState)

BITS = "~bfloat16"
"""The end of the key of an array of bits; no escaped key ends in it."""


def unpack_state(state: State | TripleState) -> dict[str, Array]:
    """A state as a flat dict of arrays, for ``numpy.savez``, safetensors or pickle.

    Args:
        state: the state of ``rule.init``, ``rule.update`` or a ``triple``.

    Returns:
        The state's own arrays, not copies, under the keys ``step``, ``slots/<slot>/<path>``,
        ``shared/<name>`` and, for a ``triple``, ``params/<path>``. A path is the keys and indices
        down a tree, joined by ``/``, with ``~0`` for ``~`` and ``~1`` for ``/`` in a key (RFC
        6901). A step that is a number becomes a 0-d array. A bfloat16 array, which NumPy does not
        have, becomes its bits in uint16, under a key that ends in ``~bfloat16``.

    Raises:
        TypeError: ``state`` is not a state, or an entry of it is not an array.
        ValueError: two keys of a dict are written alike, such as 1 and ``"1"``.
    """
    flat: dict[str, Array] = {}
    for path, value in tree.leaves(_parts("unpack_state", state)):
        key = _key(path) + (BITS if _is_native(value) and _is_bfloat16(value.dtype) else "")
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
        elif key.endswith(BITS):
            flat[key] = value.view(xp.uint16)
    return flat


def pack_state(flat: Mapping[str, Array], like: S) -> S:
    """The state that ``unpack_state`` took apart.

    Args:
        flat: arrays by the keys of ``unpack_state``. Arrays of another library become arrays of
            the library of ``like``, on its device.
        like: a state for the same rule and parameters, from ``init`` for example. Its structure,
            shapes and dtypes are used, its values are not. Which counts of missed calls there are,
            only ``flat`` says.

    Returns:
        A state of ``like``'s type; ``like`` is unchanged.

    Raises:
        TypeError: ``like`` is not a state, or ``flat`` is not a dict.
        ValueError: keys are missing or too many, an array has another shape or dtype, or the step
            is not a whole number >= 0.
    """
    if not isinstance(flat, Mapping):
        raise TypeError(
            f"pack_state: the first argument is {type(flat).__name__}; it must be a dict of arrays "
            "by key, as unpack_state returns it"
        )
    parts = _parts("pack_state", like)
    missed = [found["name"] for key in flat if (found := COUNT.fullmatch(key))]
    parts["shared"] = split(parts["shared"])[0] | dict.fromkeys(missed, parts["step"])
    wanted = {_key(path) for path, _ in tree.leaves(parts)}
    stored: dict[str, str] = {key.removesuffix(BITS): key for key in flat}
    twice = {*flat} - {*stored.values()}
    differing = {
        "missing": wanted - {*stored},
        "too many": twice | {key for name, key in stored.items() if name not in wanted},
    }
    if any(differing.values()):
        raise ValueError(
            "pack_state: "
            + "; ".join(f"{what}: {', '.join(sorted(k))}" for what, k in differing.items() if k)
        )

    def restored(path: tuple[Any, ...], old: Any) -> Any:
        key = _key(path)
        return _restored(key, flat[stored[key]], old, bits=stored[key].endswith(BITS))

    new = tree.rebuild(parts, restored)
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


def _is_bfloat16(dtype: Any) -> bool:
    return dtype_name(dtype) == "bfloat16"


def _restored(key: str, value: Any, old: Any, bits: bool) -> Any:
    """A stored value as an array of ``old``'s library; raises if shape or dtype differ."""
    shape, wanted = (tuple(getattr(array, "shape", ())) for array in (value, old))
    if shape != wanted:
        raise ValueError(f"pack_state: {key!r} has shape {shape}; it must be {wanted}")
    counts = key == "step" or COUNT.fullmatch(key)
    if counts and not (is_array(number := known(value)) or _counts(number)):
        raise ValueError(f"pack_state: {key!r} is {number!r}; it must be a whole number >= 0")
    if isinstance(old, numbers.Integral):
        return int(value)
    value = _native(value, old)
    if bits and _is_bfloat16(old.dtype) and dtype_name(value.dtype) == "uint16":
        value = value.view(old.dtype)
    if value.dtype == old.dtype:
        return value
    xp = array_api_compat.array_namespace(old)
    if not (xp.isdtype(value.dtype, "integral") and xp.isdtype(old.dtype, "integral")):
        found = "bfloat16" if bits else value.dtype
        raise ValueError(f"pack_state: {key!r} has dtype {found}; it must be {old.dtype}")
    return xp.astype(value, old.dtype)


def _native(value: Any, old: Array) -> Array:
    """An array of ``old``'s library; an array of another library is copied to ``old``'s device."""
    xp = array_api_compat.array_namespace(old)
    if not _is_native(value):
        value = numpy.asarray(value)
    if array_api_compat.array_namespace(value) is xp:
        return value
    place = {"device": old.device} if hasattr(old, "device") else {}
    if str(value.dtype) == dtype_name(old.dtype):
        place["dtype"] = old.dtype  # MLX makes float32 of NumPy's float64 unless it is told
    return xp.asarray(numpy.array(value), **place)  # a copy, as torch shares and must own it
