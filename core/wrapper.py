"""A rule around another rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, ClassVar, Self

from .declaration import Hyper, Option, Shared, Slot
from .groups import Groups
from .made import NEEDS, SHAPED
from .rule import Rule

__all__ = ["Wrapper"]


class _Wrapped:
    """A hyperparameter that a wrapper leaves to the rule inside."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, wrapper: Any, owner: type) -> Any:
        return self if wrapper is None else getattr(wrapper.rule, self.name)


class Wrapper(Rule, register=False):
    """A rule around another rule. It has the wrapped rule's hyperparameters beside its own.

    A subclass declares its own and defines ``prepare``, which the gradient goes through before the
    wrapped rule has it, or ``step``. One that reads the tree defines ``local`` and ``combine``;
    their sums come before those of the wrapped rule.

    Args:
        rule: the rule inside.
        like, mask, groups: as for every rule; they choose values of the wrapper's own.
    """

    reads: ClassVar[str] = "element"
    """What the wrapper itself reads beside its own element: one of ``NEEDS``."""

    weight_decay, decay = _Wrapped(), _Wrapped()
    maximize, state_dtype = _Wrapped(), _Wrapped()

    def __init__(self, rule: Rule | None = None, *args: Any, **kwargs: Any) -> None:
        if not isinstance(rule, Rule):
            given = "" if rule is None else repr(rule)
            raise TypeError(
                f"{self.name}({given}): the first argument must be a rule, "
                f"such as {self.name}(AdamW(lr=1e-3))"
            )
        object.__setattr__(self, "rule", rule)
        own = {*self._hypers, *self._slots, *self._shared}
        inside = (name for r in rule.branches for name in (*r.hypers, *r.slots(), *r.shared()))
        taken = own.intersection(inside)
        if taken:
            raise ValueError(
                f"{self.name}({rule!r}): both have {', '.join(sorted(taken))}; "
                f"{self.name} cannot wrap {rule.name}"
            )
        super().__init__(*args, **kwargs)

    rule: Rule

    def at(self, step: Any) -> Self:
        """Both rules as they are after ``step`` steps."""
        return super().at(step)._around(self.rule.at(self.steps_inside(step)))

    def steps_inside(self, step: Any) -> Any:
        """How many steps the wrapped rule has taken after ``step`` of the wrapper's."""
        return step

    def __getattr__(self, name: str) -> Any:
        if name in self._hypers or name.startswith("_") or name == "rule":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.rule, name)

    @classmethod
    def _derived_signature(cls) -> inspect.Signature:
        first = inspect.Parameter("rule", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return inspect.Signature([first, *super()._derived_signature().parameters.values()])

    @classmethod
    def _bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = super()._bind((None, *args), kwargs)
        return {name: value for name, value in bound.items() if name != "rule"}

    @cached_property
    def needs(self) -> str:
        """What the wrapper reads or the wrapped rule needs, whichever is more."""
        return max(self.reads, str(self.rule.needs), key=NEEDS.index)

    @property
    def _own_phases(self) -> int:
        return int(self.reads == "tree")

    @cached_property
    def phases(self) -> int:
        """The wrapper's own, if it sums, and then the wrapped rule's."""
        return self._own_phases + self.rule.phases

    @cached_property
    def sees_axes(self) -> bool:
        """Whether a parameter's shape matters to the wrapper or to the rule inside."""
        return self.reads in SHAPED or self.rule.sees_axes

    @property
    def divides(self) -> bool:
        """So it is if the wrapper changes the gradient or the direction, and nothing else."""
        own = type(self).step in (Wrapper.step, Rule.step)
        return own and all(rule.divides for rule in self.rule.branches)

    @cached_property
    def min_ndim(self) -> int:
        """What the wrapped rule takes."""
        return int(self.rule.min_ndim)

    @property
    def hypers(self) -> dict[str, Any]:
        """The wrapped rule's hyperparameters and the wrapper's own."""
        return {**self.rule.hypers, **self._values}

    def slots(self) -> dict[str, Slot]:
        """The wrapped rule's slots and the wrapper's own."""
        return {**self.rule.slots(), **super().slots()}

    def declared_slots(self) -> dict[str, Slot]:
        """All slots of both."""
        return {**self.rule.declared_slots(), **super().declared_slots()}

    def storage(self, slot: str) -> str | None:
        """Name of a slot's dtype: for a wrapper's own what its option ``<slot>_dtype`` says."""
        if slot not in self._slots:
            return self.rule.storage(slot)
        own = self._dtype_of(slot, self._values.get(f"{slot}_dtype"))
        return super().storage(slot) if own is None else own

    def shared(self) -> dict[str, Shared]:
        """The wrapped rule's shared state and the wrapper's own."""
        return {**self.rule.shared(), **super().shared()}

    def first_value(self, item: Shared) -> Any:
        """First value of a shared state array, the wrapped rule's or the wrapper's."""
        own = item in self._shared.values()
        return super().first_value(item) if own else self.rule.first_value(item)

    def replace(self, **changes: Any) -> Self:
        """The same rule with some hyperparameters changed, its own or the wrapped rule's.

        ``like`` changes those of a dialect, in each of the two that has it.
        """
        changes = self._without_like(changes)
        mine = {*self._hypers, "mask", "groups"} & changes.keys()
        own = {name: changes.pop(name) for name in mine}
        own = {**self._values, **self.groups.arguments(), **own}
        return type(self)(self.rule.replace(**changes), **own)

    def _all_presets(self) -> dict[str, dict[str, Any]]:
        own, inside = self._presets(), self.rule._all_presets()
        return {n: {**inside.get(n, {}), **own.get(n, {})} for n in {**own, **inside}}

    def of(self, path: str, shape: Any) -> Rule:
        """The wrapper around the rule for one parameter."""
        inner = self.rule.of(path, shape)
        place = self.groups.place(path, tuple(shape))
        if inner is self.rule and place == (None, True):
            return self
        key = place, id(inner)
        if key not in self._variants:
            around = self._copy(self._values)._around(inner)
            self._variants[key] = self.groups.applied(around, place)
            object.__setattr__(self._variants[key], "_whole", self)
        return self._variants[key]

    @property
    def branches(self) -> tuple[Rule, ...]:
        """The wrapper around every rule that parameters may have."""
        inner = self.rule.branches
        if inner == (self.rule,):
            return (self,)
        return tuple(self._copy(self._values)._around(rule) for rule in inner)

    def branch(self, path: str, shape: Any) -> int:
        """Place among the branches of the wrapper that has a parameter."""
        return self.rule.branch(path, shape)

    def reasons(self, path: str, shape: Any) -> list[str]:
        """Why the rule inside is the one that it is, and then the wrapper's own."""
        return [*self.rule.reasons(path, shape), *super().reasons(path, shape)]

    def all_fields(self) -> dict[str, Hyper | Option]:
        """The fields of both."""
        return {**self.rule.all_fields(), **super().all_fields()}

    def numbers(self) -> Iterator[Any]:
        """The numbers of both."""
        yield from self.rule.numbers()
        yield from super().numbers()

    def map_numbers(self, function: Callable[[Any], Any]) -> Self:
        """A copy with ``function`` applied to every number of both."""
        return super().map_numbers(function)._around(self.rule.map_numbers(function))

    def _stripped(self) -> Self:
        return super()._stripped()._around(self.rule.bare)

    def _copy(self, values: dict[str, Any], groups: Groups | None = None) -> Self:
        return super()._copy(values, groups)._around(self.rule)

    def _around(self, rule: Rule) -> Self:
        object.__setattr__(self, "rule", rule)
        return self

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """The wrapper's ``s``, with the wrapped rule's as ``s.inner``."""
        own = {**self._numbers, **self.scalars(xp, t)}
        return {**own, "inner": self.rule.coefficients(xp, self.steps_inside(t - 1) + 1)}

    def prepare(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        """The gradient that the wrapped rule is given."""
        return grad

    def prepared(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        """The gradient as the rule inside sees it."""
        grad = self.prepare(xp, grad, param, state, s)
        return self.rule.prepared(xp, grad, param, state, s.inner)

    def directed(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The wrapped rule's direction."""
        return self.rule.directed(xp, grad, param, state, s.inner)

    def descended(self, param: Any, direction: Any, s: Any) -> Any:
        """The parameter after a step of the wrapped rule's."""
        return self.rule.descended(param, direction, s.inner)

    def step(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> tuple[Any, Any]:
        """The wrapped rule's step."""
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
            return self.combine(xp, sums, shared, s)
        return self.rule.summed(xp, sums, shared, s.inner, phase - self._own_phases)

    def _shown(self) -> list[str]:
        return [repr(self.rule), *super()._shown()]

    def __eq__(self, other: Any) -> bool:
        return super().__eq__(other) and self.rule == other.rule

    __hash__ = Rule.__hash__
