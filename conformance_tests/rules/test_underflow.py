"""Gradients whose squares are 0 in float32 make no huge steps, however small eps is."""

from __future__ import annotations

from itertools import chain

import numpy
import pytest

import samestep
from samestep.arrays import parts
from samestep.conformance.harness.settings import settings, typical

EPS = 1e-30
NO_FLOAT32 = 1e-60
"""An eps that float32 takes for 0."""


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


@pytest.mark.only(where=lambda rule: "eps" in rule.hypers)
def test_no_gradient_makes_no_nan(rule_class):
    """With every option, and with its own eps or one that float32 takes for 0.

    Nor where a row and a column without gradients meet, as behind an activation that is off: a
    product of two small means, over one that is not, is 0 there.
    """
    params = {"w": numpy.ones((3, 2), "float32"), "b": numpy.zeros((2, 2), "float32")}
    grads = {path: numpy.zeros_like(param) for path, param in params.items()}
    crossed = {path: numpy.float32(0.001) * numpy.ones_like(param) for path, param in grads.items()}
    for grad in crossed.values():
        grad[-1], grad[:, -1] = 0.0, 0.0
    for label, rule in settings(rule_class).items():
        eps = rule.hypers["eps"]
        small = tuple(NO_FLOAT32 for _ in eps) if isinstance(eps, tuple) else NO_FLOAT32
        for own in (rule, rule.replace(eps=small)):
            new, state = params, own.init(params)
            with numpy.errstate(all="ignore"):
                for given in (grads, grads, crossed):
                    new, state = own.update(given, new, state)
            kept = (parts(v) for slot in state.slots.values() for v in slot.values())
            found = [*new.values(), *chain(*kept), *state.shared.values()]
            assert all(numpy.isfinite(array).all() for array in found), (label, own.hypers["eps"])
