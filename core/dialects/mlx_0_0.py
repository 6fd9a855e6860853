"""mlx.optimizers of December 2023, MLX 0.0.

Its text says that Adam follows the paper, which corrects the bias and starts at zero.
"""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset
from samestep.quirks import Quirk, changed
from samestep.vocabulary import choose


def _from_gradient(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        return {**cls.scalars(self, xp, t), "first": t == 1}

    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        begun = {"m": choose(xp, s.first, grad, state.m)}
        if "v" in self.slots():
            begun["v"] = choose(xp, s.first, grad * grad, state.v)
        return cls.direction(self, xp, grad, param, changed(state, **begun), s)

    return {"scalars": scalars, "direction": direction}


STARTS_AT_GRADIENT = Quirk(
    "starts at the gradient",
    "starts its averages at the first gradient",
    "starts its averages at zero",
    _from_gradient,
    rules=("AMSGrad", "Adam", "AdamP", "AdamW", "LAMB", "Lion", "RAdam", "RaLars"),
    formerly=("start", "gradient", "zero"),
)


def _without_steps(cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        state = changed(state, u=xp.zeros_like(state.u))
        return cls.direction(self, xp, grad, param, state, s)

    return {"direction": direction}


STEPS_NOT_READ = Quirk(
    "u never read back",
    "counts its mean of squared steps as zero",
    "reads its mean of squared steps back",
    _without_steps,
    rules=("AdaDelta",),
    formerly=("accumulate", False, True),
)


def _only_with_momentum(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        ignored = {} if self._on("momentum") else {"weight_decay": 0.0}
        return {**cls.scalars(self, xp, t), **ignored}

    return {"scalars": scalars}


NO_DECAY_WITHOUT_MOMENTUM = Quirk(
    "no decay without momentum",
    "applies its weight decay with momentum only",
    "applies its weight decay without momentum too",
    _only_with_momentum,
    rules=("SGD",),
    formerly=("bare_decay", False, True),
)

NAME = "mlx-0.0"
OF = "mlx.optimizers.{rule} of December 2023"

PRESETS = {
    "AdaDelta": preset("u is never read back", quirks=(STEPS_NOT_READ,)),
    "Adagrad": preset(eps=1e-08),
    "Adam": preset("no bias correction", bias_correction=False, quirks=(STARTS_AT_GRADIENT,)),
    "AdamW": preset("no bias correction", bias_correction=False, quirks=(STARTS_AT_GRADIENT,)),
    "Adamax": preset("no correction", eps_at="outside", bias_correction=False),
    "Lion": preset(quirks=(STARTS_AT_GRADIENT,)),
    "RMSprop": preset(),
    "SGD": preset(
        "decays only with momentum", momentum_start="zero", quirks=(NO_DECAY_WITHOUT_MOMENTUM,)
    ),
}
