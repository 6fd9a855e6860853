"""Signs have the same bits in every namespace, of zeros, subnormal numbers and NaN too."""

from __future__ import annotations

from importlib import import_module

import numpy
import pytest

from samestep.vocabulary import same_sign, sign

LARGE = [numpy.inf, 3e38, 1.0, 1e-37]
NUMBERS = numpy.array([numpy.nan, 0.0, -0.0, *LARGE, *(-x for x in LARGE)], "float32")
SIGNS = [numpy.nan, 0.0, -0.0, *[1.0] * len(LARGE), *[-1.0] * len(LARGE)]
"""By hand."""
NAMESPACES = {
    "numpy": ("numpy", "asarray"),
    "array_api_strict": ("array_api_strict", "asarray"),
    "torch": ("array_api_compat.torch", "asarray"),
    "jax": ("samestep.jax.namespace", "asarray"),
    "mlx": ("mlx.core", "array"),
}


@pytest.mark.parametrize("name", NAMESPACES)
def test_signs_are_those_by_hand(name: str) -> None:
    pytest.importorskip(name if name != "mlx" else "mlx.core")
    module, make = NAMESPACES[name]
    xp = import_module(module)
    xp = getattr(xp, "xp", xp)
    rows, columns = (side.ravel() for side in numpy.meshgrid(NUMBERS, NUMBERS))
    array = getattr(xp, make)
    signs = sign(xp, array(NUMBERS))
    found = numpy.array([float(signs[place]) for place in range(len(NUMBERS))])
    wanted = numpy.array(SIGNS)
    assert numpy.array_equal(found, wanted, equal_nan=True)
    assert numpy.array_equal(numpy.signbit(found)[1:], numpy.signbit(wanted)[1:])
    alike = same_sign(xp, array(rows.copy()), array(columns.copy()))
    assert [bool(alike[place]) for place in range(rows.size)] == [
        bool(a * b > 0) for a, b in zip(*_signs(rows, columns), strict=True)
    ]


def _signs(*arrays: numpy.ndarray) -> list[numpy.ndarray]:
    return [numpy.sign(numpy.nan_to_num(array, posinf=1.0, neginf=-1.0)) for array in arrays]
