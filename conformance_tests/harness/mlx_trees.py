"""Trees of MLX arrays, compared by path."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

__all__ = ["assert_equal", "flat"]


def flat(tree: Any) -> dict[str, mx.array]:
    """Every array by path."""
    return dict(tree_flatten(tree))


def assert_equal(actual: Any, expected: Any) -> None:
    """Assert that two trees have the same arrays to the last bit."""
    found, wanted = flat(actual), flat(expected)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        assert found[path].dtype == value.dtype and found[path].shape == value.shape, path
        assert mx.array_equal(found[path], value).item(), path
