"""Arrays of which a process holds a piece, and that a rule sees as whole.

A ``Placed`` array has the shape of the whole and computes on the piece. A sum over an axis that is
cut is an exchange between processes, see ``exchanges``. Everything else is done to the piece alone,
or raises ``NotLocalError``. Whether it does depends on nothing that differs between processes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .arrays import differentiated
from .placement import Axis, Mesh, Part

__all__ = [
    "NotLocalError",
    "Placed",
    "Tape",
    "as_placed",
    "axis_of",
    "common",
    "elementwise",
    "fitted",
    "is_cut",
    "over_of",
    "size_of",
    "whole",
]

Array = Any
Axes = tuple[Axis, ...]


class NotLocalError(Exception):
    """Something that cannot be done to a piece of an array."""


class Tape(Protocol):
    """The exchanges of one evaluation, in order."""

    xp: Any
    mesh: Mesh

    def reduced(
        self, kind: str, partial: Callable[[], Array], axes: Axes, over: Any, level: int
    ) -> Placed:
        """The result of a sum, or a maximum and the like, over dimensions of the mesh."""

    def whole(
        self, function: Callable[..., Any], xp: Any, matrix: Placed, *args: Any, **kwargs: Any
    ) -> Placed:
        """The result of a function of one whole array."""


def axis_of(parts: Sequence[Part]) -> Axis:
    """An axis of parts; those of one that are not cut are joined."""
    found: list[Part] = []
    for part in parts:
        if part.cut is None and part.size == 1:
            continue
        if part.cut is None and found and found[-1].cut is None:
            found = [*found[:-1], Part(found[-1].size * part.size)]
        else:
            found.append(part)
    return tuple(found)


def whole(size: int) -> Axis:
    """An axis that is not cut."""
    return () if size == 1 else (Part(size),)


def is_cut(axis: Axis) -> bool:
    """Whether a process has a piece of an axis."""
    return any(part.cut is not None for part in axis)


def size_of(axis: Axis) -> int:
    """The size of the whole axis."""
    return math.prod(part.size for part in axis)


def over_of(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The dimensions of the mesh that cut some axes."""
    return tuple(dim for axis in axes for part in axis if part.cut for dim in part.cut.over)


class Placed:
    """An array that a rule sees as whole.

    Args:
        local: the piece.
        axes: every axis as its parts.
        tape: where exchanges are noted.
        level: how many exchanges, one after another, the values depend on.
    """

    __slots__ = ("axes", "level", "local", "tape")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None  # so that NumPy leaves operators to this class

    def __init__(self, local: Array, axes: Axes, tape: Tape, level: int = 0) -> None:
        self.local, self.axes, self.tape, self.level = local, axes, tape, level

    shape = property(lambda self: tuple(map(size_of, self.axes)))
    ndim = property(lambda self: len(self.axes))
    dtype = property(lambda self: self.local.dtype)
    requires_grad = property(lambda self: differentiated(self.local))
    T = property(lambda self: self._turned(range(self.ndim)[::-1], lambda x: x.T))

    @property
    def mT(self) -> Placed:  # noqa: N802
        """The array with its last two axes exchanged."""
        *rest, one, other = range(self.ndim)
        return self._turned((*rest, other, one), lambda x: x.mT)

    def _turned(self, order: Sequence[int], turn: Callable[[Array], Array]) -> Placed:
        return self.like(turn(self.local), tuple(self.axes[axis] for axis in order))

    def like(self, local: Array, axes: Axes | None = None) -> Placed:
        """Another array that depends on the same exchanges."""
        return Placed(local, self.axes if axes is None else axes, self.tape, self.level)

    def sizes(self, axes: Axes | None = None) -> tuple[int, ...]:
        """The shape of the piece."""
        mesh = self.tape.mesh
        return tuple(
            math.prod(part.length(mesh) for part in axis)
            for axis in (self.axes if axes is None else axes)
        )

    def __repr__(self) -> str:
        return f"a piece of an array of shape {self.shape}"

    def __len__(self) -> int:
        return int(self.shape[0])

    def __bool__(self) -> bool:
        raise TypeError(f"the value of {self!r} is not known here; use xp.where(condition, ...)")

    def __getitem__(self, index: Any) -> Placed:
        index = index if isinstance(index, tuple) else (index,)
        if any(hasattr(each, "dtype") for each in index):
            raise NotLocalError(f"elements of {self!r} are chosen by an array")
        taken = sum(each is not None and each is not Ellipsis for each in index)
        rest = (slice(None),) * (self.ndim - taken)
        at = index.index(Ellipsis) if Ellipsis in index else len(index)
        index, own = (*index[:at], *rest, *index[at + 1 :]), iter(self.axes)
        axes: list[Axis] = []
        for each in index:
            axis = () if each is None else next(own)
            if is_cut(axis) and each != slice(None):
                raise NotLocalError(f"an axis of {self!r} that is cut is indexed")
            if isinstance(each, slice):
                left = (
                    axis if each == slice(None) else whole(len(range(*each.indices(size_of(axis)))))
                )
                axes.append(left)
            elif each is None:
                axes.append(())
        return self.like(self.local[index], tuple(axes))

    def __matmul__(self, other: Any) -> Any:
        return self.__array_namespace__().matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return self.__array_namespace__().matmul(other, self)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        from .placed_namespace import Namespace  # noqa: PLC0415

        return Namespace(self.tape)


