"""holocron.optim (pylocron 0.3.0)."""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset
from samestep.parts.matrix import as_matrix, projected, row_norms, views
from samestep.parts.momentum import accelerated
from samestep.quirks import Quirk, changed, with_calls
from samestep.vocabulary import at_least, decayed_direction, decayed_parameter, norm
from samestep.weight_decay import decayed_gradient


def _forgetting(cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        step, slots = cls.direction(self, xp, grad, param, state, changed(s, first=False))
        return step, {**slots, "prev": state.prev}

    return {"direction": direction}


PREVIOUS_NOT_KEPT = Quirk(
    "previous gradient not kept",
    "never stores the gradient of the step before",
    "stores the gradient of the step before",
    _forgetting,
    rules=("Adan",),
    formerly=("keep_previous", False, True),
    changes_state=True,
)


def _coupled_too(cls: Any) -> dict[str, Any]:
    def prepared(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        grad = cls.prepared(self, xp, grad, param, state, s)
        return decayed_gradient("l2", grad, param, s)

    return {"prepared": prepared}


DECAYS_TWICE = Quirk(
    "decays twice",
    "decays in the gradient, and again as decay says",
    "decays once, as decay says",
    _coupled_too,
    rules=("Adan",),
    formerly=("decay", "l2+proximal", "proximal"),
)


def _signed(xp: Any, u: Any, param: Any, grad: Any, whole: bool, s: Any) -> tuple[Any, Any]:
    p, g, along = (as_matrix(xp, x, whole) for x in (param, grad, u))
    size, cosine = row_norms(xp, p), xp.sum(p * g, axis=1, keepdims=True)
    cosine = cosine / (at_least(xp, size, 1e-8) * at_least(xp, row_norms(xp, g), 1e-8))
    fits = xp.max(cosine) < s.delta / p.shape[1] ** 0.5
    p = p / (size + s.least)
    tangent = along - p * xp.sum(p * along, axis=1, keepdims=True)
    return fits, xp.reshape(tangent, param.shape)


def _whole(now: Any) -> Any:
    return lambda param: (True,)


def _decay_kept(cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        return cls.direction(self, xp, grad, param, state, changed(s, wd_ratio=1.0))

    return {"direction": direction}


SIGNED_PROJECTION = Quirk(
    "cosine with sign",
    "projects the whole parameter, of any shape, wherever the cosine is small or negative",
    "projects every output channel, and the whole parameter, wherever the cosine is nearly 0",
    (with_calls({projected: lambda now: _signed, views: _whole}), _decay_kept),
    rules=("AdamP",),
    formerly=("projection", "signed", "channel"),
)


def _after_momentum(cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        length = norm(xp, decayed_parameter(param, s))
        size = xp.clip(length, s.scale_clip[0], s.scale_clip[1])
        divisor = decayed_direction(self.decay, norm(xp, grad), length, s) + s.eps
        moves = (size > 0) & (divisor > 0)
        ratio = xp.where(moves, s.trust_coefficient * size / xp.where(moves, divisor, 1.0), 1.0)
        total = decayed_direction(self.decay, grad, param, s)
        step, slots = accelerated(self, xp, total, state, s)
        return ratio * step, slots

    return {"direction": direction}


RATIO_OUTSIDE = Quirk(
    "ratio outside the momentum",
    "multiplies the momentum by its ratio",
    "multiplies what goes into the momentum by its ratio",
    _after_momentum,
    rules=("LARS",),
    formerly=("ratio_at", "outside", "inside"),
    changes_state=True,
)

OF = "holocron.optim.{rule}"

PRESETS = {
    "AdEMAMix": preset(decay="l2"),
    "AdaBelief": preset(eps=1e-08, eps_root=0.0, decay="l2"),
    "AdamP": preset("cosine with sign", decay="l2", quirks=(SIGNED_PROJECTION,)),
    "Adan": preset(quirks=(PREVIOUS_NOT_KEPT, DECAYS_TWICE)),
    "LAMB": preset("no bias correction", eps=1e-08, bias_correction=False, scale_clip=(0.0, 10.0)),
    "LARS": preset(
        "no trust coefficient",
        lr=0.001,
        momentum=0.0,
        trust_coefficient=1.0,
        lr_at="outside",
        momentum_start="gradient",
        quirks=(RATIO_OUTSIDE,),
    ),
    "RaLars": preset(),
    "Scout": preset(),
    "TAdam": preset(),
    "Lookahead": preset(),
}
