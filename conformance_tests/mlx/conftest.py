"""A fixture for the tests of the adapter for MLX."""

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("mlx") else ["test_*.py"]


@pytest.fixture(autouse=True)
def _on_the_processor():
    """Metal has no float64."""
    mx = pytest.importorskip("mlx.core")
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(device)
