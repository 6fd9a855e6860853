"""Whether a resumed run continued as if it had not been interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy

from samestep.checkpoints.tensor import Tensor
from samestep.recording.reading import Step

from .judging import Judge
from .rules import Rules
from .stepper import Machine, values_of
from .trials import Pair, Trial, fits, trials

__all__ = ["Resume", "names_shown", "same_bits", "went_on"]


@dataclass
class Resume:
    """The state with which a resumed run continued."""

    step: int
    """The first step after it."""
    file: str
    """The recording with that step."""
    exact: bool
    sentences: list[str]
    state: dict[str, str] = field(default_factory=dict)
    """By parameter: ``carried``, or a description of another state, or ``unknown``."""


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two arrays are equal to the last bit."""
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and numpy.array_equal(
        numpy.ascontiguousarray(one.bits).reshape(-1).view(numpy.uint8),
        numpy.ascontiguousarray(other.bits).reshape(-1).view(numpy.uint8),
    )


def names_shown(names: Sequence[str], of: int) -> str:
    """Names of parameters in a sentence."""
    if len(names) == of and of > 1:
        return "all parameters"
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} others"


def went_on(
    last: Step,
    steps: Sequence[Step],
    file: str,
    pair: Pair,
    rules: Rules,
    judge: Judge,
) -> tuple[Resume, Pair]:
    """The state with which a run continued, and the states by which its steps are judged.

    Args:
        last: the step before the interruption.
        steps: the steps after the interruption.
        file: the file in which they are recorded.
        pair: the states at the end of the last step.
        rules: the rules of the parameters.
        judge: the judge that has seen the steps before.
    """
    first = steps[0]
    own, params = rules.of(first), values_of(first.before)
    moved = [n for n in params if n in last.after and not same_bits(first.before[n], last.after[n])]
    new = [name for name in params if name not in last.after]
    sentences = []
    if moved:
        sentences.append(
            f"the parameters are not those with which it ended: {names_shown(moved, len(params))}"
        )
    if new:
        sentences.append(f"not recorded before it: {names_shown(new, len(params))}")
    left = {name for name in params if name in first.grads}
    state: dict[str, str] = {}
    chosen = pair.copy()
    found = fits(Trial("carried", "", pair), steps, rules, judge, left)
    state |= dict.fromkeys(found, "carried")
    left -= found
    for trial in trials(pair, own, params) if left else ():
        found = fits(trial, steps, rules, judge, left)
        left -= found
        state |= dict.fromkeys(found, trial.name)
        for mine, theirs in zip(chosen, trial.pair, strict=True):
            mine.own |= {name: theirs.own[name] for name in found}
            if found and not left:
                mine.count, mine.shared = theirs.count, theirs.shared
        if found:
            at = (
                "" if len(found) == len(params) else f" ({names_shown(sorted(found), len(params))})"
            )
            carried = "" if moved else "the parameters were carried exactly, but "
            sentences.append(f"{carried}the optimizer went on as if {trial.says}{at}")
    if left:
        state |= dict.fromkeys(left, "unknown")
        sentences.append(
            "the optimizer did not go on with the state with which it ended, nor with one that was "
            f"tried ({names_shown(sorted(left), len(params))})"
        )
        if first.state is not None or first.fresh:
            for machine in chosen:
                _taken(machine, first, rules)
    exact = not sentences
    return Resume(first.number, file, exact, sentences or ["exact"], state), chosen


def _taken(machine: Machine, first: Step, rules: Rules) -> None:
    params = values_of(first.before)
    if first.state is None:
        machine.fresh(rules.of(first), params)
    else:
        machine.take(first.state, rules.of(first), params)
