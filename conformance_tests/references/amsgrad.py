"""Reference for AMSGrad."""

from __future__ import annotations

from .adam import Adam


class AMSGrad(Adam):
    """Adam whose denominator never shrinks: it takes the largest second moment so far.

    Source: Reddi et al., arXiv 1904.09237, Algorithm 2, with the bias corrections and the coupled
    decay of pytorch/pytorch, torch/optim/adam.py (the largest v, then corrected). "corrected" is
    google-deepmind/optax, `amsgrad`: the largest v that has been corrected already.
    """

    amsgrad = True
