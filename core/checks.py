"""Checks of a parameter, its gradient and its state before a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .arrays import dtype_name, listed
from .kept import kept_by
from .spelling import resembles
from .weight_decay import FACTORS

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["FLOATING", "READ", "check", "check_slots", "refuse_slips", "shapes"]

FLOATING = ("bfloat16", "float16", "float32", "float64")
"""The dtypes of parameters and gradients."""

READ: set[tuple[Any, ...]] = set()
"""Classes with the names that their ``scalars`` has returned, and which are no slips."""
COEFFICIENTS = ("rate", "weight_decay")
"""The results of ``scalars`` that every rule reads; all others are the class's own."""

Array = Any


def refuse_slips(rule: Rule, found: dict[str, Any]) -> None:
    """Raise if ``scalars`` returned nearly a name that every rule reads, or one that is taken."""
    taken = [name for name in FACTORS if name in found]
    if taken:
        raise ValueError(
            f"{rule.name}: {listed(taken)} is a coefficient of weight decay, as all of "
            f"{', '.join(FACTORS)} are; give yours another name"
        )
    for name in found.keys() - {*COEFFICIENTS, *rule.hypers}:
        meant = resembles(name, COEFFICIENTS)
        if meant:
            raise ValueError(
                f"{rule.name}.scalars returned {name!r}, which nothing reads. "
                f"Did you mean {meant!r}?"
            )
    READ.add((type(rule), *found))


def check(rule: Rule, xp: Any, name: str, param: Array, grad: Array | None = None) -> None:
    """Raise if the rule cannot take a parameter or its gradient."""
    who = f"{rule.name}: parameter {name!r}" if name else f"{rule.name}: the parameter"
    if not _floating(param):
        more = "; give the real and the imaginary part of a complex one as two parameters"
        more = more if "complex" in str(param.dtype) else ""
        raise TypeError(f"{who} has dtype {param.dtype}; allowed: {', '.join(FLOATING)}{more}")
    stacks = len(kept_by(rule, param.ndim).batch)
    if param.ndim - stacks < rule.min_ndim:
        more = f" and {stacks} batch axes" if stacks else ""
        raise ValueError(
            f"{who} has shape {tuple(param.shape)}{more}; {rule.name} takes arrays with at least "
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
    """Raise unless a state is this rule's, and for a parameter of this shape."""
    who = f"{rule.name}: the state of {name or 'the parameter'!r}"
    expected = rule.slots()
    if set(slots) != set(expected):
        raise ValueError(f"{who} has slots {listed(slots)}; {rule.name} keeps {listed(expected)}")
    if shape is None:
        return
    kept = kept_by(rule, len(shape))
    for slot, item in expected.items():
        one = item.init.shapes and item.init.shapes(kept.seen(shape), rule.owner(slot))
        wanted = None if one is None else kept.slot(shape, one)
        found = shapes(slots[slot])
        if wanted is not None and found != wanted:
            raise ValueError(f"{who} has a slot {slot} of shape {found}; it must be {wanted}")


def shapes(value: Any) -> tuple[Any, ...]:
    """The shape of an array, or the shapes of a tuple of arrays; of anything else its type."""
    if isinstance(value, (tuple, list)):
        return tuple(map(shapes, value))
    return tuple(getattr(value, "shape", (type(value).__name__,)))
