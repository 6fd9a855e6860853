"""Checks of a parameter, its gradient and its state before a step."""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .arrays import dtype_name, listed, map_parts, parts
from .kept import kept_by
from .placement import Placement
from .spelling import resembles
from .weight_decay import FACTORS

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "FLOATING",
    "READ",
    "check",
    "check_shared",
    "check_slots",
    "refuse_lacking",
    "refuse_slips",
    "shapes",
]

FLOATING = ("bfloat16", "float16", "float32", "float64")
"""The dtypes of parameters and gradients."""

READ: set[tuple[Any, ...]] = set()
"""Classes with the names that their ``scalars`` has returned, and which are no slips."""
COEFFICIENTS = ("rate", "step_size", "weight_decay")
"""The results of ``scalars`` that every rule reads; all others are the class's own."""

Array = Any


def refuse_slips(rule: Rule, found: dict[str, Any]) -> None:
    """Raise if ``scalars`` returned nearly a name that every rule reads, or one that is taken.

    A wrapper's step size and decay are the wrapped rule's.
    """
    taken = [name for name in FACTORS if name in found]
    if taken:
        raise ValueError(
            f"{rule.name}: {listed(taken)} is a coefficient of weight decay, as all of "
            f"{', '.join(FACTORS)} are; give yours another name"
        )
    unread = [name for name in (*COEFFICIENTS, "lr", "inner") if rule.inside and name in found]
    if unread:
        raise ValueError(
            f"{rule.name}.scalars returned {listed(unread)}, which nothing reads: step size and "
            f"decay are those of {rule.inside[0].name}. Change the gradient in prepare or the "
            "direction in redirect, and give the coefficient another name"
        )
    if "lr" in found and "rate" not in found:
        raise ValueError(
            f"{rule.name}.scalars returned lr, which changes no step: the coefficient that "
            "multiplies the direction is called rate. Return that, or give yours another name"
        )
    for name in found.keys() - {*COEFFICIENTS, *rule.hypers} if not rule.inside else ():
        meant = resembles(name, COEFFICIENTS)
        if meant:
            raise ValueError(
                f"{rule.name}.scalars returned {name!r}, which nothing reads. "
                f"Did you mean {meant!r}?"
            )
    READ.add((type(rule), *found))


def check(rule: Rule, xp: Any, name: str, param: Array, grad: Array | None = None) -> None:
    """Raise if the rule cannot take a parameter or its gradient."""
    if not _floating(param):
        more = "; give the real and the imaginary part of a complex one as two parameters"
        more = more if "complex" in str(param.dtype) else ""
        raise TypeError(
            f"{_who(rule, name)} has dtype {param.dtype}; allowed: {', '.join(FLOATING)}{more}"
        )
    stacks = len(kept_by(rule, param.ndim).batch)
    if param.ndim - stacks < rule.min_ndim:
        more, inner = f" and {stacks} batch axes" if stacks else "", rule
        while inner.inside and inner.inside[0].min_ndim == rule.min_ndim:
            inner = inner.inside[0]
        raise ValueError(
            f"{_who(rule, name)} has shape {tuple(param.shape)}{more}; {inner.name} takes arrays "
            f"with at least {rule.min_ndim} dimensions (give the others to another rule, such as "
            "AdamW)"
        )
    if grad is None:
        return
    if tuple(grad.shape) != tuple(param.shape):
        raise ValueError(
            f"{_who(rule, name)} has shape {tuple(param.shape)}, its gradient "
            f"{tuple(grad.shape)}; they must be equal"
        )
    if not _floating(grad):
        raise TypeError(
            f"{_who(rule, name)}: its gradient has dtype {grad.dtype}; allowed: "
            f"{', '.join(FLOATING)}"
        )


