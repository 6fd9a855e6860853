"""The cases that a test of the suite is run with: which there are, and which are thorough.

A test names what it is about in its arguments: ``rule_class`` or ``setting``, ``backend``, and
``dtype`` with ``backend``. Its cases are all combinations that declarations allow: the dtypes of
the backend, and what ``@pytest.mark.only(where=...)`` says of the rule, the backend and the dtype.
Nothing is listed by hand.

A property of the rule alone is proved for every rule. One of a framework is proved for the
representatives among the rules, and in float32; the others are left to ``make thorough``, as are
backends that compile and other dtypes but for one rule. ``@pytest.mark.every_rule`` takes every
rule on the first backend of every library; its other ways to execute have the representatives.
A setting that changes nothing but the sign of a step, or how decay enters outside of the rule, is
left to them too: ``test_properties`` has both of every rule.

``SAMESTEP_BACKENDS``: names of backends or libraries to test, separated by commas; one that is
missing is an error. Without it all that are installed are tested.
"""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import pytest

from samestep.parity.backend import Backend, Missing, backends
from samestep.rule import Rule

from .settings import all_rules, is_own, representatives, settings, typical

__all__ = ["applies", "chosen", "each_rule", "parametrize"]

Case = dict[str, Any]
"""Values of a test's arguments by name."""
ARGUMENTS = ("rule_class", "setting", "backend", "dtype")


def chosen() -> list[Backend]:
    """The backends to test.

    Raises:
        pytest.UsageError: one that was asked for is missing.
    """
    names = [name for name in os.environ.get("SAMESTEP_BACKENDS", "").split(",") if name]
    if names:
        return [backend for name in names for backend in _requested(name)]
    return [b for b in backends().values() if isinstance(b, Backend)]


def _requested(name: str) -> list[Backend]:
    found = backends()
    asked = [b for b in found.values() if isinstance(b, Backend) and name in (b.name, b.library)]
    if asked:
        return asked
    missing = found.get(name)
    if isinstance(missing, Missing):
        raise pytest.UsageError(f"SAMESTEP_BACKENDS={name} is missing: {missing.reason}")
    raise pytest.UsageError(f"SAMESTEP_BACKENDS={name} is unknown; there are {', '.join(found)}")


def parametrize(metafunc: pytest.Metafunc, rules: Sequence[type[Rule]]) -> None:
    """Run a test with every case of these rules."""
    taken = [name for name in ARGUMENTS if name in metafunc.fixturenames]
    if "backend" not in taken:
        taken = [name for name in taken if name != "dtype"]
    if not taken:
        return
    marks = list(metafunc.definition.iter_markers("only"))
    everywhere = next(metafunc.definition.iter_markers("every_rule"), None) is not None
    framework = metafunc.definition.path.parent.name in _frameworks()
    cases = []
    for label, case in _cases(taken, rules):
        if all(_holds(mark.kwargs["where"], case) for mark in marks):
            own = _marks(case, framework, everywhere)
            cases.append(pytest.param(*(case[name] for name in taken), id=label, marks=own))
    metafunc.parametrize(taken, cases)


def each_rule(
    where: Callable[[Rule], Any] = lambda rule: True, most: int | None = None
) -> list[Any]:
    """Names of the package's rules of which a condition holds, for a test of one framework.

    ``most``: how many of them are not left to ``make thorough``, where a case is slow.
    """
    found: list[Any] = []
    for rule in all_rules():
        if not (is_own(rule) and where(typical(rule))):
            continue
        marks = _marks({"rule_class": rule}, framework=True)
        if most is not None and sum(not param.marks for param in found) >= most:
            marks = [pytest.mark.thorough]
        found.append(pytest.param(rule.__name__, id=rule.__name__, marks=marks))
    return found


def _cases(taken: Sequence[str], rules: Sequence[type[Rule]]) -> Iterator[tuple[str, Case]]:
    """Every combination of values, with its label."""
    sides: list[list[tuple[str, Case]]] = []
    if "rule_class" in taken:
        sides.append(
            [(rule.__name__, {"rule_class": rule, "rule": typical(rule)}) for rule in rules]
        )
    if "setting" in taken:
        sides.append(
            [
                (f"{rule.__name__}-{label}", {"setting": instance, "rule": instance})
                for rule in rules
                for label, instance in settings(rule).items()
            ]
        )
    if "backend" in taken:
        sides.append(
            [
                (f"{backend.name}-{dtype}", {"backend": backend, "dtype": dtype})
                for backend in chosen()
                for dtype in backend.dtypes
            ]
            if "dtype" in taken
            else [(backend.name, {"backend": backend}) for backend in chosen()]
        )
    for combination in itertools.product(*sides):
        case = {name: value for _, values in combination for name, value in values.items()}
        yield "-".join(label for label, _ in combination), case


def applies(test: Callable[..., Any], case: Case) -> bool:
    """Whether a test of the suite says something of a case, which is called without pytest."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "only"]
    if "rule_class" in case:
        case = case | {"rule": typical(case["rule_class"])}
    elif "setting" in case:
        case = case | {"rule": case["setting"]}
    return all(_holds(mark.kwargs["where"], case) for mark in marks)


def _holds(condition: Any, case: Case) -> bool:
    """Whether a condition on ``rule``, ``backend`` and ``dtype`` holds of a case."""
    return bool(condition(**{name: case[name] for name in inspect.signature(condition).parameters}))


def _marks(case: Case, framework: bool, everywhere: bool = False) -> list[pytest.MarkDecorator]:
    """Whether a case is left to ``make thorough``; see above."""
    setting = case.get("setting")
    rule = case.get("rule_class") or (type(setting) if setting is not None else None)
    if rule is None or not is_own(rule):
        return []
    usual = _is_usual(rule, case, framework, everywhere)
    return [] if usual and not _is_common(setting) else [pytest.mark.thorough]


def _is_common(setting: Rule | None) -> bool:
    """Whether a setting changes only what is written once for all rules; see above."""
    if setting is None or setting.decays_inside or type(setting) in representatives():
        return False
    plain = typical(type(setting))
    common = {name: setting.hypers.get(name) for name in ("decay", "maximize")}
    return setting != plain and {**plain.hypers, **common} == setting.hypers


def _is_usual(rule: type[Rule], case: Case, framework: bool, everywhere: bool) -> bool:
    backend: Backend | None = case.get("backend")
    shown = representatives()
    unusual = backend is not None and (backend.slow + (case.get("dtype", "float32") != "float32"))
    if unusual:
        return unusual == 1 and rule is shown[0]
    if everywhere and backend is not None:
        everywhere = next(b for b in chosen() if b.library == backend.library) is backend
    return everywhere or rule in shown or not (framework or backend is not None)


@cache
def _frameworks() -> set[str]:
    return {entry.name for entry in entry_points(group="samestep.backends")}
