"""What the references of wrappers that change a direction share."""

from __future__ import annotations

from typing import Any

from ._reference import Array, Wrapping

__all__ = ["Redirected"]


class Redirected(Wrapping):
    """Changes the moves of the inner reference.

    The inner reference moves without decay, unless the decay is part of its direction; it is done
    here instead, by the definitions of the families.
    """

    def redirected(self, move: Array, grad: Array) -> Array:
        """Return what is subtracted in place of the move."""
        raise NotImplementedError

    def begin(self) -> None:
        """Take the decay over from the reference that has it."""
        base = self.base()
        before: Any = self.inner if isinstance(self.inner, Redirected) else base
        self.lr, self.family, self.amount = base.lr, base.decay, before.amount
        before.amount = 0.0

    def base(self) -> Any:
        """The reference that is no wrapper."""
        base = self.inner
        while isinstance(base, Wrapping):
            base = base.inner
        return base

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        base = self.base()
        if getattr(base, "waits", False) and base.t == 0:
            self.inner.step(grads)
            return
        before = [param.copy() for param in self.params]
        if self.family in ("l2", "l2+proximal"):
            grads = [g + self.amount * p for g, p in zip(grads, before, strict=True)]
        self.inner.step(grads)
        for param, old, grad in zip(self.params, before, grads, strict=True):
            shrinks = {"decoupled": self.lr, "absolute": 1.0}.get(self.family, 0.0) * self.amount
            new = old - shrinks * old - self.redirected(old - param, grad)
            if self.family == "in_update":
                new = new - self.lr * self.amount * old
            if self.family in ("proximal", "l2+proximal"):
                new = new / (1 + self.lr * self.amount)
            param[...] = new
