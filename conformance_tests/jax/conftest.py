"""A fixture for the tests of the adapter for JAX."""

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("jax") else ["test_*.py"]


@pytest.fixture
def wide():
    """A test in float64."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield
