"""A state of optax as a tree of parts, and with the parameters that it is for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import optax  # type: ignore[import-untyped]  # ships no types

import jax
import jax.numpy as xp
from samestep.checkpoints.state import CheckpointError
from samestep.checkpoints.trees import by_path
from samestep.jax.trees import dotted, flattened, matched, strong
from samestep.rule import State

from .tables import INSIDE, OURS, Kept

__all__ = ["Node", "States", "field_of", "like", "rebuilt"]


class Node(NamedTuple):
    """A part of a state: its place, the part, and the parts around it, from the outside in."""

    place: str
    value: Any
    above: tuple[Node, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether this is the state of one of samestep's own transformations."""
        return isinstance(self.value, State)

    @property
    def kind(self) -> str:
        """The name of its class."""
        return OURS if self.ours else type(self.value).__name__

    @property
    def fields(self) -> tuple[str, ...] | None:
        """Its fields; ``None`` if its class has none."""
        return getattr(self.value, "_fields", None)

    @property
    def injects(self) -> bool:
        """Whether this is the state of ``inject_hyperparams``."""
        return hasattr(self.value, "hyperparams")

    def held(self, field: str) -> Any:
        """The value of a field, or of a slot of ours, for all parameters."""
        return self.value.slots.get(field) if self.ours else getattr(self.value, field)


def _nodes(value: Any, place: str = "state", above: tuple[Node, ...] = ()) -> Iterator[Node]:
    node = Node(place, value, above)
    if node.fields is not None:
        yield node
        above = (*above, node)
    elif not isinstance(value, (tuple, list, Mapping)) and value is not None:
        yield node
    for at, child in _children(value, place):
        yield from _nodes(child, at, above)


def _children(value: Any, place: str) -> list[tuple[str, Any]]:
    if hasattr(value, "_fields"):
        inside = INSIDE.get(type(value).__name__)
        return [(f"{place}.{inside}", getattr(value, inside))] if inside else []
    if isinstance(value, Mapping):
        return [(f"{place}[{name!r}]", child) for name, child in value.items()]
    if isinstance(value, (tuple, list)):
        return [(f"{place}[{at}]", child) for at, child in enumerate(value)]
    return []


def rebuilt(value: Any, changes: Mapping[str, Mapping[str, Any]], place: str = "state") -> Any:
    """The state with some fields of some of its parts replaced."""
    new = [rebuilt(child, changes, at) for at, child in _children(value, place)]
    if hasattr(value, "_fields"):
        inside = INSIDE.get(type(value).__name__)
        return value._replace(**({inside: new[0]} if inside else {}), **changes.get(place, {}))
    if isinstance(value, Mapping):
        return type(value)(zip(value, new, strict=True))  # type: ignore[call-arg]
    return type(value)(new) if isinstance(value, (tuple, list)) else value


def field_of(kept: Kept, state: Any, params: Any = None) -> Any:
    """A slot in optax, for all parameters and with our sign; ``None`` if optax does not keep it.

    ``params`` are asked as well, since ``lookahead`` keeps slow weights in them.
    """
    nodes = [*_nodes(state), *_nodes(params)]
    found = [node.value for node in nodes if node.kind in kept.states]
    tree = getattr(found[0], kept.field) if found else None
    return jax.tree.map(xp.negative, tree) if kept.sign < 0 else tree


def like(value: Any, old: Any) -> Any:
    """A number in the dtype of the number that it replaces."""
    return xp.asarray(value, xp.asarray(old).dtype)


class _Named(NamedTuple):
    """The name of the state in messages."""

    name: str


_OPTAX: Any = _Named("optax")


class States:
    """The parts of a state of optax, and the parameters by their paths.

    Args:
        params: the parameters, or ``optax.LookaheadParams``, which are then a part too.
        state: the state; without parts where only parameters are to be told apart.
    """

    def __init__(self, params: Any, state: Any = None) -> None:
        self.nodes = [*_nodes(state)]
        if isinstance(params, optax.LookaheadParams):
            self.nodes.append(Node("params", params))
            params = params.fast
        self._paths, self.structure = flattened(params)
        self.params: dict[str, jax.Array] = by_path(
            (dotted(path), strong(_OPTAX, path, leaf)) for path, leaf in self._paths
        )
        self._entries: dict[tuple[str, str], list[Any]] = {}

    def listed(self) -> str:
        """The states that exist, for messages."""
        kinds = [f"{node.place}: {node.kind}" for node in self.nodes if node.kind != "EmptyState"]
        return "; ".join(kinds) or "nothing"

    def of_kinds(self, *kinds: str) -> list[Node]:
        """Its parts of these classes."""
        return [node for node in self.nodes if node.kind in kinds]

    def entries(self, node: Node, field: str) -> list[Any]:
        """The value of a field for each parameter; ``None`` where it has none."""
        key = node.place, field
        if key not in self._entries:
            found = self._per_parameter(f"{field} of {node.place}", node.held(field))
            self._entries[key] = [None if _is_masked(entry) else entry for entry in found]
        return self._entries[key]

    def _per_parameter(self, what: str, tree: Any) -> Iterable[Any]:
        if tree is None:
            return [None] * len(self.params)
        if any(map(_is_masked, jax.tree.leaves(tree, is_leaf=_is_masked))):
            return _spread(self.structure, tree)
        try:
            return matched(_OPTAX, what, tree, self._paths, self.structure)
        except ValueError as error:
            raise CheckpointError(str(error)) from None


def _is_masked(value: Any) -> bool:
    return isinstance(value, optax.MaskedNode)


def _spread(structure: Any, tree: Any) -> Iterator[Any]:
    """The value of a tree at each leaf of a structure; a value may be masked above the leaves."""
    if _is_masked(tree):
        yield from [tree] * structure.num_leaves
    elif jax.tree_util.treedef_is_leaf(structure):
        yield tree
    else:
        below = jax.tree.leaves(tree, is_leaf=lambda node: node is not tree)
        for part, child in zip(structure.children(), below, strict=True):
            yield from _spread(part, child)
