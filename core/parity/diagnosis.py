"""Why two subjects differ: the variants of a rule that reproduce each, and where these differ.

A variant explains a subject only if it reproduces every parameter after every step, on the recorded
trajectory and on another one. Nothing else is an explanation; where no variant does so the subject
is unexplained. Variants with fewer changes are tried first: one, then two, then three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, pairwise
from typing import Any

import numpy

from ..backend import NumPy, Run
from ..route import Route
from ..rule import Rule
from ..wrapper import Wrapper
from .bounds import AMPLIFIED, BOUND, FAR, Bound
from .subjects.arguments import hidden, numbers_of, options_of
from .subjects.subject import Recorded, Subject
from .trajectory import Trajectory
from .variants.deviations import deviations
from .variants.variant import DEVIATION, Change, Variant, changes
from .variants.words import does

__all__ = ["Finding", "Reason", "distance", "explained", "found", "reproduced", "variant_steps"]

SMALL = 1e-3
"""How small what is left must be beside what is to be explained."""

LOOSE = 4.0
"""How many times what one rounding of a scalar in float32 does a loose variant may be off."""

NEAR = 1e-3
"""How near a variant must be to be worth mentioning, without being an explanation."""

FEW = 3
"""Steps after which a variant that does not fit is given up."""

WIDE, WIDEST = 56, 14
"""How many single changes, the nearest, are combined in twos, and in threes."""

Parameters = Sequence[Mapping[str, numpy.ndarray]]


@dataclass(frozen=True)
class Finding:
    """What reproduces a subject: a variant, or none, and how many were tried."""

    subject: str
    variant: Variant | None
    tried: int
    nearest: Variant | None = None
    """Of variants that do not reproduce it the nearest, in the first steps."""
    off: float = 0.0
    """How far the nearest is off after all steps; or the variant, if that is beyond rounding."""

    def __str__(self) -> str:
        if self.variant is None and not self.tried:
            return f"{self.subject} is a rule around others, of which no variants are tried"
        if self.variant is None:
            near = ""
            if self.nearest is not None and self.off < NEAR:
                near = f"; the nearest, {_shown(self.nearest)}, is {self.off:.1g} off"
            return f"none of {self.tried} variants reproduces {self.subject}{near}"
        rest = f", up to {self.off:.1g}" if self.off else ""
        return f"{self.subject} is {_shown(self.variant)}{rest}"


def _shown(variant: Variant) -> str:
    planted = [item.name for item in variant.deviations]
    return f"{_plain(variant)!r}" + (f" with {', '.join(planted)}" if planted else "")


def _plain(variant: Variant) -> Rule:
    return variant.rule(**variant.values)


@dataclass(frozen=True)
class Reason:
    """One thing that two subjects do differently."""

    option: str
    """The field of the rule, or the name of a deviation."""
    a: Any
    b: Any
    sentence: str


class Sizes:
    """The largest size so far of every element and of its changes, step by step."""

    def __init__(self, params: Parameters) -> None:
        self.at: list[dict[str, numpy.ndarray]] = [
            {path: numpy.abs(value) for path, value in params[0].items()}
        ]
        for old, new in pairwise(params):
            last = self.at[-1]
            self.at.append(
                {
                    path: numpy.maximum(
                        last[path], numpy.maximum(numpy.abs(v), numpy.abs(v - old[path]))
                    )
                    for path, v in new.items()
                }
            )


def distance(
    ours: Mapping[str, numpy.ndarray],
    theirs: Mapping[str, numpy.ndarray],
    sizes: Mapping[str, numpy.ndarray],
) -> float:
    """The largest difference of an element, relative to its largest size so far."""
    worst = 0.0
    for path, value in ours.items():
        if not numpy.all(numpy.isfinite(value)):
            return numpy.inf
        size = sizes[path]
        ratio = numpy.abs(value - theirs[path]) / numpy.where(size == 0, 1.0, size)
        worst = max(worst, float(numpy.max(ratio, initial=0.0)))
    return worst


def variant_steps(variant: Variant, trajectory: Trajectory) -> Iterator[dict[str, numpy.ndarray]]:
    """The parameters of a variant in float64, after every step; ends early where it fails."""
    rule = variant.made()
    if rule is None:
        return
    zeros = {path: numpy.zeros_like(value) for path, value in trajectory.params.items()}
    grads = [zeros] * variant.late + trajectory.grads
    backend = NumPy()
    try:
        with numpy.errstate(all="ignore"):
            run: Run = backend.start(rule, trajectory.params, "float64")
    except ValueError:
        return  # it does not take parameters of these shapes
    for step in range(len(trajectory.grads)):
        try:
            with numpy.errstate(all="ignore"):
                run.step(grads[step])
        except (ArithmeticError, TypeError, ValueError, AttributeError):
            return
        yield run.params()


@dataclass
class _Case:
    """A subject on a trajectory: what a variant has to reproduce."""

    trajectory: Trajectory
    params: Parameters
    sizes: Sizes
    bound: Bound

    @classmethod
    def of(cls, trajectory: Trajectory, recorded: Recorded, bound: Bound) -> _Case:
        return cls(trajectory, recorded.params, Sizes(recorded.params), bound)

    def part(self, paths: set[str]) -> _Case:
        params = [{path: step[path] for path in paths} for step in self.params]
        return _Case(self.trajectory.taken(paths), params, Sizes(params), self.bound)

    def off(self, variant: Variant, steps: int | None, bound: float) -> float:
        """The distance of a variant, as soon as it is beyond the bound; infinite if it fails.

        That of a later step counts less, as far as rounding may have grown by then.
        """
        worst, last = 0.0, min(steps or len(self.params), len(self.params) - 1)
        taken = 0
        for params in variant_steps(variant, self.trajectory):
            taken += 1
            apart = distance(params, self.params[taken], self.sizes.at[taken])
            worst = max(worst, apart / self.bound.allowance(taken))
            if worst > bound or taken == last:
                break
        return worst if taken == last or worst > bound else numpy.inf

    def nearness(self, variant: Variant) -> float:
        """How near it is in the middle, over the first steps: smaller is nearer."""
        logs = []
        for step, params in enumerate(variant_steps(variant, self.trajectory), 1):
            for path, value in params.items():
                size = self.sizes.at[step][path]
                apart = numpy.abs(value - self.params[step][path]) / numpy.where(size == 0, 1, size)
                logs.append(numpy.log10(numpy.nan_to_num(apart, nan=9.0) + 1e-17).ravel())
            if step == FEW:
                break
        return float(numpy.mean(numpy.concatenate(logs))) if logs else numpy.inf


@dataclass
class _Search:
    """A search for the variant that reproduces a subject in every case."""

    cases: list[_Case]
    bound: float
    tried: set[Variant] = field(default_factory=set)
    nearest: Variant | None = None
    off: float = numpy.inf

    def __post_init__(self) -> None:
        self.first = self.cases[0]
        self.few = self.first

    def reproduces(self, variant: Variant) -> bool:
        """Whether it does, over all steps of all cases; asked once."""
        if variant in self.tried:
            return False
        self.tried.add(variant)
        bound = self.bound if not variant.loose else 1e-2
        soon = self.few.off(variant, FEW, max(bound, NEAR))
        if soon < self.off / 2:  # of those alike, the one with the fewest changes
            self.nearest, self.off = variant, soon
        if soon > bound or (soon > self.bound and not self._rounds_alike(variant, [self.few], FEW)):
            return False
        worst = max(case.off(variant, None, bound) for case in self.cases)
        if worst <= self.bound:
            return True
        return variant.loose and worst <= bound and self._rounds_alike(variant, self.cases)

    def _rounds_alike(
        self, variant: Variant, cases: Sequence[_Case], steps: int | None = None
    ) -> bool:
        """Whether it is much nearer to the subject than what is computed in float64 is."""
        loose = {deviation.name for deviation in variant.deviations if deviation.loose}
        exact = Variant(
            variant.rule,
            variant.numbers,
            tuple(c for c in variant.changes if c.field not in loose),
        )
        for case in cases:
            scalar = max(
                (
                    distance(a, b, sizes)
                    for a, b, sizes in zip(
                        islice(variant_steps(variant, case.trajectory), steps),
                        variant_steps(exact, case.trajectory),
                        case.sizes.at[1:],
                        strict=False,
                    )
                ),
                default=0.0,
            )
            if case.off(variant, steps, numpy.inf) > scalar / LOOSE:
                return False
        return True


def found(
    subject: Subject,
    rule: type[Rule],
    cases: Sequence[tuple[Trajectory, Recorded]],
    dtype: str,
    hint: Variant | None = None,
    depth: int = 3,
    apart: float = 0.0,
) -> Finding:
    """The variant of a rule that reproduces a subject, with as few changes as possible.

    Args:
        subject: who has been recorded.
        rule: of which variants are tried.
        cases: trajectories, and where the subject has gone on them.
        dtype: in which it has been stepped.
        hint: a variant that another subject has; it and its neighbours are tried too.
        depth: how many changes there may be at once, beside those of a dialect.
        apart: how far the subjects are apart. A variant that is off by ``FAR`` at most explains
            that too, where what is left is small beside it.
    """
    if isinstance(subject.target, (Wrapper, Route)):
        return Finding(subject.name, None, 0)
    numbers = numbers_of(subject, rule)
    base = Variant(rule, tuple(sorted(numbers.items())))
    bound = BOUND[dtype]
    search = _Search([_Case.of(*case, bound) for case in cases], bound.start)
    search.few = _small(search.first, rule)
    unknown = hidden(subject, rule)
    base = _at_its_rate(search.few, base) if "lr" in unknown else base
    for variant in _candidates(search, base, options_of(subject, rule), hint, depth, unknown):
        if search.reproduces(variant):
            return Finding(subject.name, variant, len(search.tried))
    near = search.nearest
    off = max(case.off(near, None, numpy.inf) for case in search.cases) if near else numpy.inf
    far = FAR[dtype] * (AMPLIFIED if rule.needs == "matrix" else 1.0)
    if off <= min(far, SMALL * apart):
        return Finding(subject.name, near, len(search.tried), None, off)
    return Finding(subject.name, None, len(search.tried), near, off)


def _at_its_rate(case: _Case, base: Variant) -> Variant:
    """The variant with the subject's own lr, if its first step is a multiple of the variant's."""
    first = next(variant_steps(base, case.trajectory), None)
    if first is None:
        return base
    start = case.params[0]
    ours = numpy.concatenate([(first[path] - start[path]).ravel() for path in first])
    theirs = numpy.concatenate([(case.params[1][path] - start[path]).ravel() for path in first])
    moved = numpy.abs(ours) > numpy.max(numpy.abs(ours), initial=0.0) / 2
    ratios = theirs[moved] / ours[moved]
    if not ratios.size or ratios.min() <= 0 or ratios.max() > (1 + NEAR) * ratios.min():
        return base
    values = base.values
    rate = values.get("lr", base.rule.fields()["lr"].default)
    own = float(f"{rate * numpy.median(ratios):.4g}")
    return Variant(base.rule, tuple(sorted((dict(base.numbers) | {"lr": own}).items())))


def _small(case: _Case, rule: type[Rule]) -> _Case:
    """The smallest parameter with enough elements, where they do not depend on each other."""
    if rule.needs == "tree":
        return case
    sizes = {path: value.size for path, value in case.trajectory.params.items()}
    least = rule.min_ndim if isinstance(rule.min_ndim, int) else 2
    if rule.needs in ("axes", "factored", "matrix"):
        least = 2
    suited = [p for p, v in case.trajectory.params.items() if sizes[p] >= 16 and v.ndim >= least]
    return case.part({min(suited, key=lambda path: sizes[path])}) if suited else case


def _candidates(
    search: _Search,
    base: Variant,
    options: Mapping[str, Any],
    hint: Variant | None,
    depth: int,
    unknown: set[str],
) -> Iterator[Variant]:
    """Variants to try, those with fewer changes first."""
    fields = base.rule.fields()
    declared = [Change(n, v) for n, v in options.items() if v != fields[n].default]
    starts = [base, base.with_changes(*declared)]
    if hint is not None:
        starts.append(base.with_changes(*hint.changes))
    yield from starts
    single = changes(base.rule, {n: v for n, v in base.numbers if n not in unknown or n == "lr"})
    if search.bound > BOUND["float64"].start:  # what is rounded there is the likely reason
        loose = {deviation.name for deviation in deviations(base.rule) if deviation.loose}
        single.sort(key=lambda change: change.field not in loose and change.field not in fields)
    for start in starts:
        yield from (start.with_changes(change) for change in single)
    for values in _dialects(base):
        yield base.with_changes(*values)
    if depth < 2:
        return
    for start in dict.fromkeys(starts):
        near = _ranked(search.few, start, single)
        yield from _together(start, near[:WIDE], 2)
    for values in _dialects(base):
        start = base.with_changes(*values)
        yield from (start.with_changes(change) for change in single)
    near_enough = base.rule.needs == "matrix" and search.off <= AMPLIFIED * FAR["float64"]
    for start in dict.fromkeys(starts[:2] if depth > 2 and not near_enough else []):
        yield from _together(start, _ranked(search.few, start, single)[:WIDEST], 3)

    if search.nearest is not None and search.off < NEAR:
        start = search.nearest
        yield from (start.with_changes(change) for change in single)


def _dialects(base: Variant) -> Iterator[list[Change]]:
    """What each dialect has of what the subject does not let be chosen."""
    numbers = dict(base.numbers)
    for item in base.rule.dialects.values():
        yield [Change(n, v) for n, v in item.values.items() if n not in numbers and n != "lr"]


def _ranked(case: _Case, start: Variant, single: Sequence[Change]) -> list[Change]:
    """Single changes, those first that bring the variant nearest."""
    order: dict[Change, float] = {
        change: case.nearness(start.with_changes(change)) for change in single
    }
    return sorted((c for c in single if numpy.isfinite(order[c])), key=lambda c: order[c])


def _together(start: Variant, single: Sequence[Change], count: int) -> Iterator[Variant]:
    for several in combinations(single, count):
        if len({change.field for change in several}) == count:
            yield start.with_changes(*several)


def reproduced(finding: Finding, trajectory: Trajectory, recorded: Recorded, dtype: str) -> bool:
    """Whether a variant that was found goes where a subject goes on other parameters too."""
    if finding.variant is None:
        return False
    bound = BOUND[dtype]
    limit = max(bound.start, 2 * finding.off)
    return _Case.of(trajectory, recorded, bound).off(finding.variant, None, limit) <= limit


def explained(a: Finding, b: Finding, trajectory: Trajectory, bound: Bound) -> list[Reason]:
    """What two variants do differently, as far as it matters on a trajectory; in sentences."""
    one, other = a.variant, b.variant
    if one is None or other is None:
        return []
    names = min(
        (_needed(one, other, trajectory, bound), _needed(other, one, trajectory, bound)), key=len
    )
    return [_reason(a.subject, b.subject, one, other, name) for name in names]


def _settings(variant: Variant) -> dict[str, Any]:
    rule = _plain(variant)
    planted = {deviation.name: DEVIATION for deviation in variant.deviations}
    return {**rule.hypers, **planted}


def _needed(one: Variant, other: Variant, trajectory: Trajectory, bound: Bound) -> list[str]:
    """In what the other must stay as it is to go where it goes; all else may be as in the one."""
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


def _reason(a: str, b: str, one: Variant, other: Variant, name: str) -> Reason:
    if name in one.rule.fields():
        values = _settings(one)[name], _settings(other)[name]
        return Reason(name, *values, f"{a} {does(one, name)}; {b} {does(other, name)}")
    mine = name in {deviation.name for deviation in one.deviations}
    deviation = next(d for d in (*one.deviations, *other.deviations) if d.name == name)
    numbers = _plain(one if mine else other).hypers
    first, second = (deviation.says, deviation.instead)[:: 1 if mine else -1]
    sentence = f"{a} {_filled(first, numbers)}; {b} {_filled(second, numbers)}"
    return Reason(name, mine, not mine, sentence)


def _filled(text: str, numbers: Mapping[str, Any]) -> str:
    shown: Callable[..., str] = text.format
    return shown(**numbers)
