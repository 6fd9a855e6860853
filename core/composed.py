"""The values of a rule and of the rules inside: none in a plain rule, one in a wrapper, or more.

The methods here are the same for rules, wrappers and routes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from operator import is_
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from . import dialects as presets
from . import pickling
from .arrays import is_array, parts
from .declaration import Hyper, Option, Shared, Slot, plain
from .groups import EVERYWHERE, Choice, Groups
from .kept import KEPT, Way, saying
from .made import Declared
from .spelling import absent

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["Composed"]


class Composed(Declared, root=True):
    """Immutable values of the declared fields, and the rules inside with their values."""

    _variants: dict[Any, Rule]
    version: ClassVar[int] = 1
    """Version of the state; it is raised when the meaning of a slot changes."""
    _scheduled: tuple[str, ...] = ()
    """For a rule at one step: the numbers that schedules, or arrays, gave."""
    _chosen: frozenset[str] | None = None
    """The fields that were given to the constructor or to ``replace``."""
    _carried: ClassVar[tuple[str, ...]] = ("_scheduled", "_chosen", "_withheld", "_begins")
    """Attributes that a copy with other values keeps."""
    withheld: ClassVar[str | None] = None
    """The shared array that counts the calls in which the rules inside take no step, if any."""
    _withheld: Any = 0
    """For a rule at one step: that number."""
    _begins: bool = False
    """For a rule at one step: whether slots begin that were switched off in steps before."""

    @property
    def name(self) -> str:
        """Name of the rule."""
        return type(self).__name__

    @property
    def _through(self) -> tuple[Rule, ...]:
        """The rules inside whose hyperparameters are read and replaced through this one."""
        return self.inside

    # Hyperparameters and options.

    @property
    def hypers(self) -> dict[str, Any]:
        """Every hyperparameter and option by name, including a wrapped rule's."""
        return {n: v for rule in self._through for n, v in rule.hypers.items()} | self._values

    def all_fields(self) -> dict[str, Hyper | Option]:
        """The declared fields, including a wrapped rule's."""
        return {n: f for rule in self._through for n, f in rule.all_fields().items()} | self._hypers

    def numbers(self) -> Iterator[Any]:
        """Every number; the numbers of a tuple are separate."""
        for rule in self.inside:
            yield from rule.numbers()
        for name, field in self._hypers.items():
            if isinstance(field, Hyper) and name in self._values:
                value = self._values[name]
                yield from value if isinstance(value, tuple) else (value,)

    def _presets(self) -> dict[str, dict[str, Any]]:
        """The values of every dialect, including a wrapped rule's."""
        own = presets.values(type(self))
        below = [item for rule in self._through for item in rule._presets().items()]
        return own | {name: {**values, **own.get(name, {})} for name, values in below}

    @property
    def dialect(self) -> str | None:
        """Name of the dialect with most values, all equal to the rule's; or ``None``."""
        alike = [name for name in self.dialects if self.speaks(name)]
        return max(alike, key=lambda name: len(self.dialects[name].shown), default=None)

    def speaks(self, dialect: str) -> bool:
        """Whether all values of a dialect are the rule's, and its quirks too."""
        item = self.dialects[dialect]
        values = all(self.hypers[field] == value for field, value in item.values.items())
        return values and item.quirk_names == self.quirks

    # Copies with other values.

    def replace(self, **changes: Any) -> Self:
        """The rule with some hyperparameters changed, its own or a wrapped rule's.

        Args:
            changes: arguments of the constructor. ``like`` gives the values of a dialect to all
                that was not given before, in each rule that has it; ``mask`` and ``groups`` are the
                outermost rule's.

        Raises:
            TypeError, ValueError: as in the constructor.
        """
        numbers = all(map(self._is_number, changes))
        like = changes.pop("like", None)
        if like is not None:
            presets.chosen(self.name, self._presets(), like)
        own = {*self._hypers, "mask", "groups"}
        below = {n: changes.pop(n) for n in [*changes] if self._through and n not in own}
        inside = tuple(rule._replaced(like, below) for rule in self.inside)
        kept = self._set_by_user
        given = changes if like is None else {**self._of_dialect(like, kept), **changes}
        quirks = given.pop("quirks", None)
        made = cast("Rule", object.__new__(self._with_quirks(None, quirks)))
        self._refuse_unknown(given)
        chooses: dict[str, Any] = {n: given.pop(n) for n in ("mask", "groups") if n in given}
        groups = Groups(self.name, **{**self.groups.arguments(), **chooses})
        values = {n: v for n, v in self._values.items() if n != "quirks"}
        for name, value in given.items():
            if value is not values[name] or self.has_arrays:  # which may be written into
                values[name] = self._hypers[name].validated(self.name, value)
        if not kept.issuperset(changes):
            kept |= changes.keys() & self._hypers.keys()
        vars(made)["_chosen"] = kept
        made._store(made._with_names(values), inside, groups if chooses else self.groups)
        made._refuse(changes)
        if numbers:
            vars(made)["_ways"] = self._ways
        return cast(Self, made)

    def _is_number(self, name: str) -> bool:
        """Whether a name is that of a hyperparameter, its own or a wrapped rule's."""
        field = self._hypers.get(name)
        return isinstance(field, Hyper) or (
            field is None and any(rule._is_number(name) for rule in self._through)
        )

    def _replaced(self, like: str | None, changes: dict[str, Any]) -> Any:
        """The rule inside another that is replaced; ``like`` is for one that has the dialect."""
        mine = {"like": like} if like is not None and like in self._presets() else {}
        return self.replace(**changes, **mine) if changes or mine else self

    @property
    def _set_by_user(self) -> frozenset[str]:
        """The fields that were given, and that a dialect leaves alone."""
        if self._chosen is not None:
            return self._chosen
        usual = {n: f.default for n, f in self._hypers.items()}  # of a pickle that did not say
        usual |= presets.values(self.published()).get(self.dialect or "", {})
        return frozenset(n for n in self._hypers if self._values[n] != usual[n])

    def _of_dialect(self, like: str, kept: frozenset[str]) -> dict[str, Any]:
        """The values of a dialect for the fields that were not given; empty if it is not ours."""
        preset = presets.values(type(self)).get(like)
        if preset is None:
            return {}
        usual = {name: field.default for name, field in self._hypers.items()}
        return {name: v for name, v in {**usual, **preset}.items() if name not in kept}

    def map_numbers(self, function: Callable[[Any], Any]) -> Self:
        """A copy with ``function`` applied to every number."""
        values = dict(self._values)
        for name, field in self._hypers.items():
            if isinstance(field, Hyper) and (value := values[name]) is not None:
                values[name] = (
                    tuple(map(function, value)) if isinstance(value, tuple) else function(value)
                )
        copy = self._copy(values, tuple(rule.map_numbers(function) for rule in self.inside))
        if self.has_arrays:  # which slots there are does not depend on their values
            arrays = (n for n, v in self._values.items() if any(map(is_array, parts(v))))
            vars(copy)["_scheduled"] = (*self._scheduled, *arrays)
        return copy

    @cached_property
    def constant(self) -> bool:
        """Whether no number is a schedule."""
        return not any(map(callable, self.numbers()))

    @cached_property
    def has_arrays(self) -> bool:
        """Whether some number is a 0-d array."""
        return any(map(is_array, self.numbers()))

    @cached_property
    def withholds(self) -> tuple[str, ...]:
        """The shared arrays that count withheld steps, of this rule and of the rules inside."""
        own = () if self.withheld is None else (self.withheld,)
        return own + tuple(name for rule in self.inside for name in rule.withholds)

    def withholding(self, counts: Mapping[str, Any]) -> Self:
        """A copy that has withheld so many steps, by the names in ``withholds``."""
        copy = self._copy(self._values, tuple(rule.withholding(counts) for rule in self.inside))
        vars(copy)["_withheld"] = 0 if self.withheld is None else counts[self.withheld]
        return copy

    def beginning(self) -> Self:
        """A copy for a step in which slots begin that were switched off in steps before."""
        copy = self._copy(self._values, tuple(rule.beginning() for rule in self.inside))
        vars(copy)["_begins"] = True
        return copy

    @cached_property
    def bare(self) -> Self:
        """A copy with options only, which a kernel may read and for which it is compiled."""
        options = {n: self._values[n] for n, f in self._hypers.items() if isinstance(f, Option)}
        inside = tuple(rule.bare for rule in self.inside)
        return self._copy(options, inside, Groups(self.name))

    def _copy(
        self,
        values: dict[str, Any],
        inside: tuple[Rule, ...] | None = None,
        groups: Groups | None = None,
    ) -> Self:
        """A copy with other values, and perhaps rules and groups, which are not validated again."""
        copy = object.__new__(type(self))
        vars(copy).update({name: getattr(self, name) for name in self._carried})
        copy._store(
            values,
            self.inside if inside is None else inside,
            self.groups if groups is None else groups,
        )
        return copy

    def _store(self, values: dict[str, Any], inside: tuple[Rule, ...], groups: Groups) -> None:
        vars(self).update(values)  # read before ``Field.__get__``, which explains what is missing
        vars(self).update(_values=values, inside=inside, groups=groups, _variants={})

    # The rule of a parameter, and its state.

    def of(self, path: str, shape: Any) -> Rule:
        """The rule for one parameter: with its group's numbers, and decay only where it applies."""
        inside = tuple(rule.of(path, shape) for rule in self.inside)
        place = self.groups.place(path, tuple(shape))
        if place == EVERYWHERE and all(map(is_, inside, self.inside)):
            return cast("Rule", self)
        key = place, tuple(map(id, inside))
        if key not in self._variants:
            around = cast("Rule", self._copy(self._values, inside))
            own = self.groups.applied(around, place)
            vars(own)["_whole"] = self
            self._variants[key] = own
        return self._variants[key]

    @property
    def whole(self) -> Rule:
        """The rule of all parameters; this rule may be the rule of one group."""
        rule: Rule = vars(self).get("_whole", self)
        return rule

    def reasons(self, path: str, shape: Any) -> list[str]:
        """The reasons for a parameter's rule and numbers, in a few words each."""
        decays, *places = self.groups.place(path, tuple(shape))
        groups = [f"group {place}" for place in sorted({p for p in places if p is not None})]
        below = [reason for rule in self.inside for reason in rule.reasons(path, shape)]
        return [*below, *groups, *([] if decays else ["not in mask"])]

    def choices(self, path: str, shape: Any) -> tuple[list[Choice], tuple[Rule, ...]]:
        """The rule's predicates, and whether each chooses a parameter; and the rules inside."""
        return self.groups.choices(path, tuple(shape)), self.inside

    def slots(self) -> Mapping[str, Slot]:
        """The state arrays that this instance keeps for a parameter."""
        return self._switched_on

    @cached_property
    def _switched_on(self) -> Mapping[str, Slot]:
        own = {n: s for n, s in self._slots.items() if s.only_if is None or self._on(s.only_if)}
        below = {n: slot for rule in self.inside for n, slot in rule.slots().items()}
        return MappingProxyType(below | own)

    @cached_property
    def _ways(self) -> dict[Any, Way | None]:
        """How parameters are kept, by path and shape; a copy with other numbers shares it."""
        return {}

    @cached_property
    def _known(self) -> dict[Any, Any]:
        """Slots' shapes by a parameter's shape, how it is kept by its number of axes, and more."""
        return {}

    @cached_property
    def fixed_slots(self) -> frozenset[str]:
        """The slots that no step changes, including slots that hyperparameters switch off."""
        return frozenset(n for n, item in self.declared_slots().items() if item.fixed)

    def declared_slots(self) -> dict[str, Slot]:
        """All slots, including slots that hyperparameters switch off."""
        below = (item for rule in self.inside for item in rule.declared_slots().items())
        return dict(below) | self._slots

    def _on(self, name: str) -> bool:
        """Whether a field is switched on, or may be at some step."""
        value = getattr(self, name)
        return name in self._scheduled or is_array(value) or callable(value) or bool(value)

    def owner(self, slot: str) -> Rule:
        """The rule that declares a slot: this one, or one inside."""
        below = (rule.owner(slot) for rule in self.inside if slot in rule.declared_slots())
        return next(below, cast("Rule", self))

    def storage(self, slot: str) -> str | None:
        """Name of a slot's dtype; ``None`` is the parameter's.

        An option ``<slot>_dtype`` of the rule that declares the slot goes before ``state_dtype``.
        """
        owner = self.owner(slot)
        if owner is not self:
            return owner.storage(slot)
        own = _dtype_of(slot, self._values.get(f"{slot}_dtype"))
        return _dtype_of(slot, self.hypers["state_dtype"]) if own is None else own

    def shared(self) -> dict[str, Shared]:
        """The 0-d state arrays kept once for all parameters."""
        return {n: item for rule in self.inside for n, item in rule.shared().items()} | self._shared

    def first_value(self, item: Shared) -> Any:
        """First value of a shared state array of this rule or of a rule inside."""
        for rule in self.inside:
            if item in rule.shared().values():
                return rule.first_value(item)
        return self._values[item.start] if isinstance(item.start, str) else item.start

    # Comparison, display and pickling.

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.name} is immutable; use rule.replace({name}={value!r})")

    if not TYPE_CHECKING:  # so that a type checker reports a name that a rule does not have

        def __getattr__(self, name: str) -> Any:
            """A hyperparameter of a wrapped rule, from ``hypers``; nothing else is forwarded."""
            for rule in () if name.startswith("_") else self._through:
                if name in rule.all_fields():
                    return getattr(rule, name)
            own = inspect.getattr_static(type(self), name, None)
            if isinstance(own, (property, cached_property)):
                return own.__get__(self, type(self))  # its own error says more
            raise AttributeError(absent(cast("Rule", self), name))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(self._shown(repr))})"

    @property
    def full_repr(self) -> str:
        """The rule as source code, with every number, also those that are the defaults."""
        return f"{self.name}({', '.join(self._shown(lambda rule: rule.full_repr, True))})"

    def _shown(self, show: Callable[[Rule], str], numbers: bool = False) -> list[str]:
        """The arguments as source code, without options, and perhaps numbers, that are usual."""
        kinds = Option if numbers else (Hyper, Option)
        usual = {n: f.default for n, f in self._hypers.items() if isinstance(f, kinds)}
        shown = {n: v for n, v in self._values.items() if v is not usual.get(n)}
        shown = {n: v for n, v in shown.items() if n not in usual or v != usual[n]}
        shown |= {n: v for n, v in self.groups.arguments().items() if v}
        once = {name: None for name in KEPT if self._values.get(name) is not None}
        inside = (saying(rule, once) if once else rule for rule in self.inside)  # as it is seen
        return [*map(show, inside), *(f"{name}={value!r}" for name, value in shown.items())]

    def __eq__(self, other: Any) -> bool:
        return self is other or (
            type(self) is type(other)
            and self._plain() == other._plain()
            and self.groups == other.groups
        )

    def __getstate__(self) -> dict[str, Any]:
        return pickling.kept(cast("Rule", self))

    def __reduce__(self) -> Any:
        return _restored, (self.published(), type(self).quirks), self.__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        pickling.restore(cast("Rule", self), state)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), self._plain()))

    def _plain(self) -> tuple[Any, ...]:
        """The values by which rules are compared and hashed; groups are left out."""
        return self.inside, *((name, plain(value)) for name, value in sorted(self._values.items()))


def _restored(published: Any, names: tuple[str, ...]) -> Any:
    return object.__new__(published._with_quirks(None, names) if names else published)


def _dtype_of(slot: str, dtype: Any) -> str | None:
    return dict(dtype).get(slot) if isinstance(dtype, tuple) else dtype
