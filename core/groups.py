"""Groups of parameters with their own numbers, chosen by path, shape and number of dimensions.

    AdamW(weight_decay=0.1, mask=lambda p: p.ndim > 1)
    AdamW(groups=[(lambda p: p.path.startswith("embed"), {"lr": 1e-4})])
    Muon(groups=[(Where(path="layers.*"), {"batch_axes": 0})])

A predicate is the same in every framework: a path is the parameter's names joined by dots. A
learning-rate scheduler that changes the optimizer's ``lr`` does not change a group's own ``lr``;
give the group a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from .declaration import Hyper, plain
from .kept import KEPT, Keeping
from .names import Place

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "Choice",
    "Chosen",
    "Groups",
    "NamelessError",
    "Parameter",
    "Predicate",
    "called",
    "holds",
    "parameter",
    "refuse_apart",
]


class Parameter(NamedTuple):
    """The argument of a predicate: the path and the shape of a parameter.

    Args:
        path: the names of the parameter joined by dots: ``"encoder.0.weight"``. In torch: the name
            given to the optimizer in ``named_parameters()``, without what ``torch.compile``, DDP
            and other wrappers add. To ask for the path of a parameter without a name is an error.
        shape: the shape of the parameter; ``ndim`` is the number of dimensions.
    """

    path: str
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


class _Nameless(Parameter):
    """A parameter without a name; it has a shape only."""

    @property
    def path(self) -> str:
        """Always raises.

        Raises:
            NamelessError: the parameter has no name.
        """
        name = called(self)
        where = f"parameter {name}" if name else "the parameter"
        raise NamelessError(
            f"{where} has no name, and a predicate asks for its path; give names: to an optimizer "
            "of torch model.named_parameters() in place of model.parameters(), elsewhere a tree "
            "such as {'weight': array} in place of an array or a list"
        )

    def __getitem__(self, place: Any) -> Any:
        return self.shape if place == 1 else self.path

    def __iter__(self) -> Any:
        return iter([self.path, self.shape])


class NamelessError(ValueError):
    """A predicate asked for the path of a parameter without a name."""


def parameter(path: str, shape: Any) -> Parameter:
    """The argument of a predicate; a place, or an empty path, is no name."""
    named = path and not isinstance(path, Place)
    return (Parameter if named else _Nameless)(path, tuple(shape))


def called(parameter: Parameter) -> str:
    """The path of a parameter; its place, or nothing, where it has no name."""
    return str(tuple.__getitem__(parameter, 0))


Predicate = Callable[[Parameter], bool]
EXAMPLE = "lambda p: p.ndim > 1"
GIVEN = f"A predicate is given one parameter, with path, shape and ndim, such as {EXAMPLE}"


class Choice(NamedTuple):
    """A predicate, what it is called in messages, and whether it chooses a parameter."""

    what: str
    predicate: Predicate
    chosen: bool


def holds(what: object, predicate: Predicate, parameter: Parameter) -> bool:
    """Whether a predicate, called ``what`` in the message, holds for a parameter.

    Raises:
        TypeError: the predicate returned neither True nor False.
    """
    return _decided(what, predicate(parameter), parameter)


def _decided(what: object, answer: Any, parameter: Parameter) -> bool:
    if not isinstance(answer, (bool, numpy.bool_)):
        raise TypeError(
            f"{what} gave {answer!r} for parameter {called(parameter)!r}; it must give True or "
            f"False. {GIVEN}"
        )
    return bool(answer)


def refuse_apart(rules: Iterable[Rule]) -> None:
    """Raise if the rules of groups, in order, differ in a number that all parameters share."""
    found: dict[str, tuple[str, Any]] = {}
    for place, rule in enumerate(rules):
        _refuse_apart(rule, f"group {place}", found)


def _refuse_apart(rule: Rule, who: str, found: dict[str, tuple[str, Any]]) -> None:
    """Compare a rule's shared numbers with ``found``: name, and who has which value."""
    for name, field in rule.all_fields().items():
        if not (isinstance(field, Hyper) and field.whole):
            continue
        value = rule.hypers[name]
        other, before = found.setdefault(name, (who, value))
        if plain(before) != plain(value):
            raise ValueError(
                f"{rule.name}: {who} has {name}={value!r}, {other} {before!r}; it must be the same "
                f"for all groups, as it changes state that all parameters share ({field.meaning})"
            )


class Chosen(NamedTuple):
    """Whether a parameter decays, and the places of the groups that its values are from."""

    decays: bool = True
    numbers: int | None = None
    layout: int | None = None
    batch_axes: int | None = None


EVERYWHERE = Chosen()


