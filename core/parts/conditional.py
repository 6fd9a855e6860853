"""Wrappers whose rule takes a step in some calls only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samestep.vocabulary import Move, choose
from samestep.wrapper import Wrapper

__all__ = ["Conditional"]

ACTING = "acting"
"""The sum that is above 0 if any parameter takes a step."""
INSIDE = "inside "
"""The beginning of the names of the wrapped rule's sums."""


class Conditional(Wrapper, register=False):
    """A wrapper that leaves parameters and the wrapped rule's state unchanged in some calls.

    Its own slots and its own shared state may change in every call. Everything inside counts the
    steps that are taken. ``steps_inside`` computes their number from a parameter's calls, so that
    some parameters may take a step where others do not; sums over parameters are then of those that
    do. Or ``withheld`` names the shared array that counts the other calls, of all parameters alike.
    """

    def acts(self, state: Any, s: Any) -> Any:
        """Whether the wrapped rule takes a step: a bool, or a 0-d array of bools."""
        raise NotImplementedError(f"{self.name} does not define acts()")

    def moved(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Move, Any]:
        """The wrapped rule's move, or none."""
        inner, slots = super().moved(xp, grad, param, state, s)
        acts = self.acts(state, s)
        move = Move(
            lambda: choose(xp, acts, lambda: inner.change, lambda: xp.zeros_like(param)),
            lambda: choose(xp, acts, lambda: inner.param, param),
        )
        return move, self._kept(xp, slots, state, s)

    def gather(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any, phase: int
    ) -> tuple[Any, Any]:
        """The sums; 0, and the slots unchanged, if there is no step."""
        slots, sums = super().gather(xp, grad, param, state, s, phase)
        slots = self._kept(xp, slots, state, s)
        if not self._apart(phase):
            return slots, sums
        acts = self.acts(state, s)

        def taken(value: Any) -> Any:
            return choose(xp, acts, value, lambda: xp.zeros_like(value))

        scalar = next(iter(sums.values())) if sums else xp.sum(param)
        parts = {INSIDE + name: taken(value) for name, value in sums.items()}
        return slots, {**parts, ACTING: taken(xp.ones_like(scalar))}

    def summed(self, xp: Any, sums: Any, shared: Any, s: Any, phase: int) -> dict[str, Any]:
        """The shared state; the wrapped rule's part is unchanged if no parameter takes a step."""
        acts: Any = None
        if self._apart(phase):
            acts, found = getattr(sums, ACTING) > 0, vars(sums).items()
            inside = {n.removeprefix(INSIDE): v for n, v in found if n.startswith(INSIDE)}
            sums = type(sums)(inside)
        new = super().summed(xp, sums, shared, s, phase)
        inside = {name: value for name, value in new.items() if name in self.rule.shared()}
        return {**new, **self._kept(xp, inside, shared, s, acts)}

    def _apart(self, phase: int) -> bool:
        """Whether a phase sums for the wrapped rule over parameters that step in other calls."""
        return self.withheld is None and phase >= int(self.reads == "tree")

    def _kept(
        self, xp: Any, new: Mapping[str, Any], state: Any, s: Any, acts: Any = None
    ) -> dict[str, Any]:
        acts = self.acts(state, s) if new and acts is None else acts
        return {name: choose(xp, acts, value, getattr(state, name)) for name, value in new.items()}
