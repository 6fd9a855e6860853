"""Wrappers whose rule takes a step in some calls only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samestep.vocabulary import Move, choose
from samestep.wrapper import Wrapper

__all__ = ["Conditional"]


class Conditional(Wrapper, register=False):
    """A wrapper that leaves parameters and the wrapped rule's state unchanged in some calls.

    Its own slots and its own shared state may change in every call. Everything inside counts the
    steps that are taken: ``steps_inside`` computes their number from the calls, or ``withheld``
    names the shared array that counts the other calls.
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
        """The sums; the slots are unchanged if there is no step."""
        slots, sums = super().gather(xp, grad, param, state, s, phase)
        return self._kept(xp, slots, state, s), sums

    def summed(self, xp: Any, sums: Any, shared: Any, s: Any, phase: int) -> dict[str, Any]:
        """The shared state; the wrapped rule's part is unchanged if there is no step."""
        new = super().summed(xp, sums, shared, s, phase)
        inside = {name: value for name, value in new.items() if name in self.rule.shared()}
        return {**new, **self._kept(xp, inside, shared, s)}

    def _kept(self, xp: Any, new: Mapping[str, Any], state: Any, s: Any) -> dict[str, Any]:
        acts = self.acts(state, s) if new else True
        return {name: choose(xp, acts, value, getattr(state, name)) for name, value in new.items()}
