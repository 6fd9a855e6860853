"""Two subjects on the same recorded gradients: where they part, by how much, and why.

    found = compared(subject("optax.adan"), subject("samestep:Adan"))
    found.verdict        "agree", "differ"
    found.sentences      what they do differently; ["unexplained: ..."] where no variant fits

Both get the same starting parameters and gradients, and the same numbers if both take them. The
comparison is in float64 if both compute in it, else in float32. If they agree in float64, they are
compared in float32 too, which may show a rounding in one of them:

    found.narrow         the comparison in float32, or ``None``
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy

from samestep.arrays import listed
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

from .bounds import BOUND, EPS
from .case import Sizes, distance
from .diagnosis import Reason, explained
from .divergence import Divergence
from .divergence import compare as divergence
from .runs import finite, is_wide, moves, snapshots, taken
from .search import Finding, found, reproduced
from .subjects.arguments import matched, numbers_of
from .subjects.subject import Recorded, Runner, Subject, SubjectError
from .trajectory import Trajectory, record
from .ulp import ulps

__all__ = ["SHAPES", "Comparison", "compared", "taken_by"]

SHAPES: Mapping[str, tuple[int, ...]] = {
    "scalar": (),
    "bias": (33,),
    "matrix": (16, 9),
    "kernel": (6, 5, 3, 3),
}
STEPS = 40
NARROW = "float32"


@dataclass
class Comparison:
    """How two subjects compare."""

    a: Subject
    b: Subject
    """The subjects, with the arguments that they were given."""
    dtype: str
    verdict: Literal["agree", "differ"]
    bound: float
    """The bound of the relative difference after the last step."""
    distance: float
    """The largest difference of a parameter, relative to its largest size and change."""
    steps: int
    divergence: Divergence
    """The divergence of parameters and of common slots, in ULP of the dtype."""
    by_parameter: dict[str, float]
    """The largest relative difference of each parameter."""
    growth: list[float]
    """The largest relative difference of a parameter after each step; the start comes first."""
    bounds: list[float]
    """The bound of the relative difference after each step; in float32 it grows with rounding."""
    ulps: list[float]
    """The largest difference of a parameter after each step, in ULP of the dtype."""
    first: tuple[int, str] | None
    """The first step, from 1, at which they differ by more than the bound, and the parameter."""
    shared: dict[str, Any]
    """Numbers that both were given."""
    own: dict[str, tuple[Any, Any]]
    """Numbers in which they differ, or that only one of them takes."""
    left_out: dict[str, str]
    """Parameters that one of them does not take, with the reason."""
    rule: type[Rule] | None
    """The rule whose variants were tried."""
    findings: tuple[Finding, Finding] | None = None
    reasons: list[Reason] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    """Parameters that differ and that the rule does not take, so they are unexplained."""
    narrow: Comparison | None = None
    """The comparison in float32, if both agree in float64."""
    not_narrow: str = ""
    """The reason if there is none because a side fails in float32."""

    @property
    def explained(self) -> bool:
        """Whether variants reproduce both sides, so that their differences are known."""
        return self.findings is not None and all(f.variant for f in self.findings)

    @property
    def sentences(self) -> list[str]:
        """What differs, in words; empty where they agree, in float32 too."""
        if self.verdict == "agree":
            failed = [f"In {NARROW} {self.not_narrow}"] if self.not_narrow else []
            differs = self.narrow is not None and self.narrow.verdict == "differ"
            return [self._narrowly(self.narrow)] if self.narrow and differs else failed
        if self.explained and self.reasons:
            left = [
                f"{finding.subject} is reproduced up to {finding.off:.1g}; the rest is unexplained"
                for finding in self.findings or ()
                if finding.off
            ]
            if self.unsaid:
                left.append(
                    f"this does not explain {listed(self.unsaid)}, to which they may apply "
                    "another rule"
                )
            return [reason.sentence for reason in self.reasons] + left
        unknown = [str(f) for f in self.findings or () if f.variant is None]
        if unknown:
            return [f"unexplained: {text}" for text in unknown]
        if self.explained:
            return [
                "unexplained: no option tells them apart; "
                + " and ".join(map(str, self.findings or ()))
            ]
        return ["unexplained"]

    def _narrowly(self, narrow: Comparison) -> str:
        step = narrow.first[0] if narrow.first else 0
        said = "; ".join(narrow.sentences)
        return (
            f"In {narrow.dtype} they are {narrow.ulps[step]:,.0f} ULP apart after step {step}: "
            f"{said}"
        )


def compared(
    a: Subject,
    b: Subject,
    *,
    rule: type[Rule] | None = None,
    steps: int = STEPS,
    seed: int = 0,
    dtype: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    ulp: float | None = None,
) -> Comparison:
    """Step two subjects on the same recorded gradients, and explain how they differ.

    Args:
        a, b: the subjects.
        rule: the rule whose variants are tried; by default the rules that the subjects are named
            after, or single changes of all rules if there is none.
        steps: number of steps.
        seed: seed of the trajectory; seed + 1 gives the trajectory that confirms.
        dtype: dtype of the parameters; float64 if both support it, else float32.
        shapes: shapes of the parameters, by path.
        ulp: how many ULP of the dtype a parameter may be apart; by default as far as rounding
            explains.

    Raises:
        SubjectError: one of them cannot be built or stepped, or neither moves a parameter.
        ValueError: the dtype or the bound is not allowed.
    """
    if dtype not in (None, *BOUND):
        raise ValueError(f"dtype={dtype!r}: it must be {listed(map(repr, BOUND))}")
    if ulp is not None and not 0 <= ulp < math.inf:
        raise ValueError(f"ulp={ulp!r}: it must be a finite number, 0 or more")
    if a.name == b.name:
        a, b = replace(a, name=f"{a.name} (a)"), replace(b, name=f"{b.name} (b)")
    named = [rule] if rule else _named(a, b)
    rules = named or _likely(a, b)
    a, b, shared, own = matched(a, b, rules[0])
    runners = [side.runner(dtype or "float64") for side in (a, b)]
    wide = dtype is None and all(map(is_wide, (a, b), runners, (shapes, shapes)))
    if dtype is None and not wide:
        runners = [side.runner("float32") for side in (a, b)]
    inner = _Run(
        (a, b), runners, rules, 3 if named else 1, dtype or ("float64" if wide else NARROW)
    )
    result = inner.result(record(seed, steps, shapes), record(seed + 1, steps, shapes), ulp)
    result = replace(result, shared=shared, own=own)
    if wide and result.verdict == "agree":
        trajectories = record(seed, steps, shapes), record(seed + 1, steps, shapes)
        try:
            runners = [side.runner(NARROW) for side in (a, b)]
            narrow = _Run((a, b), runners, rules, 1, NARROW).result(*trajectories, None)
            result.narrow = replace(narrow, shared=shared, own=own)
        except SubjectError as error:
            result.not_narrow = str(error)
    return result


@dataclass(frozen=True)
class _Run:
    """Two subjects in one dtype."""

    subjects: tuple[Subject, Subject]
    runners: Sequence[Runner]
    rules: Sequence[type[Rule]]
    depth: int
    dtype: str

    def result(self, first: Trajectory, second: Trajectory, ulp: float | None) -> Comparison:
        """The comparison on a trajectory; the diagnosis is confirmed on the second one."""
        trajectory, left_out = taken(self.subjects, self.runners, first.rounded(self.dtype))
        both = self._recorded(trajectory)
        if not any(map(moves, both)):
            a, b = self.subjects
            raise SubjectError(
                f"neither {a.name} nor {b.name} moves a parameter, so that there is nothing to "
                f"compare; their arguments were {dict(a.arguments)} and {dict(b.arguments)}"
            )
        result = _measured(*self.subjects, both, self.dtype, trajectory, ulp)
        result.left_out = left_out
        if result.verdict == "differ":
            self._refuse_chance(trajectory, both)
            other = second.rounded(self.dtype).taken({*trajectory.params})
            cases = [(trajectory, both), (other, self._recorded(other))]
            _diagnosed(result, self.rules, cases, self.depth)
        return result

    def _recorded(self, trajectory: Trajectory) -> list[Recorded]:
        pairs = zip(self.subjects, self.runners, "ab", strict=True)
        return [finite(side, subject, runner, trajectory) for subject, runner, side in pairs]

    def _refuse_chance(self, trajectory: Trajectory, both: Sequence[Recorded]) -> None:
        """Raise if a subject takes other steps when it is run again."""
        for subject, once, again in zip(
            self.subjects, both, self._recorded(trajectory), strict=True
        ):
            sizes = Sizes(once.params).at
            steps = enumerate(zip(once.params, again.params, sizes, strict=True))
            for step, several in steps:
                apart = distance(*several)
                if apart > BOUND[self.dtype].after(step):
                    raise SubjectError(
                        f"{subject.name} does not do the same twice: two runs of it with "
                        f"{dict(subject.arguments)} on the same gradients are {apart:.2g} apart "
                        f"after step {step}. Where it draws random numbers, seed it whenever it is "
                        "made"
                    )


def _named(a: Subject, b: Subject) -> list[type[Rule]]:
    """Rules that the subjects are named after; a wrapper if both wrap the same rule."""
    if isinstance(a.target, Wrapper) and isinstance(b.target, Wrapper):
        same = a.rule is b.rule is not None and a.target.rule == b.target.rule
        return [a.rule] if same and a.rule else []
    named = dict.fromkeys(rule for rule in (b.rule, a.rule) if rule is not None)
    return [rule for rule in named if not issubclass(rule, Wrapper)]


def _likely(a: Subject, b: Subject) -> list[type[Rule]]:
    """All rules; first the rules most of whose numbers both subjects have."""
    rules = [rule for rule in registry.values() if not issubclass(rule, Wrapper)]
    common = {rule: len(numbers_of(a, rule).keys() & numbers_of(b, rule).keys()) for rule in rules}
    return sorted(rules, key=lambda rule: (-common[rule], len(rule.fields()), rule.__name__))


def _measured(
    a: Subject,
    b: Subject,
    both: Sequence[Recorded],
    dtype: str,
    trajectory: Trajectory,
    ulp: float | None,
) -> Comparison:
    one, other = both
    sizes = Sizes(other.params)
    growth, in_ulp, by_parameter, first = [], [], dict.fromkeys(trajectory.params, 0.0), None
    for step, (mine, theirs) in enumerate(zip(one.params, other.params, strict=True)):
        growth.append(0.0)
        in_ulp.append(0.0)
        for path, value in mine.items():
            size = sizes.at[step][path]
            apart = distance({path: value}, theirs, sizes.at[step])
            counted = float(numpy.max(ulps(value, theirs[path], size, dtype), initial=0.0))
            by_parameter[path] = max(by_parameter[path], apart)
            growth[-1], in_ulp[-1] = max(growth[-1], apart), max(in_ulp[-1], counted)
            beyond = apart > BOUND[dtype].after(step) if ulp is None else counted > ulp
            if beyond and first is None:
                first = step, path
    bounds = [
        BOUND[dtype].after(step) if ulp is None else ulp * EPS[dtype] for step in range(len(growth))
    ]
    return Comparison(
        a,
        b,
        dtype,
        verdict="agree" if first is None else "differ",
        bound=bounds[-1],
        distance=max(growth),
        steps=len(trajectory.grads),
        divergence=divergence(*snapshots(one, other), dtype),
        by_parameter=by_parameter,
        growth=growth,
        bounds=bounds,
        ulps=in_ulp,
        first=first,
        shared={},
        own={},
        left_out={},
        rule=None,
    )


def _diagnosed(
    result: Comparison,
    rules: Sequence[type[Rule]],
    cases: Sequence[tuple[Trajectory, Sequence[Recorded]]],
    depth: int,
) -> None:
    """Add the variants that reproduce each side, and their differences, to the result."""
    for rule in rules:
        taken = taken_by(rule, cases[0][0])
        if not taken:
            continue
        own = [[(t.taken(taken), both[side].part(taken)) for t, both in cases] for side in (0, 1)]
        far = result.distance
        second = found(result.b, rule, own[1], result.dtype, None, depth, far)
        first = found(result.a, rule, own[0], result.dtype, second.variant, depth, far)
        if result.findings is None or (first.variant and second.variant):
            result.rule, result.findings = rule, (first, second)
            result.reasons = explained(first, second, own[0][0][0], BOUND[result.dtype])
            result.unsaid = [
                path
                for path, apart in result.by_parameter.items()
                if path not in taken
                and apart > result.bound
                and not _both_reproduced(result, path, cases[0])
            ]
        if result.explained and result.reasons:
            return


def taken_by(rule: Rule | type[Rule], trajectory: Trajectory) -> set[str]:
    """The parameters that a rule takes; for a matrix rule, only parameters of two dimensions."""
    least = rule.min_ndim if isinstance(rule.min_ndim, int) else 0
    found = {path for path, value in trajectory.params.items() if value.ndim >= least}
    plain = {path for path in found if trajectory.params[path].ndim == 2}
    return plain if plain and rule.needs == "matrix" else found


def _both_reproduced(
    result: Comparison, path: str, case: tuple[Trajectory, Sequence[Recorded]]
) -> bool:
    """Whether the variants also agree with the sides on parameters that the search did not use."""
    trajectory, both = case
    return all(
        reproduced(finding, trajectory.taken({path}), recorded.part({path}), result.dtype)
        for finding, recorded in zip(result.findings or (), both, strict=True)
    )
