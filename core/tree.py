"""Trees of arrays: nested dicts, lists and tuples, with ``None`` for an empty place.

Frameworks have trees of their own. This module is for NumPy arrays and trees of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any

from .names import dotted

__all__ = ["dotted", "leaves", "ordered", "rebuild", "subtree"]


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


def ordered(paths: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Paths in the order of their names, whatever the order of a dict."""
    return sorted(paths, key=lambda path: [(type(name).__name__, name) for name in path])


def subtree(tree: Any, path: tuple[Any, ...]) -> Any:
    """The array or tree at ``path``; ``None`` if there is none."""
    for key in path:
        if isinstance(tree, dict):
            tree = tree.get(key)
        elif hasattr(tree, "_fields"):
            tree = getattr(tree, key, None) if key in tree._fields else None
        elif isinstance(tree, (list, tuple)):
            tree = tree[key] if isinstance(key, int) and key < len(tree) else None
        else:  # an array is a leaf, not a tree of its rows
            return None
    return tree


def rebuild(
    tree: Any, leaf: Callable[[tuple[Any, ...], Any], Any], path: tuple[Any, ...] = ()
) -> Any:
    """A tree of the same structure with ``leaf(path, array)`` in place of each array."""
    if isinstance(tree, dict):
        made = copy(tree)  # keeps attributes of a subclass of dict, such as a default
        made.update({k: rebuild(v, leaf, (*path, k)) for k, v in tree.items()})
        return made
    if hasattr(tree, "_fields"):
        return type(tree)(*(rebuild(v, leaf, (*path, k)) for k, v in _children(tree) or ()))
    if isinstance(tree, (list, tuple)):
        return type(tree)(rebuild(v, leaf, (*path, i)) for i, v in enumerate(tree))
    return None if tree is None else leaf(path, tree)
