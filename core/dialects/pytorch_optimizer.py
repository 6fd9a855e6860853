"""pytorch_optimizer 4.1.0, of the rules that no framework has."""

from __future__ import annotations

from typing import Any

from samestep import weight_decay
from samestep.dialects import preset
from samestep.dialects.optax import EPS_IN_LR
from samestep.parts.moments import gathered, over_root
from samestep.parts.orthogonal import factor
from samestep.quirks import Quirk, with_calls, with_coefficients
from samestep.vocabulary import ema, later, weights


def _added(rule: Any, found: dict[str, Any]) -> dict[str, Any]:
    under = (1e-15, *found["root"]["under"])
    return {**found, "root": {**found["root"], "under": under}}


ADDED_TO_V = Quirk(
    "1e-15 added to v",
    "adds 1e-15 to v before its correction",
    "adds nothing to v before its correction",
    with_coefficients(_added),
    rules=("LaProp", "MARS"),
    formerly=("added_to_v", 1e-15, 0.0),
)


def _one_ahead(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        return {**cls.scalars(self, xp, t), "bound": later(xp, t, 1) * t**self.power}

    return {"scalars": scalars}


BOUND_AHEAD = Quirk(
    "bound one step ahead",
    "clips to t^{power:g}",
    "clips to (t - 1)^{power:g}",
    _one_ahead,
    rules=("ADOPT",),
    formerly=("bound_from", 0, 1),
)


def _at_once(rule: Any, found: dict[str, Any]) -> dict[str, Any]:
    decay = weight_decay.scalars(rule.decay, rule.lr, rule.weight_decay)
    return {**found, **decay, "rate": found["rate"]}


DECAYS_AT_ONCE = Quirk(
    "decays at once",
    "decays in the first step, in which nothing else moves the parameter",
    "leaves the parameter in the first step",
    with_coefficients(_at_once),
    rules=("ADOPT",),
    formerly=("decays_at_once", True, False),
)


def _divided_twice(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        found, (beta1, beta2) = cls.scalars(self, xp, t), self.betas
        return {**found, "beta1": weights(beta1), "gathered": gathered(self, xp, beta2, t)}

    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        m, v = ema(state.m, grad, s.beta1), ema(state.v, grad * grad, s.beta2)
        step = over_root(xp, m + s.alpha * grad, v, s.root)
        return step / s.gathered, {"m": m, "v": v}

    return {"scalars": scalars, "direction": direction}


DIVIDED_TWICE = Quirk(
    "a mean, divided twice",
    "keeps a mean in place of the sum, and divides by 1 - beta2^t once more",
    "keeps a decaying sum of the gradients",
    _divided_twice,
    rules=("SimplifiedAdEMAMix",),
    formerly=("divided_twice", True, False),
    changes_state=True,
)


def _of_first_axes(now: Any) -> Any:
    def factor(rule: Any, sides: tuple[int, ...], shape: tuple[int, ...]) -> float:
        return float(now(rule, shape[:2], shape))

    return factor


SCALE_BY_FIRST_AXES = Quirk(
    "scale by the first two axes",
    "scales a convolution kernel by its outputs and its channels",
    "scales a convolution kernel by its outputs and inputs",
    with_calls({factor: _of_first_axes}),
    rules=("MARSMuon",),
    formerly=("scale_axes", "first", "all"),
)

OF = "pytorch_optimizer.{rule}"

PRESETS = {
    "ADOPT": preset(decay="l2", quirks=(BOUND_AHEAD, DECAYS_AT_ONCE)),
    "AdaMuon": preset(
        "iterates in bfloat16",
        momentum=0.9,
        nesterov=False,
        eps=1e-10,
        signs=False,
        bias_correction=True,
        ns_guard=("max", 1e-07),
    ),
    "CAME": preset(layout="io"),
    "Grams": preset(),
    "LaProp": preset(eps_at="uncorrected", decay="post", quirks=(ADDED_TO_V,)),
    "MADGRAD": preset(quirks=(EPS_IN_LR,)),
    "MARS": preset("its vectors are AdamW's", eps_at="uncorrected", quirks=(ADDED_TO_V,)),
    "MARSMuon": preset(
        "iterates in bfloat16; its vectors are AdamW's",
        of="pytorch_optimizer.MARS(mars_type='shampoo')",
        lr=0.003,
        scale="shape",
        weight_decay=0.0,
        ns_guard=("max", 5e-10),  # of m: 1e-8 of m / (1 - momentum)
        quirks=(SCALE_BY_FIRST_AXES,),
    ),
    "Muon": preset("iterates in bfloat16", ns_guard=("max", 1e-07)),
    "NorMuon": preset("iterates in bfloat16", ns_guard=("max", 1e-07)),
    "NovoGrad": preset(),
    "QHAdam": preset(betas=(0.9, 0.999), nus=(1.0, 1.0), decay="l2"),
    "Scion": preset(
        "iterates in bfloat16",
        of="pytorch_optimizer.SCION",
        weight_decay=0.0,
        ns_guard=("max", 1e-07),
    ),
    "SimplifiedAdEMAMix": preset(quirks=(DIVIDED_TWICE,)),
    "StableAdamW": preset(eps=1e-08),
}
