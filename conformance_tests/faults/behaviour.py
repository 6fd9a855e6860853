"""What a fault shows: runs of rules and backends with the suite's own measures of what is right.

A fault is caught where a check of the suite fails. Where everything that is computed has the same
bits as without the fault there is nothing to catch, so only runs whose bits change are checked.
"""

from __future__ import annotations

import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from math import inf
from types import FunctionType
from typing import Any, Literal

import numpy

from samestep.arrays import parts
from samestep.conformance.harness.agreement import bound, exact, steps_of
from samestep.conformance.harness.changes import changed
from samestep.conformance.harness.reference import ROUNDING, TRAJECTORIES, allowed, apart, recorded
from samestep.conformance.harness.settings import settings, typical
from samestep.conformance.references import follow_reference, reference_for
from samestep.declaration import Hyper, Option
from samestep.parity import Trajectory, compare, one_step, oracle
from samestep.parity.backend import NUMPY, Backend, Snapshot, backends
from samestep.precisions import PRECISION_KINDS
from samestep.rule import Rule
from samestep.vocabulary import initial_parameter

from .mutation import Fault, entered, planted

__all__ = ["SHAPES", "InNumPy", "OnBackend", "Outcome", "Run", "bits", "judged", "runs", "snapshot"]

SHAPES = {"scalar": (), "bias": (5,), "twin": (6, 4), "kernel": (4, 3, 2, 2)}
STEPS = 10
ROUNDED = 8
"""ULP of a dtype by which a few steps may part: by other orders of sums, or other fusions."""

Outcome = Literal["unreached", "equivalent", "rounding", "survives", "caught"]
"""Of a fault: nothing comes to its place; not a bit differs; bits differ by rounding; they differ
by more and no check fails; a check fails."""
ORDER: tuple[Outcome, ...] = ("equivalent", "rounding", "survives", "caught")


class Run(ABC):
    """Something that the suite runs, and what it gives without a fault."""

    functions: set[FunctionType]
    """The functions of the package that it enters."""

    @abstractmethod
    def shows(self, fault: Fault) -> Outcome:
        """What the run shows of a fault."""


class InNumPy(Run):
    """A rule in float64 on NumPy, compared with its reference.

    Args:
        rule: the rule.
        traced: whether its numbers are 0-d arrays, as they are while a framework traces.
        changes: whether steps are taken as changes of the parameters.
    """

    def __init__(self, rule: Rule, traced: bool = False, changes: bool = False) -> None:
        self.rule, self.changes = rule, changes
        self.given = rule.map_numbers(numpy.asarray) if traced else rule
        self.trajectories = [trajectory(rule, STEPS, SHAPES) for trajectory in TRAJECTORIES]
        self.references: list[list[Snapshot]] = []
        self.allowed: list[float] = []
        self.found: list[list[Snapshot]] = []

    def sound(self) -> bool:
        """Whether it can be run and agrees with its reference without a fault."""
        with numpy.errstate(all="ignore"):
            try:
                self.references = [follow_reference(self.rule, t) for t in self.trajectories]
                self.allowed = [allowed(self.rule, t) for t in self.trajectories]
                self.functions = entered(lambda: self._followed(self.trajectories[0]))
                self.found = [self._followed(trajectory) for trajectory in self.trajectories]
            except (LookupError, TypeError, ValueError, ArithmeticError):
                return False
            return all(
                all(numpy.isfinite(value).all() for value in reference[-1].values())
                and apart(self.rule, found, reference).ulp < ulp
                for found, reference, ulp in zip(
                    self.found, self.references, self.allowed, strict=True
                )
            )

    def shows(self, fault: Fault) -> Outcome:
        """What the run shows of a fault."""
        shown: Outcome = "equivalent"
        for place, trajectory in enumerate(self.trajectories):
            with numpy.errstate(all="ignore"):
                try:
                    with planted(fault):
                        found = self._followed(trajectory)
                    if bits(found) == bits(self.found[place]):
                        continue
                    off = apart(self.rule, found, self.references[place]).ulp
                    if not off < self.allowed[place]:
                        return "caught"
                    small = apart(self.rule, found, self.found[place]).ulp < ROUNDING
                except Exception:  # a test of the suite that raises anything fails
                    return "caught"
            shown = max(shown, "rounding" if small else "survives", key=ORDER.index)
        return shown

    def _followed(self, trajectory: Trajectory) -> list[Snapshot]:
        """Snapshots before the first and after every step.

        Raises:
            ArithmeticError: an array that a step was given has changed.
        """
        params: Any = {path: numpy.array(value) for path, value in trajectory.params.items()}
        self.given = deepcopy(self.given)  # which remembers nothing
        state = self.given.init(params)
        taken = [snapshot(params, state)]
        for grads in trajectory.grads:
            given = {path: numpy.array(grad) for path, grad in grads.items()}
            new, after = self._stepped(given, params, state)
            if bits([snapshot(params, state)]) != bits(taken[-1:]) or any(
                given[path].tobytes() != grads[path].tobytes() for path in given
            ):
                raise ArithmeticError("an array that the step was given has changed")
            params, state = new, after
            taken.append(snapshot(params, state))
        return taken

    def _stepped(self, grads: Any, params: Any, state: Any) -> tuple[Any, Any]:
        if not self.changes:
            return self.given.update(grads, params, state)
        changes, after = changed(self.given, grads, params, state)
        return {path: param + changes[path] for path, param in params.items()}, after


