"""Reference for GPAAdamW."""

from __future__ import annotations

from ._averaged import Averaged
from .adam import Adam

__all__ = ["GPAAdamW"]


class GPAAdamW(Averaged, Adam):
    """AdamW between its iterate and a decaying average of it.

    Source: arXiv 2512.17131, and facebookresearch/optimizers, gpa/gpa_adamw.py (GPA).
    """

    @property
    def toward(self) -> float:
        """The share of x in y."""
        return float(self.mu_y)

    def newest(self) -> float:
        """The share of the new z in x."""
        return 1 - float(self.mu_x)
