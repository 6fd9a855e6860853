"""Trees of parameters as MLX has them."""

from __future__ import annotations

from typing import Any

from mlx.utils import tree_flatten

__all__ = ["leaves"]


def leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf of a tree with its path."""
    found: Any = tree_flatten(tree)
    return list(found)
