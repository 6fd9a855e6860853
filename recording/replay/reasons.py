"""Explanations of a run that departs from its rule: single changes of the rule, tried on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samestep.declaration import Storage
from samestep.parity.variants.variant import DEVIATION, Change, Variant, changes
from samestep.parity.variants.words import said
from samestep.recording.reading import Step
from samestep.rule import Rule
from samestep.wrapper import Wrapper

from .judging import Bound, Judge
from .rules import Rules
from .stepper import Machine, values_of
from .trials import Pair

__all__ = ["instead"]

LEAST, MOST = 8, 40
"""Steps that a change must reproduce: fewer would be a guess, and more add nothing."""

ELEMENTS = 100_000
"""Parameters with more elements in all are left out of the search, the largest first."""


def instead(steps: Sequence[Step], rules: Rules, bound: Bound, each: bool) -> list[str]:
    """Every single change of the rule, in words, with which a run agrees from its first step on.

    The result is empty for a run of several rules, of a wrapper, or of too few steps.
    """
    own = [*rules.of(steps[0]).values()]
    kinds = {rule.published() for rule in own}
    if len(kinds) != 1 or isinstance(own[0], Wrapper) or len(steps) < LEAST:
        return []
    [cls] = kinds
    sizes = {n: t.values().size for n, t in steps[0].before.items() if n in steps[0].grads}
    chosen: set[str] = set()
    total = 0
    for name in sorted(sizes, key=lambda name: sizes[name]):
        total += sizes[name]
        if total <= ELEMENTS or not chosen or any(rule.phases for rule in own):
            chosen.add(name)
    return [
        said(_variant(own[0], change), change)
        for change in _changes(cls, own[0])
        if all(_fits(change, steps[:count], rules, bound, each, chosen) for count in (3, MOST))
    ]


def _changes(cls: type[Rule], rule: Rule) -> list[Change]:
    fields, values = cls.fields(), rule.hypers
    given = {n: v for n, v in values.items() if n in fields and v != fields[n].default}
    back = [
        Change(name, fields[name].default)
        for name in given
        if not isinstance(fields[name], Storage) and name not in ("lr", "weight_decay")
    ]
    return [c for c in (*changes(cls, given), *back) if values.get(c.field, ...) != c.value]


def _variant(rule: Rule, change: Change) -> Variant:
    numbers = {name: value for name, value in rule.hypers.items() if name != "quirks"}
    kept = (Change(name, DEVIATION) for name in rule.quirks)
    made = Variant(rule.published(), tuple(sorted(numbers.items()))).with_changes(*kept)
    return made.with_changes(change)


def _fits(
    change: Change, steps: Sequence[Step], rules: Rules, bound: Bound, each: bool, chosen: set[str]
) -> bool:
    """Whether a run agrees with the changed rule."""
    dtypes = {name: tensor.dtype for name, tensor in steps[0].before.items()}
    pair = Pair(*(Machine(wide, dtypes, each) for wide in (True, False)))
    judge, made = Judge(bound, dtypes), {}
    for place, step in enumerate(steps):
        own: dict[str, Any] = {}
        for name, rule in rules.of(step).items():
            if name in chosen:
                if id(rule) not in made:
                    variant = _variant(rule, change)
                    made[id(rule)] = None if variant.late else variant.made()
                own[name] = made[id(rule)]
        if None in own.values():
            return False
        before, after, grads = (
            values_of({name: part[name] for name in chosen if name in part})
            for part in (step.before, step.after, step.grads)
        )
        try:
            if place == 0:
                for machine in pair:
                    machine.fresh(own, before)
            computed = pair.step(own, grads, before)
        except (ArithmeticError, AttributeError, TypeError, ValueError):
            return False
        if not _within(judge, own, before, after, computed):
            return False
    return True


def _within(
    judge: Judge, own: Mapping[str, Rule], before: Any, after: Any, computed: list[Any]
) -> bool:
    return all(
        judge.judged(
            name, own[name], before[name], after[name], *(c[name] for c in computed)
        ).within
        for name in before
    )
