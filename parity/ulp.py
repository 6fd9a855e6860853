"""Distances in ULP: units in the last place of a floating-point format.

A difference is counted in ULP of the larger of the value and its change in that step. The ULP of
the value alone would explode where a parameter crosses zero.
"""

from __future__ import annotations

import numpy

__all__ = ["rounded", "spacing", "ulps"]

FORMATS = {
    "float64": (53, -1022),
    "float32": (24, -126),
    "bfloat16": (8, -126),
    "float16": (11, -14),
}
"""Bits of precision and smallest normal exponent."""


def spacing(scale: numpy.ndarray, dtype: str) -> numpy.ndarray:
    """One ULP of ``dtype`` at every element of ``scale``."""
    precision, lowest = FORMATS[dtype]
    _, exponent = numpy.frexp(numpy.abs(scale))  # |scale| in [2^(exponent - 1), 2^exponent)
    normal = numpy.where(scale == 0, lowest, numpy.maximum(exponent - 1, lowest))
    ulp: numpy.ndarray = numpy.ldexp(1.0, normal - (precision - 1))
    return ulp


def ulps(
    actual: numpy.ndarray, expected: numpy.ndarray, scale: numpy.ndarray, dtype: str
) -> numpy.ndarray:
    """``|actual - expected|`` in ULP of ``dtype`` at ``scale``.

    Equal values, infinities and NaNs included, are 0 apart; a value that is finite on one side
    only, or NaN on one side only, is infinitely far.
    """
    same = (actual == expected) | (numpy.isnan(actual) & numpy.isnan(expected))
    with numpy.errstate(invalid="ignore", over="ignore"):
        apart = numpy.abs(actual - expected) / spacing(numpy.nan_to_num(scale), dtype)
    distance: numpy.ndarray = numpy.where(
        same, 0.0, numpy.nan_to_num(apart, nan=numpy.inf, posinf=numpy.inf)
    )
    return distance


def rounded(values: numpy.ndarray, dtype: str) -> numpy.ndarray:
    """Float64 values rounded to ``dtype`` (to nearest, ties to even), as float64."""
    precision, lowest = FORMATS[dtype]
    if precision == FORMATS["float64"][0]:
        return numpy.array(values, dtype=numpy.float64)
    _, exponent = numpy.frexp(values)
    unit = numpy.ldexp(1.0, numpy.maximum(exponent - 1, lowest) - (precision - 1))
    result: numpy.ndarray = numpy.rint(values / unit) * unit
    return result
