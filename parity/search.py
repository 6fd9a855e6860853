"""The search for the variant of a rule that reproduces a subject, with as few changes as possible.

Variants with fewer changes are tried first: one, then two, then three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Any

import numpy

from samestep.routes import Route
from samestep.rule import Rule
from samestep.wrapper import Wrapper

from .bounds import AMPLIFIED, BOUND, FAR
from .case import FEW, Case, distance, variant_steps
from .subjects.arguments import as_rule, hidden, numbers_of, options_of
from .subjects.subject import Recorded, Subject
from .trajectory import Trajectory
from .variants.deviations import deviations
from .variants.variant import DEVIATION, Change, Variant, changes

__all__ = ["Finding", "found", "reproduced"]

SMALL = 1e-3
"""How small the rest must be, relative to the difference to explain."""

LOOSE = 4.0
"""How many times nearer to the subject than to the float64 computation a loose variant must be."""

NEAR = 1e-3
"""How near a variant must be to be worth mentioning, without being an explanation."""

MOST = 4000
"""How many variants of a rule are tried, so that a comparison ends within seconds."""

MATTERS = 1e-2
"""An eps as large as the recorded gradients, so that its placement shows."""

WIDE, WIDEST = 56, 14
"""How many of the nearest single changes are combined in twos, and in threes."""


@dataclass(frozen=True)
class Finding:
    """The variant that reproduces a subject, or ``None``, and the number of tried variants."""

    subject: str
    variant: Variant | None
    tried: int
    nearest: Variant | None = None
    """The nearest variant in the first steps, among variants that do not reproduce the subject."""
    off: float = 0.0
    """How far ``nearest`` is off after all steps; or ``variant``, if by more than rounding."""
    alike: tuple[tuple[str, Variant], ...] = ()
    """Alternatives per change: variants that give the same trajectory with these numbers, though
    not in general."""

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
    plain = variant.plain
    planted = [item.name for item in variant.deviations if item.name not in plain.quirks]
    return f"{plain!r}" + (f" with {', '.join(planted)}" if planted else "")


@dataclass
class _Search:
    """A search for the variant that reproduces a subject in every case."""

    cases: list[Case]
    bound: float
    tried: set[Variant] = field(default_factory=set)
    nearest: Variant | None = None
    off: float = numpy.inf

    def __post_init__(self) -> None:
        self.first = self.cases[0]
        self.few = self.first

    def reproduces(self, variant: Variant) -> bool:
        """Whether a variant reproduces the subject over all steps of all cases; asked once."""
        if variant in self.tried:
            return False
        self.tried.add(variant)
        bound = self.bound if not variant.loose else 1e-2
        soon = self.few.off(variant, FEW, max(bound, NEAR))
        if soon < self.off / 2:  # among equal variants, the one with the fewest changes
            self.nearest, self.off = variant, soon
        if soon > bound or (soon > self.bound and not self._rounds_alike(variant, [self.few], FEW)):
            return False
        worst = max(case.off(variant, None, bound) for case in self.cases)
        if worst <= self.bound:
            return True
        return variant.loose and worst <= bound and self._rounds_alike(variant, self.cases)

    def _rounds_alike(
        self, variant: Variant, cases: Sequence[Case], steps: int | None = None
    ) -> bool:
        """Whether a variant is much nearer to the subject than to the float64 computation."""
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
        subject: the recorded subject.
        rule: the rule whose variants are tried.
        cases: trajectories, and the subject's parameters along them.
        dtype: the dtype in which the subject was stepped.
        hint: a variant that reproduces the other subject; its neighbours are tried too.
        depth: how many changes are made at once, in addition to the changes of a dialect.
        apart: how far the subjects are apart. A variant that is off by at most ``FAR`` explains
            the subject too, if the rest is small compared with this distance.
    """
    around = isinstance(subject.target, Wrapper)
    if isinstance(subject.target, Route) or around != issubclass(rule, Wrapper):
        return Finding(subject.name, None, 0)
    numbers = numbers_of(subject, rule)
    base = Variant(rule, tuple(sorted(numbers.items())))
    bound = BOUND[dtype]
    search = _Search([Case.of(*case, bound) for case in cases], bound.start)
    search.few = _small(search.first, rule)
    unknown = hidden(subject, rule)
    base = _at_its_rate(search.few, base) if "lr" in unknown else base
    known = as_rule(subject)
    own = [Change(name, DEVIATION) for name in (known.quirks if known else ())]
    itself = base.with_changes(*_declared(base, options_of(subject, rule)), *own)
    if known == itself.plain:  # known, not found; the rest is rounding
        off = max(case.off(itself, None, numpy.inf) for case in search.cases)
        return Finding(subject.name, itself, 1, None, off if off > bound.start else 0.0)
    for variant in _candidates(search, base, itself, hint, depth, unknown):
        if search.reproduces(variant):
            alike = tuple(_alike(search, variant, _singles(base, unknown)))
            return Finding(subject.name, variant, len(search.tried), alike=alike)
        if len(search.tried) == MOST:
            break
    near = search.nearest
    off = max(case.off(near, None, numpy.inf) for case in search.cases) if near else numpy.inf
    far = FAR[dtype] * (AMPLIFIED if rule.needs == "matrix" else 1.0)
    if off <= min(far, SMALL * apart):
        return Finding(subject.name, near, len(search.tried), None, off)
    return Finding(subject.name, None, len(search.tried), near, off)


