"""A copy of an optimizer has a state of its own."""

from __future__ import annotations

import copy
import pickle

import pytest

import samestep
from samestep.conformance.harness.settings import typical

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")
optimizers = pytest.importorskip("mlx.optimizers")
adapter = pytest.importorskip("samestep.mlx")
utils = pytest.importorskip("mlx.utils")
from samestep.conformance.harness.mlx_trees import (  # noqa: E402  (MLX is there)
    assert_equal,
    copied,
)

KINDS = ["AdamW", "SM3", "LAMB", "Adafactor", "Muon", "Prodigy", "Lookahead"]
"""A rule of every kind: by element, axis, norm, factor, matrix, over all parameters, a wrapper."""


@pytest.mark.parametrize("copying", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("name", KINDS)
def test_a_copy_goes_its_own_way(name, copying):
    rule = typical(getattr(samestep, name))
    params = {"layers": [mx.ones((2, 3)), mx.ones((3, 3))]}
    grads = {"layers": [mx.ones((2, 3)), -mx.ones((3, 3))]}
    optimizer = adapter.bind(rule, execution="reference")
    params = optimizer.apply_gradients(grads, params)
    twin = copying(optimizer)
    assert_equal(twin.state, optimizer.state)
    kept = copied(optimizer.state)
    new = twin.apply_gradients(grads, params)
    assert_equal(optimizer.state, kept)
    assert_equal(optimizer.apply_gradients(grads, params), new)
    assert_equal(twin.state, optimizer.state)
