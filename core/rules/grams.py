from samestep.parts import moments
from samestep.parts.moments import corrections, over_root
from samestep.vocabulary import Rule, ema, sign


class Grams(Rule):
    """Grams: the length of Adam's step, with the sign of the gradient.

        m, v  = as in Adam
        param = (1 - lr weight_decay) param - lr sign(grad) |m_hat / (sqrt(v_hat) + eps)|

    An element whose gradient is 0 stays.

    Source: Cao, Li and Song, "Grams: gradient descent with adaptive momentum scaling",
        arXiv 2412.17107.
    Agrees with: pytorch_optimizer's Grams.
    Differs from: Cautious(AdamW()), which keeps an element where the signs differ.
    Shapes: grad, param, m and v are equal, any shape.
    """

    continuous = False

    lr, betas = moments.lr, moments.betas
    eps, eps_root = moments.eps.replaced(default=1e-6), moments.eps_root
    eps_at, bias_correction = moments.eps_at, moments.bias_correction

    m, v = moments.m, moments.v

    scalars = corrections

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        length = xp.abs(over_root(xp, s.unbias_m * m, v, s.root))
        return sign(xp, grad) * length, {"m": m, "v": v}
