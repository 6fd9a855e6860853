"""A copy of an optimizer has a state of its own."""

from __future__ import annotations

import copy
import pickle

import mlx.core as mx
import pytest

import samestep
import samestep.mlx as adapter
from samestep.conformance.harness.mlx_trees import assert_equal, copied
from samestep.conformance.harness.settings import typical

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
