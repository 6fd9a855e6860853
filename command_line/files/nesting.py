"""Parameters as a tree of dicts, by the parts of their paths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from samestep.checkpoints import CheckpointError

__all__ = ["nested"]


def nested(leaves: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The tree of leaves by path.

    Raises:
        CheckpointError: one parameter is below another.
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves:
        *above, last = path.split(".")
        inside = tree
        for part in above:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                break
        if not isinstance(inside, dict) or last in inside:
            raise CheckpointError(
                f"{path!r} and another parameter are one below the other; a map can rename them"
            )
        inside[last] = leaf
    return tree
