"""A training loop in MLX: a named class, a schedule, compiled execution, a wrapped rule."""

from typing import assert_type

import mlx.core as mx

import samestep
from samestep.mlx import SGD, AdamW, Adan, RuleOptimizer, bind

Params = dict[str, mx.array]


def loss(params: Params, inputs: mx.array) -> mx.array:
    """The mean squared error of a linear model of the sum."""
    return mx.mean((inputs @ params["w"] + params["b"] - inputs.sum(1)) ** 2)


def train(optimizer: RuleOptimizer, steps: int) -> Params:
    """Take some steps."""
    params = {"w": mx.zeros(4), "b": mx.zeros(())}
    for _ in range(steps):
        grads = mx.grad(loss)(params, mx.random.normal((16, 4)))
        params = optimizer.apply_gradients(grads, params)
        mx.eval(params, optimizer.state)
    return params


adan = Adan(lr=1e-3, betas=(0.98, 0.92, 0.99), weight_decay=0.02)
assert_type(adan.rule, samestep.Rule)
optimizers: list[RuleOptimizer] = [
    adan,
    AdamW(lr=lambda step: 1e-3 * 0.9**step, eps=1e-7, execution="compiled"),
    SGD(mx.array(0.1), momentum=0.9, nesterov=True),
    bind(samestep.Lookahead(samestep.Lion(lr=1e-4), sync_period=5), execution="reference"),
]
for optimizer in optimizers:
    train(optimizer, steps=2)
