"""The optimizers of ``mlx.optimizers`` in our terms.

This file names rules and hyperparameters: it has their names in MLX.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from samestep.checkpoints.correspondence import Field, Native, entries
from samestep.checkpoints.table_rows import always, factored, row

__all__ = ["ENTRIES", "FORM", "MLX", "REFUSED", "relative"]


def _sequence(name: str, kind: Callable[[Any], Any] = list) -> Field:
    """A tuple of ours that MLX keeps as another kind of sequence."""
    return Field(lambda about: tuple(about.numbers[name]), lambda value, _: {name: kind(value)})


_BETAS = {"betas": _sequence("betas")}
_MOMENTUM = "lr=learning_rate momentum weight_decay nesterov"
_MEAN = {"momentum_form": always("mean")}
_mlx = partial(row, like="mlx")

MLX: dict[str, Native] = {
    "SGD": _mlx("SGD", f"{_MOMENTUM} dampening", "m=v"),
    "RMSprop": _mlx("RMSprop", "lr=learning_rate alpha eps", "v"),
    "Adagrad": _mlx("Adagrad", "lr=learning_rate eps", "v"),
    "AdaDelta": _mlx("AdaDelta", "lr=learning_rate rho eps", "v u"),
    "Adam": _mlx("Adam", "lr=learning_rate eps bias_correction", "m v", fields=_BETAS),
    "AdamW": _mlx(
        "AdamW", "lr=learning_rate eps weight_decay bias_correction", "m v", fields=_BETAS
    ),
    "Adamax": _mlx("Adamax", "lr=learning_rate eps", "m u=v", fields=_BETAS),
    "Lion": _mlx("Lion", "lr=learning_rate weight_decay", "m", fields=_BETAS),
    "Adafactor": _mlx(
        "Adafactor",
        "lr=learning_rate clip_threshold weight_decay scale_parameter relative_step warmup_init "
        "decay_rate=-decay_rate",
        "m=exp_avg",
        fields={
            "eps": _sequence("eps", tuple),
            "momentum": Field(
                lambda about: about.numbers["beta_1"] or 0.0, lambda v, _: {"beta_1": v or None}
            ),
        },
        kept={"v": factored("exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col")},
    ),
    "Muon": _mlx(
        "Muon",
        f"{_MOMENTUM} ns_steps",
        "m=v",
        apart=(
            lambda about: len(about.shape) < 2,
            _mlx("SGD", _MOMENTUM, "m=v", fields=_MEAN | {"decay": always("l2")}),
        ),
    ),
}
"""By class. The tests that compare each dialect with MLX read slots by these names too."""

REFUSED = {
    "MultiOptimizer": "it is itself inside a MultiOptimizer; give it its optimizers directly",
}
ENTRIES = sorted(entries(MLX))
FORM = {"lr_at", "axes"}
"""Options that make a slot another quantity; they must be as in MLX."""


def relative(adafactor: Native) -> Native:
    """Adafactor with ``relative_step``, which ignores the learning rate: it moves by 0.01 at most.

    A rate is then no number of the optimizer.
    """
    fields = {name: field for name, field in adafactor.fields.items() if name != "lr"}
    return replace(adafactor, fields=fields)
