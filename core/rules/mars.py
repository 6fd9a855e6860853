from samestep.parts import moments, variance
from samestep.parts.moments import corrections, over_root
from samestep.parts.variance import reduced, strength
from samestep.vocabulary import Rule, ema, option, sign, slot


class MARS(Rule):
    """MARS: Adam, or a step of signs, on gradients from which some of the noise is taken.

        c     = grad + gamma beta1 / (1 - beta1) (grad - prev),  and then prev = grad
        c     = c / max(1, ||c|| / clip_norm)
        m     = beta1 m + (1 - beta1) c,  v = beta2 v + (1 - beta2) c^2
        param = (1 - lr weight_decay) param - lr m_hat / (sqrt(v_hat) + eps)
                                            (MARS-Lion, which is adaptive=False: - lr sign(m))

    prev is the gradient of the step before: the exact form would be that of the same batch there.
    The third form, with Muon, is MARSMuon.

    Source: Yuan, Liu, Wu, Zhou and Gu, "MARS: unleashing the power of variance reduction for
        training large models", arXiv 2411.10438, the approximate MARS-AdamW and MARS-Lion. prev is
        0 at the first step, as in the authors' code.
    Agrees with: the authors' code for matrices; its vectors are AdamW's, which is a route here.
    Differs from: timm's, whose first c is the gradient; pytorch_optimizer's, which adds 1e-15 to v
        and eps to the root before its correction.
    Shapes: grad, param and slots are equal, any shape; the norm is over all elements.
    """

    needs = "tensor"
    amplifies = 2  # an error of the norm enters v twice

    lr = moments.lr.replaced(default=3e-3)
    betas = moments.betas.replaced(default=(0.95, 0.99))
    gamma, clip_norm = variance.gamma, variance.clip_norm
    eps, eps_root = moments.eps, moments.eps_root
    eps_at, bias_correction = moments.eps_at, moments.bias_correction
    adaptive = option(True, "divide by the root of v, as AdamW; else take the sign, as Lion")

    m, prev = moments.m, variance.prev
    v = slot(moments.v.meaning, only_if="adaptive")

    @property
    def continuous(self):
        return self.adaptive

    def scalars(self, xp, t):
        return corrections(self, xp, t) | {"ahead": strength(self, self.betas[0])}

    def direction(self, xp, grad, param, state, s):
        c = reduced(xp, grad, state, s)
        m = ema(state.m, c, s.beta1)
        if not self.adaptive:
            return sign(xp, m), {"m": m, "prev": grad}
        v = ema(state.v, c * c, s.beta2)
        step = over_root(xp, s.unbias_m * m, v, s.root)
        return step, {"m": m, "prev": grad, "v": v}
