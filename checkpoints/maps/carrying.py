"""One parameter's value and state in another shape, or the reason why that is impossible.

The change of a slot follows from its shapes (``Initial.shapes``): arrays shaped like the parameter
change like it, vectors along its axes move with their axes, and 0-d arrays stay. A change is
refused if training in the other shape would have had another state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy

from samestep.arrays import listed
from samestep.arrays import parts as parts_of
from samestep.checkpoints.boxes import Box
from samestep.checkpoints.description import Description, made
from samestep.checkpoints.state import ParameterState
from samestep.checkpoints.tensor import Tensor
from samestep.kept import kept_by, letters_of, saying, shortened
from samestep.rule import Rule
from samestep.wrapper import Wrapper

__all__ = ["UNOWNED", "Change", "Kept", "Refused", "Shape", "carried", "levels", "turned"]

Shape = tuple[int, ...]
Kept: TypeAlias = frozenset[int] | None
"""Axes of the parameter along which an array has more than one number; ``None`` if it is 0-d for
parameters of every shape."""


class Refused(Exception):  # noqa: N818  (the error that users see is made of it)
    """The change is impossible, for the reason in the message."""


@dataclass(frozen=True)
class Change:
    """A change of a parameter, and of every array of its state."""

    shape: Shape
    array: Callable[[list[numpy.ndarray]], numpy.ndarray]
    """Maps the input arrays to the output array."""
    axes: Callable[[frozenset[int]], frozenset[int]] = lambda kept: kept
    """Maps the axes of the old array to axes of the new array; raises Refused if impossible."""


class _Changed(Tensor):
    """An array that is computed from other arrays when it is used."""

    def __init__(self, sources: list[Tensor], change: Change, shape: Shape) -> None:
        self._sources, self._change, self._shape = sources, change, shape
        self.dtype = sources[0].dtype

    def _view(self) -> numpy.ndarray:
        return self._change.array([source.bits for source in self._sources])

    @property
    def bits(self) -> numpy.ndarray:
        """The array, contiguous."""
        return numpy.asarray(self._view(), order="C")

    @property
    def shape(self) -> Shape:
        """Its shape."""
        return self._shape

    def copy(self, box: Box | None = None) -> numpy.ndarray:
        """The bits of the array or of a part, in memory of their own."""
        view = self._view()
        return numpy.array(view if box is None else view[box.slices], order="C")

    def verify(self) -> None:
        """Raise if an array is damaged in its file."""
        for source in self._sources:
            source.verify()


class _Size(int):
    """A size with its axis, so that two axes of equal size are different."""

    axis: int

    @classmethod
    def of(cls, shape: Shape) -> tuple[_Size, ...]:
        sizes = tuple(map(cls, shape))
        for axis, size in enumerate(sizes):
            size.axis = axis
        return sizes


def _kept(name: str, shape: Shape, rule: Rule) -> tuple[Kept, ...]:
    """The axes of the parameter that each array of a slot has, as the slot's own rule says."""
    shapes, owner = rule.declared_slots()[name].init.shapes, rule.owner(name)
    if shapes is None:
        raise Refused("its declaration does not say how its shape follows the parameter's")
    if shapes(_Size.of(shape or (2,)), owner) == ():
        return (None,)
    kept, sizes = kept_by(rule, len(shape)), _Size.of(shape)
    found = kept.slot(sizes, shapes(kept.seen(sizes), owner))
    several = found if found and isinstance(found[0], tuple) else (found,)
    return tuple(frozenset(_along(own, shape)) for own in several)


def _along(own: Shape, shape: Shape) -> Iterator[int]:
    if len(own) != len(shape):
        raise Refused(f"it has shape {own} for a parameter of shape {shape}")
    for axis, size in enumerate(own):
        if isinstance(size, _Size) and size.axis == axis:
            yield axis
        elif isinstance(size, _Size) or size != 1:
            raise Refused(f"its shape {own} does not have the axes of the parameter's {shape}")


def carried(
    owns: Sequence[ParameterState], described: Description, change: Change
) -> ParameterState:
    """One parameter made of one or several parameters, with the description of its rule."""
    first, slots, value = owns[0], None, None
    shapes = [own.shape for own in owns]
    if first.slots is not None:
        before = _made(first.rule)
        after = before if described == first.rule else _made(described)
        if len(change.shape) < after.min_ndim:
            raise Refused(f"{after.name} takes no parameter of shape {change.shape}")
        declared = before.declared_slots()
        slots = {}
        for name in first.slots:
            try:
                if name not in declared:
                    raise Refused(f"it keeps {listed(declared)} only")
                old = _kept(name, first.shape, before)
                new = _kept(name, change.shape, after)
                values = [own.slots[name] for own in owns if own.slots]
                slots[name] = _slot(values, shapes, old, new, change)
            except Refused as error:
                raise Refused(f"slot {name} of {before.name}: {error}") from None
    if first.value is not None:
        whole = frozenset(range(len(first.shape)))
        present = [own.value for own in owns if own.value is not None]
        value, _ = _joined(present, shapes, whole, change)
    return replace(first, shape=change.shape, rule=described, slots=slots, value=value)