def refuse_lacking(rule: Rule, name: str, own: Any, device: Any, lacks: tuple[str, ...]) -> None:
    """Raise if a parameter of dtype ``own``, or its state, has a dtype that its device lacks."""
    for dtype in lacks:
        slots = [slot for slot in rule.slots() if rule.storage(slot) == dtype]
        if slots or dtype_name(own) == dtype:
            what = f"a state of {dtype} ({listed(slots)})" if slots else f"dtype {dtype}"
            raise TypeError(
                f"{_who(rule, name)} has {what} and is on {device}, which has no {dtype}; allowed "
                f"there: {', '.join(one for one in FLOATING if one not in lacks)}"
            )


def _who(rule: Rule, name: str) -> str:
    return f"{rule.name}: parameter {name!r}" if name else f"{rule.name}: the parameter"


def _floating(array: Array) -> bool:
    dtype: Any = array.dtype
    library: Any = type(dtype)  # dtypes of two libraries are not comparable
    return _named_floating(library, dtype)


@cache
def _named_floating(library: type, dtype: Any) -> bool:
    return dtype_name(dtype) in FLOATING


def check_shared(rule: Rule, common: Any) -> None:
    """Raise unless a shared state, without the counts of missed calls, is this rule's."""
    if set(common) != set(rule.shared()):
        raise ValueError(
            f"{rule.name}: the shared state has {listed(common)}; {rule.name} keeps "
            f"{listed(rule.shared())}"
        )
    for name, value in common.items():
        kind = getattr(value, "dtype", None)
        if kind is None or tuple(value.shape) or not _floating(value):
            found = repr(value) if kind is None else f"{kind} of shape {tuple(value.shape)}"
            raise ValueError(
                f"{rule.name}: {name} of the shared state is {found}; it must be a 0-d array of "
                f"{', '.join(FLOATING)}"
            )


def check_slots(rule: Rule, name: str, slots: Any, shape: Any = None) -> None:
    """Raise unless a state is this rule's, and for a parameter of this shape, or placement."""
    expected = rule.slots()
    if set(slots) != set(expected):
        raise ValueError(
            f"{rule.name}: the state of {name or 'the parameter'!r} has slots {listed(slots)}; "
            f"{rule.name} keeps {listed(expected)}"
        )
    if shape is None:
        return
    for slot, wanted in _shapes_of(rule, shape).items():
        value = slots[slot]
        found = shapes(value)
        if found != wanted:
            raise ValueError(
                f"{rule.name}: the state of {name or 'the parameter'!r} has a slot {slot} of shape "
                f"{found}; it must be {wanted}"
            )
        for part in parts(value):
            if not _floating(part):
                raise ValueError(
                    f"{rule.name}: the state of {name or 'the parameter'!r} has a slot {slot} that "
                    f"is {part.dtype}; it must be of {', '.join(FLOATING)}"
                )


def _shapes_of(rule: Rule, shape: Any) -> dict[str, Any]:
    """The shapes of the slots of a parameter, where they are known before the arrays are made."""
    placed = isinstance(shape, Placement)
    shape = shape if placed else tuple(shape)
    found: dict[str, Any] | None = rule._known.get(shape)
    if found is None and placed:
        pieces = {slot: shape.slot(rule, slot) for slot in rule.slots()}
        found = {slot: map_parts(attrgetter("local"), piece) for slot, piece in pieces.items()}
        rule._known[shape] = found
    elif found is None:
        kept, found = kept_by(rule, len(shape)), {}
        for slot, item in rule.slots().items():
            one = item.init.shapes and item.init.shapes(kept.seen(shape), rule.owner(slot))
            if one is not None:
                found[slot] = kept.slot(shape, one)
        rule._known[shape] = found
    return found


def shapes(value: Any) -> tuple[Any, ...]:
    """The shape of an array, or the shapes of a tuple of arrays; of anything else its type."""
    if isinstance(value, (tuple, list)):
        return tuple(map(shapes, value))
    return tuple(getattr(value, "shape", (type(value).__name__,)))
