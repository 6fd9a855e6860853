"""A fixture for the tests of the adapter for JAX."""

import pytest


@pytest.fixture
def wide():
    """A test in float64."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield
