"""Why two subjects differ: the differences of the variants that reproduce them, in words.

A variant explains a subject only if it reproduces every parameter after every step, on the recorded
trajectory and on another one. If no variant does, the subject is unexplained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .bounds import Bound
from .case import Sizes, distance, variant_steps
from .search import Finding
from .trajectory import Trajectory
from .variants.variant import DEVIATION, Change, Variant
from .variants.words import does, said

__all__ = ["Reason", "explained"]


@dataclass(frozen=True)
class Reason:
    """One thing that two subjects do differently."""

    option: str
    """The field of the rule, or the name of a deviation."""
    a: Any
    b: Any
    sentence: str


def explained(a: Finding, b: Finding, trajectory: Trajectory, bound: Bound) -> list[Reason]:
    """The differences of two variants that change a trajectory, as sentences."""
    one, other = a.variant, b.variant
    if one is None or other is None:
        return []
    names = min(
        (_needed(one, other, trajectory, bound), _needed(other, one, trajectory, bound)), key=len
    )
    return [_reason(a, b, one, other, name) for name in names]


def _settings(variant: Variant) -> dict[str, Any]:
    rule = variant.plain
    planted = {deviation.name: DEVIATION for deviation in variant.deviations}
    return planted | {n: v for n, v in rule.hypers.items() if n != "quirks"}


def _needed(one: Variant, other: Variant, trajectory: Trajectory, bound: Bound) -> list[str]:
    """The settings of ``other`` that matter: with ``one``'s value its trajectory changes."""
    a, b = _settings(one), _settings(other)
    walked = [trajectory.params, *variant_steps(other, trajectory)]
    sizes, now, needed = Sizes(walked), other, []
    for name in {**a, **b}:
        if a.get(name) != b.get(name):
            without = _having(now, one, name)
            others = [trajectory.params, *variant_steps(without, trajectory)]
            pairs = enumerate(zip(others, walked, sizes.at, strict=False))
            near = (distance(*pair) <= bound.after(step) for step, pair in pairs)
            if len(others) == len(walked) and all(near):
                now = without
            else:
                needed.append(name)
    return needed


def _having(variant: Variant, source: Variant, name: str) -> Variant:
    kept = tuple(change for change in variant.changes if change.field != name)
    value = _settings(source).get(name)
    numbers = tuple((n, v) for n, v in variant.numbers if n != name)
    bare = Variant(variant.rule, numbers, kept)
    return bare if value is None else bare.with_changes(Change(name, value))


def _reason(a: Finding, b: Finding, one: Variant, other: Variant, name: str) -> Reason:
    if name in one.rule.fields():
        values = _settings(one)[name], _settings(other)[name]
        words = does(one, name), does(other, name)
    else:
        mine = name in {deviation.name for deviation in one.deviations}
        deviation = next(d for d in (*one.deviations, *other.deviations) if d.name == name)
        values = mine, not mine
        having, lacking = deviation.said((one if mine else other).plain)
        words = (having, lacking) if mine else (lacking, having)
    sides = (
        f"{finding.subject} {' or '.join([text, *_others(finding, name)])}"
        for finding, text in zip((a, b), words, strict=True)
    )
    return Reason(name, *values, "; ".join(sides))


def _others(finding: Finding, name: str) -> Iterator[str]:
    """Other explanations of a change: these numbers do not tell them apart."""
    for field, variant in finding.alike:
        if field == name:
            known = finding.variant.changes if finding.variant else ()
            (change,) = (c for c in variant.changes if c not in known)
            yield said(variant, change)