class Groups:
    """Numbers per parameter: the first group whose predicate holds; else the numbers of the rule.

    A group may also say how its parameters are kept. ``layout`` is that of the first group that has
    it and whose predicate holds, and so is ``batch_axes``.

    Args:
        rule: name of the rule, for messages.
        mask: predicate of the parameters to which weight decay applies; all of them if absent.
        groups: pairs of a predicate and the hyperparameters that differ there.
    """

    def __init__(
        self,
        rule: str,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None:
        if not (mask is None or callable(mask)):
            raise TypeError(
                f"{rule}(mask={mask!r}): mask must be a predicate of a parameter's path, shape and "
                f"ndim, not a tree. {GIVEN}"
            )
        if not isinstance(groups, Sequence):
            raise TypeError(
                f"{rule}(groups={groups!r}): groups must be a list of pairs of a predicate and a "
                "dict of hyperparameters"
            )
        for pair in groups:
            fits = isinstance(pair, tuple) and len(pair) == 2 and callable(pair[0])
            if not fits or not isinstance(pair[1], Mapping):
                raise TypeError(
                    f"{rule}(groups=...): {pair!r} must be a pair of a predicate and a dict of "
                    'hyperparameters, such as (lambda p: p.ndim < 2, {"weight_decay": 0.0})'
                )
        self.rule = rule
        self.mask = mask
        self.groups = tuple(groups)

    def arguments(self) -> dict[str, Any]:
        """The arguments ``mask`` and ``groups`` of a rule's constructor."""
        return {"mask": self.mask, "groups": self.groups}

    def check(self, rule: Rule) -> None:
        """Raise if a group changes a value that all parameters of a rule share."""
        if not self.groups:
            return
        fields = rule.all_fields()
        numbers = ", ".join(
            n
            for n, field in fields.items()
            if isinstance(field, Keeping) or (isinstance(field, Hyper) and not field.whole)
        )
        for place, (_, changes) in enumerate(self.groups):
            where = f"{rule.name}: group {place}"
            for name in changes:
                if not isinstance(fields.get(name), (Hyper, Keeping)):
                    raise ValueError(f"{where} changes {name}; a group may change {numbers}")
            try:
                changed = self._changed(rule, dict(changes))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            found: dict[str, tuple[str, Any]] = {}
            _refuse_apart(rule, "the rule", found)
            _refuse_apart(changed, f"group {place}", found)
            if changed.slots().keys() != rule.slots().keys():
                raise ValueError(
                    f"{where} changes {', '.join(changes)} so that other slots are needed; all "
                    "parameters of a rule have the same"
                )

    def place(self, path: str, shape: tuple[int, ...]) -> Chosen:
        """The groups of a parameter, and whether weight decay applies to it."""
        if self.mask is None and not self.groups:
            return EVERYWHERE
        seen = parameter(path, shape)
        found: dict[str, int] = {}
        for place, (predicate, changes) in enumerate(self.groups):
            new = {"numbers", *changes} if changes.keys() - {*KEPT} or not changes else {*changes}
            new = (new & {"numbers", *KEPT}) - found.keys()
            if new and self.answer(f"the predicate of group {place}", predicate, seen):
                found |= dict.fromkeys(new, place)
        decays = self.mask is None or self.answer("mask", self.mask, seen)
        return Chosen(decays, **found)

    def choices(self, path: str, shape: tuple[int, ...]) -> list[Choice]:
        """Every predicate, and whether it chooses a parameter."""
        decays, *places = self.place(path, shape)
        groups = enumerate(predicate for predicate, _ in self.groups)
        found = [Choice(f"the predicate of group {i}", each, i in places) for i, each in groups]
        return found if self.mask is None else [*found, Choice("mask", self.mask, decays)]

    def answer(self, what: str, predicate: Predicate, parameter: Parameter) -> bool:
        """Whether a predicate holds; an error inside it says which, and for which parameter.

        Raises:
            TypeError: the predicate asked for what a parameter does not have.
            NamelessError: it asked for a name, and there is none.
        """
        try:
            answer = predicate(parameter)
        except NamelessError as error:
            raise NamelessError(f"{self.rule}: {what}: {error}") from None
        except Exception as error:
            asked = f"{self.rule}: {what} was asked about parameter {called(parameter)!r} of shape "
            asked += str(parameter.shape)
            if isinstance(error, (AttributeError, TypeError)):
                raise TypeError(f"{asked}, and failed: {error}. {GIVEN}") from error
            error.add_note(asked)
            raise
        return _decided(f"{self.rule}: {what}", answer, parameter)

    def applied(self, rule: Rule, place: Chosen) -> Rule:
        """The rule with the values of a place, which ``place`` returned."""
        changes: dict[str, Any] = {}
        if place.numbers is not None:
            numbers = self.groups[place.numbers][1].items()
            changes = {name: value for name, value in numbers if name not in KEPT}
        for name in KEPT:
            if (group := getattr(place, name)) is not None:
                changes[name] = self.groups[group][1][name]
        return self._changed(rule, changes if place.decays else changes | {"weight_decay": 0.0})

    @staticmethod
    def _changed(rule: Rule, changes: dict[str, Any]) -> Rule:
        return rule.replace(mask=None, groups=(), **changes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and self.arguments() == other.arguments()

    __hash__ = None  # type: ignore[assignment]
