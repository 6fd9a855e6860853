"""Two subjects on the same recorded gradients: where they part, by how much, and why.

    found = compared(subject("optax.adan"), subject("samestep:Adan"))
    found.verdict        "agree", "differ"
    found.sentences      what they do differently; ["unexplained: ..."] where no variant fits

Both get the same starting parameters and gradients, and the same numbers where both let them be
chosen; all else each has its own. In float64 where both hold it, else in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy

from ..rule import Rule, registry
from ..wrapper import Wrapper
from .arguments import matched, numbers_of
from .diagnosis import BOUND, Finding, Reason, Sizes, distance, explained, found
from .divergence import Divergence
from .divergence import compare as divergence
from .subjects import Recorded, Runner, Slots, Subject, SubjectError
from .trajectory import Trajectory, record

__all__ = ["SHAPES", "Comparison", "compared"]

SHAPES: Mapping[str, tuple[int, ...]] = {
    "scalar": (),
    "bias": (33,),
    "matrix": (16, 9),
    "kernel": (6, 5, 3, 3),
}
STEPS = 40

ALIKE: Mapping[str, str] = {
    name: ours
    for ours, names in {
        "m": ("m", "exp_avg", "mu", "momentum_buffer", "trace", "_momentums", "_m"),
        "v": ("exp_avg_sq", "nu", "square_avg", "sum_of_squares", "sum", "_velocities"),
        "v_max": ("v_max", "max_exp_avg_sq", "nu_max", "_velocity_hats"),
        "n": ("n",),
        "u": ("u", "exp_inf", "_u", "acc_delta"),
        "g": ("g", "grad_avg", "_average_gradients"),
        "size": ("size", "step_size", "step_sizes"),
    }.items()
    for name in names
}
"""Which slots are the same thing under several names; those of one name are compared anyway."""


@dataclass
class Comparison:
    """How two subjects compare."""

    a: Subject
    b: Subject
    """With the arguments that they were given."""
    dtype: str
    verdict: Literal["agree", "differ"]
    bound: float
    distance: float
    """The largest difference of a parameter, relative to its largest size and change."""
    steps: int
    divergence: Divergence
    """In ULP of the dtype: parameters, and slots where both keep the same."""
    by_parameter: dict[str, float]
    """The largest relative difference of each parameter."""
    growth: list[float]
    """The largest relative difference of a parameter after each step; the start comes first."""
    first: tuple[int, str] | None
    """The first step, from 1, at which they differ by more than the bound, and the parameter."""
    shared: dict[str, Any]
    """Numbers that both were given."""
    own: dict[str, tuple[Any, Any]]
    """Numbers in which they differ, or that one of them does not let be chosen."""
    left_out: dict[str, str]
    """Parameters that one of them does not take, and why."""
    rule: type[Rule] | None
    """Of which variants were tried."""
    findings: tuple[Finding, Finding] | None = None
    reasons: list[Reason] = field(default_factory=list)

    @property
    def explained(self) -> bool:
        """Whether both are reproduced by variants, so that it is known in what they differ."""
        return self.findings is not None and all(f.variant for f in self.findings)

    @property
    def sentences(self) -> list[str]:
        """What differs, in words; empty where they agree."""
        if self.verdict == "agree":
            return []
        if self.explained and self.reasons:
            left = [
                f"{finding.subject} is reproduced up to {finding.off:.1g}; the rest is unexplained"
                for finding in self.findings or ()
                if finding.off
            ]
            return [reason.sentence for reason in self.reasons] + left
        unknown = [str(f) for f in self.findings or () if f.variant is None]
        return [f"unexplained: {text}" for text in unknown] or ["unexplained"]


def compared(
    a: Subject,
    b: Subject,
    *,
    rule: type[Rule] | None = None,
    steps: int = STEPS,
    seed: int = 0,
    dtype: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
) -> Comparison:
    """Step two subjects on the same recorded gradients, and say in what they differ.

    Args:
        a, b: the subjects.
        rule: of which variants are tried; by default the rules whose names they have, and where
            neither has the name of one, single changes of all rules.
        steps: how many.
        seed: of the trajectory; the one after it gives the trajectory that confirms.
        dtype: of the parameters; float64 if both have it, else float32.
        shapes: of the parameters, by path.

    Raises:
        SubjectError: one of them cannot be built or stepped; which, and why.
    """
    named = [rule] if rule else [*dict.fromkeys(r for r in (b.rule, a.rule) if r is not None)]
    rules = named or _likely(a, b)
    a, b, shared, own = matched(a, b, rules[0])
    runners = [side.runner(dtype or "float64") for side in (a, b)]
    if dtype is None:
        pairs = zip((a, b), runners, strict=True)
        dtype = "float64" if all(_is_wide(*pair, shapes) for pair in pairs) else "float32"
        if dtype != "float64":
            runners = [side.runner(dtype) for side in (a, b)]
    whole = record(seed, steps, shapes).rounded(dtype)
    trajectory, left_out = _taken((a, b), runners, whole)
    both = [s.recorded(r, trajectory) for s, r in zip((a, b), runners, strict=True)]
    result = replace(
        _measured(a, b, both, dtype, trajectory), shared=shared, own=own, left_out=left_out
    )
    if result.verdict == "differ":
        other = record(seed + 1, steps, shapes).rounded(dtype).taken({*trajectory.params})
        again = [s.recorded(r, other) for s, r in zip((a, b), runners, strict=True)]
        cases = [(trajectory, both), (other, again)]
        _diagnosed(result, rules, cases, 3 if named else 1)
    return result


def _likely(a: Subject, b: Subject) -> list[type[Rule]]:
    """Rules by how many of their numbers both subjects have."""
    rules = [rule for rule in registry.values() if not issubclass(rule, Wrapper)]
    common = {rule: len(numbers_of(a, rule).keys() & numbers_of(b, rule).keys()) for rule in rules}
    return sorted(rules, key=lambda rule: (-common[rule], len(rule.fields()), rule.__name__))


def _is_wide(side: Subject, runner: Runner, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether it computes in float64: whether it gives what float32 does not hold."""
    short = record(0, 3, shapes)  # the second step of these is the one without gradients
    for paths in ({*shapes}, *({path} for path in shapes)):
        try:
            last = side.recorded(runner, short.taken(paths)).params[-1]
        except SubjectError:
            continue
        moved = [value[value != short.params[path]] for path, value in last.items()]
        return any(bool(numpy.any(v != v.astype(numpy.float32))) for v in moved)
    return True  # what it cannot take will be said where it is asked in earnest


