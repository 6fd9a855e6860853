"""A loop on NumPy arrays: every wrapper, routes, averages, schedules, a rule of one's own."""

from typing import Any, assert_type

import numpy as np

import samestep
from samestep import Lookahead, Parameter, Rule, State, Where, hyper, route, slot
from samestep.conditions import Condition
from samestep.rules import Lion
from samestep.schedules import CosineDecay, Join, Linear, Schedule, warmup_cosine


class Quickened(Rule):
    """Momentum that is undone every step."""

    lr = hyper(1e-2, "step size", unit="parameter", ge=0)
    boost = hyper(2.0, "multiple of the mean gradient", unit="1", gt=0)
    m = slot("mean of the gradient")

    def direction(
        self, xp: Any, grad: Any, param: Any, state: Any, s: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The mean of the last two gradients, boosted."""
        return s.boost * (state.m + grad) / 2, {"m": grad}


def warmed_up(step: Any) -> Any:
    """A learning rate that rises over a hundred steps."""
    return 1e-3 * (step + 1) / 100


def is_matrix(parameter: Parameter) -> bool:
    """Whether a parameter has two dimensions."""
    return parameter.ndim == 2 and parameter.shape[0] > 0


def train(rule: Rule, steps: int) -> dict[str, Any]:
    """Minimise the sum of squares."""
    params: dict[str, Any] = {"kernel": np.ones((4, 3), np.float32), "v": [np.ones((3, 2))]}
    state = rule.init(params)
    assert_type(state, State)
    for _ in range(steps):
        grads = {"kernel": 2 * params["kernel"], "v": [2 * params["v"][0]]}
        params, state = rule.update(grads, params, state)
    return params


adan = samestep.Adan(lr=1e-3, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.02)
assert_type(adan, samestep.Adan)
assert_type(adan.replace(lr=1e-2), samestep.Adan)
rules: list[Rule] = [
    adan,
    samestep.AdamW(1e-3, (0.9, np.float32(0.999)), decay="l2", state_dtype="float64"),
    samestep.SGD(lr=warmed_up, momentum=0.9, nesterov=True, maximize=False),
    samestep.Muon(ns_steps=3, layout="io"),
    samestep.Prodigy(betas=(0.9, lambda step: 0.999), beta3=None),
    Lookahead(Lion(lr=np.asarray(1e-4)), sync_period=5, sync_rate=0.5),
    Quickened(lr=0.1, boost=1.5),
]
warmup: Schedule = warmup_cosine(1e-3, 10, 100, end=1e-5)
assert_type(Linear(0.0, 1e-3, 10)(0), Any)
rules += [
    samestep.AdamW(lr=warmup, weight_decay=CosineDecay(0.1, 100), mask=is_matrix),
    samestep.Adam(lr=Join((Linear(0.0, 1e-3, 10), 1e-3), (10,)), like="keras"),
    samestep.Lion(lr=1e-4, groups=[(lambda p: p.path == "kernel", {"lr": 1e-5}), (is_matrix, {})]),
    samestep.AdamW(state_dtype={"m": "float64"}),
]

inside = samestep.AdamW(lr=1e-3, weight_decay=0.1)
wrappers: list[samestep.Wrapper] = [
    samestep.ClipValue(inside, 0.5),
    samestep.ClipNorm(inside, clip_norm=lambda step: 1.0 / (step + 1)),
    samestep.ClipGlobalNorm(inside, max_norm=1.0, norm_eps=1e-6),
    samestep.ClipGlobalNorm(inside, like="torch"),
    samestep.AdaptiveClip(inside, clipping=0.01, min_norm=1e-3, layout="io"),
    samestep.Centralize(inside, layout="oi"),
    samestep.Accumulate(inside, every=2, accumulated_dtype="float32"),
    samestep.SkipNonFinite(inside),
    samestep.Cautious(inside, rescale="count"),
    samestep.Average(inside, average_decay=0.99, average_start=1, averaging="debiased"),
    samestep.Lookahead(inside, sync_period=5, sync_rate=0.8, mask=is_matrix),
]
rules += wrappers
assert_type(samestep.ClipNorm(inside).rule, Rule)
assert_type(samestep.Average(samestep.Cautious(inside)).replace(lr=0.1), samestep.Average)

matrices = Where(min_ndim=2) & ~Where(path="v.0") & is_matrix
assert_type(matrices, Condition)
routed = route(
    (matrices, samestep.Muon(lr=0.02, layout="oi", groups=[(is_matrix, {"lr": 0.01})])),
    (Where(max_ndim=1) | Where(path="v.*") | is_matrix, samestep.SGD(0.1)),
    samestep.ClipNorm(inside),
)
assert_type(routed.table({"kernel": np.ones((4, 3)), "v": [np.ones((3, 2))]}), str)
rules += [routed, samestep.SkipNonFinite(routed)]
for rule in rules:
    train(rule, steps=3)

params: dict[str, Any] = {"kernel": np.ones((4, 3))}
guarded = samestep.SkipNonFinite(samestep.Average(inside))
state = guarded.init(params)
params, state = guarded.update({"kernel": np.full((4, 3), np.nan)}, params, state)
steps: int = int(state.step)
skipped: float = float(state.shared["skipped"])
average: dict[str, Any] = samestep.averaged(guarded, params, state)
model: dict[str, Any] = dict(params)
with samestep.swapped(model.update, params, average):
    print(model["kernel"].mean())
print(steps, skipped, state.slots["average"]["kernel"].shape)
print(adan.lr, rules[0].name, sorted(samestep.registry), samestep.__version__)
