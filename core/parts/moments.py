"""The Adam family: a mean of the gradient over the root of a mean of its square.

A rule takes over the declarations by assignment and calls the functions. The place of eps and the
bias correction are defined here only.
"""

from __future__ import annotations

from typing import Any

from samestep.arrays import differentiated, is_array
from samestep.declaration import hyper, option, slot
from samestep.vocabulary import choose, debias, sqrt, weights

__all__ = [
    "SMALLEST",
    "corrections",
    "gathered",
    "largest",
    "lost",
    "over_root",
    "quotient",
    "raised",
    "root",
    "vanishing",
]

Array = Any

SMALLEST = 1.2e-38
"""The smallest normal number of float32. An eps below it does not prevent a division by zero."""

GUARDS = 1e-16
"""An eps from here on keeps a step short where v is 0 since the squares are too small for float32:
m is then below 1e-17."""

lr = hyper(1e-3, "step size", unit="parameter", ge=0)
betas = hyper((0.9, 0.999), "decay per step of m and v", unit="1/step", ge=0, lt=1)
eps = hyper(1e-8, "added to the root of v, where eps_at says", unit="gradient", ge=0)
eps_root = hyper(0.0, "added inside the root, in addition to eps", unit="gradient^2", ge=0)
eps_at = option(
    "outside",
    "eps is added to the root, to the root before its correction, or under it",
    choices=("outside", "uncorrected", "inside"),
    says={
        "outside": "adds eps = {eps:g} to the root",
        "uncorrected": "adds eps = {eps:g} to the root before its correction",
        "inside": "adds eps = {eps:g} under the root",
    },
)
bias_correction = option(
    True,
    "correct m and v for their start at zero",
    says={
        True: "corrects its averages for their start at zero",
        False: "does not correct its averages for their start at zero",
    },
)
start = option(
    "zero",
    "m and v before the first step: zero, or the first gradient and its square",
    choices=("zero", "gradient"),
    says={
        "zero": "starts its averages at zero",
        "gradient": "starts its averages at the first gradient",
    },
)
amsgrad = option(
    False,
    "divide by the largest v so far, taken before its correction",
    says={
        True: "divides by the largest v so far, taken before its correction",
        False: "divides by the root of v as it is now",
    },
)

m = slot("mean of the gradient")
v = slot("mean of the squared gradient")
v_max = slot("largest v so far", only_if="amsgrad")


def gathered(rule: Any, xp: Any, beta: Any, t: Any) -> Any:
    """The sum ``1 - beta^t`` of a mean's weights; 1 if the rule does not correct its means."""
    return debias(xp, beta, t) if rule.bias_correction else 1.0


def corrections(rule: Any, xp: Any, t: Any) -> dict[str, Any]:
    """The coefficients of step ``t`` for ``m`` and ``v`` of a rule with ``betas``.

    ``beta1`` and ``beta2`` are for ``ema``, ``root`` is for ``over_root``; m_hat is ``unbias_m m``.
    """
    beta1, beta2 = rule.betas
    return {
        "beta1": weights(beta1),
        "beta2": weights(beta2),
        "unbias_m": 1 / gathered(rule, xp, beta1, t),
        "root": root(rule, xp, gathered(rule, xp, beta2, t)),
    }


def root(
    rule: Any, xp: Any, gathered: Any = 1.0, *, eps_root: float | None = None
) -> dict[str, Any]:
    """The coefficients of ``over_root`` for a mean whose weights sum to ``gathered``.

    ``under`` and ``beside`` hold the number that is added there, or are empty. ``vanishes`` holds
    the divisor where v is 0, or 0; it is empty if eps is large enough for such a divisor.
    ``eps_root`` is in place of the rule's.
    """
    eps, eps_at = rule.eps, rule.eps_at
    eps_root = rule.eps_root if eps_root is None else eps_root
    scale = 1 / sqrt(xp, gathered)
    under = eps_root + (eps if eps_at == "inside" else 0.0)
    beside = eps * scale if eps_at == "uncorrected" else eps
    if eps_at == "inside":
        vanishes = lost(eps)
    else:
        vanishes = vanishing(xp, eps, beside) if is_array(eps) or eps < GUARDS else ()
    return {
        "scale": scale,
        "under": (under * gathered,) if is_array(under) or under > 0 else (),
        "beside": (beside,) if eps_at != "inside" else (),
        "vanishes": vanishes,
    }


def vanishing(xp: Any, eps: Any, divisor: Any) -> tuple[Any, ...]:
    """``divisor``, which is the divisor where v is 0, if ``eps`` is too small for such a divisor.

    Otherwise 0, or nothing if ``eps`` is known to be large enough.
    """
    known = not is_array(eps) and eps >= GUARDS
    return () if known else (choose(xp, eps < GUARDS, divisor, 0.0),)


def lost(eps: Any) -> tuple[Any, ...]:
    """For ``quotient``: the divisor 0, if ``eps`` alone keeps a divisor from 0 and may round to 0.

    Float32, in which lower precisions are computed too, has no such small number.
    """
    return (0.0,) if is_array(eps) or eps < SMALLEST else ()


def over_root(xp: Any, x: Array, v: Array, root: Any) -> Array:
    """``x / (sqrt(v / gathered + under) + beside)``; 0 where ``root.vanishes`` says.

    Squares below 1.2e-38 are 0 in float32 where subnormal numbers are, as in XLA on the CPU. A tiny
    eps would then make a huge step of a tiny x.
    """
    for term in root.under:
        v = v + term
    denominator = root.scale * sqrt(xp, v)
    for term in root.beside:
        denominator = denominator + term
    return quotient(xp, x, denominator, root.vanishes) if root.vanishes else x / denominator


def quotient(xp: Any, x: Array, divisor: Array, vanishes: tuple[Any, ...]) -> Array:
    """``x / divisor``; 0 where the divisor is at most the number that ``vanishes`` may hold."""
    for least in vanishes:
        gone = divisor <= least
        x, divisor = xp.where(gone, 0.0, x), xp.where(gone, 1.0, divisor)
    return x / divisor


def raised(xp: Any, x: Array, divisor: Array) -> tuple[Array, Array]:
    """``x`` and ``divisor``, both times 2^64 where the divisor is below 2^-64.

    The quotient has the same bits. Its derivative is divided by the square of the divisor in JAX,
    and float32 takes a small square for 0.
    """
    if not differentiated(divisor):
        return x, divisor
    tiny = divisor < 2.0**-64
    return xp.where(tiny, 2.0**64 * x, x), xp.where(tiny, 2.0**64 * divisor, divisor)


def largest(rule: Any, xp: Any, v: Array, state: Any) -> tuple[Array, dict[str, Array]]:
    """The largest v so far, and its slot, if the rule has ``amsgrad``; else v, and no slot."""
    if not rule.amsgrad:
        return v, {}
    v_max = xp.maximum(state.v_max, v)
    return v_max, {"v_max": v_max}
