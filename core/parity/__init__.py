"""The parity kit: do two optimizers take the same steps, and if not, where do they part?

    trajectory = record(seed=0)                          the same gradients for both
    one = follow(backend.start(rule, ...), trajectory)   a snapshot after every step
    two = oracle(rule, trajectory)                       the same rule in float64
    compare(one, two, "float32").first                   the first step and slot that differ
"""

from .divergence import Difference, Divergence, compare
from .oracle import follow, one_step, oracle
from .trajectory import Trajectory, record
from .ulp import rounded, spacing, ulps

__all__ = ["Difference", "Divergence", "Trajectory", "compare", "follow", "one_step", "oracle",
           "record", "rounded", "spacing", "ulps"]
