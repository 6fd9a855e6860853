"""The same steps on pieces of parameters as on whole ones, in simulated processes."""

from __future__ import annotations

import array_api_compat
import numpy
import pytest

import samestep
from samestep import adding, owners, step
from samestep.conformance.harness.agreement import bound
from samestep.conformance.harness.settings import all_rules, is_own, typical
from samestep.conformance.harness.sharded import cut, follow, mesh_of, on_ranks
from samestep.conformance.harness.simulated import Immediate, together
from samestep.parity import compare, record
from samestep.parity.backend import NUMPY
from samestep.rule import Rule, registry
from samestep.vocabulary import Initial, hyper, norm, slot

SHAPES = {"a": (7, 5), "b": (3, 8), "c": (4, 6), "d": (5,), "e": (1,), "f": (), "w": (4, 3, 2, 2),
          "none": (0, 4)}  # fmt: skip
MESHES = {
    "2": ((2,), {"a": {0: 0}, "b": {1: 0}, "c": {0: 0}, "d": {0: 0}, "e": {0: 0}, "w": {1: 0}}),
    "4": ((4,), {"a": {0: 0}, "b": {1: 0}, "c": {0: 0}, "d": {0: 0}, "e": {0: 0}, "w": {2: 0}}),
    "uneven": (
        (4,),
        {"a": {0: 0, ("bounds", 0): (0, 0, 6, 6, 7)}, "b": {1: 0, ("bounds", 1): (0, 1, 8, 8, 8)},
         "none": {0: 0}},
    ),
    "copies": ((2, 2), {"a": {1: 1}, "b": {0: 1}, "d": {0: 1}, "w": {0: 0}}),
    "2 x 2": (
        (2, 2),
        {"a": {0: 0, 1: 1}, "b": {1: 1}, "c": {0: (1, 0)}, "d": {0: 0}, "e": {0: (0, 1)},
         "w": {0: 0, 1: 1}, "none": {0: 0, 1: 1}},
    ),
}  # fmt: skip
"""Meshes of processes, and of each parameter the dimensions that cut an axis; others are whole."""
STEPS, FEW = 20, 8
CLOSE = {"float64": 1e-14, "float32": 1e-6}
"""The largest difference of parameters after 20 steps, relative to the largest element on the way.

State may have twice that: it holds squares, whose relative errors are twice as large.
"""


def trajectory(rule, dtype, steps):
    """Whole parameters, and their gradients; some are missing in some steps."""
    shapes = {path: shape for path, shape in SHAPES.items() if len(shape) >= rule.min_ndim}
    found = record(seed=3, steps=steps, shapes=shapes)
    params = {path: array.astype(dtype) for path, array in found.params.items()}
    grads = [{path: array.astype(dtype) for path, array in each.items()} for each in found.grads]
    for missing, path in ((1, "c"), (2, "c"), (2, "b"), (7, "w")):
        if missing < steps:
            grads[missing].pop(path)
    return params, grads


def assert_pieces_step_as_the_whole(
    rule, mesh, dtype="float64", steps=FEW, xp=None, given=None, **more
):
    xp = xp or array_api_compat.array_namespace(numpy.zeros(1))
    sizes, cuts = MESHES[mesh] if isinstance(mesh, str) else mesh
    params, grads = given or trajectory(rule, dtype, steps)
    whole = [each.snapshot() for each in follow(xp, rule, params, grads)]
    cuts = {path: one for path, one in cuts.items() if path in params}
    found = on_ranks(xp, rule, params, grads, sizes, cuts, **more)
    ours, theirs = found.snapshot(), whole[-1]
    assert ours.keys() == theirs.keys()
    exact = all(one.needs == "element" or isinstance(one, EXACT) for one in rule.branches)
    near = 0 if exact else CLOSE[dtype]
    for (name, path), expected in theirs.items():
        size = max(numpy.max(numpy.abs(each[name, path]), initial=0) for each in whole)
        size *= 1 if name == "param" else 2
        words = f"{name} of {path}"
        numpy.testing.assert_allclose(ours[name, path], expected, 0, near * size, err_msg=words)
    return found


