"""Reference for TAdam."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class TAdam(Adaptive):
    """Adam whose mean is that of a Student t distribution: outlying gradients weigh less.

    Source: Ilboudo et al., arXiv 2003.00179, Algorithm 1, and frgfm/Holocron,
    holocron/optim/tadam.py. `dof` is the number of degrees of freedom, that of the parameter's
    elements if None; `w_sum` is the decaying sum of the weights, one number per parameter.
    """

    def slots(self, p: Array) -> dict[str, Array]:
        """Adam's averages, and the sum of the weights."""
        return super().slots(p) | {"w_sum": np.array(self.betas[0] / (1 - self.betas[0]))}

    def change(
        self, p: Array, g: Array, m: Array, v: Array, v_max: Array | None = None, **w_sum: Array
    ) -> Array:
        """Return lr m_hat / (sqrt(v_hat) + eps), m weighted by how near each gradient was to it."""
        beta1, beta2 = self.betas
        total = w_sum["w_sum"]
        dof = p.size if self.dof is None else self.dof
        distance = float(np.sum(quotient((g - m) ** 2, v + self.eps)))
        w = float(quotient(dof + p.size, dof + distance))
        m[...] = (total * m + w * g) / (total + w)
        total[...] = (2 - 1 / beta1) * total + w
        v[...] = beta2 * v + (1 - beta2) * g**2
        return self.lr * quotient(m / self.debias(beta1), self.denominator(v, v_max, beta2))
