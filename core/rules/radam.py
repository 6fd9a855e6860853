from samestep.parts import moments
from samestep.parts.moments import corrections, largest, over_root
from samestep.parts.rectification import below, rectified, rectifier, threshold
from samestep.vocabulary import Rule, ema


class RAdam(Rule):
    """RAdam: Adam rectified for the variance of its divisor in the first steps.

        m, v    = as in Adam
        rho_inf = 2 / (1 - beta2) - 1,  rho = rho_inf - 2 t beta2^t / (1 - beta2^t)
        param   = param - lr r m_hat / (sqrt(v_hat) + eps)       where rho > threshold
        param   = param - lr m_hat            before that (below="adam": with the divisor)
        r^2     = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond",
        arXiv 1908.03265, Algorithm 2 (threshold 4; without eps).
    Agrees with: optax.radam(threshold=4).
    Differs from: torch.optim.RAdam, labml's, and optax.radam by default, whose threshold is 5 (one
        step more without divisor at beta2 = 0.999); torch and labml add eps before v's correction.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr, betas = moments.lr, moments.betas
    threshold, below = threshold, below
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad
    decay = Rule.decay.replaced(default="l2")

    m, v, v_max = moments.m, moments.v, moments.v_max

    def scalars(self, xp, t):
        r = rectifier(xp, self.betas[1], self.threshold, self.below, t)
        return corrections(self, xp, t) | r

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        m_hat = s.unbias_m * m
        step = rectified(xp, m_hat, over_root(xp, m_hat, divisor, s.root), self.below, s)
        return step, {"m": m, "v": v} | v_max
