"""A rule around another rule.

A wrapper declares fields and slots in its class body and defines ``prepare``, ``redirect`` or
``step``. It holds the wrapped rule as ``self.rule`` and forwards six members to it:

| member | in the wrapper |
|---|---|
| ``coefficients`` | its own numbers and ``scalars``; ``s.inner`` are the wrapped rule's |
| ``redirected``, for ``step`` | the wrapped rule's step, with another gradient and direction |
| ``gather``, ``summed`` | the wrapper's own sum first, then the wrapped rule's sums |
| ``needs``, ``min_ndim`` | the needs of both |

Everything else, from ``replace`` to ``branches``, is the same for every rule with rules inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from . import checks
from .kept import KEPT, said
from .made import NEEDS
from .rule import Redirect, Rule

__all__ = ["Wrapper"]

FORMS = {"descended": "step", "displaced": "changed", "move": "moved"}
"""The step of a rule by the method that descends."""


class Wrapper(Rule, register=False):
    """A rule around another rule. It has the wrapped rule's hyperparameters in addition to its own.

    A subclass declares its own hyperparameters. It defines ``prepare``, which changes the gradient
    before the wrapped rule gets it, ``redirect``, which changes the direction, or ``step``. A
    wrapper that reads the tree defines ``local`` and ``combine``; its sums come before the wrapped
    rule's sums. The wrapped rule's hyperparameters can be read and replaced through the wrapper.
    Everything else is read from ``self.rule``.

    Args:
        rule: the rule inside.
        like, mask, groups: as for every rule; they choose the wrapper's own values.
    """

    reads: ClassVar[str] = "element"
    """What the wrapper itself reads in addition to its own element: one of ``NEEDS``."""
    divides: ClassVar[bool] = False
    """Whether the wrapper makes several steps of the wrapped rule's, which then has one a call."""
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
        vars(self)["inside"] = (rule,)
        super().__init__(*args, **kwargs)

    def _refuse(self, changed: Iterable[str] = KEPT) -> None:
        own = {*self._hypers, *self._slots, *self._shared}
        if not _contains(self.rule, type(self)):  # other rules keep the parameter in the same way
            own -= {*KEPT}
        rules = self.rule.branches
        taken = own.intersection(n for r in rules for n in (*r.hypers, *r.slots(), *r.shared()))
        if taken:
            raise ValueError(
                f"{self.name}({self.rule!r}): both have {', '.join(sorted(taken))}; "
                f"{self.name} cannot wrap {self.rule.name}"
            )
        for name in {*KEPT}.intersection(changed):  # else a rule inside has what it sees
            here, inside = self._values.get(name), said(self.rule, name)
            if None not in (here, inside) and here != inside:
                raise ValueError(
                    f"{self.name}({self.rule!r}): {name} is {here!r} here and {inside!r} inside; a "
                    "parameter is kept in one way, say it once"
                )
        whole = type(self).redirect is not Wrapper.redirect and _changes_step(self.rule)
        if whole:
            raise ValueError(
                f"{self.name}({self.rule!r}): {self.name}.redirect changes a direction, and "
                f"{whole} changes the step after it; let {whole} be the outer one"
            )
        several = _not_one_step(self.rule) if self.divides else ""
        if several:
            raise ValueError(
                f"{self.name}({self.rule!r}): {self.name} divides the step of every call, and "
                f"{several} has none in some calls, or takes it early; let {several} be the outer "
                "one"
            )
        super()._refuse(changed)

    @property
    def rule(self) -> Rule:
        """The wrapped rule."""
        return self.inside[0]

    # The methods of an author, in addition to those of every rule.

    def prepare(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        """The gradient that the wrapped rule gets."""
        return grad

    def redirect(self, xp: Any, direction: Any, grad: Any, s: Any) -> Any:
        """The direction that the wrapped rule descends along; ``grad`` is prepared by both."""
        return direction

    # What both need.

    @cached_property
    def needs(self) -> str:
        """The wrapper's ``reads`` or the wrapped rule's need, whichever is more."""
        return max(self.reads, str(self.rule.needs), key=NEEDS.index)

    @property
    def _own_need(self) -> str:
        return self.reads

    @cached_property
    def min_ndim(self) -> int:
        """The wrapped rule's least number of dimensions."""
        return int(self.rule.min_ndim)

    @property
    def continuous(self) -> bool:
        """Whether the wrapped rule makes tiny changes of tiny ones; a class may say more."""
        return bool(self.rule.continuous)

    # One step.

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """The wrapper's ``s``, with the wrapped rule's as ``s.inner``."""
        own = self.scalars(xp, t)
        if (type(self), *own) not in checks.READ:
            checks.refuse_slips(self, own)
        own = {**self._numbers, **own}
        return {**own, "inner": self.rule.coefficients(xp, self.steps_inside(t - 1) + 1)}

    step, changed, moved = Rule.step, Rule.changed, Rule.moved

    @property
    def steps_early(self) -> Any:
        """Whether the wrapped rule, or one inside it, takes its step in ``gather``."""
        return self.rule.steps_early

    def redirected(
        self,
        xp: Any,
        grad: Any,
        param: Any,
        state: Any,
        s: Any,
        redirect: Redirect | None,
        form: str = "descended",
    ) -> tuple[Any, Any]:
        """The wrapped rule's step with the prepared gradient and the redirected direction."""
        grad = self.prepare(xp, grad, param, state, s)
        if redirect is None and type(self).redirect is Wrapper.redirect:
            inner: Callable[..., tuple[Any, Any]] = getattr(self.rule, FORMS[form])
            return inner(xp, grad, param, state, s.inner)

        def both(direction: Any, grad: Any) -> Any:
            direction = self.redirect(xp, direction, grad, s)
            return direction if redirect is None else redirect(direction, grad)

        return self.rule.redirected(xp, grad, param, state, s.inner, both, form)

    def gather(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any, phase: int
    ) -> tuple[Any, Any]:
        """The wrapper's share of the sums, then the wrapped rule's."""
        own = int(self.reads == "tree")
        if phase < own:
            return self.local(xp, grad, param, state, s)
        grad = self.prepare(xp, grad, param, state, s)
        return self.rule.gather(xp, grad, param, state, s.inner, phase - own)

    def summed(self, xp: Any, sums: Any, shared: Any, s: Any, phase: int) -> dict[str, Any]:
        """The wrapper's shared state, then the wrapped rule's."""
        own = int(self.reads == "tree")
        if phase < own:
            return self._combined(xp, sums, shared, s)
        return self.rule.summed(xp, sums, shared, s.inner, phase - own)


def _contains(rule: Rule, kind: type[Rule]) -> bool:
    """Whether the rule, or one inside it, is of this kind."""
    return isinstance(rule, kind) or any(_contains(inside, kind) for inside in rule.inside)


def _not_one_step(rule: Rule) -> str:
    """The name of the rule, or of one inside, that steps in some calls only, or before ``step``."""
    inside = (_not_one_step(one) for one in rule.inside)
    own = rule.withheld is not None or type(rule).steps_inside is not Rule.steps_inside
    own = own or type(rule).steps_early is True
    return rule.name if own else next(filter(None, inside), "")


def _changes_step(rule: Rule) -> str:
    """The name of the rule, or of one inside, whose step is more than a direction and a descent."""
    inside = (_changes_step(one) for one in rule.inside)
    return rule.name if type(rule).step is not Rule.step else next(filter(None, inside), "")
