"""A library's optimizer in our terms: its rule, its numbers and where it keeps slots.

One correspondence serves both directions, and the tests that compare a dialect with its library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from samestep.arrays import listed
from samestep.declaration import Hyper
from samestep.notice import warn
from samestep.precisions import PRECISION_KINDS
from samestep.rule import Rule, registry

from .description import common_numbers, numbers, numbers_of, schedules_in
from .faithful import refuse_lost
from .state import Checkpoint, CheckpointError, ParameterState, Wanted
from .state import matched as fitting
from .trees import by_path

__all__ = [
    "About",
    "Field",
    "Kept",
    "Native",
    "called",
    "counterpart",
    "entries",
    "matched",
    "natives",
    "placed",
]


class About(NamedTuple):
    """Facts about a parameter and its optimizer that a conversion may read."""

    numbers: Mapping[str, Any]
    """Their hyperparameters by their names."""
    dtype: str = "float32"
    """The dtype of the parameter."""
    step: int = 0
    shape: tuple[int, ...] = ()
    """The shape of the parameter."""


@dataclass(frozen=True)
class Field:
    """A hyperparameter of ours that is more than one of theirs under another name."""

    ours: Callable[[About], Any]
    theirs: Callable[[Any, About], dict[str, Any]]


@dataclass(frozen=True)
class Kept:
    """A slot of ours that is more than an array of theirs; ``None`` if they have no array."""

    ours: Callable[[Mapping[str, Any], About], Any]
    theirs: Callable[[Any, About], dict[str, Any]]
    names: tuple[str, ...] = ()
    """The arrays of theirs."""


@dataclass(frozen=True)
class Native:
    """An optimizer of a library, and the rule that computes the same."""

    rule: str
    fields: Mapping[str, str | Field]
    """Our fields: the name in the library, or the conversion."""
    slots: Mapping[str, str | Kept]
    """Our slots, in the same way."""
    like: str | None = None
    """The dialect whose values the other fields have."""
    also: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Rules whose states the optimizer takes too, and the values with which ``rule`` is each."""
    only: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Arguments that must have a certain value, or no value, and the reason."""
    counts: bool = True
    """Whether the optimizer counts its steps."""
    eager: bool = False
    """Whether the state exists before the first step."""
    fixed: tuple[str, ...] = ()
    """Our numbers that are no part of the optimizer's state, so that no checkpoint gives them."""
    apart: tuple[Callable[[About], bool], Native] | None = None
    """Which parameters the optimizer steps by another rule, and the correspondence of these."""

    def of(self, about: About) -> Native:
        """The correspondence of a parameter."""
        return self.apart[1] if self.apart is not None and self.apart[0](about) else self

    @property
    def each(self) -> tuple[Native, ...]:
        """The correspondences of all its parameters."""
        return (self,) if self.apart is None else (self, self.apart[1])

    def rule_of(self, who: str, about: About) -> Rule:
        """The rule with their numbers.

        Raises:
            CheckpointError: they have an option that no rule here has.
        """
        for name, (value, why) in self.only.items():
            given = about.numbers.get(name)
            if given is not None and given != value:
                raise CheckpointError(f"{who}({name}={given!r}): {why}")
        cls = registry[self.rule]
        try:
            return cls(like=self.like, **self.values(about))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{who} computes what no rule here does: {error}") from None

    def values(self, about: About) -> dict[str, Any]:
        """Their hyperparameters under our names; missing hyperparameters are left out."""
        found = {}
        for name, given in self.fields.items():
            try:
                found[name] = about.numbers[given] if isinstance(given, str) else given.ours(about)
            except KeyError:
                continue  # of a version that had it not yet
        return found

    def arguments(self, values: Mapping[str, Any], about: About) -> dict[str, Any]:
        """Our hyperparameters under their names."""
        found: dict[str, Any] = {}
        for name, value in values.items():
            given = self.fields.get(name)
            if given is not None:
                converted = {given: value} if isinstance(given, str) else given.theirs(value, about)
                found |= converted
        return found

    def slot(self, name: str, state: Mapping[str, Any], about: About) -> Any:
        """A slot from their state; ``None`` if it is missing."""
        given = self.slots[name]
        return state.get(given) if isinstance(given, str) else given.ours(state, about)

    def taken(self, rule: Rule, state: Mapping[str, Any], about: About) -> dict[str, Any] | None:
        """The slots of the rule from their state; ``None`` if there is no state yet.

        Raises:
            CheckpointError: some slots are missing.
        """
        found = {name: self.slot(name, state, about) for name in rule.slots()}
        missing = [name for name, value in found.items() if value is None]
        if len(missing) == len(found) and not about.step:
            return None
        if missing:
            names = [self.slots[name] for name in missing]
            raise CheckpointError(
                f"there is no {listed([n for n in names if isinstance(n, str)] or missing)}, only "
                f"{listed(state)}"
            )
        return found

    def refuse_others(self, who: str, path: str, state: Mapping[str, Any]) -> None:
        """Raise for arrays of a state that the optimizer does not keep, and which would be lost."""
        own = _arrays(self)
        others = [name for name, value in state.items() if value is not None and name not in own]
        if others:
            raise CheckpointError(
                f"the state of {path!r} has {listed(others)}, which {who} does not keep (it keeps "
                f"{listed(own)}); give the class that the state is of"
            )

    def given(self, slots: Mapping[str, Any], about: About) -> dict[str, Any]:
        """Our slots as their state."""
        found: dict[str, Any] = {}
        for name, value in slots.items():
            given = self.slots[name]
            found |= {given: value} if isinstance(given, str) else given.theirs(value, about)
        return found

    def renamed(self, own: ParameterState) -> ParameterState:
        """A state under the name of this rule, without dtypes of state: the slots have them.

        The library has its own dtypes of the arithmetic.
        """
        name, values = own.rule["name"], own.rule["values"]
        if name in self.also:
            name, values = self.rule, {**values, **self.also[name]}
        fields = registry[self.rule].fields().items()
        rounding = {n: kind.default for n, kind in fields if isinstance(kind, PRECISION_KINDS)}
        values = {name: rounding.get(name, value) for name, value in values.items()}
        return replace(own, rule={**own.rule, "name": name, "values": values})

    def refuse_other_numbers(self, who: str, path: str, rule: Rule, own: ParameterState) -> None:
        """Raise for a number of a state that the optimizer does not have."""
        here = numbers_of(rule)
        for name, there in numbers(rule, own.rule).items():
            given = name in self.fields and name not in self.fixed
            if not given and there != here[name]:
                takes = (
                    "is made with" if name in self.fixed else f"has no {name}, and computes as with"
                )
                raise CheckpointError(
                    f"the checkpoint's state of {path!r} has {name} = {there!r}; {who} {takes} "
                    f"{here[name]!r}"
                )

    def taken_over(
        self,
        who: str,
        rules: Iterable[Rule],
        states: Iterable[ParameterState],
        about: About,
        scheduled: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The arguments that a checkpoint gives to parameters that share their arguments.

        An argument stays, with a warning, if the parameters have several values of it. Another
        warning says which argument was a schedule, unless it is ``scheduled`` here too.
        """
        own = [*rules]
        fields = registry[self.rule].fields()
        pairs = [*zip(own, (state.rule for state in states), strict=True)]
        common = {}
        for name, several in (common_numbers(own[0], pairs) if own else {}).items():
            number = name in self.fields and name not in self.fixed
            if not (number and isinstance(fields[name], Hyper)):
                continue
            if len(several) > 1:
                warn(
                    f"{who} keeps its own {name}; in the checkpoint its parameters have "
                    f"{listed(map(repr, several))}"
                )
            else:
                common[name] = several.pop()
        found = {n: words for pair in pairs for n, words in schedules_in(*pair).items()}
        for name in common.keys() & found.keys() - {*scheduled}:
            warn(
                f"{who} takes {name} as a number, {common[name]!r}; in the checkpoint it is "
                f"{found[name]}, a schedule"
            )
        return self.arguments(common, about)


def matched(
    who: str,
    natives: Mapping[str, Native],
    saved: Checkpoint,
    wanted: Mapping[str, Wanted],
) -> dict[str, ParameterState]:
    """The states of an optimizer's parameters, in order, if it computes the same for each.

    Args:
        who: the optimizer, for messages.
        natives: the correspondence of each parameter.
        saved: the checkpoint.
        wanted: the parameters.

    Raises:
        CheckpointError: the optimizer computes something else, or has other parameters.
    """
    own = saved.parameters
    known = {path: natives[path].renamed(own[path]) for path in own.keys() & natives.keys()}
    found = fitting(replace(saved, parameters={**own, **known}), wanted, ())
    for path, one in found.items():
        natives[path].refuse_other_numbers(who, path, wanted[path].rule, one)
    return found


def called(optimizer: Any, public: Mapping[str, str]) -> str:
    """The name of an optimizer, as people write it.

    Args:
        optimizer: the optimizer.
        public: the module that people import an optimizer from, by its package.
    """
    cls = type(optimizer)
    package = cls.__module__.partition(".")[0]
    return f"{public.get(package, cls.__module__)}.{cls.__qualname__}"


def entries(table: Mapping[str, Native]) -> list[str]:
    """The names of all arrays in a library's states."""
    every = (own for native in table.values() for own in native.each)
    return [*dict.fromkeys(name for native in every for name in _arrays(native))]


def _arrays(native: Native) -> list[str]:
    kept = ((own,) if isinstance(own, str) else own.names for own in native.slots.values())
    return [*dict.fromkeys(name for names in kept for name in names)]


def natives(table: Mapping[str, Native], refused: Mapping[str, str], who: str, name: str) -> Native:
    """The correspondence of a class by its name.

    Raises:
        CheckpointError: there is none; the message has the reason.
    """
    if name in table:
        return table[name]
    why = refused.get(name, "there is no rule here of which it is known to compute the same")
    raise CheckpointError(f"the state of {who} cannot be carried: {why}")


def counterpart(
    classes: Any,
    table: Mapping[str, Native],
    rule: str,
    values: Mapping[str, Any],
    dtype: str = "float32",
) -> partial[Any]:
    """The class of a library that computes what a rule computes, with the rule's numbers.

    Args:
        classes: the library's module of optimizers.
        table: the correspondence, by class.
        rule: the rule's name.
        values: the rule's hyperparameters.
        dtype: dtype of the parameters.

    Raises:
        LookupError: the library has no such class.
        CheckpointError: it does not take all numbers.
    """
    names = [name for name, native in table.items() if rule in (native.rule, *native.also)]
    names.sort(key=lambda name: table[name].rule != rule)
    if not names:
        raise LookupError(f"{classes.__name__} has no optimizer that computes {rule}")
    native, who = table[names[0]], f"{classes.__name__}.{names[0]}"
    values = {**values, **native.also.get(rule, {})}
    given = native.arguments(values, About({}, dtype))
    kind, same = registry[native.rule], About(given, dtype)
    refuse_lost(who, kind(like=native.like, **values), native.rule_of(who, same), native.fields)
    return partial(getattr(classes, names[0]), **given)


def placed(paths: Iterable[str]) -> list[str]:
    """Names of parameters; raises if two are equal."""
    return [*by_path((path, None) for path in paths)]
