"""Optimizers by the name of their rule."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy
import pytest

import samestep
from samestep import Where

PARAMS = {name: numpy.linspace(-1, 1, 6).reshape(3, 2) for name in ("a.weight", "b.weight")}
PARAMS |= {"a.bias": numpy.ones(2), "norm.scale": numpy.ones(3)}


@pytest.mark.parametrize(
    "name", ["schedule_free_adamw", "ScheduleFreeAdamW", "schedule-free-AdamW"]
)
def test_a_name_is_found_however_it_is_written(name: str) -> None:
    assert samestep.create(name, lr=0.1) == samestep.ScheduleFreeAdamW(lr=0.1)


@pytest.mark.parametrize("name", ["adamww", "", None])
def test_an_unknown_name_is_refused_with_the_similar_ones(name: Any) -> None:
    with pytest.raises(ValueError, match=rf"there is no rule {name!r}.*The known ones are Accumul"):
        samestep.create(name)


@pytest.mark.parametrize(
    "no_decay", [("*bias", "*norm*"), Where(max_ndim=1), [lambda p: p.ndim < 2]]
)
def test_parameters_that_do_not_decay_are_named(no_decay: Any) -> None:
    rule = samestep.create("adamw", weight_decay=0.1, no_decay=no_decay)
    found = {n: rule.of(n, p.shape).hypers["weight_decay"] for n, p in PARAMS.items()}
    assert found == {n: 0.1 * (p.ndim > 1) for n, p in PARAMS.items()}
    with pytest.raises(TypeError, match="give one of them"):
        samestep.create("adamw", no_decay=no_decay, mask=Where())


@pytest.mark.parametrize("no_decay", [True, 1, b"*bias", ["*bias", None]])
def test_what_names_no_parameters_is_refused_in_words(no_decay: Any) -> None:
    with pytest.raises(TypeError, match=r"no_decay must be a pattern of paths, such as '\*bias'"):
        samestep.create("adamw", no_decay=no_decay)


@pytest.mark.parametrize("library", ["torch", "jax", "mlx"])
def test_a_framework_makes_its_own(library: str) -> None:
    adapter = pytest.importorskip(f"samestep.{library}")
    given = {"lr": 0.1, "weight_decay": 0.1, "no_decay": "*bias", "execution": "reference"}
    if library == "torch":
        torch = import_module("torch")
        model = torch.nn.Linear(2, 3)
        made = adapter.create("adamw", model, **given)
        assert isinstance(made, adapter.AdamW) and made.param_groups[0]["params"] == [
            *model.parameters()
        ]
    else:
        made = adapter.create("adamw", **given)
    assert made.rule == samestep.AdamW(lr=0.1, weight_decay=0.1, mask=~Where(path="*bias"))
    assert getattr(made, "execution", "reference") == "reference"
