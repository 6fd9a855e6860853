"""Numbers as people read them."""

from __future__ import annotations

import math

__all__ = ["decimal", "in_ulp"]


def in_ulp(ulps: float) -> str:
    """A distance, short enough for a table: 0, 0.5, 12, 1,054, 41.8M."""
    if ulps >= 1e6:
        return f"{ulps / 1e6:,.3g}M"
    return f"{ulps:.2g}" if ulps < 10 else f"{ulps:,.0f}"


def decimal(value: float) -> str:
    """A relative difference, short: 0, 1.2e-16, 0.63, 4.2."""
    return f"{value:.2g}" if math.isfinite(value) else "infinite"
