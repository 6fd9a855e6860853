from math import inf

from samestep.vocabulary import (
    choose,
    decayed_direction,
    ema,
    hyper,
    initial_parameter,
    option,
    preset,
    shared,
    slot,
    sqrt,
)

from .adam import Adam


class Prodigy(Adam):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come.

        m, v  = as in Adam, but of d grad;  s = beta3 s + (d/d0) d lr grad
        d     = max(d, d_coef (beta3 numerator + sum of (d/d0) d lr grad (p0 - param)) / ||s||_1)
        param = param - lr d (m / (sqrt(v) + d eps) + weight_decay param)      (eps: the new d)

    Source: Mishchenko and Defazio, arXiv 2306.06101, the Adam version, as in prodigyopt 1.1.2.
    Agrees with: prodigyopt; optax.contrib.prodigy with bias_correction=True.
    Differs from: prodigyopt, whose slice_p is not offered, and which does not count steps before
        the first gradient that is not zero; optax, which always corrects the bias.
    Shapes: grad, param and slots are equal; d, d_max and numerator are 0-d, for all parameters.
    """

    needs, decays_inside = "tree", True
    lr = hyper(1.0, "multiple of the estimated step size", unit="1", ge=0)
    beta3 = hyper(
        None, "decay per step of s; None is sqrt(beta2)", unit="1/step", ge=0, lt=1, whole=True
    )
    eps = Adam.eps.replaced(ge=None, gt=0)
    d0 = hyper(1e-6, "first estimate of d", unit="parameter", gt=0, typical=1e-3, whole=True)
    d_coef = hyper(1.0, "multiple of the estimate", unit="1", gt=0, whole=True)
    growth_rate = hyper(inf, "largest factor of d per step", unit="1", ge=1, whole=True)
    eps_root, eps_at, start, amsgrad, v_max = 0.0, "outside", "zero", False, None
    decay = Adam.decay.replaced(default="in_update", choices=("l2", "in_update"))
    dialects = {"optax": preset(of="optax.contrib.prodigy", bias_correction=True)}
    bias_correction = Adam.bias_correction.replaced(default=False)
    safeguard_warmup = option(False, "leave lr out of s, for long warm-ups")
    s = slot("decaying sum of weighted gradients")
    p0 = slot("parameter as it was at init", init=initial_parameter)
    d = shared("estimated step size", start="d0")
    d_max = shared("largest estimate so far", start="d0")
    numerator = shared("decaying sum of weighted grad (p0 - param)", start=0.0)

    def scalars(self, xp, t):
        m, v = (self.gathered(xp, beta, t) for beta in self.betas)
        corrected = sqrt(xp, v) / m
        beta3 = self.betas[1] ** 0.5 if self.beta3 is None else self.beta3
        rate = 1.0 if self.safeguard_warmup else self.lr * corrected
        own = {"beta3": beta3, "corrected": corrected, "s_rate": rate, "per_d0": 1 / self.d0}
        return super().scalars(xp, t) | own

    def local(self, xp, grad, param, state, s):
        scaled = state.d * grad
        weighted = (s.per_d0 * state.d) * scaled
        m, v = ema(state.m, scaled, s.beta1), ema(state.v, scaled * scaled, s.beta2)
        total = s.beta3 * state.s + s.s_rate * weighted
        progress = s.lr * (s.corrected * xp.sum(weighted * (state.p0 - param)))
        return {"m": m, "v": v, "s": total}, {"up": progress, "down": xp.sum(xp.abs(total))}

    def combine(self, xp, sums, shared, s):
        moved = sums.down != 0
        numerator = s.beta3 * shared.numerator + sums.up
        d_hat = s.d_coef * numerator / xp.where(moved, sums.down, 1.0)
        d_max = xp.maximum(shared.d_max, d_hat)
        d = xp.where(shared.d == s.d0, xp.maximum(shared.d, d_hat), shared.d)
        grown = choose(xp, s.growth_rate == inf, d_max, xp.minimum(d_max, s.growth_rate * d))
        new = {"d": grown, "d_max": d_max, "numerator": numerator}
        kept = {name: xp.where(moved, value, getattr(shared, name)) for name, value in new.items()}
        return kept | {"d_used": xp.where(moved, shared.d, 0 * shared.d)}

    def direction(self, xp, grad, param, state, s):
        scaled = state.m / (xp.sqrt(state.v) + s.eps * state.d)
        return (s.corrected * state.d_used) * decayed_direction(self.decay, scaled, param, s), {}
