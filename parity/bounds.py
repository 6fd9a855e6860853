"""How far two ways of computing the same may be apart, by dtype and step.

Distances are relative to the largest size that an element, or its change in a step, has had.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AMPLIFIED", "BOUND", "EPS", "FAR", "Bound"]

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
"""The largest relative size of one ULP."""


@dataclass(frozen=True)
class Bound:
    """How far rounding may carry two runs apart: a start, which grows with every step."""

    start: float
    growth: float = 0.0
    """The part of the start that is added with every step."""

    def allowance(self, step: int) -> float:
        """The bound after some steps, as a multiple of the start."""
        return 1 + self.growth * step

    def after(self, step: int) -> float:
        """The bound after some steps."""
        return self.start * self.allowance(step)


BOUND = {
    "float64": Bound(1e-10),
    "float32": Bound(16 * EPS["float32"], growth=1 / 16),
}
"""In float64 a rounding is 1e-16, but RAdam's rho, found by cancellation, is wrong by 4e-11. In
float32 the bound is 16 ULP, and one more per step. Of 40 pairs that compute the same in float32 the
worst was 10 ULP apart in the first steps, and 1 ULP more with every step that multiplies the
parameter by a rounded 1 - lr weight_decay. A side that computes 1 - beta^t in float32 is 64 to 120
ULP off after the first step."""

FAR = {"float64": 2e-6, "float32": 1e-4}
"""How far off a variant may be after all steps and still explain a much larger difference. An
example is a library that computes some coefficients in float32. The rest is reported as
unexplained."""

AMPLIFIED = 3.4445**5
"""How much a rounding grows when a matrix is orthogonalised: each of five iterations multiplies it
by the first coefficient of the polynomial."""
