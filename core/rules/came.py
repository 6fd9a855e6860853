from samestep.parts import factored, moments
from samestep.parts.factored import averaged, factored_axes, lines, pair
from samestep.parts.moments import lost, quotient
from samestep.vocabulary import Rule, at_least, ema, hyper, rms, slot, weights


class CAME(Rule):
    """CAME: Adafactor whose momentum moves less where it disagrees with the newest update.

        v     = beta2 v + (1 - beta2) (grad^2 + eps1),  by rows and columns
        u     = grad / sqrt(v);  u = u / max(1, RMS(u) / clip_threshold)
        m     = beta1 m + (1 - beta1) u
        r     = beta3 r + (1 - beta3) ((u - m)^2 + eps2),  by rows and columns
        param = (1 - lr weight_decay) param - lr m / sqrt(r)                  (a vector: - lr m)

    No mean is corrected for its start: the first steps are up to 1 / sqrt(1 - beta3) times as
    long. Warm lr up.

    Source: Luo, Ren, Zheng, Jiang, Jiang and You, "CAME: confidence-guided adaptive memory
        efficient optimization", arXiv 2307.02047, Algorithm 2, as in the authors' came-pytorch.
    Agrees with: came-pytorch and pytorch_optimizer's, whose lr it has by default.
    Differs from: both in the axes of a convolution, which they factor as they are kept.
    Shapes: grad, param and m are equal; v and r as in Adafactor, r of a vector is 0-d.
    """

    needs = "factored"

    lr = moments.lr.replaced(default=2e-4)
    betas = hyper((0.9, 0.999, 0.9999), "decay per step of m, v and r", unit="1/step", ge=0, lt=1)
    eps = hyper((1e-30, 1e-16), "added to grad^2, to (u - m)^2", unit="gradient^2, 1", gt=0)
    clip_threshold = hyper(1.0, "largest RMS of u", unit="1", gt=0, infinite=True)
    axes, min_dim = factored.axes, factored.min_dim

    m = slot("mean of the update")
    v = slot("mean squared gradient: per row and per column, or per element", init=pair)
    r = slot("mean square of u - m: per row and per column", init=lines)

    def scalars(self, xp, t):
        beta1, beta2, beta3 = map(weights, self.betas)
        first, second = self.eps
        return {
            "beta1": beta1,
            "v": {"weights": beta2, "eps": (first,), "vanishes": lost(first)},
            "r": {"weights": beta3, "eps": (second,), "vanishes": lost(second)},
        }

    def direction(self, xp, grad, param, state, s):
        axes = factored_axes(param.shape, self)
        v, root = averaged(xp, state.v, grad * grad + s.v.eps[0], axes, True, s.v)
        u = quotient(xp, grad, root, s.v.vanishes)
        u = u / at_least(xp, rms(xp, u) / s.clip_threshold, 1.0)
        m = ema(state.m, u, s.beta1)
        if not axes:
            return m, {"m": m, "v": v, "r": state.r}
        r, root = averaged(xp, state.r, (u - m) * (u - m) + s.r.eps[0], axes, True, s.r)
        return quotient(xp, m, root, s.r.vanishes), {"m": m, "v": v, "r": r}
