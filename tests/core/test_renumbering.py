"""A rule with other floats is the rule that ``replace`` makes, or is left to it."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

import samestep
from samestep import AdamW, ClipNorm, Where, route
from samestep.renumbering import KEPT, renumbered

RULES = {
    "plain": AdamW(weight_decay=0.1, mask=Where(min_ndim=2)),
    "inside": ClipNorm(samestep.SkipNonFinite(samestep.LAMB(lr=0.1))),
    "momentum": samestep.SGD(lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("name", RULES)
def test_it_is_the_rule_that_replace_makes(name: str) -> None:
    rule, params = RULES[name], {"w": numpy.ones((2, 2)), "b": numpy.ones(2)}
    rule.update(params, params, rule.init(params))
    found, expected = renumbered(rule, {"lr": 0.25}), rule.replace(lr=0.25)
    assert found == expected and repr(found) == repr(expected)
    for each in KEPT:
        if hasattr(expected, each):
            assert getattr(found, each) == getattr(expected, each), each
    assert vars(found)["_chosen"] >= vars(expected)["_chosen"] - {"lr"}
    for new, old in zip(
        *(one.update(params, params, one.init(params)) for one in (found, expected)), strict=True
    ):
        assert repr(new) == repr(old)


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        (AdamW(lr=lambda step: 0.1), {"lr": 0.1}),
        (AdamW(), {"lr": numpy.asarray(0.1)}),
        (AdamW(), {"betas": (0.5, 0.9)}),
        (AdamW(weight_decay=0.0), {"weight_decay": 0.1}),
        (samestep.SGD(momentum=0.9), {"momentum": 0.0}),
        (AdamW(groups=[(Where(), {"lr": 0.5})]), {"lr": 0.25}),
        (route(AdamW()), {"lr": 0.25}),
    ],
)
def test_what_may_change_more_is_left_to_replace(rule: Any, changes: Any) -> None:
    assert renumbered(rule, changes) is None


def test_a_number_is_held_to_its_range_and_to_the_others() -> None:
    with pytest.raises(ValueError, match="lr"):
        renumbered(AdamW(), {"lr": -1.0})
    with pytest.raises(ValueError, match="more than the largest step size"):
        renumbered(AdamW(decay="relative", peak_lr=0.1, lr=0.05), {"lr": 0.5})


@pytest.mark.parametrize("library", ["torch", "mlx.core", "jax.numpy"])
def test_a_number_of_another_library_is_the_number(library):
    """It failed in NumPy's words, or gave arrays of the number's library."""
    made = pytest.importorskip(library)
    number = made.tensor(0.5) if library == "torch" else made.asarray(0.5)
    rule = samestep.Average(samestep.SGD(lr=number, momentum=number))
    params, expected = ({"w": numpy.ones((3, 2))} for _ in range(2))
    state = rule.init(params)
    same = samestep.Average(samestep.SGD(lr=0.5, momentum=0.5))
    for _ in range(2):
        params, state = rule.update({"w": numpy.full((3, 2), 0.3)}, params, state)
    other = same.init(expected)
    for _ in range(2):
        expected, other = same.update({"w": numpy.full((3, 2), 0.3)}, expected, other)
    assert type(params["w"]) is numpy.ndarray
    assert numpy.array_equal(params["w"], expected["w"])


def test_a_number_of_another_library_whose_value_is_not_known_is_refused():
    torch = pytest.importorskip("torch")
    rule = samestep.SGD(lr=torch.tensor(0.1, requires_grad=True))
    params = {"w": numpy.ones(2)}
    words = r"SGD: tensor.* is a number of torch, and parameters are of numpy; give a float"
    with pytest.raises(TypeError, match=words):
        rule.update(params, params, rule.init(params))
