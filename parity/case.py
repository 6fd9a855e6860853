"""How far a variant of a rule is from a recorded subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy

from .backend import NumPy, Run
from .bounds import Bound
from .subjects.subject import Recorded
from .trajectory import Trajectory
from .variants.variant import Variant

__all__ = ["FEW", "Case", "Parameters", "Sizes", "distance", "variant_steps"]

FEW = 3
"""Steps after which a variant that does not fit is dropped."""

Parameters = Sequence[Mapping[str, numpy.ndarray]]


class Sizes:
    """The largest size so far of every element and of its changes, step by step."""

    def __init__(self, params: Parameters) -> None:
        self.at: list[dict[str, numpy.ndarray]] = [
            {path: numpy.abs(value) for path, value in params[0].items()}
        ]
        for old, new in pairwise(params):
            last = self.at[-1]
            self.at.append(
                {
                    path: numpy.maximum(
                        last[path], numpy.maximum(numpy.abs(v), numpy.abs(v - old[path]))
                    )
                    for path, v in new.items()
                }
            )


def distance(
    ours: Mapping[str, numpy.ndarray],
    theirs: Mapping[str, numpy.ndarray],
    sizes: Mapping[str, numpy.ndarray],
) -> float:
    """The largest difference of an element, relative to its largest size so far."""
    worst = 0.0
    for path, value in ours.items():
        if not numpy.all(numpy.isfinite(value)):
            return numpy.inf
        size = sizes[path]
        ratio = numpy.abs(value - theirs[path]) / numpy.where(size == 0, 1.0, size)
        worst = max(worst, float(numpy.max(ratio, initial=0.0)))
    return worst


def variant_steps(variant: Variant, trajectory: Trajectory) -> Iterator[dict[str, numpy.ndarray]]:
    """The parameters of a variant in float64, after every step; ends early where it fails."""
    rule = variant.made()
    if rule is None:
        return
    zeros = {path: numpy.zeros_like(value) for path, value in trajectory.params.items()}
    grads = [zeros] * variant.late + trajectory.grads
    backend = NumPy()
    try:
        with numpy.errstate(all="ignore"):
            run: Run = backend.start(rule, trajectory.params, "float64")
    except ValueError:
        return  # the rule refuses these shapes
    for step in range(len(trajectory.grads)):
        try:
            with numpy.errstate(all="ignore"):
                run.step(grads[step])
        except (ArithmeticError, TypeError, ValueError, AttributeError):
            return
        yield run.params()


@dataclass
class Case:
    """A subject on a trajectory, which a variant must reproduce."""

    trajectory: Trajectory
    params: Parameters
    sizes: Sizes
    bound: Bound

    @classmethod
    def of(cls, trajectory: Trajectory, recorded: Recorded, bound: Bound) -> Case:
        """The case of a recorded subject."""
        return cls(trajectory, recorded.params, Sizes(recorded.params), bound)

    def part(self, paths: set[str]) -> Case:
        """The case for some of the parameters."""
        params = [{path: step[path] for path in paths} for step in self.params]
        return Case(self.trajectory.taken(paths), params, Sizes(params), self.bound)

    def off(self, variant: Variant, steps: int | None, bound: float) -> float:
        """The distance of a variant, measured until it exceeds the bound; infinite if it fails.

        The distance after a later step counts less, because rounding may have grown.
        """
        worst, last = 0.0, min(steps or len(self.params), len(self.params) - 1)
        taken = 0
        for params in variant_steps(variant, self.trajectory):
            taken += 1
            apart = distance(params, self.params[taken], self.sizes.at[taken])
            worst = max(worst, apart / self.bound.allowance(taken))
            if worst > bound or taken == last:
                break
        return worst if taken == last or worst > bound else numpy.inf

    def nearness(self, variant: Variant) -> float:
        """The mean logarithm of the distances of elements in the first steps; smaller is nearer."""
        logs = []
        for step, params in enumerate(variant_steps(variant, self.trajectory), 1):
            for path, value in params.items():
                size = self.sizes.at[step][path]
                apart = numpy.abs(value - self.params[step][path]) / numpy.where(size == 0, 1, size)
                logs.append(numpy.log10(numpy.nan_to_num(apart, nan=9.0) + 1e-17).ravel())
            if step == FEW:
                break
        return float(numpy.mean(numpy.concatenate(logs))) if logs else numpy.inf
