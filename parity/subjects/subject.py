"""Subjects of a comparison: anybody's optimizer, described by a name, that can be stepped.

    subject("torch.optim.AdamW", lr=1e-3)       a class of torch, or one written like them
    subject("optax.adan")                       a function that makes a transformation of optax
    subject("mlx.optimizers.Adam")
    subject("keras.optimizers.Nadam")
    subject("samestep:Adan", like="optax")      a rule
    subject("my_file.py:MyOptimizer")           any of these from a file, or from a module
    subject("jax.example_libraries.optimizers.adam")    a function that makes a triple
    subject(samestep.Lookahead(samestep.AdamW()))       a rule, a transformation or a triple

The packages of its classes decide how a subject is stepped. For each package, an entry point of the
group ``samestep.subjects`` names a module with a class ``Runner``, which is made from the callable,
its arguments and a dtype.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy

from samestep.arrays import listed
from samestep.parity.trajectory import Trajectory
from samestep.routes import Route
from samestep.rule import Rule, registry
from samestep.spelling import did_you_mean, own_name
from samestep.wrapper import Wrapper

from .importing import SubjectError, entries, imported, stepping
from .signatures import declared, parameters, required, rule_of, takes_any

__all__ = ["NotFiniteError", "Recorded", "Runner", "Stepper", "Subject", "SubjectError", "subject"]

Arrays = Mapping[str, numpy.ndarray]
Slots = dict[str, dict[str, numpy.ndarray]]
BESIDE = re.compile(r"missing \d+ required (?:keyword-only |positional )?arguments?: (.*)")
"""Python's message about a missing argument."""


class NotFiniteError(SubjectError):
    """A subject that gave NaN or infinity."""


class Stepper(ABC):
    """An optimizer at work on parameters by path. It takes and gives NumPy arrays."""

    @abstractmethod
    def step(self, grads: Arrays) -> None:
        """Take one step."""

    @abstractmethod
    def params(self) -> dict[str, numpy.ndarray]:
        """The parameters in float64."""

    def slots(self) -> Slots:
        """The state in float64, by slot and path; slots have our names where they are known."""
        return {}


class Runner(ABC):
    """Starts an optimizer any number of times; compiles once."""

    @abstractmethod
    def __init__(
        self, target: Any, arguments: Mapping[str, Any], dtype: str, rule: str = ""
    ) -> None:
        """Make a runner.

        Args:
            target: a callable that makes the optimizer, or the optimizer.
            arguments: the arguments of the callable.
            dtype: dtype of the parameters.
            rule: name of our rule of the same name, which tells what its slots are called.
        """

    @abstractmethod
    def start(self, params: Arrays) -> Stepper:
        """A new optimizer for copies of the parameters."""


@dataclass(frozen=True)
class Recorded:
    """Parameters and state of a subject at the start and after every step."""

    params: list[dict[str, numpy.ndarray]]
    slots: list[Slots]

    def part(self, paths: Collection[str]) -> Recorded:
        """The record of some parameters, without state."""
        return Recorded([{path: step[path] for path in paths} for step in self.params], [])


@dataclass(frozen=True)
class Subject:
    """An optimizer that can be stepped."""

    name: str
    """The description, as it was given."""
    target: Any
    """A class or function that makes it; or a rule or transformation that is made already."""
    package: str
    """Name of the entry point that steps it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    rule: type[Rule] | None = None
    """Our rule of the same name."""

    @property
    def declared(self) -> dict[str, Any]:
        """The arguments that it takes, with their values here."""
        return {**declared(self.target), **self.arguments}

    def having(self, **arguments: Any) -> Self:
        """The subject with other arguments; ``lr`` also means ``learning_rate``.

        Raises:
            SubjectError: it has no such argument.
        """
        known = declared(self.target)
        arguments = {own_name(name, known): value for name, value in arguments.items()}
        for name in arguments:
            if name not in known and not takes_any(self.target):
                has = f"it has {listed(known)}" if known else "it takes none, or is made already"
                raise SubjectError(
                    f"{self.name} has no argument {name}; {has}{did_you_mean(name, known)}"
                )
        return replace(self, arguments={**self.arguments, **arguments})

    def runner(self, dtype: str) -> Runner:
        """The runner that steps it.

        Raises:
            SubjectError: it cannot be built.
        """
        with _blamed(self, "cannot be built"):
            module, rule = stepping(self.package), self.rule.__name__ if self.rule else ""
            made: Runner = module.Runner(self.target, self.arguments, dtype, rule)
        return made

    def recorded(self, runner: Runner, trajectory: Trajectory) -> Recorded:
        """Step it on recorded gradients.

        Raises:
            SubjectError: it cannot be stepped, or gives NaN or infinity.
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
                    what = "NaN" if numpy.any(numpy.isnan(value)) else "infinity"
                    raise NotFiniteError(
                        f"{self.name} gave {what} for a parameter of shape {value.shape} "
                        f"({path!r}) at step {step}; its arguments were {dict(self.arguments)}"
                    )
        return Recorded(params, slots)


