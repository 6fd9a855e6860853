"""The optimizers of other libraries, each with the rule and dialect that reproduce it.

A module per dialect. Its ``PEERS`` say, rule by rule, how our hyperparameters become the library's
arguments, and its ``PACKAGE`` the entry point of the parity kit that steps the library's own
optimizer. Where no package carries the code any more, the module has ``VECTORS`` instead: short
trajectories worked out by hand from the published formulas.

Peers hand our hyperparameters to the library, and so would not notice a wrong number among a
dialect's own. The module's ``ARGUMENTS`` say what each argument of the library is in our fields, to
compare it with the default that the library declares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from inspect import Parameter, signature
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import numpy

from samestep.parity import Trajectory
from samestep.parity.backend import Snapshot
from samestep.parity.subjects.importing import stepping

__all__ = [
    "FLOAT64",
    "RECTIFIED",
    "Arguments",
    "Peer",
    "agree",
    "declared",
    "dialects",
    "followed",
    "formulas",
    "nested",
    "orthogonalized",
    "run",
]

FLOAT64 = 1e-12
"""Two orders of evaluation of one formula differ by a few of float64's roundoffs (1.1e-16) per
step, over 120 steps by some 1e-14; ``1 - 0.999**t`` computed by cancellation adds 1e-13."""

RECTIFIED = 1e-10
"""RAdam's rho is the difference of 2/(1 - beta2) - 1 = 1999 and nearly as much, divided by
1 - beta2**t. At t = 6 that is 0.006, by cancellation wrong by 1e-16 / 0.006 = 2e-14, which makes
4e-11 of rho - 4 = 1.99."""


@dataclass(frozen=True)
class Peer:
    """An optimizer of a library, and the rule that computes the same with ``like=`` its dialect."""

    rule: str
    make: Callable[..., Any]
    """The library's optimizer from our hyperparameters. The first argument is the library's module
    of optimizers; for torch, the tensors."""
    slots: Mapping[str, Any] = field(default_factory=dict)
    """Our slots that the library keeps, and how the module's ``read`` finds them."""
    settings: Sequence[Mapping[str, Any]] = ({},)
    """Values to try in addition to ``like=``; ``inner`` names the rule inside a wrapper."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Slots that the library keeps in another form or not at all, and why."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Parameters that the library cannot take, and why."""
    tolerance: float = FLOAT64
    """The largest deviation, relative to the largest value so far."""
    because: str = ""
    """Why the tolerance is larger than float64 asks for."""
    problem: Callable[[Trajectory], Trajectory] = lambda trajectory: trajectory
    """Changes the recorded trajectory into one that the library can follow."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of a library's optimizers; ``Rule.argument`` goes before ``argument``."""

    ours: Mapping[str, str | Callable[[Mapping[str, Any]], Any]]
    """The field of ours that an argument is, or its value from our hyperparameters."""
    apart: Mapping[str, str]
    """Arguments that are no field of ours, and why."""

    def find(self, rule: str, argument: str) -> str | Callable[[Mapping[str, Any]], Any] | None:
        """Our name for an argument; ``None`` where it is listed as having none."""
        for key in (f"{rule}.{argument}", argument):
            if key in self.apart:
                return None
            if key in self.ours:
                return self.ours[key]
        raise KeyError(f"{argument} of {rule} is neither a field of ours nor listed as apart")