class Grams(Rule, register=False):
    """A rule of somebody, with products of a matrix and its state that no piece has."""

    needs, min_ndim = "matrix", 2

    lr = hyper(0.1, "step size", unit="parameter", ge=0)
    m = slot("mean of the gradient")
    gram = slot(
        "sum of products",
        init=Initial(
            lambda xp, param, rule: xp.zeros((param.shape[0],) * 2, dtype=param.dtype),
            lambda shape, rule: (shape[0], shape[0]),
        ),
    )

    def direction(self, xp, grad, param, state, s):
        matrix = xp.reshape(grad, (grad.shape[0], -1))
        gram = 0.9 * state.gram + xp.matmul(matrix, xp.matrix_transpose(matrix))
        m = 0.9 * state.m + grad
        return m / (1 + norm(xp, gram)), {"m": m, "gram": gram}


class Filled(Rule, register=False):
    """A rule of somebody, in which a sum depends on an array that another has filled."""

    needs = "tensor"

    lr = hyper(0.1, "step size", unit="parameter", ge=0)

    def direction(self, xp, grad, param, state, s):
        filled = xp.full_like(grad, xp.sum(grad * grad))
        return grad / (1 + xp.sum(filled * param * param)), {}


class Multiplied(Rule, register=False):
    """A rule of somebody that writes a product of matrices as an operator."""

    needs, min_ndim, max_ndim = "matrix", 2, 2

    lr = hyper(0.1, "step size", unit="parameter", ge=0)

    def direction(self, xp, grad, param, state, s):
        return grad @ xp.matrix_transpose(param) @ param / (1 + norm(xp, param) ** 2), {}


class Columns(Rule, register=False):
    """A rule of somebody with a slot that no process has a piece of, but has a piece of its sum."""

    needs, min_ndim = "axes", 2

    lr = hyper(0.1, "step size", unit="parameter", ge=0)
    columns = slot(
        "sum of each column",
        init=Initial(
            lambda xp, param, rule: xp.zeros((param.shape[-1],), dtype=param.dtype),
            lambda shape, rule: (shape[-1],),
        ),
    )

    def direction(self, xp, grad, param, state, s):
        kept = tuple(range(grad.ndim - 1))
        columns = 0.9 * state.columns + xp.sum(grad, axis=kept)
        return grad * columns, {"columns": columns}


EXACT = (samestep.Muon, Grams)
"""Rules of whole matrices, which have the same bits."""


def shown():
    """The first rule of each need, plain and wrapping; all others are thorough."""
    seen = set()
    for rule in sorted(filter(is_own, all_rules()), key=lambda rule: rule.__name__):
        need = typical(rule).needs, hasattr(rule, "reads")
        marks = pytest.mark.thorough if need in seen else ()
        seen.add(need)
        yield pytest.param(rule, id=rule.__name__, marks=marks)


@pytest.mark.parametrize("mesh", ["uneven", "2 x 2"])
@pytest.mark.parametrize("kind", [*shown()])
def test_pieces_step_as_the_whole(kind, mesh):
    """In float64, with gradients that are missing; all copies have the same bits."""
    assert_pieces_step_as_the_whole(typical(kind), mesh)


@pytest.mark.thorough
@pytest.mark.parametrize("mesh", [*MESHES])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_pieces_step_as_the_whole_for_20_steps_on_every_mesh(rule_class, mesh, precision):
    assert_pieces_step_as_the_whole(typical(rule_class), mesh, precision, STEPS)


@pytest.mark.only(where=lambda rule: rule.needs != "element")
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=pytest.mark.thorough)]
)
def test_one_step_of_pieces_is_within_the_bound(rule_class, precision):
    """Of two results that are each as far from the rule in float64 as the bound allows."""
    rule = typical(rule_class)
    params, grads = trajectory(rule, precision, 1)
    xp = array_api_compat.array_namespace(numpy.zeros(1))
    sizes, cuts = MESHES["2 x 2"]
    before, whole = (each.snapshot() for each in follow(xp, rule, params, grads))
    cuts = {path: one for path, one in cuts.items() if path in params}
    ours = on_ranks(xp, rule, params, grads, sizes, cuts).snapshot()
    found = compare([ours], [whole], precision, [before], whole=rule.needs == "matrix")
    for name, worst in found.worst.items():
        assert worst.ulp <= 2 * bound(rule, NUMPY, precision, name), worst


@pytest.mark.thorough
def test_pieces_step_as_the_whole_with_every_option(setting):
    assert_pieces_step_as_the_whole(setting, "2 x 2", steps=STEPS)


