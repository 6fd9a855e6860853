"""A step has nothing that the GPUs of MLX lack, found on the CPU in the graph of a step.

MLX's source (``mlx/backend``) says what has no implementation there. MLX refuses float64 on a GPU.
Integers of 64 bits are there: MLX itself counts steps in them.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_unflatten

import samestep
import samestep.mlx
from samestep.conformance.harness.classes import build
from samestep.conformance.harness.parametrized import each_rule

CPU_ONLY = {"LUF", "QRF", "SVD", "Inverse", "Cholesky", "Eig", "Eigh"}
"""Operations that have no implementation on GPUs; a rule would give them ``stream=mx.cpu``."""

if "callback" not in (mx.export_function.__doc__ or ""):
    pytest.skip("this MLX does not show the graph of a function", allow_module_level=True)


def graph(rule: samestep.Rule, captured: bool, dtype: mx.Dtype = mx.float32) -> list[Any]:
    """The operations of a step, with shapes and dtypes of their results.

    ``captured``: the state is an input too, as under ``mx.compile``.
    """
    shapes = {"w": (8, 6), "b": (6,)}
    params = {n: mx.full(s, 0.5, dtype) for n, s in shapes.items() if len(s) >= rule.min_ndim}
    optimizer = samestep.mlx.bind(rule, execution="reference")
    optimizer.init(params)
    mx.eval(optimizer.apply_gradients(params, params), optimizer.state)
    given = {"params": params, "grads": params, **({"state": optimizer.state} if captured else {})}
    names, values = zip(*tree_flatten(given), strict=True)

    def step(*arrays: mx.array) -> list[mx.array]:
        trees = tree_unflatten([*zip(names, arrays, strict=True)])
        if captured:
            optimizer.state.clear()
            optimizer.state.update(trees["state"])
        moved = optimizer.apply_gradients(trees["grads"], trees["params"])
        return [array for _, array in tree_flatten([moved, optimizer.state])]

    found: list[Any] = []
    mx.export_function(found.append, step, *values)
    return [each for each in found if each["type"] == "primitive"]


def lacking(operations: list[Any]) -> set[str]:
    """What a GPU has not: operations, and results of a dtype."""
    found = {each["name"] for each in operations} & CPU_ONLY
    for each in operations:
        for _, shape, dtype in each["outputs"]:
            if dtype in (mx.float64, mx.complex64):
                found.add(str(dtype))
            if dtype in (mx.int64, mx.uint64) and shape:
                found.add(f"{dtype} of shape {shape}")
    return found


@pytest.mark.parametrize("captured", [False, True], ids=["known count", "captured"])
@pytest.mark.parametrize("name", each_rule())
def test_a_step_has_only_what_a_gpu_has(name, captured):
    for dtype in (mx.float32, mx.bfloat16):
        operations = graph(build(name), captured, dtype)
        assert operations and lacking(operations) == set()


FAULTS = {
    "QRF": lambda xp, x: x + 0 * xp.sum(xp.linalg.qr(x, stream=xp.cpu)[0]),
    "mlx.core.float64": lambda xp, x: x.astype(xp.float64).astype(x.dtype),
    "mlx.core.int64 of shape (8, 6)": lambda xp, x: x.astype(xp.int64).astype(x.dtype),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_gpu_lacks_is_seen(fault, monkeypatch):
    right = samestep.SignSGD.direction

    def wrong(self, xp, grad, param, state, s):
        grad = FAULTS[fault](xp, grad) if grad.ndim == 2 else grad
        return right(self, xp, grad, param, state, s)

    monkeypatch.setattr(samestep.SignSGD, "direction", wrong)
    assert fault in lacking(graph(samestep.SignSGD(), captured=False))
