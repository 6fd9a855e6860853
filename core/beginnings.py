"""The state that parameters begin with, in the dtypes in which it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import array_api_compat.numpy

from .arrays import cast, compute_dtype, dtype_name, map_parts, widest
from .declaration import ZEROS
from .exchanges import begun
from .kept import Kept, kept_by
from .placement import Placement
from .products import float32_products, multiplies
from .shaping import is_numberwise, started

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["WIDTHS", "init_shared", "init_slots"]

WIDTHS = {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64}

Array = Any
Slots = dict[str, Any]


def init_slots(
    rule: Rule, xp: Any, param: Array, placement: Placement | None = None, immediate: Any = None
) -> Slots:
    """The first state of one parameter: every slot, in its dtype and in memory of its own.

    With a ``placement`` the parameter is a piece, and so are slots that are cut as it is. Sums over
    pieces are made by ``immediate``, if a framework traces that.

    Raises:
        ValueError: a first value depends on the values of other pieces.
    """
    first, kept = {}, kept_by(rule, param.ndim)
    for name, item in rule.slots().items():
        dtype = _stored(rule, xp, name, param.dtype)
        make = partial(_made, xp, item.init.make, rule.owner(name))
        on_host = partial(_made, array_api_compat.numpy, item.init.make, rule.owner(name))
        own, as_kept, numberwise = make, kept, is_numberwise(on_host, kept, param.ndim)
        if placement is not None and not placement.is_whole:
            given = item.init.make, kept, placement, immediate, numberwise
            own = partial(begun, rule, name, *given, xp)
            as_kept = Kept(kept.batch)
        with float32_products(xp) if multiplies(rule) else nullcontext():
            first[name] = cast(xp, started(xp, own, param, as_kept, numberwise), dtype)
        if item.init is not ZEROS:  # which may be a view of the parameter, written into by a step
            first[name] = map_parts(partial(xp.asarray, copy=True), first[name])
        if item.start != 0.0:
            first[name] = cast(xp, first[name] + item.first(rule.owner(name)), dtype)
    return first


def _made(xp: Any, make: Callable[..., Any], rule: Rule, param: Array) -> Any:
    return make(xp, param, rule)


def _stored(rule: Rule, xp: Any, slot: str, own: Any) -> Any:
    """The dtype of a slot; ``own`` is the parameter's."""
    kind, name = rule.slots()[slot].init.dtype, rule.storage(slot)
    if kind == "compute":
        return compute_dtype(xp, own)
    if kind == "parameter" and name is not None and WIDTHS[name] <= WIDTHS[dtype_name(own)]:
        return own
    if kind == "range" and (dtype_name(own) if name is None else name) == "float16":
        return compute_dtype(xp, own)
    dtype = own if name is None else getattr(xp, name, None)
    if dtype is None:
        raise ValueError(
            f"{rule.name}(state_dtype={rule.hypers['state_dtype']!r}): {xp.__name__} has no dtype "
            f"{name}"
        )
    return dtype


def init_shared(rule: Rule, xp: Any, params: Sequence[Array]) -> Slots:
    """The first shared state, 0-d, in the widest compute dtype of the parameters."""
    if not rule.shared() or not params:
        return {}
    wide = widest(xp, params)
    zero = cast(xp, xp.sum(xp.zeros_like(params[0])), wide)
    first = rule.at(0)
    return {name: zero + first.first_value(item) for name, item in rule.shared().items()}
