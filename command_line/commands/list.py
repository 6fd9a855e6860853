"""``samestep list``: all rules, the declaration of one, and the differences of its dialects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click
import numpy

from samestep import tree
from samestep.command_line.differences import (
    DEFAULT,
    STEPS,
    Distance,
    alike,
    changed,
    differences,
    wrapped,
)
from samestep.command_line.report import (
    GAP,
    Cell,
    Code,
    Heading,
    Line,
    Report,
    Table,
    Words,
    show,
)
from samestep.declaration import Hyper, Option, Shared, Slot
from samestep.documentation import page
from samestep.rule import Rule, registry
from samestep.spelling import unknown
from samestep.wrapper import Wrapper

__all__ = ["command", "differences_report", "rule_report", "rules_report", "state_bytes"]

SHAPE = (256, 256)
"""Shape of the parameter whose state is counted: the state of a factored rule depends on it."""


@click.command()
@click.argument("rule", required=False)
@click.option(
    "--differences", "differ", is_flag=True, help="Show how RULE's dialects differ instead."
)
def command(rule: str | None, differ: bool) -> None:
    """List the rules, or show everything that RULE declares."""
    known = sorted(registry, key=str.casefold)
    if rule is None and differ:
        raise click.UsageError("--differences needs a rule: samestep list Adam --differences")
    if rule is not None and rule not in registry:
        raise click.UsageError(unknown("rule", rule, known))
    if rule is None:
        show(rules_report())
    else:
        show(differences_report(rule) if differ else rule_report(rule))


def rules_report() -> Report:
    """A table of all rules."""
    common = _common()
    rows = []
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
        size = sum(size for slot, size in state_bytes(rule).items() if slot in rule.slots())
        told = {label: text for label, text in parts.items() if text}
        rows.append((name, _needs(rule), f"{size:.3g}", told))
    caption = (
        f"Every rule takes {_assigned(common)} too. bytes: of state, per element of a "
        f"{SHAPE[0]} x {SHAPE[1]} float32 parameter, with defaults; a wrapper's own."
    )
    columns = ("rule", "needs", "bytes", "takes and keeps")
    return Report([Table(columns, rows, caption=caption, right=("bytes",), frame="lines")])


def rule_report(name: str) -> Report:
    """The documentation of one rule, everything that it declares, and its dialects."""
    rule = _example(registry[name])
    numbers, choices = _by_kind(rule)
    sizes = {slot: f"{size:.3g}" for slot, size in state_bytes(rule).items()}
    tables: dict[tuple[str, ...], list[tuple[Cell, ...]]] = {
        ("hyperparameter", "default", "range", "unit", "meaning"): [
            (*_codes(number.name, repr(number.default)), number.range, number.unit, number.meaning)
            for number in numbers.values()
        ],
        ("option", "default", "range", "meaning"): [
            (*_codes(choice.name, repr(choice.default)), choice.range, choice.meaning)
            for choice in choices.values()
        ],
        ("state", "meaning", "kept", "bytes per element"): [
            (*_codes(slot), declared.meaning, _when(declared), sizes.get(slot, ""))
            for slot, declared in _kept(rule).items()
        ],
        ("like", "computes what this does", "values that differ", "note"): [
            (*_codes(like), preset.of, _differing(changed(type(rule), like)), preset.note)
            for like, preset in rule.dialects.items()
        ],
    }
    right = ("bytes per element",)
    shown = [Table(names, rows, right=right, frame="grid") for names, rows in tables.items()]
    text = Code(page(registry[name]), language="text")
    return Report([Heading(name, on="markdown"), text, GAP, *shown])


def differences_report(name: str) -> Report:
    """The values of every dialect of a rule, and by how much its steps differ."""
    rule = registry[name]
    if not rule.dialects:
        return Report([Line(f"{name} has no dialects, so there is nothing to compare.")])
    around = f" Around {wrapped()!r}." if issubclass(rule, Wrapper) else ""
    caption = (
        "How far the parameters have moved, as a multiple of the default (x), and the largest "
        "difference of an element, relative to the default's largest (%); in float64, on recorded "
        f"gradients. own: nothing is set. alike: {_assigned(alike(rule))} for all. same: but for "
        f"rounding; what is off here, such as momentum, may differ where it is on.{around}"
    )
    rows = []
    for row in differences(rule):
        settings = {"own": row.own, "alike": row.alike}
        columns = zip(*settings.values(), strict=True)
        steps = ("\n".join(_distance(d, row.name) for d in column) for column in columns)
        values = _assigned(row.values, "\n") or "nothing"
        rows.append((row.name, values, "\n".join(settings), *steps))
    names = ("like", "what differs", "with", "1 step", f"{STEPS} steps")
    title = f"{name}: its dialects beside its default"
    return Report([Table(names, rows, title=title, caption=caption, frame="lines")])


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


def _distance(distance: Distance, name: str) -> str:
    if distance.same and name != DEFAULT:
        return "same"
    apart = f", {_percent(distance.largest)}" if name != DEFAULT else ""
    return f"{distance.length:.3g} x{apart}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def _assigned(values: Mapping[str, Any], separator: str = ", ") -> str:
    return separator.join(f"{name}={value!r}" for name, value in values.items())


def _codes(*texts: str) -> Iterator[Words]:
    return (Words(text, "code") for text in texts)


def _differing(values: Mapping[str, Any]) -> Cell:
    return Words(_assigned(values), "code") if values else "none"


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
    """All state that a rule declares; of a wrapper, only its own."""
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
