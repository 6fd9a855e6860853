"""Trees of arrays: dicts, lists and tuples, nested, with ``None`` where there is nothing.

Frameworks bring their own trees; these few lines serve plain NumPy arrays and trees of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["leaves", "rebuild", "subtree"]


def _children(tree: Any) -> Iterator[tuple[Any, Any]] | None:
    if isinstance(tree, dict):
        return iter(tree.items())
    if hasattr(tree, "_fields"):  # a NamedTuple
        return iter(zip(tree._fields, tree, strict=True))
    if isinstance(tree, (list, tuple)):
        return iter(enumerate(tree))
    return None


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every ``(path, array)`` of a tree, in order; ``None`` is skipped."""
    children = _children(tree)
    if children is not None:
        for key, child in children:
            yield from leaves(child, (*path, key))
    elif tree is not None:
        yield path, tree


def subtree(tree: Any, path: tuple[Any, ...]) -> Any:
    """What a tree holds at ``path``; ``None`` where it holds nothing."""
    for key in path:
        try:
            tree = getattr(tree, key) if hasattr(tree, "_fields") else tree[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            return None
    return tree


def rebuild(
    tree: Any, leaf: Callable[[tuple[Any, ...], Any], Any], path: tuple[Any, ...] = ()
) -> Any:
    """A tree of the same structure with ``leaf(path, array)`` in place of each array."""
    if isinstance(tree, dict):
        return type(tree)({k: rebuild(v, leaf, (*path, k)) for k, v in tree.items()})
    if hasattr(tree, "_fields"):
        return type(tree)(*(rebuild(v, leaf, (*path, k)) for k, v in _children(tree) or ()))
    if isinstance(tree, (list, tuple)):
        return type(tree)(rebuild(v, leaf, (*path, i)) for i, v in enumerate(tree))
    return None if tree is None else leaf(path, tree)
