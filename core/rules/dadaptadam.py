from samestep.parts import distance, moments
from samestep.parts.distance import SMALL, adapted
from samestep.parts.moments import gathered, quotient, vanishing
from samestep.vocabulary import Rule, ema, slot, sqrt, weights


class DAdaptAdam(Rule):
    """D-Adapted Adam: Adam that finds its own step size d, from gradients that keep a direction.

        a     = d lr
        n     = beta3 n + (1 - beta3) a sum of grad s / (sqrt(v) + eps)         (s, v: before them)
        m     = beta1 m + (1 - beta1) a grad,  v = beta2 v + (1 - beta2) grad^2
        s     = beta3 s + (1 - beta3) a grad
        d     = max(d, n / ((1 - beta3) ||s||_1)),  growing by growth_rate at most
        param = (1 - a weight_decay) param - m / (sqrt(v) + eps)

    Source: Defazio and Mishchenko, "Learning-rate-free learning by D-Adaptation", arXiv 2301.07733,
        the Adam version, as in the authors' dadaptation 3.2. Prodigy is its successor.
    Agrees with: dadaptation's; optax.contrib.dadapt_adamw with bias_correction=True.
    Differs from: both before the first gradient that is not 0: one does not count, one makes NaN.
    Shapes: grad, param and slots are equal; d and numerator are 0-d, for all parameters.
    """

    needs, decays_inside = "tree", True

    lr, betas, beta3 = distance.lr, distance.betas, distance.beta3
    eps, d0 = moments.eps.replaced(ge=None, gt=0), distance.d0
    growth_rate = distance.growth_rate
    bias_correction = moments.bias_correction.replaced(default=False)
    decay = Rule.decay.replaced(default="in_update", choices=("l2", "in_update"))

    m, v = slot("mean of the gradient, times the step size", init=SMALL), moments.v
    s = slot("slow mean of the gradient, times the step size", init=SMALL)
    d, numerator, step_size = distance.d, distance.numerator, distance.step_size

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        corrected = sqrt(xp, gathered(self, xp, beta2, t)) / gathered(self, xp, beta1, t)
        beta3 = beta2**0.5 if self.beta3 is None else self.beta3
        own = {"beta1": weights(beta1), "beta2": weights(beta2), "beta3": weights(beta3)}
        own = {**own, "vanishes": vanishing(xp, self.eps, self.eps)}
        return own | {"per_d": self.lr * corrected, "rate": 1.0}

    def local(self, xp, grad, param, state, s):
        step = s.per_d * state.d
        along = quotient(xp, state.s, sqrt(xp, state.v) + s.eps, s.vanishes)
        m, v = ema(state.m, step * grad, s.beta1), ema(state.v, grad * grad, s.beta2)
        total = ema(state.s, step * grad, s.beta3)
        sums = {"up": step * xp.sum(grad * along), "down": xp.sum(xp.abs(total))}
        return {"m": m, "v": v, "s": total}, sums

    def combine(self, xp, sums, shared, s):
        n = ema(shared.numerator, sums.up, s.beta3)
        return adapted(xp, n, s.beta3[1] * sums.down, shared, s)

    def direction(self, xp, grad, param, state, s):
        step = quotient(xp, state.m, sqrt(xp, state.v) + s.eps, s.vanishes)
        if self.decay == "in_update":
            step = step + (s.per_d * s.weight_decay * state.d_used) * param
        return step, {}
