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
    """What rounding may do: so much after the first steps, and more with every step."""

    start: float
    growth: float = 0.0
    """How much of the start is added with every step."""

    def allowance(self, step: int) -> float:
        """How many times the start it is after some steps."""
        return 1 + self.growth * step

    def after(self, step: int) -> float:
        """The bound after some steps."""
        return self.start * self.allowance(step)


BOUND = {
    "float64": Bound(1e-10),
    "float32": Bound(16 * EPS["float32"], growth=1 / 16),
}
"""A rounding of float64 is 1e-16; RAdam's rho, found by cancellation, is wrong by 4e-11. In float32
it is 16 ULP and one more per step. Of 40 pairs of optimizers that compute the same in float32 the
worst were 10 ULP apart in the first steps, and 1 ULP more with every step where the parameter is
multiplied by 1 - lr weight_decay, rounded; where one side computes 1 - beta^t in float32 they are
64 to 120 apart after the first."""

FAR = {"float64": 2e-6, "float32": 1e-4}
"""How far off a variant may be after all steps and still explain a difference that is much larger,
such as that of a library which computes some coefficients in float32. What is left is then said to
be unexplained."""

AMPLIFIED = 3.4445**5
"""How much a rounding grows where a matrix is orthogonalised: by the first coefficient of the
polynomial in each of five iterations."""
