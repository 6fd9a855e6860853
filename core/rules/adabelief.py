from samestep.parts import moments, rectification
from samestep.parts.moments import gathered, largest, over_root, root
from samestep.parts.rectification import rectified, rectifier
from samestep.vocabulary import Rule, ema, hyper, option, weights


class AdaBelief(Rule):
    """AdaBelief: Adam that divides by the spread of the gradient around its mean.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) (grad - m)^2 + eps_root
        param = param - lr m_hat / (sqrt(v_hat) + eps)       (rectify: as in RAdam)

    with m_hat = m / (1 - beta1^t), v_hat = v / (1 - beta2^t).

    Source: Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed
        gradients", arXiv 2010.07468, Algorithm 2 (one eps for both, 1e-16 in the authors' code).
    Agrees with: optax.adabelief; adabelief-pytorch with rectify=False.
    Differs from: adabelief-pytorch and timm, which rectify by default; holocron's, which adds
        nothing to v and couples the decay; labml's, whose constructor passes its arguments one
        place on, so that it always takes the largest v and stands still until it rectifies.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr, betas = moments.lr, moments.betas
    threshold, below = rectification.threshold, rectification.below
    eps = moments.eps.replaced(default=1e-16)
    eps_root = hyper(1e-16, "added to v at every step", unit="gradient^2", ge=0)
    rectify = option(False, "rectify as RAdam does")
    eps_at = moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad

    m, v, v_max = moments.m, moments.v, moments.v_max

    def scalars(self, xp, t):
        (beta1, beta2), below = self.betas, self.below
        m, v = gathered(self, xp, beta1, t), gathered(self, xp, beta2, t)
        known = {"beta1": weights(beta1), "beta2": weights(beta2), "unbias_m": 1 / m}
        rectify = rectifier(xp, beta2, self.threshold, below, t) if self.rectify else {}
        return known | rectify | {"root": root(self, xp, v, eps_root=0.0)}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, (grad - m) * (grad - m), s.beta2) + s.eps_root
        divisor, v_max = largest(self, xp, v, state)
        m_hat = s.unbias_m * m
        step = over_root(xp, m_hat, divisor, s.root)
        step = rectified(xp, m_hat, step, self.below, s) if self.rectify else step
        return step, {"m": m, "v": v} | v_max
