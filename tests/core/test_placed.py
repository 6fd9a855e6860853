"""Arrays of which a process has a piece: what a rule may do with them, beside whole arrays."""

from __future__ import annotations

import array_api_compat
import numpy
import pytest

from samestep.conformance.harness.sharded import cut, mesh_of, piece
from samestep.conformance.harness.simulated import Immediate, together
from samestep.exchanges import Tape
from samestep.placed import NotLocalError, Placed, axis_of, fitted
from samestep.placed_namespace import Namespace
from samestep.placement import Cut, Mesh, Part, Placement, chunks

XP = array_api_compat.array_namespace(numpy.zeros(1))
X = numpy.random.default_rng(0).normal(size=(7, 4, 3))
MESHES = {
    "rows": ((3,), {0: 0}),
    "uneven": ((4,), {0: 0, ("bounds", 0): (0, 0, 6, 6, 7)}),
    "columns": ((2,), {1: 0}),
    "both": ((2, 2), {0: 1, 2: 0}),
    "one axis twice": ((2, 2), {0: (1, 0)}),
    "copies": ((2, 2), {1: 1}),
}

DONE = {
    "operators": lambda xp, x: (2 - x) * x / 3 + x**2 - (x > 0) * 1.0 + abs(-x) // 2,
    "sum": lambda xp, x: xp.sum(x * x),
    "sum of axes": lambda xp, x: x - xp.sum(x, axis=(0, 2), keepdims=True),
    "sum without its axis": lambda xp, x: xp.sum(x, axis=0),
    "sum of the last": lambda xp, x: xp.sum(x, axis=-1),
    "mean": lambda xp, x: x - xp.mean(x, axis=0, keepdims=True) * xp.mean(x),
    "max": lambda xp, x: xp.max(x, axis=1) + xp.min(x),
    "max of the rest": lambda xp, x: xp.max(x, axis=(1, 2), keepdims=True) * x,
    "prod": lambda xp, x: xp.prod(x, axis=0),
    "variance": lambda xp, x: xp.var(x, axis=0) + xp.std(x) + xp.var(x, correction=1.0),
    "truth": lambda xp, x: xp.where(xp.any(x > 2, axis=0), 1.0, 0.0)
    + xp.where(xp.all(x > -1, axis=0), 1.0, 0.0),
    "count": lambda xp, x: xp.sum(xp.ones_like(x)) + xp.sum(xp.full_like(x, 2.0)),
    "nested": lambda xp, x: x / xp.max(xp.sum(x * x, axis=0)) - xp.mean(x, axis=(1, 2))[:, None, None],  # noqa: E501
    "limits": lambda xp, x: xp.clip(xp.maximum(x, 0.5 * x), -1, xp.sqrt(xp.abs(x))),
    "joined": lambda xp, x: xp.sum(xp.reshape(x, (x.shape[0], -1)), axis=1),
    "a vector": lambda xp, x: xp.reshape(xp.reshape(x, (-1,)) * 2, x.shape),
    "split": lambda xp, x: xp.reshape(xp.reshape(x, (7, 12)), (7, 4, 3)),
    "turned": lambda xp, x: xp.permute_dims(x, (2, 0, 1)) + xp.moveaxis(x, 2, 0),
    "transposed": lambda xp, x: xp.swapaxes(xp.matrix_transpose(x).mT, 0, 1) + xp.swapaxes(x, 0, 1),
    "more axes": lambda xp, x: xp.squeeze(xp.expand_dims(x, axis=1), axis=1) + x[None, ..., None][0, ..., 0],  # noqa: E501
    "stacked": lambda xp, x: xp.sum(xp.stack([x, 2 * x], axis=1), axis=1),
    "with a whole one": lambda xp, x: x * xp.reshape(xp.arange(84, dtype=x.dtype), x.shape),
    "with a row": lambda xp, x: x + xp.arange(3, dtype=x.dtype),
    "broadcast": lambda xp, x: xp.broadcast_to(xp.sum(x, axis=0, keepdims=True), (2, 4, 3)),
    "cast": lambda xp, x: xp.astype(xp.astype(x, xp.float32), x.dtype),
    "product of wholes": lambda xp, x: xp.sum(x) * xp.ones((3, 2)) @ xp.ones((2, 4)),
}  # fmt: skip


