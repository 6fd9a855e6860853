"""Planted faults and what is said of them: the table in every rule, its outcomes, and the page.

A fault is described once, as a pattern, and planted in every rule that runs something of that form,
as long as the rule then computes something else; so a new rule has the faults of all that it does
as others do without being listed.

    python -m samestep.conformance.faults.planted --write docs/pages/faults.md
"""

from __future__ import annotations

import ast
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, NamedTuple

import numpy

from samestep.declaration import Hyper
from samestep.parity.bounds import BOUND
from samestep.parity.case import Sizes, distance
from samestep.parity.comparison import SHAPES, STEPS, Comparison, compared, taken_by
from samestep.parity.subjects.subject import subject
from samestep.parity.trajectory import Trajectory, as_recorded, record
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

from .catalogue import FAULTS
from .edits import Edit, TableFault, edit
from .mutation import Fault, changed, entered, stale, with_fault
from .outcomes import written

__all__ = [
    "Outcome",
    "Row",
    "diagnosed",
    "edited",
    "faulty",
    "functions_run",
    "kinds",
    "main",
    "numbers_of",
    "rows",
    "rules",
    "selection",
]

PER_RULE = 2
"""How many faults of every rule the selection has."""


MARGIN = 10
"""How many times the bound a fault makes a difference of, to be one."""


class Row(NamedTuple):
    """A fault planted in a rule."""

    rule: type[Rule]
    fault: TableFault
    numbers: Mapping[str, Any]
    """The numbers of both the copy and the rule."""
    wrong: type[Rule]

    @property
    def key(self) -> tuple[str, str, str]:
        """The rule, the kind of the fault and its name."""
        return self.rule.__name__, self.fault.kind, self.fault.name


class Outcome(NamedTuple):
    """The verdict about a fault, with the names and sentences of the diagnosis."""

    verdict: Literal["right", "unexplained", "wrong"]
    names: frozenset[str]
    sentences: Sequence[str]


@cache
def rules() -> tuple[type[Rule], ...]:
    """The rules that faults are planted in: all that step by themselves."""
    return tuple(rule for rule in registry.values() if not issubclass(rule, Wrapper))


@cache
def kinds() -> tuple[str, ...]:
    """The kinds of faults, in the order of the table."""
    return tuple(dict.fromkeys(fault.kind for fault in FAULTS))


def _number(name: str, field: Hyper) -> Any:
    """A number with which a fault shows: features on, eps as large as what it is added to."""
    if name == "lr":
        return min(field.default, 2.0**-7) if field.default < 1 else 0.5
    if name == "eps":
        return (1e-6, 1e-3) if isinstance(field.default, tuple) else 1e-3
    if name == "eps_root":
        return 1e-10 if field.default else 0.0
    return field.default if field.typical is None else field.typical


