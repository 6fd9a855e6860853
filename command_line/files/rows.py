"""The arrays in a file, as rows of a table."""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy

from samestep.checkpoints import Checkpoint, CheckpointError
from samestep.checkpoints import header as headers
from samestep.checkpoints.stored import Source, Stored, pieces
from samestep.checkpoints.tensor import DTYPES, Tensor

from .kinds import Kind

__all__ = [
    "ALL",
    "VALUE",
    "Asked",
    "Measured",
    "Row",
    "chosen",
    "measured",
    "of_checkpoint",
    "of_safetensors",
    "with_figures",
]

VALUE = "(value)"
"""The name of the slot that stands for the parameter itself."""
ALL = "(all)"
"""The path that stands for all parameters together."""


@dataclass(frozen=True)
class Asked:
    """The arrays that are to be shown."""

    slots: tuple[str, ...] = ()
    """Names of the slots; empty for all."""
    parameter: str | None = None
    """A pattern of the path, with ``*`` and ``?``; ``None`` for all."""
    norms: bool = True
    """Whether to read the arrays."""


class Measured(NamedTuple):
    """Figures of the elements of an array."""

    norm: float
    """The norm of the finite elements."""
    nan: int
    infinite: int

    @property
    def nonfinite(self) -> int:
        """The number of NaN and infinite elements."""
        return self.nan + self.infinite


class Row(NamedTuple):
    """An array: its parameter, slot, dtype, shape and size."""

    path: str
    slot: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    measured: Measured | None = None


def of_checkpoint(saved: Checkpoint) -> Iterator[tuple[Row, Tensor]]:
    """Every array of a checkpoint."""
    for path, own in saved.parameters.items():
        named = [*own.tensors(), *([(VALUE, own.value)] if own.value is not None else [])]
        for slot, tensor in named:
            yield Row(path, slot, tensor.dtype, tensor.shape, tensor.nbytes), tensor
    for name, tensor in saved.shared.items():
        yield Row(ALL, name, tensor.dtype, tensor.shape, tensor.nbytes), tensor


def chosen(rows: Sequence[Row], asked: Asked) -> list[Row]:
    """The rows that are asked for.

    Raises:
        CheckpointError: there is no such slot or parameter.
    """
    found = [*rows]
    if asked.slots:
        there = dict.fromkeys(map(_slot_of, rows))
        for slot in asked.slots:
            if slot not in there:
                raise CheckpointError(
                    f"there is no slot {slot!r} in it; there are {', '.join(there) or 'none'}"
                )
        found = [row for row in found if _slot_of(row) in asked.slots]
    if asked.parameter is not None:
        found = [row for row in found if fnmatch.fnmatchcase(row.path, asked.parameter)]
        if not found:
            raise CheckpointError(
                f"no parameter of it has the form {asked.parameter!r}; they are called like "
                f"{', '.join([*dict.fromkeys(row.path for row in rows)][:3])}"
            )
    return found


def _slot_of(row: Row) -> str:
    """The name by which a slot is chosen: ``value``, and no number of a part."""
    return row.slot.partition(".")[0].strip("()")


def with_figures(wanted: Sequence[tuple[Row, Tensor | None]]) -> Iterator[Row]:
    """The rows, each with the figures of its array."""
    from samestep.command_line.progress import watched  # noqa: PLC0415  (which needs rich)

    done, total = 0, sum(row.nbytes for row, _ in wanted)
    with watched("reading", total) as progress:
        for row, tensor in wanted:
            yield row if tensor is None else row._replace(measured=measured(tensor))
            done += row.nbytes
            progress(done, total)


def measured(tensor: Tensor) -> Measured:
    """Norm and counts of an array, piece by piece."""
    norms, nan, infinite = [0.0], 0, 0
    for piece in pieces(numpy.ascontiguousarray(tensor.bits).reshape(-1)):
        values = tensor.reshaped(piece).values()
        finite = numpy.isfinite(values)
        if not finite.all():
            here = int(numpy.count_nonzero(numpy.isnan(values)))
            nan += here
            infinite += int(values.size - numpy.count_nonzero(finite)) - here
            values = values[finite]
        top = float(numpy.max(numpy.abs(values), initial=0.0))
        if top > 0:
            with numpy.errstate(under="ignore"):
                norms.append(top * math.sqrt(float(numpy.sum((values / top) ** 2))))
    return Measured(math.hypot(*norms), nan, infinite)


def of_safetensors(path: Path, kind: Kind) -> list[tuple[Row, Tensor | None]]:
    """The arrays of any safetensors file, read when they are used; ``None`` for unknown dtypes.

    Raises:
        CheckpointError: an array is not where the header has it.
    """
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        source, whole = Source(file), os.fstat(file.fileno()).st_size - begin
    found: list[tuple[Row, Tensor | None]] = []
    for key, item in kind.arrays.items():
        try:
            shape, (start, end), code = tuple(item["shape"]), item["data_offsets"], item["dtype"]
            if not 0 <= start <= end <= whole:
                raise ValueError("the file ends before its last byte")
            tensor = None
            if code in headers.CODES:
                name = headers.CODES[code]
                if end - start != math.prod(shape) * numpy.dtype(DTYPES[name]).itemsize:
                    raise ValueError(f"{shape} of {code} has another number of bytes")
                tensor = Stored(key, name, shape, source, begin + start, None)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {key!r} is damaged: {error}") from None
        dtype = headers.CODES.get(code, str(code))
        found.append((Row(key, "", dtype, shape, end - start), tensor))
    return found
