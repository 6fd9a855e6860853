"""An array of no framework: NumPy's bits and the name of their dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import array_api_compat
import numpy

from samestep.arrays import dtype_name, map_parts

from .boxes import Box

__all__ = ["DTYPES", "Tensor", "place", "tensors"]

DTYPES = {
    "float64": numpy.float64,
    "float32": numpy.float32,
    "float16": numpy.float16,
    "bfloat16": numpy.uint16,
    "int64": numpy.int64,
    "int32": numpy.int32,
    "int16": numpy.int16,
    "int8": numpy.int8,
    "uint8": numpy.uint8,
    "bool": numpy.bool_,
}
"""The dtypes that parameters, state and buffers may have, with NumPy's dtype for their bits."""


class Tensor:
    """An array of any framework as NumPy has it, by reference where the framework allows it.

    NumPy has no bfloat16: a bfloat16 array is kept as its bits, in uint16.
    """

    def __init__(self, bits: numpy.ndarray, dtype: str) -> None:
        self._bits, self.dtype = bits, dtype

    @classmethod
    def of(cls, array: Any) -> Tensor:
        """A framework's array, or a number; one on an accelerator is copied when it is used."""
        if isinstance(array, Tensor):
            return array
        if not hasattr(array, "dtype"):
            array = numpy.asarray(array)
        name = dtype_name(array.dtype)
        if name not in DTYPES:
            raise TypeError(f"an array of dtype {name} is no state; allowed: {', '.join(DTYPES)}")
        if hasattr(array, "device_mesh") or not getattr(array, "is_fully_addressable", True):
            raise TypeError(
                "an array that is sharded over several processes is saved with an optimizer of "
                "samestep.torch, torch.optim or samestep.jax, not with a rule by itself"
            )
        if hasattr(array, "detach"):  # torch
            array = array.detach()
        return _Distant(array, name) if _is_distant(array) else cls(_on_host(array, name), name)

    @property
    def bits(self) -> numpy.ndarray:
        """The array, which is not to be written to."""
        return self._bits

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self._bits.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * numpy.dtype(DTYPES[self.dtype]).itemsize

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype}, shape={self.shape})"

    def __neg__(self) -> Tensor:
        sign = numpy.uint16(0x8000)
        negated = self.bits ^ sign if self.dtype == "bfloat16" else -self.bits
        return self.reshaped(numpy.asarray(negated))

    def copy(self, box: Box | None = None) -> numpy.ndarray:
        """The bits of the array or of a part, in memory of their own, one after another."""
        return numpy.array(self.bits if box is None else self.part(box), order="C")

    def part(self, box: Box) -> numpy.ndarray:
        """The bits of a part, which are not to be written to."""
        return numpy.asarray(self.bits[box.slices])

    def held(self) -> Tensor:
        """The array in memory of its own."""
        return self.reshaped(self.copy())

    def verify(self) -> None:
        """Raise if the array is damaged in its file."""

    def values(self) -> numpy.ndarray:
        """Its values in float64, which holds them all exactly (whole numbers up to 2**53)."""
        if self.dtype == "bfloat16":
            wide = (self.bits.astype(numpy.uint32) << 16).view(numpy.float32)
            return wide.astype(numpy.float64)
        return self.bits.astype(numpy.float64)

    def reshaped(self, bits: numpy.ndarray) -> Tensor:
        """A tensor of the same dtype with other bits, such as a transpose."""
        return Tensor(bits, self.dtype)

    def like(self, example: Any) -> Any:
        """An array of its own, in the library and on the device of ``example``.

        Raises:
            TypeError: the library has no such dtype, as JAX without its 64-bit mode.
        """
        xp = array_api_compat.array_namespace(example)
        fixed = hasattr(example, "device") and getattr(example, "committed", True)  # JAX
        on = {"device": place(example, self.shape)} if fixed else {}
        wanted = getattr(xp, self.dtype, None)
        if wanted is None:
            raise TypeError(f"{xp.__name__} has no dtype {self.dtype}")
        # a copy, because a framework may share the memory of its argument
        if self.dtype == "bfloat16":
            made = xp.asarray(self.copy(), dtype=xp.uint16, **on).view(wanted)
        else:
            made = xp.asarray(self.copy(), dtype=wanted, **on)
        if dtype_name(made.dtype) != self.dtype:
            raise TypeError(
                f"{xp.__name__} made {dtype_name(made.dtype)} of an array of {self.dtype}; does it "
                "need its 64-bit mode (jax_enable_x64)?"
            )
        return made


class _Distant(Tensor):
    """An array on an accelerator, or on several devices: it takes no memory here until used."""

    def __init__(self, array: Any, dtype: str) -> None:
        self._array, self.dtype = array, dtype

    @property
    def bits(self) -> numpy.ndarray:
        """A copy of it."""
        return self._brought(self._array)

    def part(self, box: Box) -> numpy.ndarray:
        """A copy of a part."""
        return self._brought(self._array[box.slices])

    def _brought(self, array: Any) -> numpy.ndarray:
        if hasattr(array, "cpu"):  # torch
            return _on_host(array.cpu(), self.dtype)
        # a second array: JAX keeps the host copy with the array that was copied
        return _on_host(array.copy(), self.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self._array.shape)


def place(example: Any, shape: tuple[int, ...]) -> Any:
    """The placement of an array: spread like ``example`` along the axes of equal size."""
    device, whole = example.device, tuple(example.shape)
    if shape == whole or not hasattr(device, "spec"):
        return device
    alike = zip(device.spec, shape, whole, strict=False) if len(shape) == len(whole) else ()
    kept = (axis if own == size else None for axis, own, size in alike)
    return device.update(spec=type(device.spec)(*kept))


def _is_distant(array: Any) -> bool:
    device = getattr(array, "device", None)
    kind = getattr(device, "type", None) or getattr(device, "platform", "cpu")
    return kind != "cpu" or hasattr(device, "device_set")  # a sharding of JAX


def _on_host(array: Any, dtype: str) -> numpy.ndarray:
    if dtype == "bfloat16":
        array = array.view(array_api_compat.array_namespace(array).uint16)
    return numpy.asarray(array)


def tensors(slots: Mapping[str, Any]) -> dict[str, Any]:
    """Slots, each an array or a tuple of arrays, as tensors."""
    return {name: map_parts(Tensor.of, value) for name, value in slots.items()}
