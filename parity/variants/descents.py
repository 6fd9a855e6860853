"""Deviations in the length of a step, its decay, its trust ratio and its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from samestep.parts.layerwise import rescaled
from samestep.parts.moments import root
from samestep.quirks import calls, with_calls, with_coefficients
from samestep.rule import Rule
from samestep.vocabulary import decayed_direction, decayed_parameter, norm, trust_ratio

from .deviation import Deviation, first_coefficients

__all__ = ["of_ratios", "of_steps"]


def of_steps(rule: type[Rule]) -> Iterator[Deviation]:
    """Deviations between the direction and the new parameter."""
    now = first_coefficients(rule)
    if "weight_decay" in now:
        yield from _of_decay(rule)
    if "rate" in now:
        yield Deviation(
            "step not times lr",
            "does not multiply the step by lr = {lr:g}",
            "multiplies the step by lr = {lr:g}",
            methods=with_coefficients(lambda rule, s: {**s, "rate": 1.0}),
        )
        yield Deviation(
            "step times lr twice",
            "multiplies the step by lr = {lr:g} twice",
            "multiplies the step by lr = {lr:g} once",
            methods=with_coefficients(lambda rule, s: {**s, "rate": s["rate"] ** 2}),
        )
    if "root" in now or now != first_coefficients(rule, 4):  # coefficients depend on the step
        for by, word, does in (
            (1, "steps counted from 2", "counts its steps from 2"),
            (-1, "first step counted twice", "counts its first step twice"),
        ):
            methods = with_coefficients(lambda rule, s: s, by)
            yield Deviation(word, does, "counts its steps from 1", methods)
    yield Deviation(
        "gradients one step late",
        "steps along the gradient of the step before",
        "steps along the gradient that it is given",
        late=1,
    )


def _of_decay(rule: type[Rule]) -> Iterator[Deviation]:
    if rule.step is Rule.step:
        yield Deviation(
            "decay after the step",
            "decays the parameter after the step",
            "decays the parameter before the step",
            methods=lambda cls: {"descended": _decayed_last},
        )
        yield Deviation(
            "decay before the step",
            "decays the parameter before the step",
            "decays the parameter after the step",
            methods=lambda cls: {"descended": _decayed_first},
        )
    yield Deviation(
        "negative decay",
        "lets the parameter grow by its weight decay: a sign is wrong",
        "lets the parameter shrink by its weight decay",
        methods=with_coefficients(_growing),
    )


def _decayed_last(self: Rule, param: Any, direction: Any, s: Any) -> Any:
    new = param - s.rate * direction
    return math.prod(s.keep if self.decay in ("decoupled", "absolute") else ()) * new


def _decayed_first(self: Rule, param: Any, direction: Any, s: Any) -> Any:
    if not self.decays_inside:
        direction = decayed_direction(self.decay, direction, param, s)
    return math.prod(s.shrink) * decayed_parameter(param, s) - s.rate * direction


def _growing(rule: Rule, s: dict[str, Any]) -> dict[str, Any]:
    keep = tuple(2 - factor for factor in s["keep"])
    shrink = tuple(1 / (2 - 1 / factor) for factor in s["shrink"])
    lost = tuple(-share for share in s["lost"])
    return {**s, "weight_decay": -s["weight_decay"], "keep": keep, "shrink": shrink, "lost": lost}


def of_ratios(rule: type[Rule]) -> Iterator[Deviation]:
    """Deviations in the trust ratio."""
    if not calls(rule, rescaled):
        return
    yield Deviation(
        "eps in the ratio",
        "adds eps = {eps:g} to the norm in the divisor of the trust ratio",
        "divides by the norm alone in the trust ratio",
        methods=_rescaling(_over_more),
    )
    if "unbias_m" in first_coefficients(rule) and calls(rule, root):
        yield Deviation(
            "correction after the ratio",
            "corrects by 1 - beta1^t after the trust ratio, and not before it",
            "corrects m and v before the trust ratio",
            methods=_corrected_late,
        )
    for name, says, instead, other in (
        (
            "no trust ratio",
            "does not multiply its direction by a trust ratio",
            "multiplies its direction by a trust ratio",
            _unscaled,
        ),
        (
            "ratio without the decay",
            "leaves the decay out of the divisor of the trust ratio",
            "has the decay in the divisor of the trust ratio",
            _over_bare,
        ),
        (
            "decay after the ratio",
            "adds the decay to the update after the trust ratio",
            "adds the decay to the update before the trust ratio",
            _decayed_beside,
        ),
    ):
        yield Deviation(name, says, instead, methods=_rescaling(other))


def _rescaling(function: Any) -> Any:
    return with_calls({rescaled: lambda now: function})


def _size(xp: Any, param: Any, s: Any) -> Any:
    return xp.clip(norm(xp, decayed_parameter(param, s)), *s.scale_clip)


def _over_more(self: Any, xp: Any, direction: Any, param: Any, s: Any) -> Any:
    direction = decayed_direction(self.decay, direction, param, s)
    return trust_ratio(xp, _size(xp, param, s), norm(xp, direction) + s.eps) * direction


def _unscaled(self: Any, xp: Any, direction: Any, param: Any, s: Any) -> Any:
    return decayed_direction(self.decay, direction, param, s)


def _over_bare(self: Any, xp: Any, direction: Any, param: Any, s: Any) -> Any:
    ratio = trust_ratio(xp, _size(xp, param, s), norm(xp, direction))
    return ratio * decayed_direction(self.decay, direction, param, s)


def _decayed_beside(self: Any, xp: Any, direction: Any, param: Any, s: Any) -> Any:
    ratio = trust_ratio(xp, _size(xp, param, s), norm(xp, direction))
    return decayed_direction(self.decay, ratio * direction, param, s)


def _corrected_late(cls: Any) -> dict[str, Any]:
    def coefficients(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        found = cls.coefficients(self, xp, t)
        return {**found, "rate": found["rate"] * found["unbias_m"], "unbias_m": 1.0}

    uncorrected = with_calls({root: lambda now: lambda rule, xp, gained=1.0: now(rule, xp, 1.0)})
    return {**uncorrected(cls), "coefficients": coefficients}