def declared(native: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a function or class that have a default, with it."""
    found = signature(native).parameters.values()
    return {item.name: item.default for item in found if item.default is not Parameter.empty}


def agree(
    ours: Sequence[Snapshot],
    theirs: Sequence[Snapshot],
    tolerance: float,
    what: Any = "",
    *,
    whole: bool = False,
) -> None:
    """Compare all that both sides hold, after every step.

    A deviation is relative to the largest value, or change of it, that the element has had so far:
    where a momentum crosses zero, rounding is proportional to the numbers that cancelled.

    Args:
        ours: our snapshots.
        theirs: the library's; an axis that was summed over may be kept with size 1.
        tolerance: the largest deviation.
        what: begins the message.
        whole: a rule mixes the elements of an array; the largest value is the array's.
    """
    assert len(ours) == len(theirs)
    assert any(slot == "param" for slot, _ in theirs[0])
    sizes: dict[tuple[str, str], Any] = {}
    before = ours[0]
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for key in mine.keys() & other.keys():
            found, expected = mine[key], other[key].reshape(mine[key].shape)
            size = numpy.fmax(numpy.abs(found), numpy.abs(found - before.get(key, 0.0)))
            if whole:
                size = numpy.full(size.shape, numpy.max(size, initial=0.0))
            sizes[key] = numpy.fmax(size, sizes.get(key, 0.0))
            assert numpy.all(numpy.isfinite(found)), f"{what}: {key} after step {step}"
            error = numpy.abs(found - expected)
            worst = numpy.max(error / numpy.where(sizes[key] == 0, 1.0, sizes[key]), initial=0.0)
            agreed = bool(numpy.all(error <= tolerance * sizes[key]))
            assert agreed, f"{what}: {key} after step {step} differs by {worst:.2g}"
        before = mine


def run(
    module: ModuleType,
    peer: Peer,
    hypers: Mapping[str, Any],
    of: Trajectory,
    dtype: str = "float64",
) -> list[Snapshot]:
    """Snapshots of a library's optimizer before the first and after every step."""
    if hasattr(module, "run"):
        found: list[Snapshot] = module.run(peer, hypers, of)
        return found
    read = getattr(module, "read", _of_correspondence)
    target = module.target(peer, hypers)
    return followed(module.PACKAGE, target, of, dtype, peer.rule, partial(read, peer))


def followed(
    package: str,
    target: Any,
    of: Trajectory,
    dtype: str = "float64",
    rule: str = "",
    read: Callable[[Any], Mapping[str, Any]] | None = None,
) -> list[Snapshot]:
    """Snapshots of any optimizer, stepped as the parity kit steps it.

    Args:
        package: the entry point of the group ``samestep.subjects``.
        target: what makes the optimizer.
        of: the trajectory.
        dtype: the dtype of the parameters.
        rule: the rule whose name the optimizer has.
        read: slots by name and path, from the stepper; the stepper's own if None.
    """
    stepper = stepping(package).Runner(target, {}, dtype, rule).start(of.params)

    def snapshot() -> Snapshot:
        return nested({"param": stepper.params(), **(read(stepper) if read else stepper.slots())})

    snapshots = [snapshot()]
    for grads in of.grads:
        stepper.step(grads)
        snapshots.append(snapshot())
    return snapshots


def formulas(peer: Peer, hypers: Mapping[str, Any], of: Trajectory) -> list[Snapshot]:
    """Snapshots of a formula, ``peer.make(hypers)``, in NumPy float64.

    It takes the number of the step from 1, the gradient, the parameter and the peer's slots, and
    returns the parameter and the slots. A slot that is no function of the parameter is 0 at first.
    """
    step = peer.make(hypers)
    starts = [start if callable(start) else (lambda p: 0 * p) for start in peer.slots.values()]
    kept = {path: (p, *(start(p) for start in starts)) for path, p in of.params.items()}
    rows = [kept]
    for t, grads in enumerate(of.grads, 1):
        kept = {path: step(t, grads[path], *own) for path, own in kept.items()}
        rows.append(kept)
    return [
        nested({slot: {p: own[at] for p, own in row.items()} for at, slot in enumerate(names)})
        for names in [("param", *peer.slots)]
        for row in rows
    ]


def orthogonalized(x: Any, triples: Sequence[tuple[float, float, float]]) -> Any:
    """A matrix after ``a x + (b x x' + c (x x')^2) x`` for each triple."""
    if x.shape[0] > x.shape[1]:
        return orthogonalized(x.T, triples).T
    for a, b, c in triples:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _of_correspondence(peer: Peer, stepper: Any) -> dict[str, Any]:
    """The peer's slots as the correspondence with the library's states has them."""
    found = {name.removesuffix(" with lr"): v for name, v in stepper.slots().items()}
    return {name: value for name, value in found.items() if name.partition(".")[0] in peer.slots}


def dialects() -> dict[str, ModuleType]:
    """The modules here by the name that ``like=`` takes."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return {module.NAME: module for module in modules}


def nested(taken: Mapping[str, Any]) -> Snapshot:
    """A snapshot from what was found by slot and path; parts of a slot are numbered.

    The path of what is shared between parameters is empty.
    """
    found: Snapshot = {}
    for slot, by_path in taken.items():
        for path, value in by_path.items() if isinstance(by_path, Mapping) else [("", by_path)]:
            if isinstance(value, (list, tuple)):
                for i, part in enumerate(value):
                    found[f"{slot}.{i}", path] = numpy.array(part, dtype=numpy.float64)
            elif value is not None:
                found[slot, path] = numpy.array(value, dtype=numpy.float64)
    return found
