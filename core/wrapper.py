"""A rule around another rule.

A wrapper declares fields and slots in its class body and defines ``prepare`` or ``step``. It holds
the wrapped rule as ``self.rule`` and forwards these members to it:

| member | in the wrapper |
|---|---|
| ``coefficients`` | its own numbers and ``scalars``; ``s.inner`` are the wrapped rule's |
| ``step``, ``prepared`` | passes the prepared gradient on, with ``s.inner`` |
| ``directed``, ``descended`` | the wrapped rule's, for a wrapper that comes between the two |
| ``gather``, ``summed`` | the wrapper's own sum first, then the wrapped rule's sums |
| ``needs``, ``phases``, ``sees_axes``, ``divides``, ``min_ndim`` | the needs of both |
| ``branches``, ``branch`` | the wrapper around each rule of a route |

Everything else, from ``replace`` to ``slots``, is in ``composed`` for every kind of rule.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from .made import NEEDS, SHAPED
from .rule import Rule

__all__ = ["Wrapper"]


class Wrapper(Rule, register=False):
    """A rule around another rule. It has the wrapped rule's hyperparameters in addition to its own.

    A subclass declares its own hyperparameters and defines ``prepare``, which changes the gradient
    before the wrapped rule gets it, or ``step``. A wrapper that reads the tree defines ``local``
    and ``combine``; its sums come before the wrapped rule's sums. The wrapped rule's
    hyperparameters can be read and replaced through the wrapper. Everything else is read from
    ``self.rule``.

    Args:
        rule: the rule inside.
        like, mask, groups: as for every rule; they choose the wrapper's own values.
    """

    reads: ClassVar[str] = "element"
    """What the wrapper itself reads in addition to its own element: one of ``NEEDS``."""
    _holds = ("rule",)

    if TYPE_CHECKING:  # the wrapped rule's hyperparameters; see Composed.__getattr__

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, rule: Rule | None = None, *args: Any, **kwargs: Any) -> None:
        if not isinstance(rule, Rule):
            given = "" if rule is None else repr(rule)
            raise TypeError(
                f"{self.name}({given}): the first argument must be a rule, "
                f"such as {self.name}(AdamW(lr=1e-3))"
            )
        own = {*self._hypers, *self._slots, *self._shared}
        inside = (name for r in rule.branches for name in (*r.hypers, *r.slots(), *r.shared()))
        taken = own.intersection(inside)
        if taken:
            raise ValueError(
                f"{self.name}({rule!r}): both have {', '.join(sorted(taken))}; "
                f"{self.name} cannot wrap {rule.name}"
            )
        vars(self)["inside"] = (rule,)
        super().__init__(*args, **kwargs)

    @property
    def rule(self) -> Rule:
        """The wrapped rule."""
        return self.inside[0]

    # What an author defines, in addition to the hooks of every rule.

    def prepare(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        """The gradient that the wrapped rule gets."""
        return grad

    # What both need.

    @cached_property
    def needs(self) -> str:
        """The wrapper's ``reads`` or the wrapped rule's need, whichever is more."""
        return max(self.reads, str(self.rule.needs), key=NEEDS.index)

    @property
    def _own_phases(self) -> int:
        return int(self.reads == "tree")

    @cached_property
    def phases(self) -> int:
        """The wrapper's own phase, if it sums, and the wrapped rule's phases."""
        return self._own_phases + self.rule.phases

    @cached_property
    def sees_axes(self) -> bool:
        """Whether a parameter's shape matters to the wrapper or to the wrapped rule."""
        return self.reads in SHAPED or self.rule.sees_axes

    @property
    def divides(self) -> bool:
        """Whether both divide, and the wrapper changes only the gradient or the direction."""
        own = type(self).step in (Wrapper.step, Rule.step)
        return own and all(rule.divides for rule in self.rule.branches)

    @cached_property
    def min_ndim(self) -> int:
        """The wrapped rule's least number of dimensions."""
        return int(self.rule.min_ndim)

    @property
    def branches(self) -> tuple[Rule, ...]:
        """The wrapper around every rule that parameters may have."""
        inner = self.rule.branches
        if inner == (self.rule,):
            return (self,)
        return tuple(self._copy(self._values, (rule,)) for rule in inner)

    def branch(self, path: str, shape: Any) -> int:
        """Index in ``branches`` of the rule of a parameter."""
        return self.rule.branch(path, shape)

    # One step.

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """The wrapper's ``s``, with the wrapped rule's as ``s.inner``."""
        own = {**self._numbers, **self.scalars(xp, t)}
        return {**own, "inner": self.rule.coefficients(xp, self.steps_inside(t - 1) + 1)}

    def prepared(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        """The gradient as the wrapped rule sees it."""
        grad = self.prepare(xp, grad, param, state, s)
        return self.rule.prepared(xp, grad, param, state, s.inner)

    def directed(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The wrapped rule's direction."""
        return self.rule.directed(xp, grad, param, state, s.inner)

    def descended(self, param: Any, direction: Any, s: Any) -> Any:
        """The parameter after the wrapped rule's descent."""
        return self.rule.descended(param, direction, s.inner)

    def step(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Any, Any]:
        """The wrapped rule's step with the prepared gradient."""
        grad = self.prepare(xp, grad, param, state, s)
        return self.rule.step(xp, grad, param, state, s.inner)

    def gather(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any, phase: int
    ) -> tuple[Any, Any]:
        """The wrapper's share of the sums, then the wrapped rule's."""
        if phase < self._own_phases:
            return self.local(xp, grad, param, state, s)
        grad = self.prepare(xp, grad, param, state, s)
        phase -= self._own_phases
        return self.rule.gather(xp, grad, param, state, s.inner, phase)

    def summed(self, xp: Any, sums: Any, shared: Any, s: Any, phase: int) -> dict[str, Any]:
        """The wrapper's shared state, then the wrapped rule's."""
        if phase < self._own_phases:
            return self._combined(xp, sums, shared, s)
        return self.rule.summed(xp, sums, shared, s.inner, phase - self._own_phases)