@pytest.mark.parametrize("mesh", ["copies"])
@pytest.mark.parametrize(
    "rule",
    [
        samestep.Scout(samestep.Muon(batch_axes=(), layout="io")),
        samestep.ClipGlobalNorm(samestep.Lookahead(Grams(batch_axes=(), layout="oi"))),
        samestep.Scout(Grams(batch_axes=(), layout="oi")),
        samestep.SkipNonFinite(samestep.Accumulate(samestep.LAMB())),
        samestep.route(
            (samestep.Where(ndim=2), samestep.Muon(batch_axes=(), layout="oi")),
            samestep.ClipGlobalNorm(samestep.LAMB()),
        ),
    ],
    ids=repr,
)
def test_rules_in_rules_step_pieces(rule, mesh, caplog):
    """The whole step is on whole parameters where a rule needs them, as the log says once."""
    assert_pieces_step_as_the_whole(rule, mesh, steps=3)
    brought = [record for record in caplog.records if "brings whole" in record.message]
    assert len(brought) <= 1


@pytest.mark.parametrize(
    "rule", [Filled(), Multiplied(layout="oi"), Columns(layout="oi")], ids=repr
)
def test_rules_of_somebody_step_pieces(rule):
    """What they do with a piece is done with the piece, or with the whole."""
    given = record(seed=3, steps=3, shapes={"a": (7, 5), "b": (3, 8)})
    assert_pieces_step_as_the_whole(rule, "2 x 2", given=(given.params, given.grads))


class First(Rule, register=False):
    """A rule of somebody whose state begins with sums of the parameter."""

    needs = "axes"

    lr = hyper(0.1, "step size", unit="parameter", ge=0)
    sums = slot(
        "sums of columns",
        init=Initial(lambda xp, param, rule: xp.sum(param, axis=0), lambda shape, rule: shape[1:]),
    )

    def direction(self, xp, grad, param, state, s):
        return grad * state.sums, {"sums": state.sums}


def test_a_first_value_that_a_piece_does_not_know_is_refused():
    """Whichever of its numbers it is; what is computed from zeros is known."""
    placement = cut((4, 3), {0: 0}, mesh_of((2,), 0))
    xp, piece = array_api_compat.array_namespace(numpy.zeros(1)), numpy.zeros((2, 3))
    assert not step.init_slots(First(layout="oi"), xp, piece, placement)["sums"].any()
    piece[0, 2] = 1.0
    with pytest.raises(ValueError, match="First: the first value of slot sums is computed"):
        step.init_slots(First(layout="oi"), xp, piece, placement)


STACKS = {"x": (4, 6, 5), "y": (3, 6, 5)}
CUT_STACKS = {
    "along batches": ((4,), {"x": {0: 0}, "y": {0: 0}}),
    "across": ((2,), {"x": {1: 0}, "y": {2: 0}}),
    "both": ((2, 2), {"x": {0: 0, 1: 1}, "y": {0: 1, 2: 0}}),
}


@pytest.mark.parametrize("cuts", [*CUT_STACKS])
@pytest.mark.parametrize(
    "rule",
    [
        samestep.LAMB(batch_axes=0),
        samestep.ClipGlobalNorm(samestep.Muon(batch_axes=0, layout="io")),
        samestep.Scout(Grams(batch_axes=(0,), layout="oi")),
    ],
    ids=repr,
)
def test_stacks_are_cut_along_and_across_their_batch_axes(rule, cuts):
    """Nothing but sums over a tree is exchanged where whole parameters are in one process."""
    found = record(seed=3, steps=4, shapes=STACKS)
    given = dict(found.params), [dict(each) for each in found.grads]
    found = assert_pieces_step_as_the_whole(rule, CUT_STACKS[cuts], given=given)
    if cuts == "along batches":
        assert found.counted == ({"gathered": 4} if rule.phases else {})


@pytest.mark.parametrize("name", ["LAMB", "Muon"])
def test_pieces_of_another_library_step_as_the_whole(name):
    """Torch, where kernels of placed arrays are those of its tensors."""
    xp = pytest.importorskip("array_api_compat.torch")
    rule = typical(registry[name])
    params, grads = trajectory(rule, "float64", 4)
    params, *grads = (
        {path: xp.asarray(array) for path, array in each.items()} for each in (params, *grads)
    )
    assert_pieces_step_as_the_whole(rule, "2 x 2", xp=xp, given=(params, grads))


