"""Subjects of a comparison: anybody's optimizer, described by a name, that can be stepped.

    subject("torch.optim.AdamW", lr=1e-3)       a class of torch, or one written like them
    subject("optax.adan")                       a function that makes a transformation of optax
    subject("mlx.optimizers.Adam")
    subject("keras.optimizers.Nadam")
    subject("samestep:Adan", like="optax")      a rule
    subject("my_file.py:MyOptimizer")           any of these from a file, or from a module

What a subject is follows from the packages of its classes: an entry point of the group
``samestep.subjects`` names, for a package, the module that steps optimizers made with it. Such a
module has a class ``Runner``, made from the callable, its arguments and a dtype.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, Self

import numpy

from ..arrays import listed
from ..rule import Rule, registry
from ..wrapper import Wrapper
from .trajectory import Trajectory

__all__ = ["Recorded", "Runner", "Stepper", "Subject", "SubjectError", "subject"]

Arrays = Mapping[str, numpy.ndarray]
Slots = dict[str, dict[str, numpy.ndarray]]


class SubjectError(ValueError):
    """A subject that cannot be imported, built or stepped; the message says which and why."""


class Stepper(ABC):
    """An optimizer at work on parameters given by path. All it takes and gives is NumPy."""

    @abstractmethod
    def step(self, grads: Arrays) -> None:
        """Take one step."""

    @abstractmethod
    def params(self) -> dict[str, numpy.ndarray]:
        """The parameters in float64."""

    def slots(self) -> Slots:
        """What it keeps, by the library's own names for it and by path, in float64."""
        return {}


class Runner(ABC):
    """What can start an optimizer over and over; whatever is compiled is compiled once."""

    @abstractmethod
    def __init__(self, target: Any, arguments: Mapping[str, Any], dtype: str) -> None:
        """Take what makes the optimizer, its arguments, and the dtype of the parameters."""

    @abstractmethod
    def start(self, params: Arrays) -> Stepper:
        """A new optimizer for copies of the parameters."""


@dataclass(frozen=True)
class Recorded:
    """Where a subject has gone: one entry at the start, and one after every step."""

    params: list[dict[str, numpy.ndarray]]
    slots: list[Slots]


