"""A training loop in MLX: named classes, schedules, routes, wrappers, averages, several rules."""

from typing import Any, assert_type

import mlx.core as mx
import mlx.optimizers
from mlx import nn

import samestep
import samestep.mlx as ours
from samestep import Parameter, Where, route
from samestep.schedules import CosineDecay

Params = dict[str, mx.array]


def loss(params: Params, inputs: mx.array) -> mx.array:
    """The mean squared error of a linear model of the sum."""
    return mx.mean((inputs @ params["w"][:, 0] + params["b"] - inputs.sum(1)) ** 2)


def train(optimizer: ours.RuleOptimizer, steps: int) -> Params:
    """Take some steps."""
    params = {"w": mx.zeros((4, 1)), "b": mx.zeros(())}
    for _ in range(steps):
        grads = mx.grad(loss)(params, mx.random.normal((16, 4)))
        params = optimizer.apply_gradients(grads, params)
        mx.eval(params, optimizer.state)
    return params


adan = ours.Adan(lr=1e-3, betas=(0.98, 0.92, 0.99), weight_decay=0.02)
assert_type(adan.rule, samestep.Rule)
optimizers: list[ours.RuleOptimizer] = [
    adan,
    ours.AdamW(lr=lambda step: 1e-3 * 0.9**step, eps=1e-7, execution="compiled"),
    ours.SGD(mx.array(0.1), momentum=0.9, nesterov=True),
    ours.bind(samestep.Lookahead(samestep.Lion(lr=1e-4), sync_period=5), execution="reference"),
]


def is_matrix(parameter: Parameter) -> bool:
    """Whether a parameter has two dimensions or more."""
    return parameter.ndim > 1


rule = samestep.AdamW(lr=1e-3, weight_decay=0.1)
routed = route(
    (Where(min_ndim=2) & ~Where(path="b"), samestep.Muon(lr=0.02, layout="oi")),
    (Where(path="b") | Where(ndim=0), samestep.SGD(0.1)),
    rule,
)
assert_type(routed.table({"w": mx.zeros((4, 1)), "b": mx.zeros(())}), str)
optimizers += [
    ours.bind(routed),
    ours.bind(samestep.ClipGlobalNorm(routed, max_norm=1.0), execution="packed"),
    ours.ClipValue(rule, 0.5),
    ours.ClipNorm(rule, clip_norm=lambda step: 1.0 / (step + 1), execution="compiled"),
    ours.ClipGlobalNorm(rule, like="torch"),
    ours.AdaptiveClip(rule, clipping=0.01, layout="oi"),
    ours.Centralize(rule),
    ours.Accumulate(rule, every=2, accumulated_dtype="float32"),
    ours.SkipNonFinite(rule),
    ours.Cautious(rule, rescale="mean"),
    ours.Average(rule, average_decay=0.99, averaging="equal"),
    ours.Lookahead(rule, sync_period=5),
    ours.AdamW(lr=mlx.optimizers.cosine_decay(1e-3, 100), like="mlx", mask=is_matrix),
    ours.Lion(lr=CosineDecay(1e-4, 100), groups=[(Where(path="b"), {"lr": 1e-5})]),
]
for optimizer in optimizers:
    train(optimizer, steps=2)

model = nn.Linear(4, 1)


def error(model: nn.Linear, inputs: mx.array) -> mx.array:
    """The mean squared error of a layer of the sum."""
    return mx.mean((model(inputs).squeeze() - inputs.sum(1)) ** 2)


several = mlx.optimizers.MultiOptimizer(
    [ours.Muon(lr=0.02), ours.AdamW(lr=1e-3)],
    [lambda path, weight: weight.ndim == 2],
)
guarded = ours.SkipNonFinite(samestep.Average(rule))
value_and_grad = nn.value_and_grad(model, error)
for native in (several, guarded):
    value, grads = value_and_grad(model, mx.ones((16, 4)))
    native.update(model, grads)
    mx.eval(native.state)
step: Any = guarded.state["step"]
skipped = float(guarded.state["shared_state"]["skipped"])
guarded.learning_rate = 1e-4
rate: mx.array = guarded.learning_rate
averages = {name: guarded.state[name]["average"] for name in ("weight", "bias")}
params: Params = {"weight": model.weight, "bias": model.bias}
with samestep.swapped(model.update, params, averages):
    error(model, mx.ones((16, 4)))
print(int(step), skipped, rate.item())
