"""A training loop on NumPy arrays, a wrapped rule, schedules, and a rule of one's own."""

from typing import Any, assert_type

import numpy as np

import samestep
from samestep import Lookahead, Rule, State, hyper, slot
from samestep.rules import Lion


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


def train(rule: Rule, steps: int) -> dict[str, Any]:
    """Minimise the sum of squares."""
    params: dict[str, Any] = {"w": np.ones((4, 3), np.float32), "v": [np.ones((3, 2))]}
    state = rule.init(params)
    assert_type(state, State)
    for _ in range(steps):
        grads = {"w": 2 * params["w"], "v": [2 * params["v"][0]]}
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
for rule in rules:
    train(rule, steps=3)
print(adan.lr, rules[0].name, sorted(samestep.registry), samestep.__version__)
