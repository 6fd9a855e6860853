"""Gradients whose squares are 0 in float32 make no huge steps, however small eps is."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep.conformance.harness.settings import typical

EPS = 1e-30


def tiny(rule_class):
    """The typical rule with no other guard than a tiny eps."""
    rule = typical(rule_class)
    eps = (EPS, rule.hypers["eps"][1]) if isinstance(rule.hypers["eps"], tuple) else EPS
    bare = {"eps_root": 0.0} if "eps_root" in rule.hypers else {}
    return rule.replace(eps=eps, weight_decay=0.0, **bare)


def stays_short(rule, params, gradients):
    state = rule.init(params)
    for size in gradients:
        grads = {path: size * (0 * param + 1) for path, param in params.items()}
        new, state = rule.update(grads, params, state)
        for path, param in params.items():
            assert abs(new[path] - param).max() <= 20 * rule.hypers["lr"], (size, path)
        params = new


@pytest.mark.only(where=lambda rule: "eps" in rule.hypers)
def test_tiny_gradients_make_no_huge_steps(rule_class):
    """1e-25 has a square that float32 takes for 0; the square of 1e-20 is subnormal."""
    params = {"w": numpy.ones((3, 2), "float32"), "b": numpy.ones((2, 2), "float32")}
    for size in (1e-25, 1e-20, 3e-18):
        with numpy.errstate(under="ignore"):
            stays_short(tiny(rule_class), params, numpy.float32([size, -size, 2 * size]))


@pytest.mark.parametrize("name", ["Adam", "Prodigy", "LARS"])
def test_nor_where_subnormal_numbers_are_zero(name):
    """XLA on the CPU: two steps with 1e-20 moved Adam by 2e7."""
    xp = pytest.importorskip("jax.numpy")
    rule = samestep.registry[name](lr=1e-3, eps=EPS)
    stays_short(rule, {"w": xp.ones(3)}, (1e-20, 1e-20))
