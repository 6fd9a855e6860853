"""The conformance suite, and what is built on every framework at once.

``pytest --pyargs samestep.conformance`` runs the suite on this machine. In a test suite of your
own, ``assert_same_step`` compares two optimizers, and ``conformance_of`` is a class with every
property of the suite, of a rule of yours.
"""

# Not relative: pytest imports the folder of a checkout under the folder's own name.
from samestep.conformance.harness.assertions import assert_same_step
from samestep.conformance.harness.properties import conformance_of

__all__ = ["assert_same_step", "conformance_of"]