def _taken(
    subjects: Sequence[Subject], runners: Sequence[Runner], trajectory: Trajectory
) -> tuple[Trajectory, dict[str, str]]:
    """The part of a trajectory that all take, and why they do not take the rest."""
    short = Trajectory(trajectory.params, trajectory.grads[:1])
    left_out: dict[str, str] = {}
    for subject, runner in zip(subjects, runners, strict=True):
        try:
            subject.recorded(runner, short)
        except SubjectError as whole:
            refused = {}
            for path in trajectory.params:
                try:
                    subject.recorded(runner, short.taken({path}))
                except SubjectError as error:
                    refused[path] = str(error)
            if not refused or len(refused) == len(trajectory.params):
                raise whole from None
            left_out |= refused
    if len(left_out) == len(trajectory.params):
        raise SubjectError(
            f"there is no shape that both {subjects[0].name} and {subjects[1].name} take: "
            f"{next(iter(left_out.values()))}"
        )
    return trajectory.taken({*trajectory.params} - {*left_out}), left_out


def _measured(
    a: Subject, b: Subject, both: Sequence[Recorded], dtype: str, trajectory: Trajectory
) -> Comparison:
    one, other = both
    sizes = Sizes(other.params)
    growth, by_parameter, first = [], dict.fromkeys(trajectory.params, 0.0), None
    for step, (mine, theirs) in enumerate(zip(one.params, other.params, strict=True)):
        growth.append(0.0)
        for path, value in mine.items():
            apart = distance({path: value}, theirs, sizes.at[step])
            by_parameter[path] = max(by_parameter[path], apart)
            growth[-1] = max(growth[-1], apart)
            if apart > BOUND[dtype] and first is None:
                first = step, path
    verdict: Literal["agree", "differ"] = "agree" if first is None else "differ"
    apart_by = divergence(*_snapshots(one, other), dtype)
    return Comparison(
        a,
        b,
        dtype,
        verdict,
        BOUND[dtype],
        max(growth),
        len(trajectory.grads),
        apart_by,
        by_parameter,
        growth,
        first,
        {},
        {},
        {},
        None,
    )


def _snapshots(one: Recorded, other: Recorded) -> tuple[list[Any], list[Any]]:
    """Parameters and comparable slots, as the divergence wants them."""
    mine, theirs = ([_named(slots) for slots in side.slots] for side in (one, other))
    common = {
        (slot, path)
        for slot, by_path in (mine[-1] if mine else {}).items()
        for path, value in by_path.items()
        if getattr(theirs[-1].get(slot, {}).get(path), "shape", None) == value.shape
    }
    made = []
    for recorded, slots in ((one, mine), (other, theirs)):
        made.append(
            [
                {("param", path): value for path, value in params.items()}
                | {
                    (slot, path): named.get(slot, {}).get(path, numpy.zeros_like(params[path]))
                    for slot, path in common
                }
                for params, named in zip(recorded.params, slots, strict=True)
            ]
        )
    return made[0], made[1]


def _named(slots: Slots) -> Slots:
    if "exp_avg_diff" in slots:  # of Adan, where three averages have other names
        names = {"exp_avg": "m", "exp_avg_diff": "v", "exp_avg_sq": "n"}
        return {names.get(name, name): by_path for name, by_path in slots.items()}
    return {ALIKE.get(name, name): by_path for name, by_path in slots.items()}


def _diagnosed(
    result: Comparison,
    rules: Sequence[type[Rule]],
    cases: Sequence[tuple[Trajectory, Sequence[Recorded]]],
    depth: int,
) -> None:
    """Put the variants that reproduce each side into the result, and what they do differently."""
    for rule in rules:
        own = [[(trajectory, both[side]) for trajectory, both in cases] for side in (0, 1)]
        far = result.distance
        second = found(result.b, rule, own[1], result.dtype, None, depth, far)
        first = found(result.a, rule, own[0], result.dtype, second.variant, depth, far)
        if result.findings is None or (first.variant and second.variant):
            result.rule, result.findings = rule, (first, second)
            result.reasons = explained(first, second, cases[0][0], result.bound)
        if result.explained and result.reasons:
            return
