from samestep.parts import distance, moments
from samestep.parts.distance import SMALL, estimated
from samestep.parts.moments import gathered, quotient, vanishing
from samestep.vocabulary import Rule, decayed_direction, ema, option, slot, sqrt, weights


class Prodigy(Rule):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come.

        m, v  = as in Adam, but of d grad;  s = beta3 s + (d/d0) d lr grad
        d     = max(d, d_coef (beta3 numerator + sum of (d/d0) d lr grad (p0 - param)) / ||s||_1)
        param = param - lr d (m / (sqrt(v) + d eps) + weight_decay param)      (eps: the new d)

    Source: Mishchenko and Defazio, arXiv 2306.06101, the Adam version, as in prodigyopt 1.1.2.
    Agrees with: prodigyopt; optax.contrib.prodigy with bias_correction=True.
    Differs from: prodigyopt, whose slice_p is not offered, whose m has the new d if beta1 is 0, and
        which does not count steps before the first gradient; optax, which always corrects the bias.
    Shapes: grad, param and slots are equal; d, d_max and numerator are 0-d, for all parameters.
    """

    needs, decays_inside = "tree", True

    lr, betas, beta3 = distance.lr, distance.betas, distance.beta3
    eps = moments.eps.replaced(ge=None, gt=0)
    d0, d_coef, growth_rate = distance.d0, distance.d_coef, distance.growth_rate
    bias_correction = moments.bias_correction.replaced(default=False)
    safeguard_warmup = option(False, "leave lr out of s, for long warm-ups")
    decay = Rule.decay.replaced(default="in_update", choices=("l2", "in_update"))

    m, v = slot("mean of d grad", init=SMALL), slot("mean of its square", init=SMALL)
    s, p0 = slot("decaying sum of weighted gradients", init=SMALL), distance.p0
    d, d_max, numerator = distance.d, distance.d_max, distance.numerator

    step_size = distance.step_size

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        corrected = sqrt(xp, gathered(self, xp, beta2, t)) / gathered(self, xp, beta1, t)
        beta3 = beta2**0.5 if self.beta3 is None else self.beta3
        rate = 1.0 if self.safeguard_warmup else self.lr * corrected
        own = {"beta3": beta3, "corrected": corrected, "s_rate": rate, "per_d0": 1 / self.d0}
        vanishes = vanishing(xp, self.eps * self.d0, self.eps)
        return {"beta1": weights(beta1), "beta2": weights(beta2), "vanishes": vanishes} | own

    def local(self, xp, grad, param, state, s):
        scaled = state.d * grad
        weighted = (s.per_d0 * state.d) * scaled
        m, v = ema(state.m, scaled, s.beta1), ema(state.v, scaled * scaled, s.beta2)
        total = s.beta3 * state.s + s.s_rate * weighted
        progress = s.lr * (s.corrected * xp.sum(weighted * (state.p0 - param)))
        return {"m": m, "v": v, "s": total}, {"up": progress, "down": xp.sum(xp.abs(total))}

    def combine(self, xp, sums, shared, s):
        return estimated(xp, s.beta3 * shared.numerator + sums.up, sums.down, shared, s)

    def direction(self, xp, grad, param, state, s):
        divisor = sqrt(xp, state.v) + s.eps * state.d
        r = quotient(xp, state.m, divisor, tuple(eps * state.d for eps in s.vanishes))
        r = decayed_direction(self.decay, r, param, s)
        return (s.corrected * state.d_used) * r, {}
