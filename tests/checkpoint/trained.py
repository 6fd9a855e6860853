"""Checkpoints of rules that have taken steps in NumPy, for the tests of maps."""

from __future__ import annotations

import re

import numpy
import pytest

import samestep
from samestep import CheckpointError, Map

STEPS = 20


def normal(seed, shape):
    """An array of normally distributed numbers."""
    return numpy.random.default_rng(seed).standard_normal(shape)


def arrays(shapes):
    """Parameters of these shapes."""
    return {path: normal(place, shape) for place, (path, shape) in enumerate(shapes.items())}


def gradients(params, step):
    """Gradients that change sign and scale, with zeros in places."""
    found = {}
    for place, (path, param) in enumerate(params.items()):
        array = normal(1000 * step + place, param.shape) * 10.0 ** (step % 5 - 2)
        found[path] = numpy.where(normal(step + 7, param.shape) > 1.5, 0.0, array)
    return found


def follow(rule, params, steps, state=None, grads=gradients):
    """Parameters and state after steps; ``grads`` takes parameters and the number of the step."""
    state = state or rule.init(params)
    for step in steps:
        params, state = rule.update(grads(params, step), params, state)
    return params, state


def checkpoint_of(rule, shapes):
    """The checkpoint of a rule that has taken five steps on parameters of these shapes."""
    return samestep.checkpoint(rule, *follow(rule, arrays(shapes), range(5)))


def refused(text, rules, rule, shapes, **keywords):
    """The whole message of a map that cannot be applied."""
    with pytest.raises(CheckpointError, match=re.escape(text)) as caught:
        Map(*rules, **keywords).apply(checkpoint_of(rule, shapes))
    return str(caught.value)
