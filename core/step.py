"""One optimizer step, on flat lists of arrays: what every framework's adapter executes.

    scalars     once per step and compute dtype: on the host in float64, or traced
    local       per parameter, for rules that reduce over all parameters
    combine     once, on 0-d arrays
    advance     per parameter: cast to the compute dtype, run the rule, cast back

``advance`` and ``local`` are pure functions of arrays and scalars; an executor may compile them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as host

from .arrays import cast, cast_like, dtype_name, is_array, listed, map_parts

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "Entry",
    "advance",
    "as_vectors",
    "check",
    "check_slots",
    "compute_dtype",
    "init_shared",
    "init_slots",
    "local",
    "plain",
    "run",
    "scalars",
    "stacked",
    "widest",
]

FLOATING = ("bfloat16", "float16", "float32", "float64")
"""Names of the dtypes that parameters and gradients may have."""

WIDTHS = {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64}

Array = Any
Slots = dict[str, Any]


def compute_dtype(xp: Any, dtype: Any) -> Any:
    """The dtype that arithmetic is done in: float64 for float64, float32 for all narrower ones."""
    return xp.float64 if dtype == xp.float64 else xp.float32


class Record:
    """A dict read by attribute: the ``state`` and the ``s`` that a rule's arithmetic sees."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, Record(value) if isinstance(value, dict) else value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no {name} here; there are {', '.join(vars(self))}")


def _settled(value: Any) -> Any:
    """A host result as a plain Python number."""
    if isinstance(value, dict):
        return {k: _settled(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_settled, value))
    return value.item() if isinstance(value, (host.generic, host.ndarray)) else value


def _of_dtype(xp: Any, value: Any, dtype: Any) -> Any:
    """A traced result with its arrays in the compute dtype; plain numbers stay what they are."""
    if isinstance(value, dict):
        return {k: _of_dtype(xp, v, dtype) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_of_dtype(xp, v, dtype) for v in value)
    if is_array(value) and not xp.isdtype(value.dtype, "bool"):
        return cast(xp, value, dtype)
    return value


def scalars(rule: Rule, xp: Any, step: Any, dtype: Any) -> dict[str, Any]:
    """Everything that depends on hyperparameters and step only, for the step after ``step``.

    Args:
        rule: the rule, its hyperparameters numbers, 0-d arrays or schedules.
        xp: namespace of the arrays that the step will run on.
        step: how many steps have been taken: an int, or a 0-d integer array when traced.
        dtype: compute dtype of the arrays; traced scalars come in it.

    Returns:
        Python numbers computed in float64 if all is known on the host, else 0-d arrays.
    """
    now = rule.at(step)
    if isinstance(step, int) and not any(map(is_array, now.numbers())):
        with host.errstate(all="ignore"):
            settled: dict[str, Any] = _settled(now.coefficients(host, step + 1))
        return settled
    t = step + 1 if isinstance(step, int) else xp.astype(step + 1, dtype)
    now = now.map_numbers(lambda value: _of_dtype(xp, value, dtype))
    traced: dict[str, Any] = _of_dtype(xp, now.coefficients(xp, t), dtype)
    return traced


def check(rule: Rule, xp: Any, name: str, param: Array, grad: Array | None = None) -> None:
    """Refuse a parameter, or a gradient for it, that the rule cannot take."""
    who = f"{rule.name}: parameter {name!r}" if name else f"{rule.name}: the parameter"
    if not _floating(param):
        raise TypeError(f"{who} has dtype {param.dtype}; allowed: {', '.join(FLOATING)}")
    if param.ndim < rule.min_ndim:
        raise ValueError(
            f"{who} has shape {tuple(param.shape)}; {rule.name} takes arrays with at least "
            f"{rule.min_ndim} dimensions (give the others to another rule, such as AdamW)"
        )
    if grad is None:
        return
    if tuple(grad.shape) != tuple(param.shape):
        raise ValueError(
            f"{who} has shape {tuple(param.shape)}, its gradient "
            f"{tuple(grad.shape)}; they must be equal"
        )
    if not _floating(grad):
        raise TypeError(
            f"{who}: its gradient has dtype {grad.dtype}; allowed: {', '.join(FLOATING)}"
        )


def _floating(array: Array) -> bool:
    return dtype_name(array.dtype) in FLOATING


def check_slots(rule: Rule, name: str, slots: Any, shape: Any = None) -> None:
    """Refuse a state that is not this rule's, or not one for a parameter of this shape."""
    who = f"{rule.name}: the state of {name or 'the parameter'!r}"
    expected = rule.slots()
    if set(slots) != set(expected):
        raise ValueError(f"{who} has slots {listed(slots)}; {rule.name} keeps {listed(expected)}")
    for slot, item in expected.items() if shape is not None else ():
        wanted = item.init.shapes and item.init.shapes(tuple(shape), rule)
        found = _shapes(slots[slot])
        if wanted is not None and found != wanted:
            raise ValueError(f"{who} has a slot {slot} of shape {found}; it must be {wanted}")


