"""The array namespace of placed arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from .placed import (
    Axes,
    NotLocalError,
    Placed,
    Tape,
    as_placed,
    axis_of,
    common,
    elementwise,
    fitted,
    is_cut,
    over_of,
    size_of,
    whole,
)
from .placement import Axis, Part

__all__ = ["IDENTITY", "Namespace"]

Array = Any

_ELEMENTWISE = """
    abs acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asarray asin asinh
    astype atan atan2 atanh bitwise_and bitwise_invert bitwise_left_shift bitwise_or
    bitwise_right_shift bitwise_xor ceil clip conj cos cosh divide equal exp expm1 floor
    floor_divide greater greater_equal imag isclose isfinite isinf isnan isneginf isposinf less
    less_equal log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor maximum
    minimum multiply nan_to_num negative not_equal positive pow real reciprocal remainder round sgn
    sign sin sinh smooth_sqrt sqrt square subtract tan tanh trunc where
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
"""Functions of each element."""
ALIKE = ("empty_like", "full_like", "ones_like", "zeros_like")
"""Functions that make an array of the shape of another."""
IDENTITY = {"max": float("-inf"), "min": float("inf")}
"""The reductions of which an empty piece has no value, and the value that changes no other."""


class Namespace:
    """The functions of an array namespace, for placed arrays.

    A function that is not known here is called on arrays of which this process has the whole.
    """

    def __init__(self, tape: Tape, of: Any = None, prefix: str = "") -> None:
        self._tape, self._of, self._prefix = tape, tape.xp if of is None else of, prefix

    @property
    def whole(self) -> Any:
        """Calls a function of one whole array; see ``vocabulary.whole``."""
        return self._tape.whole

    def __getattr__(self, name: str) -> Any:
        own = getattr(self._of, name)
        if isinstance(own, ModuleType) or (type(own) is type(self._of) and not callable(own)):
            return Namespace(self._tape, own, f"{name}.")
        if isinstance(own, type) or not callable(own):
            return own
        name = self._prefix + name
        if name in ELEMENTWISE:
            function: Any = partial(_of_elements, self._tape, own)
        elif name in ALIKE:
            function = partial(_alike, self._tape, own)
        elif name in _OWN:
            function = partial(_OWN[name], self._tape)
        else:
            function = partial(_of_whole, self._tape, own, name)
        setattr(self, name, function)
        return function


def _of_elements(tape: Tape, function: Callable[..., Array], *args: Any, **kwargs: Any) -> Any:
    if any(isinstance(each, Placed) for each in args):
        return elementwise(function, args, **kwargs)
    return _closed(tape, function(*args, **kwargs), 0)


def _alike(tape: Tape, function: Callable[..., Array], x: Any, *args: Any, **kwargs: Any) -> Any:
    x, found = as_placed(x, tape), list[Placed]()
    args, kwargs = _opened(args, found), {key: _opened(v, found) for key, v in kwargs.items()}
    level = max((value.level for value in found), default=0)
    return Placed(function(x.local, *args, **kwargs), x.axes, tape, level)


def _of_whole(
    tape: Tape, function: Callable[..., Any], name: str, *args: Any, **kwargs: Any
) -> Any:
    """A function of arrays of which this process has the whole."""
    found: list[Placed] = []
    args = _opened(args, found)
    kwargs = {key: _opened(value, found) for key, value in kwargs.items()}
    cut = [array for array in found if any(map(is_cut, array.axes))]
    if cut:
        raise NotLocalError(f"xp.{name} of {cut[0]!r}")
    return _closed(tape, function(*args, **kwargs), max((a.level for a in found), default=0))


def _opened(value: Any, found: list[Placed]) -> Any:
    if isinstance(value, Placed):
        found.append(value)
        return value.local
    return type(value)(_opened(v, found) for v in value) if type(value) in (tuple, list) else value


