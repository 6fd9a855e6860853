"""Kernels of other shapes: vectors, stacks, axes in another order, from the kernel of a rule."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import array_api_compat.numpy
import numpy

from .arrays import map_parts, parts
from .kept import PLAIN, Kept, split
from .once import once

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["EXCHANGED", "as_vectors", "is_numberwise", "seen", "stacked", "started"]

Array = Any
Slots = dict[str, Any]

EXCHANGED = "exchanged"
"""The name beside a parameter's slots of what other processes have answered; see ``exchanges``."""

UNMAPPED = re.compile("vmap|[Bb]atching rule|data pointer")
"""What PyTorch says of a function that ``vmap`` cannot map, such as one that asks for a value."""


def as_vectors(xp: Any, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``advance`` or ``local`` for any shape, from a kernel for vectors.

    A rule that does not read axes needs to be compiled only once for all shapes.
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


@once
def stacked(
    function: Callable[..., Any], vmap: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """``advance`` or ``local`` for several parameters of one shape, along a new first axis.

    ``vmap`` is the framework's function; without it they take turns. The result is cached, so that
    kernels can be cached by it.
    """
    together: Any = partial(_together, function, vmap)
    together.stacks = getattr(function, "stacks", False)
    together.sends, together.placed = getattr(function, "sends", False), _is_placed(function)
    return cast("Callable[..., Any]", together)


def _is_placed(function: Callable[..., Any]) -> bool:
    """Whether a function is for the piece of a parameter, of a certain shape."""
    return bool(getattr(function, "placed", False))


def _together(
    function: Callable[..., Any],
    vmap: Callable[..., Any] | None,
    xp: Any,
    rule: Rule,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: Any,
) -> Any:
    sends = getattr(function, "sends", False)

    def one(grad: Array, param: Array, slots: Slots) -> Any:
        found = function(xp, rule, grad, param, slots, common, s)
        return found[1] if sends else found

    mapped = _mapped(xp, one, (grad, param, slots), vmap)
    if sends:
        return slots, mapped
    first, second = mapped
    if isinstance(first, dict):  # local: slots and sums
        second = {name: xp.sum(value, axis=0) for name, value in second.items()}
    return first, second


def _mapped(
    xp: Any, function: Callable[..., Any], stacks: tuple[Any, ...], vmap: Callable[..., Any] | None
) -> Any:
    """The stacks of the results of a function for each place in the first axis of arrays."""
    count = stacks[0].shape[0]
    if vmap is not None and count:
        return vmap(function)(*stacks)
    if not count:  # the shapes of the results are those for something
        some = _each(lambda x: xp.zeros((1, *x.shape[1:]), dtype=x.dtype), stacks)
        return _each(lambda x: x[:0, ...], _mapped(xp, function, some, None))

    def row(at: int) -> Any:
        return _each(lambda x: _in_order(xp, x[at, ...]), stacks)

    rows = [function(*row(at)) for at in range(count)]
    return _each(lambda *parts: xp.stack(parts), *rows)


def _in_order(xp: Any, array: Array) -> Array:
    """The array with its numbers one after another in memory, where libraries sum in that order."""
    return array if 0 in array.shape else xp.reshape(xp.reshape(array, (-1,)), array.shape)


def _each(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """``function`` of the arrays at every place of equal structures of dicts and tuples."""
    if isinstance(value, dict):
        return {k: _each(function, v, *(other[k] for other in others)) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_each(function, *group) for group in zip(value, *others, strict=True))
    return function(value, *others)


@once
def seen(
    function: Callable[..., Any], kept: Kept, vmap: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """``advance`` or ``local`` for a parameter that is kept in some way, from the rule's own.

    The result is cached, so that kernels can be cached by it. ``of`` is the function, and
    ``stacks`` says whether there are batch axes.
    """
    if kept == PLAIN:
        return function
    whole: Any = partial(_whole, function, kept, vmap)
    whole.of, whole.stacks = function, bool(kept.batch)
    whole.sends, whole.placed = getattr(function, "sends", False), _is_placed(function)
    return cast("Callable[..., Any]", whole)


def _whole(
    function: Callable[..., Any],
    kept: Kept,
    vmap: Callable[..., Any] | None,
    xp: Any,
    rule: Rule,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: Any,
) -> Any:
    own = kept._replace(batch=())
    axes = _Axes(xp, kept, param.shape)
    known = {name: slots[name] for name in (EXCHANGED,) if name in slots}
    own_slots = {name: value for name, value in slots.items() if name not in known}
    arrays = _each(axes.shown, (grad, param, own_slots))
    arrays[2].update(known)
    if kept.batch:  # each layer is then turned as a parameter by itself is
        one = seen(function, own)
        try:
            first, second = stacked(one, vmap)(xp, rule, *arrays, common, s)
        except RuntimeError as error:
            if vmap is None or not UNMAPPED.search(str(error)):
                raise
            first, second = stacked(one)(xp, rule, *arrays, common, s)
    else:
        first, second = function(xp, rule, *arrays, common, s)
    if getattr(function, "sends", False):
        return slots, second
    new = first if isinstance(first, dict) else second
    new = _each(axes.stored, {n: value for n, value in new.items() if n not in known}) | known
    if isinstance(first, dict):  # local: slots and sums
        return new, second
    return axes.stored(first), new


class _Axes:
    """Arrays of a parameter, from the order that they are kept in to the order that is seen.

    Of a parameter with batch axes they become one, the first, and the others stay as they are kept.
    Several axes of outputs become one, too; a slot has that, or 1 in its place.
    """

    def __init__(self, xp: Any, kept: Kept, shape: tuple[int, ...]) -> None:
        self.xp, self.several = xp, len(kept.batch) or kept.outputs
        self.order = (Kept(kept.batch) if kept.batch else kept).order(len(shape))
        self.back = tuple(map(self.order.index, range(len(shape))))
        self.sizes = tuple(shape[axis] for axis in self.order[: self.several])
        self.stacks = bool(kept.batch)

    def shown(self, array: Array) -> Array:
        """An array with its batch axes as one, or with its axes as the rule sees them."""
        whole = array.ndim == len(self.order)
        if whole:
            array = _in_order(self.xp, self._turned(array, self.order))
        if self.several < 2 or not (whole or self.stacks):
            return array
        first, others = array.shape[: self.several], array.shape[self.several :]
        return self.xp.reshape(array, (math.prod(first), *others))

    def stored(self, array: Array) -> Array:
        """The inverse of ``shown``."""
        apart = self.stacks or array.ndim == len(self.order) - self.several + 1
        if self.several > 1 and apart:
            own = split(array.shape[0], self.sizes)
            array = self.xp.reshape(array, (*own, *array.shape[1:]))
        return self._turned(array, self.back) if array.ndim == len(self.order) else array

    def _turned(self, array: Array, order: tuple[int, ...]) -> Array:
        idle = order == tuple(range(len(order)))
        return array if idle else self.xp.permute_dims(array, order)


def started(
    xp: Any, make: Callable[[Array], Any], param: Array, kept: Kept, numberwise: bool = False
) -> Any:
    """A first slot of a kept parameter; ``make`` gives that of a parameter as it is seen.

    ``numberwise``: each number comes from the parameter's in its place; see ``is_numberwise``.
    """
    axes, own = _Axes(xp, kept, param.shape), kept._replace(batch=())
    if kept.batch:
        layer = partial(started, xp, make, kept=own, numberwise=numberwise)
        return _each(axes.stored, _mapped(xp, layer, (axes.shown(param),), None))
    if kept == PLAIN or numberwise:
        return make(param)
    return _each(axes.stored, make(axes.shown(param)))


def is_numberwise(make: Callable[[Array], Any], kept: Kept, ndim: int) -> bool:
    """Whether a first slot is the same in every order of axes, as zeros are; tried on NumPy's."""
    if kept._replace(batch=()) == PLAIN:
        return True
    shape = tuple(range(2, 2 + ndim - len(kept.batch)))
    numbers = numpy.arange(1.0, math.prod(shape) + 1).reshape(shape)
    axes = _Axes(array_api_compat.numpy, kept._replace(batch=()), shape)
    try:
        one, other = make(numbers), _each(axes.stored, make(axes.shown(numbers)))
    except Exception:  # of functions of another framework, or of a shape that is refused
        return False
    pairs = zip(map(numpy.asarray, parts(one)), map(numpy.asarray, parts(other)), strict=True)
    return all(a.shape in ((), shape) and numpy.array_equal(a, b) for a, b in pairs)
