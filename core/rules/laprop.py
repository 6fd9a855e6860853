from samestep.parts import moments
from samestep.parts.moments import corrections, over_root
from samestep.vocabulary import Rule, ema, slot


class LaProp(Rule):
    """LaProp: the gradient is divided by its root mean square first, and averaged then.

        v     = beta2 v + (1 - beta2) grad^2,  v_hat = v / (1 - beta2^t)
        m     = beta1 m + (1 - beta1) grad / (sqrt(v_hat) + eps)
        param = (1 - lr weight_decay) param - lr m / (1 - beta1^t)

    Source: Ziyin, Wang and Ueda, "LaProp: separating momentum and adaptivity in Adam",
        arXiv 2002.04839.
    Agrees with: the authors' code without decay, while lr is constant.
    Differs from: the authors' code, timm's and pytorch_optimizer's, which average lr times the
        normalised gradient and decay after the step; the last of them adds 1e-15 to v, and eps to
        the root before its correction.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr = moments.lr.replaced(default=4e-4)
    betas = moments.betas
    eps, eps_root = moments.eps.replaced(default=1e-15), moments.eps_root
    eps_at, bias_correction = moments.eps_at, moments.bias_correction

    m = slot("mean of the normalised gradient")
    v = moments.v

    scalars = corrections

    def direction(self, xp, grad, param, state, s):
        v = ema(state.v, grad * grad, s.beta2)
        m = ema(state.m, over_root(xp, grad, v, s.root), s.beta1)
        return s.unbias_m * m, {"m": m, "v": v}
