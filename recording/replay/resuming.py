"""Whether a resumed run continued as if it had not been interrupted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy

from samestep.checkpoints.tensor import Tensor
from samestep.parity.ulp import ulps
from samestep.recording.reading import Step
from samestep.rule import Rule

from .numbers import Apart
from .rules import Rules
from .states import End, differing, shared_differing
from .stepper import Machine, values_of
from .trials import Pair, Trial, fits, trials

__all__ = ["Resume", "continues", "names_shown", "same_bits", "went_on"]


@dataclass
class Resume:
    """The state with which a resumed run continued."""

    step: int
    """The first step after it."""
    file: str
    """The recording with that step."""
    exact: bool
    """Whether parameters, state and numbers are known to have been carried."""
    sentences: list[str]
    state: dict[str, str] = field(default_factory=dict)
    """By parameter: ``carried``, or a description of another state, or ``unknown``."""
    numbers: list[str] = field(default_factory=list)
    """The sentences about numbers with which the run does not go on."""
    unknown: list[str] = field(default_factory=list)
    """The sentences about what cannot be judged."""
    unjudged: list[str] = field(default_factory=list)
    """Parameters of which neither the steps before it nor the state are recorded."""
    carried: bool = True
    """Whether parameters and state were carried, as far as can be judged."""


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two arrays are equal to the last bit."""
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and numpy.array_equal(
        numpy.ascontiguousarray(one.bits).reshape(-1).view(numpy.uint8),
        numpy.ascontiguousarray(other.bits).reshape(-1).view(numpy.uint8),
    )


def continues(step: Step, last: Step, name: str) -> bool:
    """Whether a step begins with the parameter with which the last one ended.

    Where the program itself adds the updates, a compiler may contract the sum with the arithmetic
    of the update. Then the parameter is 1 ULP off.
    """
    now, then = step.before[name], last.after[name]
    if now is then or same_bits(now, then):
        return True
    if not last.adds or (now.dtype, now.shape) != (then.dtype, then.shape):
        return False
    begun, one, other = (array.values() for array in (last.before[name], then, now))
    scale = numpy.fmax(numpy.abs(begun), numpy.fmax(numpy.abs(one), numpy.abs(other)))
    return bool(ulps(one, other, scale, now.dtype).max(initial=0.0) <= 1)


def names_shown(names: Sequence[str], of: int) -> str:
    """Names of parameters in a sentence."""
    if len(names) == of and of > 1:
        return "all parameters"
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} others"


def went_on(
    end: End, steps: Sequence[Step], file: str, rules: Rules, numbers: Apart
) -> tuple[Resume, Pair]:
    """The state with which a run continued, and the states by which its steps are judged.

    Args:
        end: the end of the run before the interruption.
        steps: the steps after the interruption.
        file: the file in which they are recorded.
        rules: the rules of the parameters.
        numbers: sentences about numbers with which the run does not go on, or may not.
    """
    first, last, pair = steps[0], end.step, end.pair
    own, params = rules.of(first), values_of(first.before)
    moved = [n for n in params if n in last.after and not continues(first, last, n)]
    new = [name for name in params if name not in last.after]
    sentences = _of_parameters(first, last, moved)
    left = {name for name in params if name in first.grads and name not in new}
    state: dict[str, str] = {}
    pair = pair.copy()
    for machine in pair:
        _meet(machine, first, own, new)
    unjudged = [name for name in new if not _knows_state(first, name, own[name])]
    chosen = pair.copy()
    found = fits(Trial("carried", "", pair), steps, rules, end.judge, left)
    state |= dict.fromkeys(found, "carried")
    left -= found
    carried = "" if moved else "the parameters were carried exactly, but "
    for trial in (*trials(pair, own, params), *_recorded(pair, first, own)) if left else ():
        found = fits(trial, steps, rules, end.judge, left)
        left -= found
        state |= dict.fromkeys(found, trial.name)
        for mine, theirs in zip(chosen, trial.pair, strict=True):
            mine.own |= {name: theirs.own[name] for name in found}
            if found and not left:
                mine.count, mine.shared = theirs.count, theirs.shared
        if found and trial.says:
            sentences.append(
                f"{carried}the optimizer went on as if {trial.says}{_where(found, params)}"
            )
    kinds = ("carried", RECORDED, "unknown")
    known = {n: own[n] for n in params if n not in new and state.get(n, "unknown") in kinds}
    apart: dict[str, list[str]] = {}
    if first.state is not None:
        differ = differing(first.state, end, known, params)
        for name, words in differ.items():
            apart.setdefault(words, []).append(name)
        apart |= {words: [*params] for words in shared_differing(first.state, end)}
    sentences += [
        f"{carried}the state is another: {words}{_where(names, params)}"
        for words, names in apart.items()
    ]
    if left:
        state |= dict.fromkeys(left, "unknown")
        sentences.append(
            "the optimizer did not go on with the state with which it ended, nor with one that was "
            f"tried ({names_shown(sorted(left), len(params))})"
        )
        if first.state is not None or first.fresh:
            for machine in chosen:
                _taken(machine, first, own)
    resume = Resume(first.number, file, False, [], state, numbers.wrong, carried=not sentences)
    resume.unjudged = unjudged
    states = _unrecorded(first, own)
    resume.unknown = [*states, *_on_one_side(first, last, unjudged), *numbers.unknown]
    resume.exact = not (sentences or numbers.wrong or resume.unknown)
    if resume.exact:
        sentences = ["exact"]
    elif not (sentences or numbers.wrong):
        parts = "parameters" if states else "parameters and state"
        sentences = [f"{parts} were carried exactly"] if len(new) < len(params) else []
    resume.sentences = [*sentences, *numbers.wrong, *resume.unknown]
    return resume, chosen


