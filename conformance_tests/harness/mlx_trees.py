"""Trees of MLX arrays, compared by path, and a model that MLX's own optimizers train too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy
from mlx import nn, optimizers
from mlx.utils import tree_flatten, tree_map

import samestep.mlx

__all__ = [
    "LR",
    "TWINS",
    "Model",
    "assert_close",
    "assert_equal",
    "batch",
    "copied",
    "flat",
    "loss",
    "train",
    "twins",
]

LR = 2.0**-6  # MLX holds the rate in float32, which must not round it
CLOSE = 1e-11
"""Relative to the largest value of an array: float64 rounding, amplified by forty steps."""
TWINS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
    "RMSprop": {"alpha": 0.9},
    "Adagrad": {},
    "AdaDelta": {"rho": 0.8},
    "Adam": {"betas": (0.8, 0.99)},
    "AdamW": {"betas": (0.9, 0.99), "weight_decay": 0.1},
    "Adamax": {"betas": (0.8, 0.99)},
    "Lion": {"weight_decay": 0.1},
}
"""Optimizers that MLX has too, by the hyperparameters that both are given."""


def flat(tree: Any) -> dict[str, mx.array]:
    """Every array by path."""
    return dict(tree_flatten(tree))


def assert_equal(actual: Any, expected: Any) -> None:
    """Assert that two trees have the same arrays to the last bit."""
    found, wanted = flat(actual), flat(expected)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        assert found[path].dtype == value.dtype and found[path].shape == value.shape, path
        assert mx.array_equal(found[path], value).item(), path


def assert_close(actual: Any, expected: Any, tolerance: float = CLOSE) -> None:
    """Assert that two trees differ by a share of the largest value of each array at most."""
    found, wanted = flat(actual), flat(expected)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        assert found[path].dtype == value.dtype, path
        a, b = (numpy.array(x.astype(mx.float64)) for x in (found[path], value))
        assert numpy.abs(a - b).max() <= tolerance * numpy.abs(b).max(), path


def copied(tree: Any) -> Any:
    """A tree of its own with the same arrays."""
    return tree_map(lambda x: x, tree)


class Model(nn.Module):
    """Modules in a list, in a dict and in each other; dropout, and statistics without gradient."""

    def __init__(self, dtype: Any = mx.float64) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        mx.random.seed(3)
        first = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6))  # type: ignore[no-untyped-call]
        self.blocks: Any = [first, nn.Linear(6, 6)]
        self.heads: Any = {"mean": nn.Linear(6, 1), "gate": {"inner": nn.Linear(6, 1)}}
        self.norm = nn.BatchNorm(6)
        self.dropout = nn.Dropout(0.25)
        self.set_dtype(dtype)

    def __call__(self, x: mx.array) -> mx.array:
        """A number for each row."""
        for block in self.blocks:
            x = mx.tanh(block(x))
        x = self.dropout(self.norm(x))
        found: mx.array = self.heads["mean"](x) + mx.tanh(self.heads["gate"]["inner"](x))
        return found


def loss(model: Any, x: mx.array, y: mx.array) -> mx.array:
    """The mean squared error."""
    return mx.mean((model(x) - y) ** 2)


def batch(t: int, dtype: Any = mx.float64) -> tuple[mx.array, mx.array]:
    """Inputs and targets, whose sign and scale change from step to step."""
    rng = numpy.random.default_rng(t)
    x = rng.standard_normal((16, 8))
    y = (-1) ** t * 10.0 ** rng.integers(-2, 2) * numpy.sin(x.sum(1, keepdims=True))
    return mx.array(x, dtype), mx.array(y, dtype)


def train(
    model: Any,
    optimizer: Any,
    steps: Sequence[int] = range(40),
    compiled: bool = False,
    prepare: Callable[[Any], Any] = lambda grads: grads,
) -> list[mx.array]:
    """The losses of an ordinary loop, as MLX's documentation writes it."""
    state = [model.state, optimizer.state, mx.random.state]
    gradient = nn.value_and_grad(model, loss)

    def step(x: mx.array, y: mx.array) -> mx.array:
        value: mx.array
        value, grads = gradient(model, x, y)
        optimizer.update(model, prepare(grads))
        return value

    run: Any = mx.compile(step, inputs=state, outputs=state) if compiled else step
    mx.random.seed(17 + len(steps))
    losses = []
    for t in steps:
        flat: Any = tree_flatten(model.parameters())
        losses.append(run(*batch(t, flat[0][1].dtype)))
        mx.eval(losses, state)
    return losses


def twins(name: str, lr: Any = LR) -> tuple[Any, Any]:
    """The optimizer of that name, ours and MLX's, of the same numbers."""
    hypers = TWINS[name]
    ours = getattr(samestep.mlx, name)(lr=lr, like="mlx", **hypers)
    return ours, getattr(optimizers, name)(lr, **hypers)
