from samestep.parts import moments
from samestep.parts.moments import corrections, over_root
from samestep.vocabulary import Rule, ema, hyper, sign, slot


class Yogi(Rule):
    """Yogi: Adam whose v moves by at most (1 - beta2) grad^2 in one step.

        m     = beta1 m + (1 - beta1) grad
        v     = v - (1 - beta2) sign(v - grad^2) grad^2
        param = param - lr m / (sqrt(v) + eps)

    Source: Zaheer, Reddi, Sachan, Kale and Kumar, "Adaptive methods for nonconvex optimization",
        NeurIPS 2018, Algorithm 2 (v starts at 1e-6, no correction).
    Agrees with: the paper.
    Differs from: optax.yogi and pytorch_optimizer's, which start m at 1e-6 too and correct both for
        a start at zero that they did not have.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr = hyper(1e-2, "step size", unit="parameter", ge=0)
    betas = moments.betas
    eps = moments.eps.replaced(default=1e-3)
    initial_m = hyper(0.0, "m before the first step", unit="gradient")
    initial_v = hyper(1e-6, "v before the first step", unit="gradient^2", ge=0)
    bias_correction = moments.bias_correction.replaced(default=False)
    eps_root, eps_at = moments.eps_root, moments.eps_at

    m = slot("mean of the gradient", start="initial_m")
    v = slot("decaying bound on the squared gradient", start="initial_v")

    scalars = corrections

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        square = grad * grad
        v = state.v - s.beta2[1] * sign(xp, state.v - square) * square
        return over_root(xp, s.unbias_m * m, v, s.root), {"m": m, "v": v}
