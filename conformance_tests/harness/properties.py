"""The properties of the suite that are about a rule, as a class for somebody's test module.

    from samestep.conformance import conformance_of

    TestMine = conformance_of(Mine)

They are found, not listed: every function of this package's test modules that takes ``rule_class``
or ``setting``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from samestep.rule import Rule, registry

__all__ = ["ABOUT_A_RULE", "conformance_of", "modules"]

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
    return _Collection(rule, thorough).made()


def modules() -> list[str]:
    """Names of the test modules that have a test about a rule."""
    suite, package = Path(__file__).parent.parent, __package__.rpartition(".")[0]
    files = sorted(suite.glob("*/test_*.py"))
    return [f"{package}.{path.parent.name}.{path.stem}" for path in files if _has_one(path)]


def _has_one(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.FunctionDef) and _is_one(node.name, {a.arg for a in node.args.args})
        for node in tree.body
    )


def _is_one(name: str, arguments: set[str]) -> bool:
    return name.startswith("test_") and bool(ABOUT_A_RULE & arguments)


class _Collection:
    """The tests of one rule on their way from the modules into a class."""

    def __init__(self, rule: type[Rule], thorough: bool) -> None:
        self.pytest: Any = importlib.import_module("pytest")
        self.rule, self.thorough = rule, thorough
        self.body: dict[str, Any] = {
            "__doc__": f"Every property of the conformance suite, of {rule.__name__}.",
            "pytestmark": [self.pytest.mark.filterwarnings(warning) for warning in NOISE],
            "pytest_generate_tests": staticmethod(self.parametrize),
        }

    def parametrize(self, metafunc: Any) -> None:
        """Give every test the one rule, and the backends."""
        importlib.import_module(f"{__package__}.parametrized").parametrize(metafunc, [self.rule])

    def made(self) -> type:
        """The class, with the tests of all modules."""
        names = modules()
        self.pytest.register_assert_rewrite(*(name for name in names if name not in sys.modules))
        for name in names:
            self.take(name)
        return type(f"Conformance{self.rule.__name__}", (), self.body)

    def take(self, name: str) -> None:
        """Take the tests of a module, or where it needs what is missing one that says so."""
        short = name.rpartition(".")[2]
        known = dict(registry)
        try:
            module = importlib.import_module(name)
        except self.pytest.skip.Exception as skipped:
            return self.add(short, staticmethod(self.skipping(str(skipped))))
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] == "samestep":
                raise
            missing = self.skipping(f"needs {error.name}, which is not installed")
            return self.add(short, staticmethod(missing))
        finally:  # rules that a module defines for its tests are not for others
            registry.clear()
            registry.update(known)
        tests = [test for test in _tests(module) if self.is_wanted(module, test)]
        around = [*_marks(module), *self.fixtures(module, tests)]
        for test in tests:
            self.add(test.__name__, staticmethod(_copy(test, [*around, *_marks(test)])))
        return None

    def is_wanted(self, module: ModuleType, test: FunctionType) -> bool:
        """Whether a test is one that is taken."""
        names = {mark.name for mark in (*_marks(module), *_marks(test))}
        return self.thorough or "thorough" not in names

    def fixtures(self, module: ModuleType, tests: list[FunctionType]) -> list[Any]:
        """Take a module's fixtures that tests use, and return marks for what all of them use.

        Used by themselves they would be by the tests of other modules too.
        """
        found = {
            name: (value, marker)
            for name, value in vars(module).items()
            if (marker := _fixture_marker(value)) and value.__module__ == module.__name__
        }
        asked = {name for test in tests for name in _asked(test)}
        for name, (value, marker) in reversed(found.items()):
            if name in asked or marker.autouse:
                asked |= {*inspect.signature(inspect.unwrap(value)).parameters}
        used = []
        for name, (value, marker) in found.items() if tests else ():
            own = f"_{module.__name__.rpartition('.')[2]}_{name}" if marker.autouse else name
            made = self.pytest.fixture(
                scope=marker.scope, params=marker.params, ids=marker.ids, name=own
            )
            if marker.autouse:
                used.append(self.pytest.mark.usefixtures(own).mark)
            if marker.autouse or name in asked:
                self.add(own, made(staticmethod(inspect.unwrap(value))))
        return used

    def skipping(self, reason: str) -> Callable[[], None]:
        """A test that cannot be run."""

        def test() -> None:
            self.pytest.skip(reason)

        return test

    def add(self, name: str, value: Any) -> None:
        """Put a test or a fixture into the class."""
        if name in self.body:
            raise RuntimeError(f"{name} is in two modules of {__package__}; rename one of them")
        self.body[name] = value


def _tests(module: ModuleType) -> Iterator[FunctionType]:
    """The functions of a module that test a rule, in their order."""
    for name, value in vars(module).items():
        own = inspect.isfunction(value) and value.__module__ == module.__name__
        if own and _is_one(name, {*inspect.signature(value).parameters}):
            yield value


def _asked(test: FunctionType) -> Iterator[str]:
    """The fixtures that a test uses."""
    yield from inspect.signature(test).parameters
    for mark in _marks(test):
        yield from mark.args if mark.name == "usefixtures" else ()


def _fixture_marker(value: Any) -> Any:
    """How pytest marks a fixture, before 8.4 under another name; ``None`` for all else."""
    marker = getattr(value, "_fixture_function_marker", None)
    return marker or getattr(value, "_pytestfixturefunction", None)


def _marks(marked: Any) -> list[Any]:
    """The marks of a function or a module."""
    found = getattr(marked, "pytestmark", [])
    return [getattr(m, "mark", m) for m in (found if isinstance(found, list) else [found])]


def _copy(test: FunctionType, marks: list[Any]) -> FunctionType:
    """The same function with other marks."""
    made = FunctionType(
        test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__
    )
    made.__kwdefaults__, made.__doc__ = test.__kwdefaults__, test.__doc__
    made.__dict__.update(test.__dict__, pytestmark=marks)
    return made
