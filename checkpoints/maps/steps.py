"""The steps of a map's rule: transpose, reshape, split, merge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from samestep.checkpoints.state import ParameterState
from samestep.kept import KEPT, ORIENTED

from .carrying import Change, Refused, Shape, carried, levels, turned

__all__ = ["Merge", "Reshape", "Split", "Step", "Transpose", "remark"]


@dataclass(frozen=True)
class Transpose:
    """Axes in another order: the new axis ``i`` is the old ``axes[i]``."""

    axes: Shape

    def __call__(
        self, owns: list[ParameterState], captures: Mapping[str, str]
    ) -> list[ParameterState]:
        """Every parameter transposed."""
        return [self._one(own) for own in owns]

    def _one(self, own: ParameterState) -> ParameterState:
        if len(own.shape) != len(self.axes):
            raise Refused(
                f"{self} is for {len(self.axes)} dimensions, and its shape is {own.shape}; "
                f"ndim = {len(self.axes)} leaves others out"
            )
        change = Change(
            tuple(own.shape[axis] for axis in self.axes),
            lambda arrays: arrays[0].transpose(self.axes),
            lambda kept: frozenset(map(self.axes.index, kept)),
        )
        idle = self.axes == tuple(range(len(self.axes)))
        return carried([own], own.rule if idle else turned(own.rule, self.axes), change)

    def inverse(self) -> Transpose:
        """The inverse permutation."""
        return Transpose(tuple(map(self.axes.index, range(len(self.axes)))))

    def __str__(self) -> str:
        return f"transpose {[*self.axes]}"


@dataclass(frozen=True)
class Reshape:
    """The same numbers in another shape; a size may be -1, or ``{name}`` of a capture."""

    sizes: tuple[int | str, ...]
    was: tuple[int | str, ...] | None = None
    """The old shape, which the inverse needs."""

    def __call__(
        self, owns: list[ParameterState], captures: Mapping[str, str]
    ) -> list[ParameterState]:
        """Every parameter reshaped."""
        return [self._one(own, captures) for own in owns]

    def _one(self, own: ParameterState, captures: Mapping[str, str]) -> ParameterState:
        if self.was is not None and _fitting("was", self.was, own.shape, captures) != own.shape:
            raise Refused(f"was is {[*self.was]}, and its shape is {own.shape}")
        shape = _fitting("reshape", self.sizes, own.shape, captures)
        if shape == own.shape:
            return own
        self._refuse_other_matrix(own, shape)
        whole = frozenset(range(len(own.shape)))

        def axes(kept: frozenset[int]) -> frozenset[int]:
            if kept != whole:
                raise Refused(f"it is kept along axes {sorted(kept)} alone, and {self} mixes axes")
            return frozenset(range(len(shape)))

        change = Change(shape, lambda arrays: arrays[0].reshape(shape), axes)
        return carried([own], own.rule, change)

    @staticmethod
    def _refuse_other_matrix(own: ParameterState, shape: Shape) -> None:
        if max(len(own.shape), len(shape)) < 2:
            return
        for rule, need in levels(own.rule):
            said = {name: rule.hypers[name] for name in KEPT if rule.hypers.get(name)}
            end = -1 if said.get("layout") == "io" else 0
            vector = min(len(own.shape), len(shape)) < 2
            other = need in ORIENTED and (vector or own.shape[end] != shape[end])
            if other or "batch_axes" in said:
                words = ", ".join(f"{name}={value!r}" for name, value in said.items())
                raise Refused(
                    f"{rule.name} ({words}) sees another matrix in shape {shape} than in "
                    f"{own.shape}"
                )

    def inverse(self) -> Reshape:
        """The reshape to the old shape."""
        if self.was is None:
            raise Refused("the way back from a reshape is not known; give was = [sizes before]")
        return Reshape(self.was, self.sizes)

    def __str__(self) -> str:
        return f"reshape [{', '.join(map(str, self.sizes))}]"


def _fitting(
    what: str, sizes: tuple[int | str, ...], shape: Shape, captures: Mapping[str, str]
) -> Shape:
    """The sizes, with numbers for captures and -1, that have as many elements as ``shape``."""
    words = f"{what} [{', '.join(map(str, sizes))}]"
    try:
        known = [int(s.format(**captures)) if isinstance(s, str) else s for s in sizes]
    except ValueError:
        raise Refused(f"{words}: the captures are {dict(captures)}, which are no numbers") from None
    count, rest = math.prod(shape), math.prod(size for size in known if size != -1)
    fits = rest > 0 and count % rest == 0 if -1 in known else rest == count
    if not fits:
        raise Refused(f"{words} does not fit its shape {shape}")
    return tuple(count // rest if size == -1 else size for size in known)


@dataclass(frozen=True)
class Split:
    """One parameter cut into several along an axis."""

    axis: int
    count: int
    sizes: Shape | None = None
    """Sizes of the pieces; ``None`` for equal pieces."""

    def __call__(
        self, owns: list[ParameterState], captures: Mapping[str, str]
    ) -> list[ParameterState]:
        """The pieces."""
        (own,) = owns
        axis, whole = _axis(self, own.shape), own.shape
        _refuse_parts(own)
        even = whole[axis] % self.count == 0
        sizes = self.sizes or ((whole[axis] // self.count,) * self.count if even else ())
        if sum(sizes) != whole[axis]:
            parts = f"sizes {[*self.sizes]}" if self.sizes else f"{self.count} equal parts"
            raise Refused(f"{self}: {whole[axis]} elements are not {parts}; its shape is {whole}")
        starts = [sum(sizes[:at]) for at in range(len(sizes))]
        return [
            self._piece(own, axis, slice(start, start + size))
            for start, size in zip(starts, sizes, strict=True)
        ]

    @staticmethod
    def _piece(own: ParameterState, axis: int, piece: slice) -> ParameterState:
        at = (*(slice(None),) * axis, piece)

        def axes(kept: frozenset[int]) -> frozenset[int]:
            if axis not in kept:
                raise Refused(f"it holds one number for all of axis {axis}, which is cut")
            return kept

        shape = (*own.shape[:axis], piece.stop - piece.start, *own.shape[axis + 1 :])
        return carried([own], own.rule, Change(shape, lambda arrays: arrays[0][at], axes))

    def inverse(self) -> Merge:
        """The merge of the pieces."""
        return Merge(self.axis, self.count, self.sizes)

    def __str__(self) -> str:
        return f"split along axis {self.axis}"


@dataclass(frozen=True)
class Merge:
    """Several parameters put together along an axis."""

    axis: int
    count: int
    sizes: Shape | None = None
    """Sizes that the parameters must have; ``None`` for any."""

    def __call__(
        self, owns: list[ParameterState], captures: Mapping[str, str]
    ) -> list[ParameterState]:
        """One parameter."""
        first, axis = owns[0], _axis(self, owns[0].shape)
        _refuse_parts(first)
        self._refuse_apart(owns, axis)

        def axes(kept: frozenset[int]) -> frozenset[int]:
            if axis not in kept:
                raise Refused(f"it holds one number for all of axis {axis}, which is put together")
            return kept

        size = sum(own.shape[axis] for own in owns)
        shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
        change = Change(shape, lambda arrays: numpy.concatenate(arrays, axis), axes)
        return [carried(owns, first.rule, change)]

    def _refuse_apart(self, owns: list[ParameterState], axis: int) -> None:
        def others(shape: Shape) -> Shape:
            return (*shape[:axis], *shape[axis + 1 :])

        found = tuple(own.shape[axis] for own in owns if len(own.shape) > axis)
        if self.sizes is not None and found != self.sizes:
            raise Refused(f"{self}: the sizes are {[*found]}; they must be {[*self.sizes]}")
        seen: dict[str, list[Any]] = {
            "shapes": [own.shape for own in owns],
            "dtypes": [own.dtype for own in owns],
            "steps": [own.step for own in owns],
            "rules": [own.rule for own in owns],
            "slots": [own.slots and sorted(own.slots) for own in owns],
            "values": [own.value is None for own in owns],
        }
        for what, several in seen.items():
            alike = map(others, several) if what == "shapes" else several
            first, *rest = alike
            if any(one != first for one in rest):
                shown = what in ("shapes", "dtypes", "steps")
                words = f": {', '.join(map(str, several))}" if shown else ""
                raise Refused(f"{self}: they have different {what}{words}")

    def inverse(self) -> Split:
        """The split into pieces of ``sizes``, or into equal pieces."""
        return Split(self.axis, self.count, self.sizes)

    def __str__(self) -> str:
        return f"merge along axis {self.axis}"


Step = Transpose | Reshape | Split | Merge


def _axis(step: Split | Merge, shape: Shape) -> int:
    if not -len(shape) <= step.axis < len(shape):
        raise Refused(f"there is no axis {step.axis} in its shape {shape}")
    return step.axis % len(shape)


def _refuse_parts(own: ParameterState) -> None:
    """Raise if the rule treats a parameter as one matrix: a piece is another matrix."""
    for rule, need in levels(own.rule) if len(own.shape) > 1 else ():
        if need in ("axes", "matrix"):
            raise Refused(f"{rule.name} looks at the matrix as a whole, and not at pieces of it")


def remark(own: ParameterState, steps: Sequence[Step]) -> str | None:
    """The effect on later steps, although all of the state has been carried."""
    if not any(isinstance(step, (Split, Merge)) for step in steps):
        return None
    looking = [rule.name for rule, need in levels(own.rule) if need in ("tensor", "factored")]
    if not looking:
        return None
    return (
        f"{' and '.join(looking)} sums over a parameter, and will over what it is now: the next "
        "step is another"
    )
