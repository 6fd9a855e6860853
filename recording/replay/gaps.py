"""Whether the state was carried over steps that are not recorded, as far as its counts tell."""

from __future__ import annotations

from collections.abc import Mapping

from samestep.recording.reading import Step
from samestep.rule import Rule

from .resuming import names_shown
from .states import counts_otherwise
from .stepper import Own
from .trials import Pair

__all__ = ["lost", "short"]


def lost(last: Step, step: Step, pair: Pair, rules: Mapping[str, Rule]) -> list[str]:
    """In words, the counts that a state cannot have if it was carried from one step to another.

    Args:
        last: the last step of a stretch.
        step: the first step of the next one.
        pair: the states after ``last``.
        rules: the rules of the parameters.
    """
    machine, passed = pair.wide, step.number - last.number - 1
    found: dict[str, list[str]] = {}
    for name, own in machine.own.items():
        if name in rules and name in step.before:
            count = own.step if machine.each else machine.count
            words = _impossible(step, name, rules[name], own, count, count + passed)
            found.setdefault(words, []).append(name)
    found.pop("", None)
    return [f"{words} ({names_shown(names, len(rules))})" for words, names in found.items()]


def _impossible(step: Step, name: str, rule: Rule, own: Own, least: int, most: int) -> str:
    """How the count of a parameter is impossible; empty if it is possible, or not known."""
    state = None if step.state is None else step.state.parameters.get(name)
    if step.fresh or (state is not None and state.slots is None):
        return "there is no state" if least and own.slots else ""
    if state is None or least <= state.step <= most:
        return ""
    bound, words = (least, "at least") if state.step < least else (most, "at most")
    if not counts_otherwise(rule, state.step, bound):
        return ""
    return f"{state.step} steps are counted in place of {words} {bound}"


def short(last: Step, step: Step, pair: Pair, rules: Mapping[str, Rule]) -> int:
    """How many steps between two have been counted for no parameter, though they were taken."""
    machine, passed = pair.wide, step.number - last.number - 1
    if step.state is None:
        return 0
    found = []
    for name, own in machine.own.items():
        state = step.state.parameters.get(name)
        if name in rules and state is not None and state.slots is not None:
            most = passed + (own.step if machine.each else machine.count)
            if state.step == most or not counts_otherwise(rules[name], state.step, most):
                return 0
            found.append(most - state.step)
    return min(found, default=0)
