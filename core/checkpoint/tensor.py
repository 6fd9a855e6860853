"""An array of no framework: NumPy's bits and the name of their dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy

from ..arrays import dtype_name, map_parts

__all__ = ["DTYPES", "Tensor", "native", "tensors"]

DTYPES = {
    "float64": numpy.float64,
    "float32": numpy.float32,
    "float16": numpy.float16,
    "bfloat16": numpy.uint16,
    "int64": numpy.int64,
    "int32": numpy.int32,
}
"""The dtypes that state and parameters may have, each with NumPy's dtype for its bits."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array of any framework as NumPy has it, by reference where the framework allows it.

    NumPy has no bfloat16: an array of that dtype is one of its bits, in uint16.
    """

    bits: numpy.ndarray
    dtype: str

    @classmethod
    def of(cls, array: Any) -> Tensor:
        """A framework's array, or a number; from an accelerator it is copied."""
        if isinstance(array, Tensor):
            return array
        if not hasattr(array, "dtype"):
            array = numpy.asarray(array)
        name = dtype_name(array.dtype)
        if name not in DTYPES:
            raise TypeError(f"an array of dtype {name} is no state; allowed: {', '.join(DTYPES)}")
        if hasattr(array, "detach"):  # torch
            array = array.detach().cpu()
        if name == "bfloat16":
            array = array.view(array_api_compat.array_namespace(array).uint16)
        return cls(numpy.asarray(array), name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.bits.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return int(self.bits.nbytes)

    def values(self) -> numpy.ndarray:
        """Its values in float64, which holds them all exactly (whole numbers up to 2**53)."""
        if self.dtype == "bfloat16":
            wide = (self.bits.astype(numpy.uint32) << 16).view(numpy.float32)
            return wide.astype(numpy.float64)
        return self.bits.astype(numpy.float64)

    def reshaped(self, bits: numpy.ndarray) -> Tensor:
        """The same dtype with other bits, such as a transpose of these."""
        return Tensor(bits, self.dtype)

    def like(self, example: Any) -> Any:
        """An array of its own, in the library and on the device of ``example``.

        Raises:
            TypeError: the library has no such dtype, as JAX without its 64-bit mode.
        """
        xp = array_api_compat.array_namespace(example)
        place = {"device": example.device} if hasattr(example, "device") else {}
        wanted = getattr(xp, self.dtype, None)
        if wanted is None:
            raise TypeError(f"{xp.__name__} has no dtype {self.dtype}")
        if self.dtype == "bfloat16":
            made = xp.asarray(numpy.array(self.bits), dtype=xp.uint16, **place).view(wanted)
        else:
            # a copy of our own, since a framework may share what it is given
            made = xp.asarray(numpy.array(self.bits), dtype=wanted, **place)
        if dtype_name(made.dtype) != self.dtype:
            raise TypeError(
                f"{xp.__name__} made {dtype_name(made.dtype)} of an array of {self.dtype}; does it "
                "need its 64-bit mode (jax_enable_x64)?"
            )
        return made


def tensors(slots: Mapping[str, Any]) -> dict[str, Any]:
    """Slots, each an array or a tuple of them, as tensors."""
    return {name: map_parts(Tensor.of, value) for name, value in slots.items()}


def native(slots: Mapping[str, Any], example: Any) -> dict[str, Any]:
    """Slots as arrays of the library of ``example``, on its device."""
    return {
        name: map_parts(lambda tensor: tensor.like(example), value) for name, value in slots.items()
    }
