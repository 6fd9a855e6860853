"""A parameter, its rule, and where in a state of optax its slots are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from samestep.checkpoints.state import CheckpointError
from samestep.rule import Rule
from samestep.wrapper import Wrapper

from .nodes import Node
from .tables import SIGNS, Kept

__all__ = ["Own", "Place"]


class Place(NamedTuple):
    """The place of a parameter's slot: a part of the state, fields of it, and their entries."""

    node: Node
    kept: Kept
    fields: tuple[str, ...]
    entries: tuple[Any, ...]

    @property
    def arrays(self) -> list[Any]:
        """The arrays of the slot as optax has them."""
        return [leaf for entry in self.entries for leaf in jax.tree.leaves(entry)]

    def signed(self, array: Any) -> Any:
        """An array of optax's with our sign, or one of ours with that of optax."""
        return -array if self.kept.sign < 0 else array


class Own(NamedTuple):
    """A parameter, its rule, and where its slots are."""

    path: str
    param: Any
    rule: Rule
    base: Rule
    """The rule without the wrappers that are optax's here."""
    places: dict[str, Place]

    @property
    def nodes(self) -> list[Node]:
        """The parts of the state that it uses, each once."""
        return [*{place.node.place: place.node for place in self.places.values()}.values()]

    @property
    def wrappers(self) -> list[Any]:
        """The wrappers of the rule that are optax's here, from the outside in."""
        found: list[Any] = []
        rule = self.rule
        while rule is not self.base and isinstance(rule, Wrapper):
            found.append(rule)
            rule = rule.rule
        return found

    def share(self, slot: str, held: Callable[[str], Any]) -> Any:
        """By what optax multiplies a slot of ours, from another slot; 1 if by nothing."""
        times = self.places[slot].kept.times
        if times is None:
            return 1
        other, power = times
        return held(other) ** self.rule.owner(slot).hypers[power]

    def has_sign_only(self, slot: str) -> bool:
        """Whether the state has only the slot's sign, stored in another slot."""
        return slot in SIGNS.get(self.base.name, {}) and not self.places[slot].node.ours

    def shapes(self, slot: str) -> tuple[list[Any], bool]:
        """The shapes of a slot's arrays, and whether the slot is a tuple, perhaps of one array."""
        shapes = self.rule.slots()[slot].init.shapes
        shape = tuple(self.param.shape)
        if shapes is None:
            return [shape], False
        wanted: Any = shapes(shape, self.rule)
        several = bool(wanted) and all(isinstance(part, tuple) for part in wanted)
        return ([*wanted] if several else [wanted]), several

    def fitted(self, slot: str, array: Any, shape: tuple[int, ...]) -> Any:
        """An array in another shape that differs in axes of size 1.

        Raises:
            CheckpointError: it differs in others.
        """
        if [n for n in array.shape if n != 1] != [n for n in shape if n != 1]:
            raise CheckpointError(
                f"slot {slot} of parameter {self.path!r} has shape {tuple(array.shape)}; it must "
                f"be {shape}"
            )
        return array.reshape(shape)