def _unrecorded(first: Step, rules: Mapping[str, Rule]) -> list[str]:
    """A sentence about the state after a resume, if it is not recorded."""
    if first.state is not None or first.fresh or not any(rule.slots() for rule in rules.values()):
        return []
    why = first.why or "unknown"
    return [f"the state is not in the recording ({why}); only its steps could be judged"]


def _of_parameters(first: Step, last: Step, moved: list[str]) -> list[str]:
    """Sentences about parameters with which the run did not go on."""
    sentences = []
    if moved:
        back = all(n in last.before and same_bits(first.before[n], last.before[n]) for n in moved)
        when = f"before step {last.number}" if back else "with which it ended"
        sentences.append(
            f"the parameters are {'' if back else 'not '}those {when}: "
            f"{names_shown(moved, len(first.before))}"
        )
    return sentences


def _on_one_side(first: Step, last: Step, unjudged: list[str]) -> Iterator[str]:
    """Sentences about parameters that are recorded only before a resume, or only after it."""
    judged = [name for name in first.before if name not in last.after and name not in unjudged]
    gone = [name for name in last.after if name not in first.before]
    for names, said in (
        (judged, "not recorded before it, and judged from there on"),
        (unjudged, "not recorded before it, nor their state, and not judged"),
        (gone, "not recorded after it"),
    ):
        if names:
            yield f"{said}: {names_shown(names, 0)}"


def _knows_state(first: Step, name: str, rule: Rule) -> bool:
    """Whether the state of a parameter before a step is known from this step alone."""
    if first.fresh or first.state is None:
        return first.fresh or not rule.slots()
    state = first.state.parameters.get(name)
    return state is None or not state.slots or {*state.slots} == {*rule.slots()}


def _meet(machine: Machine, first: Step, rules: Mapping[str, Rule], new: list[str]) -> None:
    """Leave a machine the parameters of a step; new ones begin with the state that is recorded."""
    machine.own = {name: own for name, own in machine.own.items() if name in first.before}
    if new:
        taken = machine.copy()
        _taken(taken, first, rules)
        machine.own |= {name: taken.own[name] for name in new}
        if first.state is not None and len(new) == len(first.before):
            machine.count, machine.shared = taken.count, taken.shared


RECORDED = "recorded"
"""The state in the file after the interruption."""


def _recorded(pair: Pair, first: Step, rules: Mapping[str, Rule]) -> Iterator[Trial]:
    """The recorded state, if there is any; how it differs is said elsewhere."""
    if first.state is not None:
        made = pair.copy()
        for machine in made:
            _taken(machine, first, rules)
        yield Trial(RECORDED, "", made)


def _where(names: Collection[str], params: Collection[str]) -> str:
    return "" if len(names) == len(params) else f" ({names_shown(sorted(names), len(params))})"


def _taken(machine: Machine, first: Step, rules: Mapping[str, Rule]) -> None:
    params = values_of(first.before)
    if first.state is None:
        machine.fresh(rules, params)
    else:
        machine.take(first.state, rules, params)
