from samestep.parts import moments
from samestep.parts.moments import corrections, largest, over_root
from samestep.vocabulary import Rule, ema, slot


class AMSGrad(Rule):
    """AMSGrad: Adam that divides by the largest mean square so far.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) grad^2
        v_max = max(v_max, v)
        param = param - lr m_hat / (sqrt(v_max_hat) + eps)

    with m_hat = m / (1 - beta1^t) and v_max_hat = v_max / (1 - beta2^t).

    Source: Reddi, Kale and Kumar, "On the convergence of Adam and beyond", arXiv 1904.09237,
        Algorithm 2, with Adam's bias correction, which the paper leaves out.
    Agrees with: torch.optim.Adam(amsgrad=True).
    Differs from: optax.amsgrad, which takes the maximum of the corrected v (optax#1389); keras and
        labml in the place and size of eps.
    Shapes: grad, param, m, v and v_max are equal, any shape.
    """

    amsgrad = True  # Adam's option of that name

    lr, betas = moments.lr, moments.betas
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction = moments.bias_correction
    decay = Rule.decay.replaced(default="l2")

    m, v = moments.m, moments.v
    v_max = slot("largest v so far")

    scalars = corrections

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        return over_root(xp, s.unbias_m * m, divisor, s.root), {"m": m, "v": v} | v_max
