"""What the Adam family shares: a mean of the gradient over the root of a mean of its square.

Each option on which libraries differ is here once: where eps goes, whether the averages are
corrected for their start, what they start at, and which reading of AMSGrad is meant.
"""

from __future__ import annotations

from typing import Any

from samestep.arrays import is_array
from samestep.declaration import hyper, option, slot
from samestep.rule import Rule
from samestep.vocabulary import choose, debias, ema, sqrt, weights

__all__ = ["Moments", "Rooted", "begun", "over_root"]

Array = Any

SMALLEST = 1.2e-38
"""The smallest normal number of float32; an eps below it is no protection against zero."""


class Rooted(Rule, register=False):
    """A rule that divides by the root of a mean, or of a sum, of squares."""

    bias_correction: Any
    eps = hyper(1e-8, "added to the root of v, where eps_at says", unit="gradient", ge=0)
    eps_root = hyper(0.0, "added inside the root, beside eps", unit="gradient^2", ge=0)
    eps_at = option(
        "outside",
        "eps is added to the root, to the root before its correction, or under it",
        choices=("outside", "uncorrected", "inside"),
    )

    def gathered(self, xp: Any, beta: Any, t: Any) -> Any:
        """The weight an average has gathered after ``t`` steps; 1 where it is not corrected."""
        return debias(xp, beta, t) if self.bias_correction else 1.0

    def root(self, xp: Any, gathered: Any = 1.0) -> dict[str, Any]:
        """Coefficients of ``over_root``, for a mean that has gathered that much weight so far."""
        return self._root(xp, gathered, self.eps_root)

    def _root(self, xp: Any, gathered: Any, eps_root: Any) -> dict[str, Any]:
        scale = 1 / sqrt(xp, gathered)
        eps = self.eps
        under = eps_root + (eps if self.eps_at == "inside" else 0.0)
        found: dict[str, Any] = {"scale": scale}
        if is_array(under) or under > 0:
            found["under"] = under * gathered
        if self.eps_at != "inside":
            found["beside"] = eps * scale if self.eps_at == "uncorrected" else eps
        if is_array(eps) or eps < SMALLEST:
            found["may_vanish"] = True
        return found


def over_root(xp: Any, x: Array, v: Array, root: Any) -> Array:
    """``x / (sqrt(v / gathered + under) + beside)``; 0 where the denominator is 0."""
    denominator = root.scale * xp.sqrt(v + root.under if hasattr(root, "under") else v)
    if hasattr(root, "beside"):
        denominator = denominator + root.beside
    if not hasattr(root, "may_vanish"):
        return x / denominator
    gone = denominator <= 0
    return xp.where(gone, 0.0, x / xp.where(gone, 1.0, denominator))


def begun(xp: Any, s: Any, first: Array, old: Array) -> Array:
    """An average as it was before this step: ``first`` at step 1 if it starts at the gradient."""
    return choose(xp, s.first, first, old) if hasattr(s, "first") else old


class Moments(Rooted, register=False):
    """A step along the mean of the gradient, over the root of the mean of its square.

    A rule overrides what it does otherwise: ``mean``, ``square`` or ``numerator``.
    """

    lr = hyper(1e-3, "step size", unit="parameter", ge=0)
    betas = hyper((0.9, 0.999), "decay per step of m and v", unit="1/step", ge=0, lt=1)
    eps, eps_root, eps_at = Rooted.eps, Rooted.eps_root, Rooted.eps_at
    bias_correction = option(True, "correct m and v for their start at zero")
    start = option(
        "zero",
        "m and v before the first step: zero, or the first gradient and its square",
        choices=("zero", "gradient"),
    )
    amsgrad = option(
        False,
        "divide by the largest v so far: taken before its correction (True), or after it",
        choices=(False, True, "corrected"),
    )

    m = slot("mean of the gradient")
    v = slot("mean of the squared gradient")
    v_max = slot("largest v so far", only_if="amsgrad")

    def scalars(self, xp: Any, t: Any) -> dict[str, Any]:
        """Weights of the averages and their corrections."""
        beta1, beta2 = self.betas[:2]
        gathered_m, gathered_v = self.gathered(xp, beta1, t), self.gathered(xp, beta2, t)
        corrected = self.amsgrad == "corrected"
        return {
            "beta1": weights(beta1),
            "beta2": weights(beta2),
            "unbias_m": 1 / gathered_m,
            "root": self.root(xp, 1.0 if corrected else gathered_v),
            **({"unbias_v": 1 / gathered_v} if corrected else {}),
            **({"first": t == 1} if self.start == "gradient" else {}),
        }

    def mean(self, xp: Any, grad: Array, state: Any, s: Any) -> Array:
        """The new m."""
        return ema(begun(xp, s, grad, state.m), grad, s.beta1)

    def square(self, xp: Any, grad: Array, m: Array, state: Any, s: Any) -> Array:
        """The new v."""
        square = grad * grad
        return ema(begun(xp, s, square, state.v), square, s.beta2)

    def numerator(self, grad: Array, m: Array, s: Any) -> Array:
        """What is divided by the root."""
        return s.unbias_m * m

    def direction(
        self, xp: Any, grad: Array, param: Array, state: Any, s: Any
    ) -> tuple[Array, dict[str, Any]]:
        """The numerator over the root, and the new averages."""
        m = self.mean(xp, grad, state, s)
        return self.divided(xp, grad, m, self.square(xp, grad, m, state, s), state, s)

    def divided(
        self, xp: Any, grad: Array, m: Array, v: Array, state: Any, s: Any
    ) -> tuple[Array, dict[str, Any]]:
        """The numerator over the root of v, or of the largest v; and the new slots."""
        slots = {"m": m, "v": v}
        if self.amsgrad:
            v = xp.maximum(state.v_max, s.unbias_v * v if self.amsgrad == "corrected" else v)
            slots["v_max"] = v
        return over_root(xp, self.numerator(grad, m, s), v, s.root), slots
