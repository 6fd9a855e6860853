"""Runs of two subjects: the parameters that both take, and the dtype that both compute in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from samestep.spelling import NAMES

from .subjects.subject import NotFiniteError, Recorded, Runner, Subject, SubjectError
from .trajectory import Trajectory, record

__all__ = ["finite", "is_wide", "moves", "snapshots", "taken"]


def finite(side: str, subject: Subject, runner: Runner, trajectory: Trajectory) -> Recorded:
    """The run of a subject; its errors say what to do."""
    try:
        return subject.recorded(runner, trajectory)
    except NotFiniteError as error:
        raise _advised(error, side, subject) from error


def _advised(error: SubjectError, side: str, subject: Subject) -> SubjectError:
    """The error with advice about the learning rate, if it is about NaN."""
    if not isinstance(error, NotFiniteError):
        return error
    names = [name for name in NAMES["lr"] if name in subject.declared]
    advice = f", such as {side}.{names[0]}=1e-4" if names else ""
    return NotFiniteError(f"{error}. It is side {side}: try a smaller learning rate{advice}")


def is_wide(side: Subject, runner: Runner, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a subject computes in float64: whether its results are not exact in float32."""
    short = record(0, 3, shapes)  # the second step of these is the one without gradients
    for paths in ({*shapes}, *({path} for path in shapes)):
        try:
            last = side.recorded(runner, short.taken(paths)).params[-1]
        except SubjectError:
            continue
        if not any(numpy.any(value != short.params[path]) for path, value in last.items()):
            continue
        moved = [value[value != short.params[path]] for path, value in last.items()]
        with numpy.errstate(over="ignore"):
            return any(bool(numpy.any(v != v.astype(numpy.float32))) for v in moved)
    return True  # a parameter that it does not take is reported by the real run


def moves(recorded: Recorded) -> bool:
    """Whether any parameter changes."""
    start = recorded.params[0]
    return any(
        not numpy.array_equal(value, start[path])
        for params in recorded.params
        for path, value in params.items()
    )


def taken(
    subjects: Sequence[Subject], runners: Sequence[Runner], trajectory: Trajectory
) -> tuple[Trajectory, dict[str, str]]:
    """The part of a trajectory that all subjects take, and by parameter why the rest is refused."""
    short = Trajectory(trajectory.params, trajectory.grads[:1])
    left_out: dict[str, str] = {}
    for subject, runner, side in zip(subjects, runners, "ab", strict=True):
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
                raise _advised(whole, side, subject) from whole.__cause__
            left_out |= refused
    if len(left_out) == len(trajectory.params):
        raise SubjectError(
            f"there is no shape that both {subjects[0].name} and {subjects[1].name} take: "
            f"{next(iter(left_out.values()))}"
        )
    return trajectory.taken({*trajectory.params} - {*left_out}), left_out


def snapshots(one: Recorded, other: Recorded) -> tuple[list[Any], list[Any]]:
    """The snapshots of both: parameters, and slots that both keep in one shape."""
    mine, theirs = (side.slots for side in (one, other))
    common = {
        (slot, path): value.shape
        for slot, by_path in (mine[-1] if mine else {}).items()
        for path, value in by_path.items()
        if getattr(theirs[-1].get(slot, {}).get(path), "shape", None) == value.shape
    }
    made: tuple[list[Any], list[Any]] = [], []
    sides = ((one.params, mine, theirs), (other.params, theirs, mine))
    for snapshots, (params, own, others) in zip(made, sides, strict=True):
        for step, values in enumerate(params):
            snapshots.append({("param", path): value for path, value in values.items()})
            for (slot, path), shape in common.items():
                # a slot that one side makes at its first step is no difference before
                kept = (side[step].get(slot, {}).get(path) for side in (own, others))
                value = next((array for array in kept if array is not None), None)
                snapshots[-1][slot, path] = numpy.zeros(shape) if value is None else value
    return made
