"""The parity kit: do two optimizers take the same steps, and if not, where do they part?

``record`` makes the gradients that both get, ``follow`` takes a snapshot after every step of a run,
``oracle`` does the same for the rule in float64, and ``compare`` finds the first step and slot that
differ, the largest difference, and its growth.
"""

from .divergence import Difference, Divergence, compare
from .oracle import follow, one_step, oracle
from .trajectory import Trajectory, record
from .ulp import rounded, spacing, ulps

__all__ = [
    "Difference",
    "Divergence",
    "Trajectory",
    "compare",
    "follow",
    "one_step",
    "oracle",
    "record",
    "rounded",
    "spacing",
    "ulps",
]