def test_one_collective_for_each_level():
    """LAMB's norms are one; Adafactor's means depend on one another. Matrices go and come back."""
    expected = {"AdamW": 0, "NAdam": 0, "LAMB": 1, "Adafactor": 2, "Prodigy": 1, "AdamP": 2}
    for name, levels in expected.items():
        found = assert_pieces_step_as_the_whole(typical(registry[name]), "4", "float32", 3)
        assert found.counted == ({"gathered": levels * 3} if levels else {}), name
    found = assert_pieces_step_as_the_whole(typical(samestep.Muon), "4", "float32", 3)
    assert found.counted == {"swapped": 2 * 3}


@pytest.mark.parametrize("name", ["LAMB", "Adafactor", "Muon", "Prodigy"])
def test_exchanges_may_be_made_while_a_rule_is_executed(name):
    """As a framework does that traces collectives; pieces are of equal size."""
    given = record(seed=3, steps=3, shapes={"a": (6, 4), "b": (4, 8)})
    cuts = (2, 2), {"a": {0: 0, 1: 1}, "b": {1: 1}}
    rule, given = typical(registry[name]), (given.params, given.grads)
    found = assert_pieces_step_as_the_whole(rule, cuts, given=given, kind=Immediate)
    assert {*found.counted} == {"whole" if name == "Muon" else "total"}


def test_matrices_move_to_their_owner_and_back_only():
    """Of P elements on N ranks each gets 2 P (N - 1) / N^2 from others."""
    shapes = {f"w{at}": (8, 6) for at in range(8)}
    given = record(seed=3, steps=1, shapes=shapes)
    cuts = (4,), {path: {0: 0} for path in shapes}
    found = assert_pieces_step_as_the_whole(
        typical(samestep.Muon), cuts, given=(given.params, given.grads)
    )
    assert found.received == [2 * 8 * 8 * 6 * 3 // 16] * 4
    assert found.counted == {"swapped": 2}


@pytest.mark.parametrize("mesh", ["uneven", "2 x 2"])
def test_long_vectors_are_reduced_in_parts(monkeypatch, mesh):
    """Each process reduces a part, and sends it: two collectives, and the same bits."""
    rule = typical(samestep.Adafactor)
    before = assert_pieces_step_as_the_whole(rule, mesh, "float32", 3)
    monkeypatch.setattr(adding, "LONG", 0)
    found = assert_pieces_step_as_the_whole(rule, mesh, "float32", 3)
    assert found.counted["swapped"] == found.counted["gathered"] == before.counted["gathered"]
    ours, theirs = found.snapshot(), before.snapshot()
    for key, value in theirs.items():
        assert ours[key].tobytes() == value.tobytes(), key


def test_a_bucket_of_matrices_comes_together_at_a_time(monkeypatch):
    """Two collectives each; a bucket has a matrix for every process, whatever the limit is."""
    monkeypatch.setattr(owners, "LIMIT", 1)
    shapes = {f"w{at}": (4 + at, 6) for at in range(10)}
    given = record(seed=3, steps=2, shapes=shapes)
    cuts = (4,), {path: {0: 0} for path in shapes}
    rule = samestep.Lookahead(typical(samestep.Muon))
    found = assert_pieces_step_as_the_whole(rule, cuts, given=(given.params, given.grads))
    assert found.counted == {"swapped": 2 * 3 * 2}


def test_a_piece_without_an_exchange_is_refused():
    """Its sums would be those of the piece."""
    placement = cut((4,), {0: 0}, mesh_of((2,), 0))
    rule, piece = samestep.LAMB(), numpy.ones(2)
    xp = array_api_compat.array_namespace(piece)
    slots = step.init_slots(rule, xp, piece, placement)
    entry = step.Entry(rule, 0, piece, piece, slots, placement=placement)
    results, _ = step.run(xp, [entry], {})
    with pytest.raises(ValueError, match=r"LAMB: a process has a piece .* of shape \(4,\)"):
        next(results)


def test_a_rank_that_does_not_come_is_named():
    def work(rank):
        if rank.rank:
            rank.group.swap(rank.rank, "gathered", 0)

    with pytest.raises(TimeoutError, match="rank 1 waits in gathered: rank 0 in nothing yet"):
        together(2, work, 0.2)