class OnBackend(Run):
    """A rule on a backend in a dtype, compared with the rule in float64 step by step."""

    def __init__(self, rule: Rule, backend: Backend, dtype: str) -> None:
        self.rule, self.backend, self.dtype = rule, backend, dtype
        self.trajectory = recorded(rule, 4, {**SHAPES, "same": (6, 4)}).rounded(dtype)
        self.found: list[Snapshot] = []
        self.kinds: list[str] = []
        self.functions = entered(self._follow)
        self.wanted = oracle(rule, self.trajectory)
        self.promised = [
            self.found if other is backend else OnBackend(rule, other, dtype).found
            for other in self._alike()
        ]

    def shows(self, fault: Fault) -> Outcome:
        """What the run shows of a fault."""
        before = self.found
        try:
            with planted(fault), self._uncached():
                self._follow()
            found, self.found = self.found, before
            if bits(found) == bits(before):
                return "equivalent"
            if not self.agrees(found):
                return "caught"
            if self.rule.needs == "element" and not self.backend.slow:  # no sums, no compiler
                return "survives"
            off = compare(found[1:], before[1:], self.dtype, before[:-1], **self._how).ulp
            return "rounding" if off <= ROUNDED else "survives"
        except Exception:  # a test of the suite that raises anything fails
            self.found = before
            return "caught"

    @contextmanager
    def _uncached(self) -> Iterator[None]:
        """Nothing that is compiled is kept from before or for later."""
        if self.backend.slow:
            self._forget()
        try:
            yield
        finally:
            if self.backend.slow:
                self._forget()

    def _forget(self) -> None:
        own = f"samestep.{self.backend.library}"
        modules = [module for name, module in sys.modules.items() if name.startswith(own)]
        for value in [value for module in modules for value in vars(module).values()]:
            clear = getattr(value, "cache_clear", None)
            if clear is not None:
                clear()
        for module in modules:
            getattr(module, "forget", lambda: None)()
        getattr(sys.modules[self.backend.library], "clear_caches", lambda: None)()

    def _alike(self) -> Iterator[Backend]:
        """The backends whose bits the run promises to have."""
        if self.dtype in NUMPY.dtypes and exact(self.rule, self.backend):
            yield NUMPY
        other = backends().get(self.backend.bits_of or "")
        if self.rule.needs == "element" and isinstance(other, Backend):
            yield other

    @property
    def _how(self) -> Any:
        """How snapshots of the rule are compared."""
        slots = self.rule.slots().items()
        alike = {name for name, item in slots if item.init is initial_parameter}
        return {"whole": self.rule.needs == "matrix", "alike": alike}

    def agrees(self, found: list[Snapshot]) -> bool:
        """Whether each step, and all, are within the suite's bounds, and bits are as promised."""
        how = self._how
        grads = enumerate(self.trajectory.grads)
        after = [one_step(self.rule, found[step], gradient, step) for step, gradient in grads]
        worst = compare(found[1:], after, self.dtype, found[:-1], **how).worst
        within = all(
            one.ulp <= bound(self.rule, self.backend, self.dtype, slot)
            for slot, one in worst.items()
        )
        if self.dtype in NUMPY.dtypes and (self.rule.continuous or self.rule.needs == "element"):
            start = self.wanted
            in_all = compare(found[1:], start[1:], self.dtype, start[:-1], **how).ulp
            within = within and in_all <= (8 if self.rule.reduces else 1) * steps_of(self.dtype)
        return within and all(bits(found) == bits(other) for other in self.promised)

    def _follow(self) -> None:
        """Take the steps.

        Raises:
            ArithmeticError: a gradient has changed, or what is kept has another dtype.
        """
        run = self.backend.start(deepcopy(self.rule), self.trajectory.params, self.dtype)
        self.found = [self.backend.snapshot(run)]
        for grads in self.trajectory.grads:
            with self._kept() as given:
                run.step(grads)
            if any(numpy.any(self.backend.numpy(native) != values) for values, native in given):
                raise ArithmeticError("a gradient that the step was given has changed")
            self.found.append(self.backend.snapshot(run))
        kinds = [
            str(getattr(part, "dtype", ""))
            for by_path in (run.params(), *run.slots().values())
            for value in by_path.values()
            for part in parts(value)
        ]
        self.kinds = self.kinds or kinds
        if kinds != self.kinds:
            raise ArithmeticError("an array that is kept has another dtype")

    @contextmanager
    def _kept(self) -> Iterator[list[tuple[Any, Any]]]:
        """The arrays that the backend makes meanwhile, each after the values that it is made of."""
        given: list[tuple[Any, Any]] = []
        make = self.backend.array

        def array(values: Any, dtype: str) -> Any:
            given.append((values, make(values, dtype)))
            return given[-1][1]

        vars(self.backend)["array"] = array
        try:
            yield given
        finally:
            del vars(self.backend)["array"]


