"""By how much the dialects of a rule differ from its default, computed on the spot.

Every dialect and the rule without ``like`` take ten steps in float64 on the same recorded
gradients, in two settings:

    own      nothing is set: each has its own defaults, as somebody gets who sets nothing
    alike    lr and weight decay are set to the same numbers, which is what people set, so that the
             algorithm alone differs; decay is on, since the way it enters is part of that

In both, all else stays what the dialect says: eps, where it enters and thresholds go with the
library, and hardly anybody sets them. What shows only with a feature that is off by default, such
as momentum, does not show here; the values do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy

from samestep.parity import oracle, record
from samestep.parity.trajectory import suited
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

__all__ = ["DEFAULT", "STEPS", "Distance", "Row", "alike", "changed", "differences", "wrapped"]

DEFAULT = "default"
"""Name of the first row."""

STEPS = 10

ROUNDING = 1e-14
"""A bound on ten roundings of a parameter and of its change, relative to both."""


@dataclass(frozen=True)
class Distance:
    """The displacement of a dialect, compared with the displacement of the default."""

    length: float
    """Length of its displacement over that of the default's."""
    largest: float
    """The largest difference of an element, relative to the largest element of the default's."""
    same: bool
    """Whether they are equal but for rounding."""


@dataclass(frozen=True)
class Row:
    """A dialect, or the default, and its distances after the first step and after ``STEPS``."""

    name: str
    values: dict[str, Any]
    """The values of a dialect that differ from the default's; for the default, the values in which
    any dialect differs."""
    own: tuple[Distance, Distance]
    alike: tuple[Distance, Distance]


def changed(rule: type[Rule], dialect: str) -> dict[str, Any]:
    """The values of a dialect that differ from the rule's defaults."""
    fields = rule.fields()
    values = rule.dialects[dialect].shown
    return {n: v for n, v in values.items() if n not in fields or v != fields[n].default}


def alike(rule: type[Rule]) -> dict[str, float]:
    """The numbers that all dialects are given, so that the algorithms alone differ."""
    fields = (wrapped() if issubclass(rule, Wrapper) else rule()).all_fields()
    decay = fields["weight_decay"]
    return {"lr": fields["lr"].default, "weight_decay": getattr(decay, "typical", decay.default)}


def wrapped() -> Rule:
    """The rule inside every wrapper that is compared."""
    return registry["SGD"](momentum=0.9)


def differences(rule: type[Rule]) -> list[Row]:
    """The default and then every dialect of a rule, in the order in which they are declared."""
    names = [DEFAULT, *rule.dialects]
    fields = rule.fields()
    by_name = {name: changed(rule, name) for name in rule.dialects}
    by_name[DEFAULT] = {
        name: fields[name].default
        for name in fields
        if any(name in values for values in by_name.values())
    }
    own, equal = _compared(rule, names, {}), _compared(rule, names, alike(rule))
    return [
        Row(name, by_name[name], *distances)
        for name, *distances in zip(names, own, equal, strict=True)
    ]


def _compared(
    rule: type[Rule], names: list[str], numbers: dict[str, float]
) -> Iterator[tuple[Distance, Distance]]:
    start, *default = _walk(_made(rule, None, numbers))
    for name in names:
        _, *walked = _walk(_made(rule, None if name == DEFAULT else name, numbers))
        first, last = (
            _distance(here - start, there - start, start)
            for here, there in zip(walked, default, strict=True)
        )
        yield first, last


def _made(rule: type[Rule], like: str | None, numbers: dict[str, float]) -> Rule:
    if issubclass(rule, Wrapper):
        return rule(wrapped().replace(**numbers), like=like)
    return rule(like=like, **numbers)


def _walk(rule: Rule) -> list[numpy.ndarray]:
    """All parameters in one array: at the start, after one step and after ``STEPS``."""
    snapshots = oracle(rule, suited(rule, record(steps=STEPS)))
    return [
        numpy.concatenate([value.ravel() for (slot, _), value in taken.items() if slot == "param"])
        for taken in (snapshots[0], snapshots[1], snapshots[-1])
    ]


def _distance(moved: numpy.ndarray, default: numpy.ndarray, start: numpy.ndarray) -> Distance:
    apart = numpy.abs(moved - default)
    largest = float(numpy.max(numpy.abs(default)))
    length, usual = (float(numpy.linalg.norm(vector)) for vector in (moved, default))
    return Distance(
        length=_over(length, usual, standing=1.0),
        largest=_over(float(numpy.max(apart)), largest, standing=0.0),
        same=bool(numpy.all(apart <= ROUNDING * (numpy.abs(start) + largest))),
    )


def _over(part: float, whole: float, standing: float) -> float:
    """A quotient; ``standing`` where both are zero, infinite where the default stands still."""
    if whole == 0:
        return standing if part == 0 else float("inf")
    return part / whole
