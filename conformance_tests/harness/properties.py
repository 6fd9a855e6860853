"""The properties of the suite that are about a rule, as a class for somebody's test module.

    from samestep.conformance import conformance_of

    TestMine = conformance_of(Mine)

A property is a function of a test module of this package that takes ``rule_class`` or ``setting``,
perhaps ``backend`` and ``dtype``, and no fixture but pytest's own. The suite runs it in its module,
and the class holds the same function. They are found, not listed.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from samestep import proof
from samestep.rule import Rule, registry

__all__ = ["ABOUT_A_RULE", "conformance_of", "modules", "taken"]

ABOUT_A_RULE = {"rule_class", "setting"}
"""A test that takes one of these says something of every rule."""
NOISE = ("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning",)
"""Warnings from inside the frameworks, for those whose warnings are errors."""


def conformance_of(rule: type[Rule], *, thorough: bool = False) -> type:
    """A class of tests: every property of the conformance suite, of one rule.

    On every backend that is installed, or on those that the environment variable
    ``SAMESTEP_BACKENDS`` names. pytest collects it under a name that begins with ``Test``.

    Args:
        rule: the class of the rule.
        thorough: take also what needs minutes.

    Raises:
        TypeError: it is no class of a rule.
        ModuleNotFoundError: pytest or hypothesis is not installed.
    """
    if not (isinstance(rule, type) and issubclass(rule, Rule)):
        raise TypeError(
            f"conformance_of({rule!r}): it must be the class of a rule, made with "
            "class MyRule(samestep.Rule)"
        )
    for needed in ("pytest", "hypothesis"):
        if importlib.util.find_spec(needed) is None:
            raise ModuleNotFoundError(
                f"conformance_of({rule.__name__}) needs {needed}, which is not installed: "
                'pip install "samestep[conformance]"',
                name=needed,
            )
    proof.SUITE.add(rule)
    body = {
        "__doc__": f"Every property of the conformance suite, of {rule.__name__}.",
        "pytestmark": _marks(NOISE),
        "pytest_generate_tests": staticmethod(_parametrized(rule)),
    }
    for found in modules():
        for name, test in taken(found, thorough).items():
            if name in body:
                raise RuntimeError(f"{name} is in two modules of the suite; rename one of them")
            body[name] = staticmethod(test)
    return type(f"Conformance{rule.__name__}", (), body)


class Module(NamedTuple):
    """A test module that has a property, as it is written."""

    name: str
    properties: list[str]


@cache
def modules() -> list[Module]:
    """The test modules that have a property."""
    suite, package = Path(__file__).parent.parent, __package__.rpartition(".")[0]
    found = []
    for path in sorted(suite.glob("*/test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        properties = [
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            if ABOUT_A_RULE & {argument.arg for argument in node.args.args}
        ]
        if properties:
            found.append(Module(f"{package}.{path.parent.name}.{path.stem}", properties))
    return found


def taken(found: Module, thorough: bool) -> dict[str, Any]:
    """The properties of a module by name.

    Where the module needs what is missing it is one test, which is skipped and says so.
    """
    pytest: Any = importlib.import_module("pytest")
    known = dict(registry)
    short = found.name.rpartition(".")[2]
    if found.name not in sys.modules:
        pytest.register_assert_rewrite(found.name)
    try:
        module = importlib.import_module(found.name)
    except pytest.skip.Exception as skipped:
        return {short: _skipping(str(skipped))}
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "samestep":
            raise
        return {short: _skipping(f"needs {error.name}, which is not installed")}
    finally:  # rules that a module defines for its tests are not for others
        registry.clear()
        registry.update(known)
    tests = {name: getattr(module, name) for name in found.properties}
    return {
        name: test
        for name, test in tests.items()
        if thorough or "thorough" not in _names_of_marks(module, test)
    }


def _names_of_marks(*marked: Any) -> set[str]:
    """The names of the marks of a module and of a function."""
    marks = [getattr(each, "pytestmark", []) for each in marked]
    return {m.name for own in marks for m in (own if isinstance(own, list) else [own])}


def _marks(warnings: Iterable[str]) -> list[Any]:
    pytest: Any = importlib.import_module("pytest")
    return [pytest.mark.filterwarnings(warning) for warning in warnings]


def _parametrized(rule: type[Rule]) -> Callable[[Any], None]:
    """A hook that gives every test the one rule, and the backends."""
    parametrized: Any = importlib.import_module(f"{__package__}.parametrized")
    return lambda metafunc: parametrized.parametrize(metafunc, [rule])


def _skipping(reason: str) -> Callable[[], None]:
    """A test that cannot be run."""

    def test() -> None:
        importlib.import_module("pytest").skip(reason)

    return test