def _operator(function: Callable[..., Array]) -> Any:
    def operate(self: Placed, *others: Any) -> Placed:
        return elementwise(function, (self, *others))

    return operate


def _reflected(function: Callable[..., Array]) -> Any:
    def operate(self: Placed, other: Any) -> Placed:
        return elementwise(function, (other, self))

    return operate


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    _function = getattr(operator, f"__{_name}__")
    setattr(Placed, f"__{_name}__", _operator(_function))
    setattr(Placed, f"__r{_name}__", _reflected(_function))
for _name in ("lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert"):
    setattr(Placed, f"__{_name}__", _operator(getattr(operator, f"__{_name}__")))


def elementwise(function: Callable[..., Array], args: Sequence[Any], **kwargs: Any) -> Placed:
    """The result of a function of each element, of placed and of whole arrays and numbers."""
    first: Placed | None = None
    axes: Axes = ()
    level, alike = 0, True
    for each in args:
        if isinstance(each, Placed):
            if first is None:
                first, axes = each, each.axes
            alike = alike and (each.axes == axes or not each.axes)
            level = max(level, each.level)
        elif _is_array(each) and each.shape != ():
            alike = False
    assert first is not None
    if not alike:
        placed = [as_placed(each, first.tape) for each in args if _is_array(each)]
        axes = common([each.axes for each in placed])
        args = [
            fitted(as_placed(each, first.tape), axes) if _is_array(each) else each for each in args
        ]
    local = [each.local if isinstance(each, Placed) else each for each in args]
    return Placed(function(*local, **kwargs), axes, first.tape, level)


def _is_array(value: Any) -> bool:
    """Whether a value is an array, and no dtype: NumPy's have a shape too."""
    return hasattr(value, "shape") and not isinstance(value, type)


def as_placed(value: Any, tape: Tape) -> Placed:
    """An array of which every process has the whole as a placed one."""
    if isinstance(value, Placed):
        return value
    return Placed(value, tuple(map(whole, value.shape)), tape)


def common(shapes: Sequence[Axes]) -> Axes:
    """The axes of the result of an operation on arrays with these axes."""
    found: list[Axis] = []
    for place in range(-max(map(len, shapes)), 0):
        axes = {axes[place] for axes in shapes if len(axes) >= -place}
        cut = [axis for axis in axes if is_cut(axis)] or [axis for axis in axes if axis]
        sizes = {size_of(axis) for axis in axes} - {1}
        if len(cut) > 1 or (cut and len(sizes - {size_of(cut[0])})):
            raise NotLocalError("two arrays are cut in different ways")
        found.append(cut[0] if cut else ())
    return tuple(found)


def fitted(array: Placed, axes: Axes) -> Placed:
    """The array with its axes cut as ``axes`` are, where the whole of them is here.

    Raises:
        NotLocalError: an axis is cut in another way.
    """
    own = axes[len(axes) - array.ndim :]
    local, found = array.local, [*array.axes]
    for place, (axis, wanted) in enumerate(zip(array.axes, own, strict=True)):
        if axis == wanted or not (is_cut(axis) or is_cut(wanted)):
            continue
        if not axis and size_of(wanted) != 1:
            continue
        if is_cut(axis) or size_of(axis) != size_of(wanted) or array.tape.mesh.at is None:
            raise NotLocalError(f"{array!r} is not cut as another array")
        local, found[place] = _piece(array.tape, local, place, wanted), wanted
    return array if local is array.local else array.like(local, tuple(found))


def _piece(tape: Tape, local: Array, place: int, axis: Axis) -> Array:
    """The piece of an array whose axis ``place`` is whole and is to be cut."""
    before, after = tuple(local.shape[:place]), tuple(local.shape[place + 1 :])
    local = tape.xp.reshape(local, (*before, *(part.size for part in axis), *after))
    cuts = tuple(
        slice(None) if part.cut is None else slice(*part.cut.piece(tape.mesh)) for part in axis
    )
    local = local[(slice(None),) * place + cuts]
    size = math.prod(part.length(tape.mesh) for part in axis)
    return tape.xp.reshape(local, (*before, size, *after))
