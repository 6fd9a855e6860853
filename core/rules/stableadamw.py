from samestep.parts import moments
from samestep.parts.moments import corrections, lost, over_root, quotient
from samestep.vocabulary import Rule, at_least, decayed_direction, ema, rms, sqrt


class StableAdamW(Rule):
    """AdamW with steps that are shorter where a gradient is larger than v knows.

        m, v  = as in Adam
        ratio = RMS(grad / max(sqrt(v_hat), eps))
        rate  = lr / max(1, ratio)
        param = (1 - rate weight_decay) param - rate m_hat / (sqrt(v_hat) + eps)

    Source: Wortsman et al., "Stable and low-precision training for large-scale vision-language
        models", arXiv 2304.13013, Algorithm 2.
    Agrees with: optimi.StableAdamW, whose defaults it has; pytorch_optimizer's.
    Differs from: Adafactor and timm's clipping_threshold, which limit the RMS of the step.
    Shapes: grad, param, m and v are equal, any shape; RMS is over all elements.
    """

    needs, decays_inside = "tensor", True

    lr, betas = moments.lr, moments.betas.replaced(default=(0.9, 0.99))
    eps, eps_root = moments.eps.replaced(default=1e-6), moments.eps_root
    eps_at, bias_correction = moments.eps_at, moments.bias_correction
    weight_decay = Rule.weight_decay.replaced(default=1e-2)
    decay = Rule.decay.replaced(default="in_update")

    m, v = moments.m, moments.v

    def scalars(self, xp, t):
        least = self.eps**0.5 if self.eps_at == "inside" else self.eps
        return corrections(self, xp, t) | {"least": least, "vanishes": lost(least)}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        size = at_least(xp, s.root.scale * sqrt(xp, v), s.least)
        ratio = rms(xp, quotient(xp, grad, size, s.vanishes))
        step = over_root(xp, s.unbias_m * m, v, s.root)
        step = decayed_direction(self.decay, step, param, s)
        return step / at_least(xp, ratio, 1.0), {"m": m, "v": v}
