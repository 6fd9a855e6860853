"""array-api-strict as a backend: nothing beyond the standard works there."""

from __future__ import annotations

from typing import Any

import array_api_strict as xp
import numpy

from samestep.parity.backend import Arrays, Backend, Run, from_state
from samestep.rule import Rule

__all__ = ["BACKENDS", "Strict"]


class Strict(Backend):
    """The Array API standard to the letter, on NumPy."""

    name = "array-api-strict"
    library = "array_api_strict"

    def array(self, values: numpy.ndarray, dtype: str) -> Any:
        return xp.asarray(numpy.array(values, dtype=dtype))

    def numpy(self, array: Any) -> numpy.ndarray:
        return numpy.array(array, dtype=numpy.float64)

    def start(self, rule: Rule, params: Arrays, dtype: str) -> Run:
        return from_state(rule, params, lambda values: self.array(values, dtype))


BACKENDS: list[Backend] = [Strict()]