def _shapes(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (tuple, list)):
        return tuple(map(_shapes, value))
    return tuple(getattr(value, "shape", (type(value).__name__,)))


def init_slots(rule: Rule, xp: Any, param: Array) -> Slots:
    """First state of one parameter: every declared slot, in the state dtype."""
    first = {}
    for name, item in rule.slots().items():
        dtype = _stored(rule, xp, name, param.dtype)
        first[name] = cast(xp, item.init.make(xp, param, rule), dtype)
        if item.start != 0.0:
            first[name] = cast(xp, first[name] + item.first(rule.at(0)), dtype)
    return first


def _stored(rule: Rule, xp: Any, slot: str, own: Any) -> Any:
    """The dtype that a slot is kept in; ``own`` is the parameter's."""
    kind, name = rule.slots()[slot].init.dtype, rule.storage(slot)
    if kind == "compute":
        return compute_dtype(xp, own)
    if kind == "parameter" and name is not None and WIDTHS[name] <= WIDTHS[dtype_name(own)]:
        return own
    dtype = own if name is None else getattr(xp, name, None)
    if dtype is None:
        raise ValueError(
            f"{rule.name}(state_dtype={rule.hypers['state_dtype']!r}): {xp.__name__} has no dtype "
            f"{name}"
        )
    return dtype


def init_shared(rule: Rule, xp: Any, params: Sequence[Array]) -> Slots:
    """First state kept for all parameters together, 0-d, in their widest compute dtype."""
    if not rule.shared() or not params:
        return {}
    wide = widest(xp, params)
    zero = cast(xp, xp.sum(xp.zeros_like(params[0])), wide)
    first = rule.at(0)
    return {name: zero + first.first_value(item) for name, item in rule.shared().items()}


def widest(xp: Any, params: Sequence[Array]) -> Any:
    """The widest compute dtype among arrays."""
    return xp.float64 if any(p.dtype == xp.float64 for p in params) else xp.float32


def advance(
    xp: Any, rule: Rule, grad: Array, param: Array, slots: Slots, common: Slots, s: dict[str, Any]
) -> tuple[Array, Slots]:
    """One parameter's step. Pure; ``common`` holds the shared state and what ``combine`` added.

    Shapes: ``grad`` and ``param`` equal; every slot keeps its shape and dtype.
    """
    dtype = compute_dtype(xp, param.dtype)
    state = Record({k: cast(xp, v, dtype) for k, v in {**slots, **common}.items()})
    new_param, new_slots = rule.step(
        xp, cast(xp, grad, dtype), cast(xp, param, dtype), state, Record(s)
    )
    if not rule.reduces and new_slots.keys() != slots.keys():
        raise ValueError(
            f"{rule.name}.direction returned slots {listed(new_slots)}; "
            f"{rule.name} keeps {listed(slots)}"
        )
    new_param = _owned(xp, cast_like(xp, new_param, param), (grad, param))
    taken = (grad, param, new_param)
    return new_param, {
        name: _owned(xp, cast_like(xp, new_slots.get(name, old), old), taken)
        for name, old in slots.items()
    }


def local(
    phase: int,
    xp: Any,
    rule: Rule,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: dict[str, Any],
) -> tuple[Slots, Slots]:
    """One parameter's share of the sums over all parameters, and its state on the way there."""
    dtype = compute_dtype(xp, param.dtype)
    state = Record({k: cast(xp, v, dtype) for k, v in {**slots, **common}.items()})
    new_slots, sums = rule.gather(
        xp, cast(xp, grad, dtype), cast(xp, param, dtype), state, Record(s), phase
    )
    return {
        name: _owned(xp, cast_like(xp, new_slots.get(name, old), old), (grad, param))
        for name, old in slots.items()
    }, sums


@cache
def _local_of(phase: int) -> Callable[..., Any]:
    return partial(local, phase)


def _owned(xp: Any, value: Any, taken: tuple[Array, ...]) -> Any:
    """A slot's new value; a copy if it is an array that a caller holds and may write into."""

    def one(new: Array) -> Array:
        return xp.asarray(new, copy=True) if any(new is array for array in taken) else new

    return map_parts(one, value)


class Entry(NamedTuple):
    """One parameter's share of a step; ``step`` is how many steps it has taken.

    ``stacked``: the arrays are those of several parameters of one shape, along a new first axis.
    """

    rule: Rule
    step: Any
    grad: Array
    param: Array
    slots: Slots
    stacked: bool = False


