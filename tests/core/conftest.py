"""Fixtures of the tests of rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

MAKERS = {
    "numpy": "asarray",
    "array_api_strict": "asarray",
    "jax.numpy": "asarray",
    "torch": "tensor",
    "mlx.core": "array",
}
"""The function that makes an array, by library."""


@pytest.fixture(params=MAKERS)
def array(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The function of a library that makes an array."""
    made: Callable[..., Any] = getattr(pytest.importorskip(request.param), MAKERS[request.param])
    return made
