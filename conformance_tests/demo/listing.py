"""The rules in the terminal: a table of all, or everything that one of them declares."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import numpy
from rich.console import Console
from rich.table import Table

from samestep import rules, tree
from samestep.declaration import Hyper, Shared, Slot
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

__all__ = ["print_rule", "print_rules", "unknown"]

SHAPE = (256, 256)
"""Of the parameter whose state is counted; what a factored rule keeps depends on it."""


def unknown(kind: str, name: str, known: list[str]) -> str:
    """A sentence for a name that does not exist, with the known ones and those that are close."""
    spelled = {other.lower(): other for other in known}
    near = [spelled[match] for match in difflib.get_close_matches(name.lower(), spelled)]
    guess = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"there is no {kind} {name!r}. {guess}The known ones are {', '.join(known)}."


def print_rules(console: Console) -> None:
    """Print a table of the rules that come with samestep."""
    table = Table(
        "rule",
        "needs",
        "hyperparameters",
        "slots",
        show_lines=True,
        caption="state: array elements kept per element of a 256 x 256 parameter",
    )
    table.add_column("state", justify="right")
    for name in rules.__all__:
        rule = _example(registry[name])
        hypers = (f"{n}={f.default}" for n, f in rule.fields().items() if isinstance(f, Hyper))
        table.add_row(
            name,
            _needs(rule),
            ", ".join(hypers),
            ", ".join(rule.slots()),
            f"{_state_size(rule):.3g}",
        )
    console.print(table)


def print_rule(console: Console, name: str) -> None:
    """Print the documentation of one rule and everything that it declares."""
    rule = _example(registry[name], typical=True)
    text = inspect.cleandoc(rule.__doc__ or "")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print()
    hypers = Table("hyperparameter", "default", "range", "unit", "meaning")
    options = Table("option", "default", "range", "meaning")
    for field in rule.fields().values():
        if isinstance(field, Hyper):
            hypers.add_row(field.name, str(field.default), field.range, field.unit, field.meaning)
        else:
            options.add_row(field.name, repr(field.default), field.range, field.meaning)
    state = Table("state", "meaning", "kept")
    kept: dict[str, Slot | Shared] = {**rule.slots(), **rule.shared()}
    for slot, declared in kept.items():
        state.add_row(slot, declared.meaning, _kept(declared))
    for table in (hypers, options, state):
        if table.row_count:
            console.print(table)


def _kept(declared: Slot | Shared) -> str:
    if isinstance(declared, Shared):
        return "once for all parameters"
    return f"only with {declared.only_if}" if declared.only_if else "per parameter"


def _example(rule: type[Rule], typical: bool = False) -> Rule:
    """A rule at its defaults, or with every feature switched on; wrappers go around SGD."""
    switched_on = {
        name: field.typical
        for name, field in rule.fields().items()
        if typical and isinstance(field, Hyper) and field.typical is not None
    }
    wrapped: tuple[Any, ...] = (registry["SGD"](),) if issubclass(rule, Wrapper) else ()
    return rule(*wrapped, **switched_on)


def _needs(rule: Rule) -> str:
    return "a rule" if isinstance(rule, Wrapper) else str(rule.needs)


def _state_size(rule: Rule) -> float:
    """Elements of state per element of the parameter."""
    param = numpy.zeros(SHAPE, numpy.float32)
    slots = rule.init(param).slots
    sizes = (array.size for value in slots.values() for _, array in tree.leaves(value))
    return float(sum(sizes) / param.size)
