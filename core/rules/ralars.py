from samestep.parts import layerwise, moments, rectification
from samestep.parts.layerwise import rescaled
from samestep.parts.moments import corrections, largest, over_root
from samestep.parts.rectification import rectified, rectifier
from samestep.vocabulary import Rule, ema, option


class RaLars(Rule):
    """RaLars: RAdam's direction, rescaled for every parameter to the parameter's own norm.

        r     = RAdam's direction + weight_decay param
        param = param - lr (||param|| / ||r||) r       (the ratio is 1 where a norm is zero)

    ||param|| is clipped to scale_clip. force_adaptive_momentum takes Adam's direction, in place of
    m_hat, until rho exceeds the threshold.

    Source: Brain's and Howard's combination of RAdam (arXiv 1908.03265) with LARS
        (arXiv 1708.03888), 2019, as holocron.optim.RaLars has it; there is no paper.
    Agrees with: holocron.optim.RaLars.
    Differs from: LARS in the ratio, which has no trust coefficient here.
    Shapes: grad, param, m and v are equal; the two norms run over the whole parameter.
    """

    needs, decays_inside = "tensor", True

    lr, betas = moments.lr, moments.betas
    threshold = rectification.threshold
    force_adaptive_momentum = option(False, "Adam's direction until rho exceeds the threshold")
    scale_clip = layerwise.scale_clip.replaced(default=(0.0, 10.0))
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad
    decay = Rule.decay.replaced(default="in_update")

    m, v, v_max = moments.m, moments.v, moments.v_max

    def scalars(self, xp, t):
        below = "adam" if self.force_adaptive_momentum else "momentum"
        return corrections(self, xp, t) | rectifier(xp, self.betas[1], self.threshold, below, t)

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        m_hat = s.unbias_m * m
        below = "adam" if self.force_adaptive_momentum else "momentum"
        r = rectified(xp, m_hat, over_root(xp, m_hat, divisor, s.root), below, s)
        return rescaled(self, xp, r, param, s), {"m": m, "v": v} | v_max
