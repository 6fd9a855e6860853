"""The measurement: training in every framework, and steps on the same gradients.

Training compares everything: each framework computes its own forward pass, gradients and steps.
On the same gradients, those that NumPy's run has recorded, only the optimizers are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy

from samestep.parity import compare
from samestep.parity.backend import Backend, Missing, Snapshot, backends
from samestep.rule import Rule, registry

from .followers import OWN, Follower
from .network import Arrays, Problem, accuracy, backpropagation, loss, problem

__all__ = [
    "FRAMEWORKS",
    "RULES",
    "Measured",
    "Series",
    "Step",
    "Trained",
    "Watch",
    "frameworks",
    "landmarks",
    "measure",
    "replay",
    "runs_of",
    "train",
]

BASELINE = "numpy"
FRAMEWORKS = (BASELINE, *OWN)
RULES = {name: registry[name](lr=5e-3, weight_decay=0.02) for name in ("Adan", "AdamW")}
"""Adan trains the network; AdamW is compared on the gradients of that run as well."""

Watch = Callable[[str, str, Iterator[Any]], Iterator[Any]]
"""Passes on the steps of a framework and shows its progress: framework, a text, steps."""


class Step(NamedTuple):
    """One step of training."""

    loss: float
    grads: Arrays
    params: Arrays
    """Parameters after the step."""


@dataclass(frozen=True)
class Series:
    """How far one optimizer is from NumPy's, in ULP, after each step."""

    name: str
    framework: str
    ulps: list[float]

    @property
    def ours(self) -> bool:
        """Whether the run is of samestep's rule, not of the library's own optimizer."""
        return self.name == self.framework

    @property
    def label(self) -> str:
        """Its name in tables and legends."""
        return f"samestep on {self.framework}" if self.ours else self.name

    @property
    def largest(self) -> float:
        """The largest difference at any step."""
        return max(self.ulps)


@dataclass(frozen=True)
class Trained:
    """A framework's own training run."""

    framework: str
    losses: list[float]
    accuracy: float


@dataclass
class Measured:
    """All that was measured."""

    steps: int
    size: int
    """Number of parameters."""
    trained: list[Trained] = field(default_factory=list)
    training: list[Series] = field(default_factory=list)
    """The training runs, each on its own gradients."""
    replayed: dict[str, list[Series]] = field(default_factory=lambda: {name: [] for name in RULES})
    """On the gradients of NumPy's run, by rule; the libraries' own optimizers among them."""
    missing: list[Missing] = field(default_factory=list)


def frameworks(names: Iterable[str] = FRAMEWORKS) -> dict[str, Backend | Missing]:
    """The eager backend of every framework named, and NumPy's."""
    found = backends()
    return {name: found[name] for name in FRAMEWORKS if name in names or name == BASELINE}


def runs_of(framework: str) -> int:
    """How many times the steps are taken for a framework."""
    return 1 + len(RULES) + len(OWN[framework]) if framework in OWN else len(RULES)


def landmarks(steps: int) -> list[int]:
    """The steps that the tables show."""
    return sorted({step for step in (1, 10, 100) if step < steps} | {steps})


def train(backend: Backend, given: Problem) -> Iterator[Step]:
    """Train the network with Adan in one framework."""
    run = backend.start(RULES["Adan"], given.params, "float32")
    for batch in given.batches:
        value, grads = _gradient(backend, run.params(), *batch)
        run.step(grads)
        yield Step(value, grads, _as_numpy(backend, run.params()))


def _gradient(
    backend: Backend, params: dict[str, Any], images: numpy.ndarray, labels: numpy.ndarray
) -> tuple[float, Arrays]:
    if backend.name == BASELINE:
        return backpropagation(params, images, labels)
    batch = backend.array(images, "float32"), backend.array(labels, "float32")
    value, grads = backend.value_and_grad(loss, params, *batch)
    return value, _as_numpy(backend, grads)


def _as_numpy(backend: Backend, arrays: Mapping[str, Any]) -> Arrays:
    """Native float32 arrays in NumPy, exactly."""
    return {path: backend.numpy(array).astype(numpy.float32) for path, array in arrays.items()}


def replay(
    backend: Backend, rule: Rule, params: Arrays, grads: Iterable[Arrays]
) -> Iterator[Arrays]:
    """The parameters after each step of a rule on given gradients."""
    run = backend.start(rule, params, "float32")
    for given in grads:
        run.step(given)
        yield _as_numpy(backend, run.params())


@dataclass(frozen=True)
class Baseline:
    """NumPy's run, with which other runs are compared."""

    params: Arrays
    """Initial parameters."""
    grads: list[Arrays]
    path: dict[str, list[Arrays]]
    """By rule, the parameters after each step on these gradients."""

    def steps(self, optimizer: Follower) -> Iterator[Arrays]:
        """The parameters after each step of an optimizer on NumPy's gradients."""
        return optimizer.follow(RULES[optimizer.rule], self.params, self.grads)

    def compare(self, framework: str, optimizer: Follower, run: Iterable[Arrays]) -> Series:
        """How far a run is from NumPy's."""
        found = compare(
            [_snapshot(params) for params in (self.params, *run)],
            [_snapshot(params) for params in (self.params, *self.path[optimizer.rule])],
            "float32",
        )
        return Series(optimizer.name, framework, found.growth[1:])


def measure(
    steps: int, chosen: Mapping[str, Backend | Missing], watch: Watch = lambda *run: run[-1]
) -> Measured:
    """Train in every framework, then take the steps again on the gradients of NumPy's run."""
    given = problem(steps)
    measured = Measured(steps, sum(values.size for values in given.params.values()))
    measured.missing = [it for it in chosen.values() if isinstance(it, Missing)]
    present = {name: it for name, it in chosen.items() if isinstance(it, Backend)}

    def trained(framework: str) -> list[Step]:
        run = list(watch(framework, "training", train(present[framework], given)))
        right = accuracy(run[-1].params, *given.test)
        measured.trained.append(Trained(framework, [step.loss for step in run], right))
        return run

    recorded = trained(BASELINE)
    path = {"Adan": [step.params for step in recorded]}
    baseline = Baseline(given.params, [step.grads for step in recorded], path)
    adamw = _ours(present[BASELINE], "AdamW")
    path["AdamW"] = list(watch(BASELINE, adamw.name, baseline.steps(adamw)))

    for framework in [name for name in present if name != BASELINE]:
        ours = [_ours(present[framework], rule) for rule in RULES]
        run = [step.params for step in trained(framework)]
        measured.training.append(baseline.compare(framework, ours[0], run))
        for optimizer in [*ours, *OWN[framework]]:
            again = watch(framework, optimizer.name, baseline.steps(optimizer))
            series = baseline.compare(framework, optimizer, again)
            measured.replayed[optimizer.rule].append(series)
    for by_rule in measured.replayed.values():
        by_rule.sort(key=lambda series: not series.ours)
    return measured


def _snapshot(params: Arrays) -> Snapshot:
    return {("param", path): array.astype(numpy.float64) for path, array in params.items()}


def _ours(backend: Backend, rule: str) -> Follower:
    return Follower(backend.name, rule, partial(replay, backend))
