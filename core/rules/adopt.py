from samestep.parts import moments
from samestep.parts.moments import lost, quotient
from samestep.vocabulary import Rule, at_least, ema, hyper, later, option, slot, sqrt


class ADOPT(Rule):
    """ADOPT: Adam that divides a gradient by the v of before, and averages the quotient.

        n     = grad / max(sqrt(v), eps), clipped to +-(t - 1)^power
        m     = beta1 m + (1 - beta1) n
        param = (1 - lr weight_decay) param - lr m
        v     = beta2 v + (1 - beta2) grad^2

    The first step sets v = grad^2. It counts, but m and param stay.

    Source: Taniguchi et al., "ADOPT: modified Adam can converge with any beta2 with the optimal
        rate", arXiv 2411.02853, in its clipped form; its v_0 is here the v of step 1.
    Agrees with: the authors' code; optax.contrib.adopt.
    Differs from: pytorch_optimizer's, which clips to t^(1/4) and decays in the first step too;
        timm's, which clips to (t - 1)^(1/3).
    Shapes: grad, param, m and v are equal, any shape.
    """

    waits = 1

    lr = moments.lr
    betas = moments.betas.replaced(default=(0.9, 0.9999))
    eps = moments.eps.replaced(default=1e-6, meaning="least root of v")
    power = hyper(0.25, "growth of the bound of a quotient, (t - 1)^power", unit="1", ge=0)
    clipping = option(True, "bound the quotients")

    m, v = slot("mean of the normalised gradient"), moments.v

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        after = later(xp, t, 1)
        first = 1 - after
        own = {"bound": (t - 1) ** self.power, "vanishes": lost(self.eps)}
        return own | {
            "beta1": (after * beta1 + first, after * (1 - beta1)),
            "beta2": (after * beta2, after * (1 - beta2) + first),
        }

    def direction(self, xp, grad, param, state, s):
        n = quotient(xp, grad, at_least(xp, sqrt(xp, state.v), s.eps), s.vanishes)
        n = xp.clip(n, -s.bound, s.bound) if self.clipping else n
        m = ema(state.m, n, s.beta1)
        return m, {"m": m, "v": ema(state.v, grad * grad, s.beta2)}