def as_vectors(xp: Any, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``advance`` or ``local`` for any shape, from a kernel that only ever sees vectors.

    For rules that do not look at axes: one kernel, compiled once, then serves every shape.
    """

    def vector(array: Array) -> Array:
        return xp.reshape(array, (-1,))

    def like(old: Array, new: Array) -> Array:
        return xp.reshape(new, old.shape)

    def flat(grad: Array, param: Array, slots: Slots, common: Slots, s: Any) -> Any:
        def shaped(new: Slots) -> Slots:
            return {name: map_parts(like, slots[name], value) for name, value in new.items()}

        vectors = {name: map_parts(vector, value) for name, value in slots.items()}
        first, second = kernel(vector(grad), vector(param), vectors, common, s)
        if isinstance(first, dict):  # local: slots and sums
            return shaped(first), second
        return xp.reshape(first, param.shape), shaped(second)

    return flat


@cache
def stacked(function: Callable[..., Any], vmap: Callable[..., Any]) -> Callable[..., Any]:
    """``advance`` or ``local`` for several parameters of one shape, along a new first axis.

    ``vmap``: the framework's. One function for each pair, so that kernels can be kept by it.
    """

    def together(
        xp: Any, rule: Rule, grad: Array, param: Array, slots: Slots, common: Slots, s: Any
    ) -> Any:
        def one(grad: Array, param: Array, slots: Slots) -> Any:
            return function(xp, rule, grad, param, slots, common, s)

        first, second = vmap(one)(grad, param, slots)
        if isinstance(first, dict):  # local: slots and sums
            second = {name: xp.sum(value, axis=0) for name, value in second.items()}
        return first, second

    return together


def plain(function: Callable[..., Any], xp: Any, rule: Rule) -> Callable[..., Any]:
    """The reference executor: ``advance`` or ``local``, called as it is."""
    return partial(function, xp, rule)


def run(
    xp: Any,
    entries: Sequence[Entry],
    common: Slots,
    kernel: Callable[[Callable[..., Any], Any, Rule], Callable[..., Any]] = plain,
    enter: Callable[[dict[str, Any], Array], dict[str, Any]] = lambda values, param: values,
    vmap: Callable[..., Any] | None = None,
) -> tuple[Iterator[tuple[Array, Slots]], Slots]:
    """One step over a list of parameters. Nothing passed in is changed.

    Args:
        xp: array namespace.
        entries: rule, step, gradient, parameter and slots, per parameter.
        common: shared state.
        kernel: makes ``advance`` or ``local`` into what is executed (a compiled form, say).
        enter: how scalars enter the kernel beside a parameter (as 0-d arrays, say).
        vmap: the framework's, for entries that are stacked.

    Returns:
        An iterator over new parameters and slots, computed one by one as it is consumed, and the
        new shared state.
    """
    known: dict[Any, dict[str, Any]] = {}
    inside: dict[Any, Any] = {}
    kernels: dict[Any, Callable[..., Any]] = {}

    def coefficients(entry: Entry) -> dict[str, Any]:
        dtype = compute_dtype(xp, entry.param.dtype)
        step = entry.step if isinstance(entry.step, int) else id(entry.step)
        key = (id(entry.rule), step, str(dtype))
        if key not in known:
            known[key] = scalars(entry.rule, xp, entry.step, dtype)
        return known[key]

    def entered(entry: Entry) -> Any:
        values = coefficients(entry)
        key = id(values), str(entry.param.dtype)
        if key not in inside:
            inside[key] = enter(values, entry.param)
        return inside[key]

    def execute(function: Callable[..., Any], entry: Entry, visible: Slots) -> Any:
        if function is advance and 0 in entry.param.shape:
            return entry.param, entry.slots
        key = function, id(entry.rule), entry.stacked
        if key not in kernels:
            whole = stacked(function, vmap) if entry.stacked and vmap else function
            kernels[key] = kernel(whole, xp, entry.rule.without_numbers())
        return kernels[key](entry.grad, entry.param, entry.slots, visible, entered(entry))

    entries, visible = list(entries), dict(common)
    places = [place for place, entry in enumerate(entries) if entry.rule.phases]
    for phase in range(max((entries[place].rule.phases for place in places), default=0)):
        places = [place for place in places if entries[place].rule.phases > phase]
        summed = [entries[place] for place in places]
        wide = widest(xp, [entry.param for entry in summed])
        parts = [execute(_local_of(phase), entry, visible) for entry in summed]
        for place, (slots, _) in zip(places, parts, strict=True):
            entries[place] = entries[place]._replace(slots=slots)
        sums = [{name: cast(xp, value, wide) for name, value in part.items()} for _, part in parts]
        totals = reduce(lambda a, b: {name: a[name] + b[name] for name in a}, sums)
        first = _furthest(xp, summed, wide)
        first = first._replace(rule=first.rule.whole)
        rule, s, known_so_far = first.rule.without_numbers(), coefficients(first), Record(visible)
        visible |= rule.summed(xp, Record(totals), known_so_far, Record(s), phase)
        common = {name: cast_like(xp, visible[name], old) for name, old in common.items()}
    for entry in entries:  # a schedule that fails does so before anything has been computed
        coefficients(entry)
    return (
        execute(advance, entry, visible if entry.rule.phases else {}) for entry in entries
    ), common


def _furthest(xp: Any, entries: Sequence[Entry], wide: Any) -> Entry:
    """The entry of the widest dtype that has taken most steps (the first, when traced)."""
    candidates = [e for e in entries if compute_dtype(xp, e.param.dtype) == wide]
    if all(isinstance(entry.step, int) for entry in candidates):
        return max(candidates, key=lambda entry: int(entry.step))
    return candidates[0]