@contextmanager
def _blamed(who: Subject, what: str) -> Iterator[None]:
    """Turn an exception of a foreign optimizer into a ``SubjectError`` that names the optimizer."""
    try:
        yield
    except SubjectError:
        raise
    except SystemExit as error:
        raise SubjectError(f"{who.name} {what}: it ended the program ({error})") from error
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), "")
        lacks = BESIDE.search(line) if isinstance(error, TypeError) else None
        if lacks is not None and "step" in what:
            raise SubjectError(
                f"{who.name} cannot be compared: its step needs {lacks[1]}, and all that is given "
                "here is gradients"
            ) from error
        raise SubjectError(
            f"{who.name} {what} with {dict(who.arguments)}: {type(error).__name__}: {line}"
        ) from error


def subject(description: Any, /, **arguments: Any) -> Subject:
    """A subject from a dotted name, ``module:name``, ``file.py:name``, or the thing itself.

    Args:
        description: name or object; ``samestep:Adan`` is a rule by its name.
        arguments: its arguments, under the library's own names.

    Raises:
        SubjectError: the name does not exist, or names no optimizer.
    """
    shown = description if isinstance(description, str) else _called(description)
    target = imported(description) if isinstance(description, str) else description
    if inspect.isclass(target) and issubclass(target, Wrapper):
        return _around(shown, target, arguments)
    plain = isinstance(target, Rule) and not isinstance(target, (Wrapper, Route))
    if plain and not any(target.groups.arguments().values()):
        fields = target.fields()
        values = target.hypers.items()
        changed = {n: v for n, v in values if n not in fields or v != fields[n].default}
        target, arguments = target.published(), {**changed, **arguments}
    bare = Subject(shown, target, "", {}, rule_of(target, shown)).having(**arguments)
    return replace(bare, package=_package(bare))


def _around(shown: str, wrapper: Any, arguments: Mapping[str, Any]) -> Subject:
    """A wrapper by its name; the rule inside is given as the argument ``rule``."""
    given = dict(arguments)
    inside = given.pop("rule", None)
    if isinstance(inside, str) and inside in registry:
        inside = registry[inside]()
    if not isinstance(inside, Rule):
        raise SubjectError(
            f"{shown} is a rule around another, which must be given: as rule='AdamW', or made "
            f"already, as samestep.{wrapper.__name__}(samestep.AdamW(lr=1e-3))"
        )
    try:
        made = wrapper(inside, **given)
    except (TypeError, ValueError) as error:
        raise SubjectError(f"{shown} cannot be built with {arguments}: {error}") from error
    return Subject(shown, made, "samestep", {}, wrapper)


def _called(target: Any) -> str:
    if isinstance(target, Rule):
        return repr(target)
    return str(getattr(target, "__qualname__", type(target).__name__))


def _package(bare: Subject) -> str:
    """The entry point for a subject, by the packages of its classes."""
    target = bare.target
    found = _of_made(target) if not inspect.isclass(target) else _of_classes(target)
    if inspect.isclass(target) or found is None:
        needs = (
            inspect.signature(target.step).parameters
            if callable(getattr(target, "step", None))
            else {}
        )
        if "closure" in needs and needs["closure"].default is inspect.Parameter.empty:
            raise SubjectError(
                f"{bare.name} cannot be compared: its step needs a closure, in which it computes "
                "the loss and gradients itself, and all that is given here is gradients"
            )
    elif hasattr(target, "param_groups"):
        raise SubjectError(
            f"{bare.name} is an optimizer that is made already, for parameters of its own; name "
            "its class, or a function that takes params"
        )
    if found is None and callable(target):
        if "params" in {item.name for item in parameters(target)}:
            return "torch"
        with _blamed(bare, "cannot be built"):
            found = _of_made(target(**_filled(bare)))
    if found is None:
        raise SubjectError(
            f"{bare.name} cannot be stepped; it must be an optimizer made with {listed(entries())}"
        )
    return found


def _of_made(made: Any) -> str | None:
    """The entry point for an object that is not a class."""
    several = isinstance(made, tuple) and len(made) == len(("init", "update", "get_params"))
    if several and all(map(callable, made)):
        return "jax"
    return _of_classes(type(made))


def _filled(bare: Subject) -> dict[str, Any]:
    """The arguments, with a number for each required one."""
    return {**dict.fromkeys(required(bare.target), 2.0**-10), **bare.arguments}


def _of_classes(made: type) -> str | None:
    if issubclass(made, Rule):
        return "samestep"
    roots = (base.__module__.partition(".")[0] for base in made.__mro__)
    return next((root for root in roots if root != "samestep" and root in entries()), None)
