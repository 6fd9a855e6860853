"""The same steps on pieces of parameters as on whole ones, in simulated processes."""

from __future__ import annotations

import array_api_compat
import numpy
import pytest

from samestep.conformance.harness.settings import all_rules, is_own, typical
from samestep.conformance.harness.sharded import follow, on_ranks
from samestep.conformance.harness.simulated import together
from samestep.parity import record
from samestep.rule import registry

SHAPES = {"a": (7, 5), "b": (3, 8), "c": (4, 6), "d": (5,), "e": (1,), "f": (), "w": (4, 3, 2, 2)}
MESHES = {
    "2": ((2,), {"a": {0: 0}, "b": {1: 0}, "c": {0: 0}, "d": {0: 0}, "e": {0: 0}, "w": {1: 0}}),
    "4": ((4,), {"a": {0: 0}, "b": {1: 0}, "c": {0: 0}, "d": {0: 0}, "e": {0: 0}, "w": {2: 0}}),
    "uneven": (
        (4,),
        {"a": {0: 0, ("bounds", 0): (0, 0, 6, 6, 7)}, "b": {1: 0, ("bounds", 1): (0, 1, 8, 8, 8)}},
    ),
    "copies": ((2, 2), {"a": {1: 1}, "b": {0: 1}, "d": {0: 1}, "w": {0: 0}}),
    "2 x 2": (
        (2, 2),
        {"a": {0: 0, 1: 1}, "b": {1: 1}, "c": {0: (1, 0)}, "d": {0: 0}, "e": {0: (0, 1)},
         "w": {0: 0, 1: 1}},
    ),
}  # fmt: skip
"""Meshes of processes, and of each parameter the dimensions that cut an axis; others are whole."""
STEPS = 20
CLOSE = {"float64": 1e-14, "float32": 1e-6}
"""The largest relative difference of parameters after 20 steps."""


def trajectory(rule, dtype):
    """Whole parameters, and their gradients; some are missing in some steps."""
    shapes = {path: shape for path, shape in SHAPES.items() if len(shape) >= rule.min_ndim}
    found = record(seed=3, steps=STEPS, shapes=shapes)
    params = {path: array.astype(dtype) for path, array in found.params.items()}
    grads = [{path: array.astype(dtype) for path, array in each.items()} for each in found.grads]
    for step, path in ((2, "c"), (3, "c"), (3, "b"), (7, "w")):
        grads[step].pop(path)
    return params, grads


def assert_pieces_step_as_the_whole(rule, mesh, dtype="float64", xp=None):
    xp = xp or array_api_compat.array_namespace(numpy.zeros(1))
    sizes, cuts = MESHES[mesh]
    params, grads = trajectory(rule, dtype)
    if xp.__name__.endswith("torch"):
        params, *grads = (
            {path: xp.asarray(array) for path, array in each.items()} for each in (params, *grads)
        )
    whole = follow(xp, rule, params, grads)
    found = on_ranks(xp, rule, params, grads, sizes, {p: c for p, c in cuts.items() if p in params})
    exact = rule.needs == "element" or type(rule).__name__ == "Muon"
    for path, array in whole.params.items():
        expected = numpy.asarray(array)
        if exact:
            numpy.testing.assert_array_equal(found.params[path], expected, err_msg=path)
        size = max(numpy.max(numpy.abs(numpy.asarray(a))) for a in (expected, params[path]))
        numpy.testing.assert_allclose(
            found.params[path], expected, rtol=0, atol=CLOSE[dtype] * size, err_msg=path
        )
    return found


def shown():
    """The first rule of each need, plain and wrapping; all others are thorough."""
    seen = set()
    for rule in sorted(filter(is_own, all_rules()), key=lambda rule: rule.__name__):
        if rule.__name__ == "Muon":
            continue
        need = typical(rule).needs, hasattr(rule, "reads")
        marks = pytest.mark.thorough if need in seen else ()
        seen.add(need)
        yield pytest.param(rule, id=rule.__name__, marks=marks)


@pytest.mark.parametrize("mesh", ["uneven", "2 x 2"])
@pytest.mark.parametrize("kind", [*shown()])
def test_pieces_step_as_the_whole(kind, mesh):
    """In float64, with gradients that are missing; all copies have the same bits."""
    assert_pieces_step_as_the_whole(typical(kind), mesh)


def test_one_collective_for_each_level():
    """LAMB's norms are one; Adafactor's means depend on one another."""
    for name, levels in (("AdamW", 0), ("NAdam", 0), ("LAMB", 1), ("Adafactor", 2), ("Prodigy", 1)):
        found = assert_pieces_step_as_the_whole(typical(registry[name]), "4", "float32")
        assert found.counted == ({"gathered": levels * STEPS} if levels else {}), name


def test_a_rank_that_does_not_come_is_named():
    def work(rank):
        if rank.rank:
            rank.group.swap(rank.rank, "gathered", 0)

    with pytest.raises(TimeoutError, match="rank 1 waits in gathered: rank 0 in nothing yet"):
        together(2, work, 0.2)
