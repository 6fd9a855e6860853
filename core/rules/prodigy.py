from ..vocabulary import (Rule, debias, ema, hyper, initial_parameter, option, shared, slot, weights)
from ..weight_decay import decayed_direction


class Prodigy(Rule):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come.

        m, v  = beta1 m + (1 - beta1) d grad,  beta2 v + (1 - beta2) d^2 grad^2
        s     = beta3 s + (d/d0) d lr grad
        d_hat = d_coef (beta3 numerator + sum over all of (d/d0) d lr grad (p0 - param)) / ||s||_1
        d     = max(d, d_hat), as d_max and growth_rate allow
        param = param - lr d (m / (sqrt(v) + d eps) + weight_decay param)

    m, v and s use the old d, as does lr d; eps uses the new one.

    Source: Mishchenko and Defazio, "Prodigy: an expeditiously adaptive parameter-free learner",
        arXiv 2306.06101, the Adam version, as in the authors' prodigyopt 1.1.2.
    Agrees with: prodigyopt; optax.contrib.prodigy with bias_correction=True.
    Differs from: prodigyopt's slice_p, not offered; optax, which always corrects the bias.
    Shapes: grad, param and slots are equal; d, d_max and numerator are 0-d, for all parameters.
    """

    needs = "tree"
    decays_inside = True

    lr = hyper(1.0, "multiple of the estimated step size", unit="1", ge=0)
    betas = hyper((0.9, 0.999), "decay per step of m and v", unit="1/step", ge=0, lt=1)
    beta3 = hyper(None, "decay per step of s; None is sqrt(beta2)", unit="1/step", ge=0, lt=1)
    eps = hyper(1e-8, "added to the root of v, times d", unit="gradient", ge=0)
    d0 = hyper(1e-6, "first estimate of d", unit="parameter", gt=0, typical=1e-3)
    d_coef = hyper(1.0, "multiple of the estimate", unit="1", gt=0)
    growth_rate = hyper(float("inf"), "largest factor of d per step", unit="1", ge=1)
    bias_correction = option(False, "correct m and v for their start at zero")
    safeguard_warmup = option(False, "leave lr out of s, for long warm-ups")
    decay = option("in_update", "how weight decay enters", choices=("l2", "in_update"))

    m = slot("mean of d grad")
    v = slot("mean of d^2 grad^2")
    s = slot("decaying sum of weighted gradients")
    p0 = slot("parameter as it was at init", init=initial_parameter)
    d = shared("estimated step size", start="d0")
    d_max = shared("largest estimate so far", start="d0")
    numerator = shared("decaying sum of weighted grad (p0 - param)", start=0.0)

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        correction = 1.0
        if self.bias_correction:
            correction = xp.sqrt(debias(xp, beta2, t)) / debias(xp, beta1, t)
        return {
            "beta1": weights(beta1), "beta2": weights(beta2),
            "beta3": xp.sqrt(beta2) if self.beta3 is None else self.beta3,
            "correction": correction, "rate": self.lr * correction, "per_d0": 1 / self.d0,
            "sum_rate": 1.0 if self.safeguard_warmup else self.lr * correction,
        }

    def local(self, xp, grad, param, state, s):
        weighted = (s.per_d0 * state.d) * state.d * grad
        total = s.beta3 * state.s + s.sum_rate * weighted
        slots = {
            "m": ema(state.m, state.d * grad, s.beta1),
            "v": ema(state.v, (state.d * grad) * (state.d * grad), s.beta2),
            "s": total,
        }
        progress = s.rate * xp.sum(weighted * (state.p0 - param))
        return slots, {"progress": progress, "length": xp.sum(xp.abs(total))}

    def combine(self, xp, sums, shared, s):
        moved = sums.length > 0
        numerator = s.beta3 * shared.numerator + sums.progress
        d_hat = s.d_coef * numerator / xp.where(moved, sums.length, 1.0)
        first = xp.where(shared.d == s.d0, xp.maximum(shared.d, d_hat), shared.d)
        d_max = xp.maximum(shared.d_max, d_hat)
        d = xp.minimum(d_max, s.growth_rate * first)
        return {
            "d": xp.where(moved, d, shared.d), "d_max": xp.where(moved, d_max, shared.d_max),
            "numerator": xp.where(moved, numerator, shared.numerator),
            "d_used": xp.where(moved, shared.d, 0 * shared.d),
        }

    def direction(self, xp, grad, param, state, s):
        scaled = state.m / (xp.sqrt(state.v) + s.eps * state.d)
        return (s.correction * state.d_used) * decayed_direction(self.decay, scaled, param, s), {}