def _at_its_rate(case: Case, base: Variant) -> Variant:
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


def _small(case: Case, rule: type[Rule]) -> Case:
    """The smallest parameter that is large enough, if parameters do not depend on each other."""
    if rule.needs == "tree" or issubclass(rule, Wrapper):
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
    itself: Variant,
    hint: Variant | None,
    depth: int,
    unknown: set[str],
) -> Iterator[Variant]:
    """Variants to try, with fewer changes first."""
    fields = base.rule.fields()
    starts = [base, itself]
    if hint is not None:
        starts.append(base.with_changes(*hint.changes))
    yield from starts
    single = _singles(base, unknown)
    if search.bound > BOUND["float64"].start:  # rounding is the likely reason
        loose = {deviation.name for deviation in deviations(base.rule) if deviation.loose}
        first = {*loose, *fields, *(quirk.name for quirk in base.rule.quirks_known())}
        single.sort(key=lambda change: change.field not in first)
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


def _singles(base: Variant, unknown: set[str]) -> list[Change]:
    """Every single change of a setting that the subject does not let be chosen."""
    return changes(base.rule, {n: v for n, v in base.numbers if n not in unknown or n == "lr"})


def _alike(
    search: _Search, variant: Variant, single: Sequence[Change]
) -> Iterator[tuple[str, Variant]]:
    """Other variants that reproduce the subject, but differ from the first where eps is large."""
    for change in variant.changes:
        kept = tuple(other for other in variant.changes if other != change)
        without = Variant(variant.rule, variant.numbers, kept)
        for other in single:
            instead = without.with_changes(other)
            if other.field == change.field or not search.reproduces(instead):
                continue
            if not _same(_sharpened(variant), _sharpened(instead), search.few):
                yield change.field, instead


def _sharpened(variant: Variant) -> Variant:
    """The variant with an eps as large as the gradients."""
    field = variant.rule.fields().get("eps")
    eps = variant.values.get("eps", getattr(field, "default", None))
    if not isinstance(eps, float) or eps == 0:
        return variant
    numbers = tuple(sorted({**dict(variant.numbers), "eps": MATTERS}.items()))
    return Variant(variant.rule, numbers, variant.changes)


def _same(one: Variant, other: Variant, case: Case) -> bool:
    """Whether two variants take the same steps."""
    pairs = zip(
        variant_steps(one, case.trajectory),
        variant_steps(other, case.trajectory),
        case.sizes.at[1:],
        strict=False,
    )
    return all(distance(*pair) <= case.bound.after(step) for step, pair in enumerate(pairs, 1))


def _declared(base: Variant, options: Mapping[str, Any]) -> list[Change]:
    """The options that a subject declares under our names."""
    fields = base.rule.fields()
    return [Change(n, v) for n, v in options.items() if v != fields[n].default]


def _dialects(base: Variant) -> Iterator[list[Change]]:
    """The values of each dialect for settings that the subject does not let be chosen."""
    numbers = dict(base.numbers)
    for item in base.rule.dialects.values():
        values = [Change(n, v) for n, v in item.values.items() if n not in numbers and n != "lr"]
        yield values + [Change(name, DEVIATION) for name in item.quirk_names]


def _ranked(case: Case, start: Variant, single: Sequence[Change]) -> list[Change]:
    """Single changes, the most promising first."""
    order: dict[Change, float] = {
        change: case.nearness(start.with_changes(change)) for change in single
    }
    return sorted((c for c in single if numpy.isfinite(order[c])), key=lambda c: order[c])


def _together(start: Variant, single: Sequence[Change], count: int) -> Iterator[Variant]:
    for several in combinations(single, count):
        if len({change.field for change in several}) == count:
            yield start.with_changes(*several)


def reproduced(finding: Finding, trajectory: Trajectory, recorded: Recorded, dtype: str) -> bool:
    """Whether the variant that was found also reproduces a subject on other parameters."""
    if finding.variant is None:
        return False
    bound = BOUND[dtype]
    limit = max(bound.start, 2 * finding.off)
    return Case.of(trajectory, recorded, bound).off(finding.variant, None, limit) <= limit
