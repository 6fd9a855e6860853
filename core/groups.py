"""Groups of parameters with their own numbers, chosen by path, shape and number of dimensions.

    AdamW(weight_decay=0.1, mask=lambda p: p.ndim > 1)
    AdamW(groups=[(lambda p: p.path.startswith("embed"), {"lr": 1e-4})])

A predicate is the same in every framework: a path is the parameter's names joined by dots. A
learning-rate scheduler that changes the optimizer's ``lr`` does not change a group's own ``lr``;
give the group a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from .declaration import Hyper, plain

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["Groups", "Parameter", "Predicate", "holds", "refuse_apart"]


class Parameter(NamedTuple):
    """The argument of a predicate: the path and the shape of a parameter.

    Args:
        path: the names of the parameter joined by dots: ``"encoder.0.weight"``. In torch: the name
            given to the optimizer in ``named_parameters()``, else its index.
        shape: the shape of the parameter; ``ndim`` is the number of dimensions.
    """

    path: str
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


Predicate = Callable[[Parameter], bool]


def holds(what: object, predicate: Predicate, parameter: Parameter) -> bool:
    """Whether a predicate, called ``what`` in the message, holds for a parameter.

    Raises:
        TypeError: the predicate returned neither True nor False.
    """
    answer = predicate(parameter)
    if not isinstance(answer, (bool, numpy.bool_)):
        raise TypeError(
            f"{what} gave {answer!r} for parameter {parameter.path!r}; it must give True or False"
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


class Groups:
    """Numbers per parameter: the first group whose predicate holds; else the numbers of the rule.

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
                "ndim, such as lambda p: p.ndim > 1"
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
            n for n, field in fields.items() if isinstance(field, Hyper) and not field.whole
        )
        for place, (_, changes) in enumerate(self.groups):
            where = f"{rule.name}: group {place}"
            for name in changes:
                if not isinstance(fields.get(name), Hyper):
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

    def place(self, path: str, shape: tuple[int, ...]) -> tuple[int | None, bool]:
        """The group of a parameter, or ``None``, and whether weight decay applies to it."""
        if self.mask is None and not self.groups:
            return None, True
        parameter = Parameter(path, shape)
        matching = (
            place
            for place, (predicate, _) in enumerate(self.groups)
            if self.answer(f"the predicate of group {place}", predicate, parameter)
        )
        decays = self.mask is None or self.answer("mask", self.mask, parameter)
        return next(matching, None), decays

    def answer(self, what: str, predicate: Predicate, parameter: Parameter) -> bool:
        """Whether a predicate holds; an error inside it gets a note that names the parameter."""
        try:
            return holds(f"{self.rule}: {what}", predicate, parameter)
        except Exception as error:
            error.add_note(
                f"{self.rule}: {what} was asked about parameter {parameter.path!r} of shape "
                f"{parameter.shape}"
            )
            raise

    def applied(self, rule: Rule, place: tuple[int | None, bool]) -> Rule:
        """The rule with the numbers of a place, which ``place`` returned."""
        group, decays = place
        changes = {} if group is None else dict(self.groups[group][1])
        return self._changed(rule, changes if decays else changes | {"weight_decay": 0.0})

    @staticmethod
    def _changed(rule: Rule, changes: dict[str, Any]) -> Rule:
        return rule.replace(mask=None, groups=(), **changes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and self.arguments() == other.arguments()

    __hash__ = None  # type: ignore[assignment]