def _closed(tape: Tape, value: Any, level: int) -> Any:
    if hasattr(value, "_fields"):  # the results of linalg.qr, for example
        return type(value)(*(_closed(tape, each, level) for each in value))
    if type(value) in (tuple, list):
        return type(value)(_closed(tape, each, level) for each in value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return Placed(value, tuple(map(whole, value.shape)), tape, level)
    return value


# Reductions.


def _reduced(
    kind: str, tape: Tape, x: Any, /, axis: Any = None, keepdims: bool = False, **dtype: Any
) -> Any:
    x = as_placed(x, tape)
    every = range(x.ndim)
    axes = every if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    gone = {each % x.ndim if x.ndim else each for each in axes}
    over = over_of([x.axes[place] for place in every if place in gone])
    if keepdims:
        left = tuple(() if place in gone else x.axes[place] for place in every)
    else:
        left = tuple(x.axes[place] for place in every if place not in gone)

    def piece() -> Array:
        where = {} if axis is None else {"axis": axis}
        if kind in IDENTITY and 0 in x.local.shape:
            return tape.xp.full_like(
                tape.xp.sum(x.local, **where, keepdims=keepdims), IDENTITY[kind]
            )
        return getattr(tape.xp, kind)(x.local, **where, keepdims=keepdims, **dtype)

    if not over:
        return x.like(piece(), left)
    return tape.reduced(kind, piece, left, over, x.level)


def _mean(tape: Tape, x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    x = as_placed(x, tape)
    if not any(map(is_cut, x.axes)):
        return _reduced("mean", tape, x, axis, keepdims)
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    if not over_of([x.axes[each] for each in axes]):
        return _reduced("mean", tape, x, axis, keepdims)
    count = 1
    for each in axes:
        count *= x.shape[each]
    return _reduced("sum", tape, x, axis, keepdims) / count


def _var(
    tape: Tape, x: Any, /, axis: Any = None, keepdims: bool = False, correction: float = 0.0
) -> Any:
    x = as_placed(x, tape)
    apart = x - _mean(tape, x, axis, True)
    mean = _mean(tape, apart * apart, axis, keepdims)
    if not correction:
        return mean
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    count = 1
    for each in axes:
        count *= x.shape[each]
    return mean * (count / (count - correction))


def _std(tape: Tape, x: Any, /, **given: Any) -> Any:
    return elementwise(tape.xp.sqrt, (_var(tape, x, **given),))


def _any(tape: Tape, x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    ones = elementwise(lambda one: tape.xp.astype(one != 0, tape.xp.float32), (as_placed(x, tape),))
    return _reduced("max", tape, ones, axis, keepdims) > 0


def _all(tape: Tape, x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    ones = elementwise(lambda one: tape.xp.astype(one != 0, tape.xp.float32), (as_placed(x, tape),))
    return _reduced("min", tape, ones, axis, keepdims) > 0


# Shapes.


def _reshape(tape: Tape, x: Any, shape: Any) -> Any:
    x = as_placed(x, tape)
    shape = [*shape] if isinstance(shape, (tuple, list)) else [shape]
    if -1 in shape:
        known = 1
        for size in shape:
            known *= abs(size)
        total = 1
        for size in x.shape:
            total *= size
        shape[shape.index(-1)] = total // known if known else 0
    axes = _split(x, shape)
    return x.like(tape.xp.reshape(x.local, x.sizes(axes)), axes)


def _split(x: Placed, shape: Sequence[int]) -> Axes:
    """The axes of an array in another shape.

    Raises:
        NotLocalError: an axis that is cut would be split, or joined to a part of another.
    """
    left = [*axis_of([part for axis in x.axes for part in axis])]
    axes: list[Axis] = []
    for place, size in enumerate(shape):
        taken: list[Part] = []
        for part in left.copy():
            if size == 1 and (part.size > 1 or taken):
                break
            if part.size and size % part.size == 0:
                taken.append(left.pop(0))
                size //= part.size  # noqa: PLW2901
            elif part.cut is None and size and part.size % size == 0:
                taken.append(Part(size))
                left = [Part(part.size // size), *left[1:]]
                break
            else:
                raise NotLocalError(f"{x!r} is reshaped to {tuple(shape)}")
        if place == len(shape) - 1:
            taken += left
            left = []
        axes.append(axis_of(taken))
    if left or tuple(map(size_of, axes)) != tuple(shape):
        raise NotLocalError(f"{x!r} is reshaped to {tuple(shape)}")
    return tuple(axes)


def _permute_dims(tape: Tape, x: Any, axes: Sequence[int]) -> Any:
    x = as_placed(x, tape)
    return x.like(tape.xp.permute_dims(x.local, tuple(axes)), tuple(x.axes[axis] for axis in axes))


def _matrix_transpose(tape: Tape, x: Any) -> Any:
    x = as_placed(x, tape)
    *rest, one, other = x.axes
    return x.like(tape.xp.matrix_transpose(x.local), (*rest, other, one))


def _moveaxis(tape: Tape, x: Any, source: Any, destination: Any) -> Any:
    x = as_placed(x, tape)
    pairs = [each if isinstance(each, (tuple, list)) else (each,) for each in (source, destination)]
    sources, destinations = ([axis % x.ndim for axis in each] for each in pairs)
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for place, axis in sorted(zip(destinations, sources, strict=True)):
        order.insert(place, axis)
    return _permute_dims(tape, x, order)


def _swapaxes(tape: Tape, x: Any, one: int, other: int) -> Any:
    x = as_placed(x, tape)
    order = [*range(x.ndim)]
    order[one], order[other] = order[other], order[one]
    return _permute_dims(tape, x, order)


def _expand_dims(tape: Tape, x: Any, axis: int = 0) -> Any:
    x = as_placed(x, tape)
    axes = [*x.axes]
    axes.insert(axis % (x.ndim + 1), ())
    return x.like(tape.xp.expand_dims(x.local, axis=axis), tuple(axes))


def _squeeze(tape: Tape, x: Any, axis: Any) -> Any:
    x = as_placed(x, tape)
    gone = {each % x.ndim for each in (axis if isinstance(axis, (tuple, list)) else (axis,))}
    if any(x.axes[each] for each in gone):
        raise NotLocalError(
            f"an axis of {x!r} that is cut, or has more than one place, is left out"
        )
    axes = tuple(own for place, own in enumerate(x.axes) if place not in gone)
    return x.like(tape.xp.reshape(x.local, x.sizes(axes)), axes)


def _broadcast_to(tape: Tape, x: Any, shape: Sequence[int]) -> Any:
    x = as_placed(x, tape)
    new = [whole(size) for size in shape]
    for place, axis in enumerate(x.axes, len(shape) - x.ndim):
        new[place] = axis or new[place]
    return x.like(tape.xp.broadcast_to(x.local, x.sizes(tuple(new))), tuple(new))


def _together(tape: Tape, arrays: Sequence[Any]) -> tuple[list[Array], Axes, int]:
    """Arrays that are cut alike: their pieces, axes and level."""
    placed = [as_placed(array, tape) for array in arrays]
    axes = common([array.axes for array in placed])
    level = max(array.level for array in placed)
    return [fitted(array, axes).local for array in placed], axes, level


def _stack(tape: Tape, arrays: Sequence[Any], axis: int = 0) -> Any:
    local, axes, level = _together(tape, arrays)
    new = [*axes]
    new.insert(axis % (len(axes) + 1), whole(len(local)))
    return Placed(tape.xp.stack(local, axis=axis), tuple(new), tape, level)


def _concat(tape: Tape, arrays: Sequence[Any], axis: int = 0) -> Any:
    placed = [as_placed(array, tape) for array in arrays]
    axis %= placed[0].ndim
    if any(is_cut(array.axes[axis]) for array in placed):
        raise NotLocalError(f"{placed[0]!r} is concatenated along an axis that is cut")
    size = sum(array.shape[axis] for array in placed)
    axes = common([(*a.axes[:axis], (), *a.axes[axis + 1 :]) for a in placed])
    local = [fitted(a, (*axes[:axis], a.axes[axis], *axes[axis + 1 :])).local for a in placed]
    axes = (*axes[:axis], whole(size), *axes[axis + 1 :])
    level = max(array.level for array in placed)
    return Placed(tape.xp.concat(local, axis=axis), axes, tape, level)


_OWN: dict[str, Callable[..., Any]] = {
    **{kind: partial(_reduced, kind) for kind in ("sum", "max", "min", "prod")},
    "all": _all,
    "any": _any,
    "broadcast_to": _broadcast_to,
    "concat": _concat,
    "expand_dims": _expand_dims,
    "matrix_transpose": _matrix_transpose,
    "mean": _mean,
    "moveaxis": _moveaxis,
    "permute_dims": _permute_dims,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "stack": _stack,
    "std": _std,
    "swapaxes": _swapaxes,
    "var": _var,
}
"""The functions that are done to pieces in a way of their own."""