def _slot(
    values: list[Any],
    shapes: list[Shape],
    old: tuple[Kept, ...],
    new: tuple[Kept, ...],
    change: Change,
) -> Any:
    """A slot's arrays, in the order of a parameter of the new shape."""
    several = [parts_of(value) for value in values]
    for parts in several:
        if len(parts) != len(old):
            raise Refused(f"it has {len(parts)} arrays; it must have {len(old)}")
    columns = zip(*several, strict=True)
    moved = [_joined([*c], shapes, kept, change) for c, kept in zip(columns, old, strict=True)]
    if sorted(map(_words, (kept for _, kept in moved))) != sorted(map(_words, new)):
        raise Refused("in the new shape the rule factors other axes")
    ordered = []
    for wanted in new:
        at = next(at for at, (_, kept) in enumerate(moved) if kept == wanted)
        ordered.append(moved.pop(at)[0])
    return tuple(ordered) if isinstance(values[0], tuple) else ordered[0]


def _words(kept: Kept) -> str:
    return "one number" if kept is None else str(sorted(kept))


def _joined(
    tensors: list[Tensor], shapes: list[Shape], kept: Kept, change: Change
) -> tuple[Tensor, Kept]:
    """The array made of one array of each parameter, and its axes."""
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1:
        raise Refused(f"the arrays have the dtypes {listed(dtypes)}; they must have one")
    for tensor, shape in zip(tensors, shapes, strict=True):
        wanted = () if kept is None else _along_axes(shape, kept)
        if tensor.shape != wanted:
            raise Refused(f"it has shape {tensor.shape}; it must be {wanted}")
    if kept is None:
        if len({tensor.bits.tobytes() for tensor in tensors}) > 1:
            values = ", ".join(str(tensor.values()) for tensor in tensors)
            raise Refused(f"it is one number for all of a parameter, and differs: {values}")
        return tensors[0], None
    now = change.axes(kept)
    return _Changed(tensors, change, _along_axes(change.shape, now)), now


def _along_axes(shape: Shape, kept: frozenset[int]) -> Shape:
    return tuple(size if axis in kept else 1 for axis, size in enumerate(shape))


UNOWNED: Description = {}
"""The description of a parameter that no optimizer has: a frozen one, or a buffer."""


def _made(description: Description) -> Rule:
    try:
        return made(description)
    except ValueError as error:
        raise Refused(str(error)) from None


def levels(description: Description) -> Iterator[tuple[Rule, str]]:
    """A rule and the rules inside it, each with its own ``needs``; nothing for ``UNOWNED``."""
    if description == UNOWNED:
        return
    rule: Any = _made(description)
    while isinstance(rule, Wrapper):
        yield rule, rule.reads
        rule = rule.rule
    yield rule, rule.needs


def turned(description: Description, axes: Shape) -> Description:
    """The rule after a transpose: ``layout`` and ``batch_axes`` as each rule inside sees them."""
    if description == UNOWNED:
        return description
    rule = _made(description)
    batch = kept_by(rule, len(axes)).batch
    ndim = len(axes) - len(batch)
    letters = iter(letters_of(rule, ndim))
    own = {axis: next(letters, "") for axis in range(len(axes)) if axis not in batch}
    values: dict[str, Any] = {}
    if batch:
        values["batch_axes"] = sorted(map(axes.index, batch))
    found = "".join(own[axis] for axis in axes if axis in own)
    if found:
        values["layout"] = shortened(rule, found)
    return _saying(description, saying(rule, values, ndim if found else 0), values.keys())


def _saying(description: Description, rule: Rule, names: Iterable[str]) -> Description:
    """The description with the values of a rule, and of the rules inside it."""
    own = {name: rule._values[name] for name in names if name in rule._values}
    own = {n: [*value] if isinstance(value, tuple) else value for n, value in own.items()}
    found = {**description, "values": {**description["values"], **own}}
    if isinstance(rule, Wrapper):
        found["rule"] = _saying(description["rule"], rule.rule, names)
    return found
