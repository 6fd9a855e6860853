"""Every rule of the package, in float64 on NumPy, against its independent reference."""

from __future__ import annotations

import numpy
import pytest

from samestep.conformance.harness.settings import is_own, typical
from samestep.conformance.references import follow_reference, reference_for
from samestep.parity import Trajectory, compare, oracle, record
from samestep.parity.trajectory import suited
from samestep.rule import Rule, registry

ROUNDINGS = 32
"""Operations in a step, about, each of which rounds."""

ROUNDING = 2e4
"""ULP of float64 over 200 steps; two orders of the same sums differ by about 1e-12."""


of_the_package = pytest.mark.only(where=is_own)
"""A rule from outside of the package brings no reference."""


@of_the_package
def test_every_rule_of_the_package_has_a_reference(rule_class):
    assert reference_for(rule_class.__name__) is not None


@of_the_package
def test_parameters_and_state_are_the_reference_s(setting):
    agree(setting)


@of_the_package
def test_zero_parameters_and_first_gradients_that_are_zero_agree_too(setting):
    """No ratio has a size to divide by then, and no average has anything in it."""
    given = record(seed=1, steps=12)
    still = {path: grad * (path != "twin") for path, grad in given.params.items()}
    late = [{path: g * (t > 2) for path, g in grads.items()} for t, grads in enumerate(given.grads)]
    agree(setting, Trajectory(still, late))


PRINTED = [name for name in sorted(registry) if "paper" in registry[name].dialects]


@pytest.mark.parametrize("name", PRINTED)
def test_what_a_paper_prints_is_what_the_reference_computes(name):
    """No package computes these; the references are written from the papers."""
    agree(typical(registry[name], like="paper"))


def agree(setting: Rule, trajectory: Trajectory | None = None) -> None:
    trajectory = suited(setting, trajectory or record(seed=1))
    trajectory = trajectory.taken({path for path, p in trajectory.params.items() if p.size})
    if "skipped" in setting.shared():
        trajectory = _spoilt(trajectory)
    found = compare(
        oracle(setting, trajectory),
        follow_reference(setting, trajectory),
        "float64",
        whole=setting.needs == "matrix",
    )
    assert found.ulp < ROUNDING or found.ulp < 16 * _sensitivity(setting, trajectory), found.worst


def _spoilt(trajectory: Trajectory) -> Trajectory:
    """Some steps with one element that is not finite."""
    grads = [dict(step) for step in trajectory.grads]
    for step, bad in ((4, numpy.nan), (5, numpy.inf), (9, -numpy.inf)):
        path = list(trajectory.params)[step % len(trajectory.params)]
        grads[step][path] = numpy.array(grads[step][path])
        grads[step][path].flat[-1] = bad
    return Trajectory(trajectory.params, grads)


def _sensitivity(rule: Rule, trajectory: Trajectory) -> float:
    """ULP that the rule moves by if its parameters and gradients are rounded a little otherwise.

    Where decay nearly cancels a gradient, or a cosine nearly reaches its threshold, the last bits
    decide; no two implementations agree further than that.
    """
    random = numpy.random.default_rng(0)

    def otherwise(arrays: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        return {
            path: array
            * (1 + ROUNDINGS * numpy.finfo(float).eps * random.choice([-1, 1], array.shape))
            for path, array in arrays.items()
        }

    start = otherwise(trajectory.params)
    moved = oracle(rule, Trajectory(start, [otherwise(step) for step in trajectory.grads]))
    return compare(oracle(rule, trajectory), moved, "float64").ulp