def numbers_of(rule: type[Rule], given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Numbers for both sides; ``None`` where the rule does not take what a fault needs."""
    fields = rule.fields()
    given = {n: v for n, v in given.items() if n in fields or getattr(rule, n, None) is not v}
    if not given.keys() <= fields.keys():
        return None
    own = {n: _number(n, f) for n, f in fields.items() if isinstance(f, Hyper)}
    try:
        made: Any = rule
        made(**{**own, **given})
    except ValueError:
        return None
    return {**own, **given}


SOON = STEPS // 2 + 2
"""Steps in which a fault must make a difference; one of them is without gradients."""


@cache
def _trajectories(steps: int) -> tuple[Trajectory, ...]:
    """The two that a comparison steps along, or the first steps of the first."""
    seeds = (0, 1) if steps == STEPS else (0,)
    whole = (record(seed, STEPS, SHAPES) for seed in seeds)
    return tuple(each.taken({*each.params}, steps) for each in whole)


def _followed(rule: Rule, steps: int = SOON) -> list[dict[str, numpy.ndarray]]:
    """Where a rule goes, if every number is finite on the way.

    Raises:
        FloatingPointError: one is not.
    """
    found, rule = [], as_recorded(rule)
    for whole in _trajectories(steps):
        taken = whole.taken(taken_by(rule, whole))
        params = taken.params
        with numpy.errstate(over="raise", divide="raise", invalid="raise"):
            state = rule.init(params)
            found.append(params)
            for grads in taken.grads:
                params, state = rule.update(grads, params, state)
                found.append(params)
    return found


@cache
def _right(rule: type[Rule], numbers: tuple[tuple[str, Any], ...]) -> Any:
    made: Any = rule
    return _followed(made(**dict(numbers)))


def _differs(row: Row) -> bool:
    """Whether a fault makes a difference, of numbers that are finite."""
    wrong: Any = row.wrong
    try:
        found = _followed(wrong(**row.numbers))
    except (TypeError, ValueError, AttributeError, ArithmeticError, IndexError):
        return False
    rule: Any = row.rule
    right = _right(rule, tuple(row.numbers.items()))
    apart = [distance(*three) for three in zip(found, right, Sizes(right).at, strict=True)]
    return MARGIN * BOUND["float64"].start < max(apart) < numpy.inf


@cache
def functions_run(rule: Rule) -> tuple[FunctionType, ...]:
    """The functions that a rule runs, in the order of their names."""
    found = entered(lambda: _followed(rule))
    return tuple(sorted(found, key=lambda function: (function.__module__, function.__qualname__)))


def _fault(functions: Sequence[FunctionType], fault: TableFault) -> Fault | None:
    """The planted form of a fault in the functions of a rule, or ``None`` where no edit fits."""
    if fault.stale:
        return stale(functions, fault.stale)
    made = [made for edit in fault.edits if (made := edited(functions, edit)) is not None]
    codes = {function: code for one in made for function, code in one.codes.items()}
    return Fault(fault.name, codes) if codes else None


def edited(functions: Sequence[FunctionType], edit: Edit) -> Fault | None:
    """A fault by an edit, or ``None`` where one of its patterns fits nowhere."""
    changes = edit.changes()
    fits = [changed("", functions, change) for change in changes]
    if None in fits:
        return None

    def change(node: ast.AST, function: FunctionType) -> ast.AST | None:
        return next((new for one in changes if (new := one(node, function)) is not None), None)

    return changed("", functions, change)


def faulty(rule: Any, made: Rule, pattern: str) -> Any:
    """A class like a rule with a fault wherever the pattern fits what an instance runs."""
    return with_fault(rule, edited(functions_run(made), edit(pattern)))


def _planted(rule: type[Rule], fault: TableFault) -> Row | None:
    """The row of a fault in a rule, if an edit fits it and it computes something else then."""
    numbers = numbers_of(rule, fault.given)
    if numbers is None or not any(_has(rule, names) for names in fault.expected):
        return None
    kind: Any = rule
    made = _fault(functions_run(kind(**numbers)), fault)
    if made is None and not fault.late:
        return None
    row = Row(rule, fault, numbers, with_fault(rule, made, fault.late))
    return row if _differs(row) else None


def _has(rule: type[Rule], names: frozenset[str]) -> bool:
    """Whether a rule offers the values of options that are expected."""
    fields = rule.fields()
    for name, _, value in (name.partition("=") for name in names if "=" in name):
        field = fields.get(name)
        choices = getattr(field, "choices", None) or (False, True)
        if field is None or value not in map(str, choices):
            return False
    return True


def rows(rule: type[Rule]) -> Iterator[Row]:
    """Every fault of a rule that has finite numbers in all steps of a comparison."""
    for fault in FAULTS:
        row = _planted(rule, fault)
        if row is not None and _is_finite(row):
            yield row


def _is_finite(row: Row) -> bool:
    wrong: Any = row.wrong
    try:
        _followed(wrong(**row.numbers), STEPS)
    except ArithmeticError:
        return False
    return True


def diagnosed(row: Row) -> tuple[Comparison, Outcome]:
    """Compare a faulty copy with its rule, and judge what is said."""
    name = row.rule.__name__
    wrong, right = subject(row.wrong, **row.numbers), subject(f"samestep:{name}", **row.numbers)
    found = compared(wrong, right)
    fields = row.rule.fields()
    names = frozenset(
        f"{reason.option}={reason.a}" if reason.option in fields else reason.option
        for reason in found.reasons
    )
    whole = not any("unexplained" in sentence for sentence in found.sentences)
    verdict: Literal["right", "unexplained", "wrong"] = "wrong"
    if names in row.fault.expected:
        verdict = "right" if whole else "unexplained"
    elif not names and not found.explained:
        verdict = "unexplained"
    return found, Outcome(verdict, names, found.sentences)


@cache
def selection() -> tuple[Row, ...]:
    """A few faults of every rule: rare kinds first, then rare faults."""
    chosen: list[Row] = []
    of_kind: Counter[str] = Counter()
    of_fault: Counter[str] = Counter()
    for rule in rules():
        left = PER_RULE
        untried = list(FAULTS)
        while left and untried:
            untried.sort(key=lambda f: (of_kind[f.kind], of_fault[f.name]))
            row = _planted(rule, untried.pop(0))
            if row is not None:
                chosen.append(row)
                of_kind[row.fault.kind] += 1
                of_fault[row.fault.name] += 1
                left -= 1
    return tuple(chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant the faults, print or write the page; 1 if one is named wrongly."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rules", nargs="+", default=[rule.__name__ for rule in rules()])
    parser.add_argument("--kinds", nargs="+", default=kinds())
    parser.add_argument("--write", metavar="FILE", type=Path)
    given = parser.parse_args(arguments)
    found = []
    for name in given.rules:
        for row in rows(registry[name]):
            if row.fault.kind in given.kinds:
                found.append((row, diagnosed(row)[1]))
        print(f"{name}: {len(found)} so far", file=sys.stderr)
    page = written(found)
    if given.write is None:
        print(page)
    else:
        given.write.write_text(page, encoding="utf-8")
        print(f"{given.write}: {len(found)} faults")
    return int(any(outcome.verdict == "wrong" for _, outcome in found))


if __name__ == "__main__":
    sys.exit(main())
