from samestep.parts import moments
from samestep.parts.moments import corrections, largest, over_root
from samestep.vocabulary import Rule, ema


class Adam(Rule):
    """Adam: a step along the mean gradient, in units of its root mean square.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) grad^2
        m_hat = m / (1 - beta1^t),  v_hat = v / (1 - beta2^t)
        param = param - lr m_hat / (sqrt(v_hat) + eps)

    Weight decay, if any, is coupled: weight_decay param is added to the gradient first.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980,
        Algorithm 1 (eps added to the root of the corrected v).
    Agrees with: torch.optim.Adam; optax.adam; mlx.optimizers.Adam(bias_correction=True).
    Differs from: mlx.optimizers.Adam by default, which leaves the bias correction out (first step
        3.16 times as long); keras.optimizers.Adam and labml's, which add eps = 1e-7 and 1e-16
        before the correction.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr, betas = moments.lr, moments.betas
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad
    decay = Rule.decay.replaced(default="l2")

    m, v, v_max = moments.m, moments.v, moments.v_max

    scalars = corrections

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        return over_root(xp, s.unbias_m * m, divisor, s.root), {"m": m, "v": v} | v_max
