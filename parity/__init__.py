r"""The parity kit: do two optimizers take the same steps, and if not, where do they part?

``record`` makes the gradients that both get, ``follow`` takes a snapshot after every step of a run,
``oracle`` does the same for the rule in float64, and ``compare`` finds the first step and slot that
differ, the largest difference, and its growth.

``compared`` compares any two optimizers and says in words what they do differently:

    found = compared(subject("optax.adan"), subject("samestep:Adan"))
    print(found.verdict, *found.sentences, sep="\n")
"""

from .comparison import Comparison, compared
from .diagnosis import Reason
from .divergence import Difference, Divergence, compare
from .float64 import follow, one_step, oracle
from .search import Finding
from .subjects.subject import Subject, SubjectError, subject
from .trajectory import Trajectory, record
from .ulp import rounded, spacing, ulps

__all__ = [
    "Comparison",
    "Difference",
    "Divergence",
    "Finding",
    "Reason",
    "Subject",
    "SubjectError",
    "Trajectory",
    "compare",
    "compared",
    "follow",
    "one_step",
    "oracle",
    "record",
    "rounded",
    "spacing",
    "subject",
    "ulps",
]
