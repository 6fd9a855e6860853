from samestep.parts import factored
from samestep.parts import momentum as form
from samestep.parts.factored import averaged, factored_axes, pair
from samestep.parts.moments import lost, quotient
from samestep.vocabulary import Rule, at_least, hyper, kept, option, rms, slot, smaller, sqrt


class Adafactor(Rule):
    """Adafactor: the mean square kept as one vector per row and one per column.

        rho   = min(lr, 1 / sqrt(t)),  scale = max(eps2, RMS(param)),  beta = 1 - t^-decay_rate
        row   = beta row + (1 - beta) mean over columns of (grad^2 + eps1);  col = likewise
        u     = grad / sqrt(row col / mean(row));  u = u / max(1, RMS(u) / clip_threshold)
        param = (1 - lr weight_decay) param - scale rho u

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost",
        arXiv 1804.04235, Algorithms 4 and 5.
    Agrees with: torch.optim.Adafactor but for eps1; mlx.optimizers.Adafactor.
    Differs from: torch, which bounds v from below by eps1^2; optax.adafactor, which factors the two
        largest axes, of 128 at least, has no relative step, and decays without lr; MLX, which
        decays by the scaled step; keras, which keeps the whole v as well; all of them in the axes
        of a convolution that they factor: they take these as they are kept.
    Shapes: grad and param are equal; v is (row, col), with size 1 along one axis each, or (v,).
    """

    needs, decays_inside = "factored", True

    lr = hyper(1e-2, "largest step, relative to the parameter", unit="1", ge=0)
    eps = hyper((1e-30, 1e-3), "least v, and least RMS(param)", unit="gradient^2, parameter", gt=0)
    decay_rate = hyper(0.8, "v forgets as 1 - t^-decay_rate", unit="1", gt=0, le=1)
    clip_threshold = hyper(1.0, "largest RMS of u", unit="1", gt=0, infinite=True)
    momentum = form.momentum
    relative_step = option(True, "shrink the step as 1 / sqrt(t)")
    warmup_init = option(False, "let the relative step begin at 1e-6 t")
    scale_parameter = option(True, "multiply the step by RMS(param)")
    eps_at, axes, min_dim = factored.eps_at, factored.axes, factored.min_dim

    m = form.m
    v = slot("mean squared gradient: per row and per column, or per element", init=pair)

    def scalars(self, xp, t):
        forgotten, limit = t**-self.decay_rate, self.lr
        if self.relative_step:
            limit = smaller(xp, 1e-6 * t if self.warmup_init else limit, 1 / sqrt(xp, t))
        rest = {"weights": (1 - forgotten, forgotten), "vanishes": lost(self.eps[0])}
        return {"rate": 1.0, "lr": limit, "fresh": 1 - self.momentum} | rest

    def direction(self, xp, grad, param, state, s):
        added, axes = self.eps_at == "added", factored_axes(param.shape, self)
        square = grad * grad + s.eps[0] if added else grad * grad
        v, root = averaged(xp, state.v, square, axes, added, s)
        u = quotient(xp, grad, root, s.vanishes)
        u = u / at_least(xp, rms(xp, u) / s.clip_threshold, 1.0)
        scale = at_least(xp, rms(xp, param), s.eps[1]) if self.scale_parameter else 1.0
        step = s.lr * (scale * u)
        m = {"m": s.momentum * state.m + s.fresh * step} if kept(self, "m", state) else {}
        step = m.get("m", step)
        if self.decay == "in_update":
            step = step + (s.lr * s.weight_decay * scale) * param
        return step, {"v": v} | m