def snapshot(params: Any, state: Any) -> Snapshot:
    """The parameters and the state of a rule, copied."""
    taken = {("param", path): numpy.array(value) for path, value in params.items()}
    for slot, by_path in state.slots.items():
        for path, value in by_path.items():
            for place, part in enumerate(parts(value)):
                several = isinstance(value, (tuple, list))
                taken[f"{slot}.{place}" if several else slot, path] = numpy.array(part)
    return taken | {(name, ""): numpy.array(value) for name, value in state.shared.items()}


def bits(found: list[Snapshot]) -> list[Any]:
    """Everything in snapshots that must be equal to the last bit."""
    return [
        (key, str(value.dtype), value.tobytes())
        for snapshot in found
        for key, value in snapshot.items()
    ]


def judged(fault: Fault, tried: Sequence[Run]) -> tuple[Outcome, Run | None]:
    """The worst outcome of a fault in several runs, and the run that has caught it."""
    worst: Outcome = "equivalent"
    for run in tried:
        worst = max(worst, run.shows(fault), key=ORDER.index)
        if worst == "caught":
            return worst, run
    if worst == "equivalent" and fault.probe is not None:
        probe = fault.probe()
        if not any(run.shows(probe) == "caught" for run in tried):
            return "unreached", None
    return worst, None


@cache
def runs(rule: type[Rule]) -> tuple[InNumPy, ...]:
    """Runs of a rule in NumPy: every option, dialect and limit, and random numbers."""
    if reference_for(rule.__name__) is None:
        return ()
    made = [*settings(rule).values()]
    made += [item for name in rule.dialects for item in _made(rule, like=name)]
    made += [*_at_limits(rule), *_drawn(rule)]
    found = [InNumPy(made) for made in dict.fromkeys(made)]
    found[1:1] = [InNumPy(typical(rule), traced=True), InNumPy(typical(rule), changes=True)]
    return tuple(run for run in found if run.sound())


def _made(rule: type[Rule], **values: Any) -> list[Rule]:
    """The typical rule with some values, in a list; an empty one where it refuses them."""
    try:
        return [typical(rule, **values)]
    except (TypeError, ValueError):
        return []


def _at_limits(rule: type[Rule]) -> Iterator[Rule]:
    """Every number at its least, and a little above it; all of several numbers are equal."""
    for name, field in rule.fields().items():
        low = field.ge if isinstance(field, Hyper) else None
        if not isinstance(field, Hyper) or low is None or name == "lr":
            continue
        above = (low + 2,) if isinstance(field.default, int) else (low + 2.0**-6, low + 0.75)
        for value in (low, *above):
            number = int(value) if isinstance(field.default, int) else value
            several = isinstance(field.default, tuple)
            yield from _made(rule, **{name: (number,) * len(field.default) if several else number})


def _drawn(rule: type[Rule]) -> Iterator[Rule]:
    """Numbers drawn at random, once for every value of every option."""
    fields = rule.fields()
    for name, field in fields.items():
        if not isinstance(field, Option) or isinstance(field, PRECISION_KINDS):
            continue
        for choice in field.choices or (False, True):
            chance = random.Random(f"{rule.__name__} {name} {choice}")
            numbers = {n: _number(chance, f) for n, f in fields.items() if isinstance(f, Hyper)}
            yield from _made(rule, **{**numbers, name: choice})


def _number(chance: random.Random, field: Hyper) -> Any:
    """Random allowed numbers; without an upper limit, from 0.01 to 2 times the usual value."""
    usual = field.default if field.typical is None else field.typical
    drawn: list[Any] = []
    for one, part in zip(usual if isinstance(usual, tuple) else (usual,), field.each, strict=True):
        low = next((end for end in (part.ge, part.gt) if end is not None), 0.0)
        high = next((end for end in (part.le, part.lt) if end is not None), inf)
        if one is None or isinstance(one, int):
            drawn.append(one)
        elif high < inf:
            drawn.append(low + (high - low) * chance.uniform(0.05, 0.95))
        elif one == inf:
            drawn.append(low + 2 ** chance.uniform(-6, 0))
        else:
            drawn.append(low + max(one - low, 1e-3) * 10 ** chance.uniform(-2, 0.3))
    found = sorted(drawn) if field.ordered else drawn
    return tuple(found) if isinstance(usual, tuple) else found[0]