@dataclass(frozen=True)
class Subject:
    """An optimizer that can be stepped."""

    name: str
    """As it was described."""
    target: Any
    """What makes it: a class, a function; or a rule or transformation that is made already."""
    package: str
    """Name of the entry point that steps it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    rule: type[Rule] | None = None
    """The rule here whose name it has."""

    @property
    def declared(self) -> dict[str, Any]:
        """The arguments that it takes, with the values that they have here."""
        return {**_declared(self.target), **self.arguments}

    def having(self, **arguments: Any) -> Self:
        """The same with other arguments.

        Raises:
            SubjectError: it has no such argument.
        """
        known = _declared(self.target)
        for name in arguments:
            if name not in known and not _takes_any(self.target):
                has = f"it has {listed(known)}" if known else "it takes none, or is made already"
                raise SubjectError(f"{self.name} has no argument {name}; {has}")
        return replace(self, arguments={**self.arguments, **arguments})

    def runner(self, dtype: str) -> Runner:
        """What steps it.

        Raises:
            SubjectError: it cannot be built, and why.
        """
        with _blamed(self, "cannot be built"):
            made: Runner = _module(self.package).Runner(self.target, self.arguments, dtype)
        return made

    def recorded(self, runner: Runner, trajectory: Trajectory) -> Recorded:
        """Where it goes on recorded gradients.

        Raises:
            SubjectError: it cannot be stepped, and why; or gave NaN or infinity.
        """
        params, slots = [], []
        with _blamed(self, "cannot be started"):
            stepper = runner.start(trajectory.params)
            params.append(stepper.params())
            slots.append(stepper.slots())
        for step, grads in enumerate(trajectory.grads, 1):
            with _blamed(self, f"cannot take step {step}"):
                stepper.step(grads)
                params.append(stepper.params())
                slots.append(stepper.slots())
            for path, value in params[-1].items():
                if not numpy.all(numpy.isfinite(value)):
                    raise SubjectError(
                        f"{self.name} gave NaN or infinity for a parameter of shape "
                        f"{value.shape} ({path!r}) at step {step}; its arguments were "
                        f"{dict(self.arguments)}"
                    )
        return Recorded(params, slots)


@contextmanager
def _blamed(who: Subject, what: str) -> Iterator[None]:
    """Turn what a foreign optimizer raises into a ``SubjectError`` that names it."""
    try:
        yield
    except SubjectError:
        raise
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), "")
        raise SubjectError(
            f"{who.name} {what} with {dict(who.arguments)}: {type(error).__name__}: {line}"
        ) from error


def subject(description: Any, /, **arguments: Any) -> Subject:
    """A subject from a dotted name, ``module:name``, ``file.py:name``, or the thing itself.

    Args:
        description: what it is. ``samestep:Adan`` is a rule by its name.
        arguments: what it is made with, under the library's own names.

    Raises:
        SubjectError: there is no such thing, or nothing that can be stepped.
    """
    shown = description if isinstance(description, str) else _called(description)
    target = _imported(description) if isinstance(description, str) else description
    if isinstance(target, Rule) and not isinstance(target, Wrapper):
        fields = target.fields()
        changed = {n: v for n, v in target.hypers.items() if v != fields[n].default}
        target, arguments = type(target), {**changed, **arguments}
    bare = Subject(shown, target, "", {}, _rule_of(target, shown)).having(**arguments)
    return replace(bare, package=_package(bare))


def _called(target: Any) -> str:
    if isinstance(target, Rule):
        return repr(target)
    return str(getattr(target, "__qualname__", type(target).__name__))


def _imported(name: str) -> Any:
    place, _, inside = name.rpartition(":")
    if place == "samestep":
        if inside not in registry:
            raise SubjectError(f"{name}: there is no such rule; there are {listed(registry)}")
        return registry[inside]
    root = re.split(r"[.:]", name)[0]
    if root in _entries():  # Keras's backend must be chosen before it is imported
        _module(root, name)
    try:
        if place.endswith(".py"):
            return resolve_name(f"{_loaded(Path(place)).__name__}:{inside}")
        return resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SubjectError(f"{name} cannot be imported: {error}") from error


def _loaded(path: Path) -> ModuleType:
    if not path.exists():
        raise SubjectError(f"{path}: there is no such file")
    name = f"_subject_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SubjectError(f"{path} cannot be imported: {error}") from error
    return module


@cache
def _entries() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group="samestep.subjects")}


def _module(package: str, who: str = "") -> ModuleType:
    try:
        module: ModuleType = _entries()[package].load()
    except ImportError as error:
        raise SubjectError(f"{who or package} cannot be imported: {error}") from error
    return module


def _package(bare: Subject) -> str:
    """The entry point for a subject, by the packages of its classes."""
    target = bare.target
    found = _of_classes(target if inspect.isclass(target) else type(target))
    if found is None and callable(target):
        with _blamed(bare, "cannot be built"):
            found = _of_classes(type(target(**_filled(bare))))
    if found is None:
        raise SubjectError(
            f"{bare.name} is nothing that can be stepped here; that is what is made with "
            f"{listed(_entries())}"
        )
    return found


def _filled(bare: Subject) -> dict[str, Any]:
    """Arguments with a number for those that must be given."""
    return {**dict.fromkeys(_required(bare.target), 2.0**-10), **bare.arguments}


def _of_classes(made: type) -> str | None:
    if issubclass(made, Rule):
        return "samestep"
    roots = (base.__module__.partition(".")[0] for base in made.__mro__)
    return next((root for root in roots if root != "samestep" and root in _entries()), None)


def _parameters(target: Any) -> Iterator[inspect.Parameter]:
    if not callable(target) or isinstance(target, Rule):
        return
    try:
        found = inspect.signature(target)
    except (TypeError, ValueError):
        return
    yield from found.parameters.values()


def _declared(target: Any) -> dict[str, Any]:
    """Arguments and their defaults; ``...`` where there is none."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        item.name: ... if item.default is item.empty else item.default
        for item in _parameters(target)
        if item.kind in kinds and item.name != "params"
    }


def _required(target: Any) -> list[str]:
    return [name for name, default in _declared(target).items() if default is ...]


def _takes_any(target: Any) -> bool:
    return any(item.kind is inspect.Parameter.VAR_KEYWORD for item in _parameters(target))


def _rule_of(target: Any, name: str) -> type[Rule] | None:
    """The rule whose name is the subject's, or the longest that is in it."""
    kind = target if isinstance(target, type) else type(target)
    if issubclass(kind, Rule):
        bases = (base for base in kind.__mro__ if issubclass(base, Rule))
        known = [base for base in bases if registry.get(base.__name__) is base]
        if known:
            return known[0]
    own = re.sub(r"[^a-z0-9]", "", re.split(r"[.:]", name)[-1].lower())
    names = sorted(registry, key=len, reverse=True)
    return next((registry[rule] for rule in names if rule.lower() in own), None)
