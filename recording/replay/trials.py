"""States with which a run may have continued in place of its own, tried on the next steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from samestep.recording.reading import Step
from samestep.rule import Rule

from .judging import Judge
from .rules import Rules
from .stepper import Machine, Own, Values, values_of

__all__ = ["FOLLOWED", "Pair", "Trial", "fits", "trials"]

FOLLOWED = 3
"""Steps over which a trial must fit."""


class Pair(NamedTuple):
    """The same state in float64 and in float32."""

    wide: Machine
    narrow: Machine

    def copy(self) -> Pair:
        """A copy."""
        return Pair(self.wide.copy(), self.narrow.copy())

    def step(self, rules: Mapping[str, Rule], grads: Values, params: Values) -> list[Values]:
        """Step both from the same parameters."""
        return [machine.step(rules, grads, params) for machine in self]


class Trial(NamedTuple):
    """A state or numbers with which a run may have continued, and the words for it."""

    name: str
    says: str
    pair: Pair
    changes: Mapping[str, Any] = {}


def trials(pair: Pair, rules: Mapping[str, Rule], params: Values) -> Iterator[Trial]:
    """States that are lost in part or completely, and no weight decay."""
    yield Trial(
        "empty state",
        "the state was empty and steps were counted from 0",
        _begun(pair, rules, params),
    )
    counted = pair.copy()
    for machine in counted:
        machine.own = {name: Own(0, own.slots) for name, own in machine.own.items()}
        machine.count = 0
    yield Trial("step count", "steps were counted from 0, with the state as it was", counted)
    emptied = _begun(pair, rules, params)
    for machine, old in zip(emptied, pair, strict=True):
        machine.own = {
            name: Own(old.own[name].step if name in old.own else 0, own.slots)
            for name, own in machine.own.items()
        }
        machine.count = old.count
    yield Trial("empty slots", "the state was empty, with steps counted on", emptied)
    if any("weight_decay" in rule.hypers for rule in rules.values()):
        yield Trial("no decay", "weight_decay were 0", pair.copy(), {"weight_decay": 0.0})


def _begun(pair: Pair, rules: Mapping[str, Rule], params: Values) -> Pair:
    made = pair.copy()
    for machine in made:
        machine.fresh(rules, params)
    return made


def fits(
    trial: Trial, steps: Sequence[Step], rules: Rules, judge: Judge, names: set[str]
) -> set[str]:
    """The parameters that agree with a trial over the next steps."""
    pair, judge = trial.pair.copy(), judge.copy()
    left = set(names)
    for step in steps[:FOLLOWED]:
        own = {
            name: rule.replace(**{n: v for n, v in trial.changes.items() if n in rule.hypers})
            if trial.changes
            else rule
            for name, rule in rules.of(step).items()
        }
        before, after = values_of(step.before), values_of(step.after)
        computed = pair.step(own, values_of(step.grads), before)
        for name in sorted(left):
            if name in step.grads and name in own:
                results = [one[name] for one in computed]
                if not judge.judged(name, own[name], before[name], after[name], *results).within:
                    left.discard(name)
        if not left:
            break
    return left