def on_pieces(functions, sizes, dims):
    """The results of functions of a piece on a process, for each of them; or what it cannot do."""

    def run(rank):
        mesh = mesh_of(sizes, rank.rank)
        placement = cut(X.shape, dims, mesh)
        tape = Tape(XP, placement, None, immediate=rank)
        found = {}
        for name, function in functions.items():
            array = Placed(piece(X, placement), placement.axes, tape)
            try:
                found[name] = function(Namespace(tape), array)
            except NotLocalError as error:
                found[name] = error
        return found

    with numpy.errstate(all="ignore"):
        return together(int(numpy.prod(sizes)), run, kind=Immediate)[0]


@pytest.mark.parametrize("mesh", [*MESHES])
def test_pieces_compute_as_the_whole_or_say_that_they_cannot(mesh):
    """The piece of the result is that of the result for the whole."""
    for rank in on_pieces(DONE, *MESHES[mesh]):
        for name, found in rank.items():
            if isinstance(found, NotLocalError):
                assert name == "split" and mesh in ("columns", "copies", "both"), name
                continue
            expected = numpy.asarray(DONE[name](XP, X))
            axes = tuple(axis_of([Part(size)]) for size in expected.shape)
            wanted = fitted(Placed(expected, axes, found.tape), found.axes).local
            assert found.shape == expected.shape and found.local.shape == wanted.shape, name
            numpy.testing.assert_allclose(found.local, wanted, 1e-12, 1e-12, err_msg=name)


NOT_DONE = {
    "a product": lambda xp, x: xp.matmul(x, xp.matrix_transpose(x)),
    "a product as an operator": lambda xp, x: x @ xp.matrix_transpose(x),
    "an array times it": lambda xp, x: XP.ones((2, 4)) @ x,
    "sorted": lambda xp, x: xp.sort(x, axis=0),
    "a row of it": lambda xp, x: x[0],
    "a part of it": lambda xp, x: x[1:],
    "chosen by an array": lambda xp, x: x[x > 0],
    "an axis split": lambda xp, x: xp.reshape(x[:, :2, :], (14, 3)) + xp.reshape(x, (2, 42))[0, 0],
    "another way": lambda xp, x: x[:, :3, :] + xp.permute_dims(x[:, :, :], (2, 1, 0))[:, :3, :],
    "joined to another": lambda xp, x: xp.concat([x, x], axis=0),
    "decomposed": lambda xp, x: xp.linalg.qr(x)[0],
}


@pytest.mark.parametrize("mesh", ["rows", "uneven"])
def test_what_needs_the_whole_is_said(mesh):
    """On every process, whatever its piece is."""
    for rank in on_pieces(NOT_DONE, *MESHES[mesh]):
        for name, found in rank.items():
            assert isinstance(found, NotLocalError), name


def test_a_value_that_a_piece_does_not_know_is_refused():
    with pytest.raises(TypeError, match=r"use xp\.where"):
        on_pieces({"a branch": lambda xp, x: bool(xp.sum(x) > 0)}, *MESHES["rows"])


def test_pieces_are_described_alike_on_every_process():
    """Two dimensions of a mesh may cut one axis, in either order; pieces may be empty."""
    assert chunks(7, 4) == (0, 2, 4, 6, 7)
    assert chunks(3, 4) == (0, 1, 2, 3, 3)
    both = Cut(chunks(8, 4), (1, 0))
    ranges = [both.piece(Mesh("m", (2, 2), at)) for at in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert ranges == [(0, 2), (4, 6), (2, 4), (6, 8)]
    placement = Placement((8, 3), (both, None), Mesh("m", (2, 2), (1, 0)))
    assert placement.local == (2, 3)
    assert placement.like(((1, 3), (8, 1)))[0].local == (1, 3)
    assert placement.like(((1, 3), (8, 1)))[1].local == (2, 1)
    assert placement.like(()).local == ()
