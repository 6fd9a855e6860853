"""The rules in the terminal: a table of all, what one of them declares, how its dialects differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy
from rich import box
from rich.console import Console
from rich.table import Table

from samestep import tree
from samestep.declaration import Hyper, Option, Shared, Slot
from samestep.documentation import page
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

from .differences import DEFAULT, STEPS, Distance, alike, changed, differences, wrapped

__all__ = ["print_differences", "print_rule", "print_rules", "state_bytes"]

SHAPE = (256, 256)
"""Of the parameter whose state is counted; what a factored rule keeps depends on it."""


def print_rules(console: Console) -> None:
    """Print a table of all rules."""
    common = _common()
    table = _table(
        "rule",
        "needs",
        "bytes",
        "takes and keeps",
        right=("bytes",),
        box=box.HORIZONTALS,
        show_lines=True,
        caption=f"Every rule takes {_assigned(common)} too. bytes: of state, per element of a "
        f"{SHAPE[0]} x {SHAPE[1]} float32 parameter, with defaults; a wrapper's own.",
    )
    for name in sorted(registry, key=str.casefold):
        rule = _example(registry[name])
        hypers, options = _by_kind(rule)
        own = {n: f.default for n, f in options.items() if n not in common}
        parts = {
            "numbers": _assigned({n: f.default for n, f in hypers.items()}),
            "options": _assigned(own),
            "like": ", ".join(rule.dialects),
            "state": ", ".join(n for n in _kept(rule) if n not in _switched_off(rule)),
        }
        cell = Table.grid("", "", padding=(0, 2, 0, 0))
        for label, text in parts.items():
            if text:
                cell.add_row(label, text)
        size = sum(size for slot, size in state_bytes(rule).items() if slot in rule.slots())
        table.add_row(name, _needs(rule), f"{size:.3g}", cell)
    console.print(table, markup=False)


def print_rule(console: Console, name: str) -> None:
    """Print the documentation of one rule, everything that it declares, and its dialects."""
    rule = _example(registry[name])
    text = page(registry[name])
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print()
    hypers = _table("hyperparameter", "default", "range", "unit", "meaning")
    options = _table("option", "default", "range", "meaning")
    numbers, choices = _by_kind(rule)
    for number in numbers.values():
        hypers.add_row(number.name, str(number.default), number.range, number.unit, number.meaning)
    for choice in choices.values():
        options.add_row(choice.name, repr(choice.default), choice.range, choice.meaning)
    state = _table("state", "meaning", "kept", "bytes per element", right=("bytes per element",))
    sizes = state_bytes(rule)
    for slot, declared in _kept(rule).items():
        size = f"{sizes[slot]:.3g}" if slot in sizes else ""
        state.add_row(slot, declared.meaning, _when(declared), size)
    dialects = _table("like", "computes what this does", "values that differ", "note")
    for dialect, preset in rule.dialects.items():
        values = _assigned(changed(type(rule), dialect))
        dialects.add_row(dialect, preset.of, values or "none", preset.note)
    for table in (hypers, options, state, dialects):
        if table.row_count:
            console.print(table, markup=False)


def print_differences(console: Console, name: str) -> None:
    """Print what every dialect of a rule does, and by how much its steps differ."""
    rule = registry[name]
    if not rule.dialects:
        console.print(f"{name} has no dialects, so there is nothing to compare.", markup=False)
        return
    around = f" Around {wrapped()!r}." if issubclass(rule, Wrapper) else ""
    table = _table(
        "like",
        "what differs",
        "with",
        "1 step",
        f"{STEPS} steps",
        box=box.HORIZONTALS,
        pad_edge=False,
        show_lines=True,
        title=f"{name}: its dialects beside its default",
        caption="How far the parameters have moved, as a multiple of the default (x), and the "
        "largest difference of an element, relative to the default's largest (%); in float64, on "
        f"recorded gradients. own: nothing is set. alike: {_assigned(alike(rule))} for all. "
        "same: but for rounding; what is off here, such as momentum, may differ where it is "
        f"on.{around}",
    )
    for row in differences(rule):
        values = _assigned(row.values, "\n") or "nothing"
        settings = {"own": row.own, "alike": row.alike}
        columns = zip(*settings.values(), strict=True)
        steps = ("\n".join(_distance(d, row.name) for d in column) for column in columns)
        table.add_row(row.name, values, "\n".join(settings), *steps)
    console.print(table, markup=False)


def state_bytes(rule: Rule) -> dict[str, float]:
    """Bytes of each of a rule's own slots per element of a float32 parameter."""
    param = numpy.zeros(SHAPE, numpy.float32)
    made = {
        name: item.init.make(numpy, param, rule.owner(name))
        for name, item in _kept(rule).items()
        if isinstance(item, Slot)
    }
    return {
        name: sum(array.size for _, array in tree.leaves(value)) * param.itemsize / param.size
        for name, value in made.items()
    }


def _table(*columns: str, right: Collection[str] = (), **settings: Any) -> Table:
    """A table that breaks long names rather than cutting them off."""
    table = Table(caption_justify="left", **settings)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _distance(distance: Distance, name: str) -> str:
    if distance.same and name != DEFAULT:
        return "same"
    apart = f", {_percent(distance.largest)}" if name != DEFAULT else ""
    return f"{distance.length:.3g} x{apart}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def _assigned(values: Mapping[str, Any], separator: str = ", ") -> str:
    return separator.join(f"{name}={value!r}" for name, value in values.items())


def _by_kind(rule: Rule) -> tuple[dict[str, Hyper], dict[str, Option]]:
    fields = rule.fields()
    return (
        {name: field for name, field in fields.items() if isinstance(field, Hyper)},
        {name: field for name, field in fields.items() if isinstance(field, Option)},
    )


def _common() -> dict[str, Any]:
    """The options of every rule whose default is the same in all; wrappers hand them on."""
    found = [registry[name] for name in registry if not issubclass(registry[name], Wrapper)]
    return {
        name: field.default
        for name, field in vars(Rule).items()
        if isinstance(field, Option)
        and all(rule.fields()[name].default == field.default for rule in found)
    }


def _kept(rule: Rule) -> dict[str, Slot | Shared]:
    """All state that a rule declares; of a wrapper what it keeps itself."""
    kept: dict[str, Slot | Shared] = {**rule.declared_slots(), **rule.shared()}
    inside = _kept(rule.rule) if isinstance(rule, Wrapper) else {}
    return {name: item for name, item in kept.items() if name not in inside}


def _switched_off(rule: Rule) -> set[str]:
    return {*rule.declared_slots()} - {*rule.slots()}


def _when(declared: Slot | Shared) -> str:
    if isinstance(declared, Shared):
        return "once for all parameters"
    return f"only with {declared.only_if}" if declared.only_if else "per parameter"


def _example(rule: type[Rule]) -> Rule:
    """A rule at its defaults; wrappers go around SGD."""
    around: Iterable[Rule] = (registry["SGD"](),) if issubclass(rule, Wrapper) else ()
    return rule(*around)


def _needs(rule: Rule) -> str:
    return "a rule" if isinstance(rule, Wrapper) else str(rule.needs)
