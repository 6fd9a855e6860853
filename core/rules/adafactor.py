from samestep.parts.factored import factored_axes, pair
from samestep.parts.momentum import Momentum
from samestep.vocabulary import (
    at_least,
    decayed_parameter,
    ema,
    hyper,
    option,
    preset,
    slot,
    smaller,
    sqrt,
)


class Adafactor(Momentum):
    """Adafactor: the mean square kept as one vector per row and one per column.

        rho   = min(lr, 1 / sqrt(t)),  scale = max(eps2, RMS(param)),  beta = 1 - t^-decay_rate
        row   = beta row + (1 - beta) mean over columns of (grad^2 + eps1);  col = likewise
        u     = grad / sqrt(row col / mean(row));  u = u / max(1, RMS(u) / clip_threshold)
        param = (1 - lr weight_decay) param - scale rho u

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost",
        arXiv 1804.04235, Algorithms 4 and 5.
    Agrees with: torch.optim.Adafactor but for eps1; mlx.optimizers.Adafactor.
    Differs from: torch, which bounds v from below by eps1^2 instead; optax.adafactor, which factors
        the two largest axes, of 128 at least, has no relative step, and decays without lr; MLX,
        which decays by the scaled step; keras, which keeps the whole v as well.
    Shapes: grad and param are equal; v is (row, col), with size 1 along one axis each, or (v,).
    """

    needs, decays_inside = "factored", True

    lr = hyper(1e-2, "largest step, relative to the parameter", unit="1", ge=0)
    eps = hyper((1e-30, 1e-3), "least v, and least RMS(param)", unit="gradient^2, parameter", gt=0)
    decay_rate = hyper(0.8, "v forgets as 1 - t^-decay_rate", unit="1", gt=0, le=1)
    clip_threshold = hyper(1.0, "largest RMS of u", unit="1", gt=0, infinite=True)
    relative_step = option(True, "shrink the step as 1 / sqrt(t)")
    warmup_init = option(False, "let the relative step begin at 1e-6 t")
    scale_parameter = option(True, "multiply the step by RMS(param)")
    eps_at = option("added", "eps1 is added to grad^2, or bounds v", choices=("added", "clamped"))
    scale_at = option("before", "RMS(param) before decay or after", choices=("before", "after"))
    axes = option("last", "axes that are factored", choices=("last", "largest"))
    min_dim = option(1, "least size of both axes for them to be factored", ge=1)
    dampening, nesterov, momentum_start = 0.0, False, "zero"
    momentum_form, lr_at = "mean", "inside"
    dialects = {
        "torch": preset(eps=(2.0**-23, 1e-3), eps_at="clamped"),
        "optax": preset(lr=1.0, relative_step=False, axes="largest", min_dim=128, decay="absolute"),
        "mlx": preset("ignores lr", decay="in_update"),
        "keras": preset(lr=1e-3, scale_at="after"),
        "paper": preset(of="Algorithms 4 and 5"),
    }

    v = slot("mean squared gradient: per row and per column, or per element", init=pair)

    def scalars(self, xp, t):
        forgotten, limit = t**-self.decay_rate, self.lr
        if self.relative_step:
            limit = smaller(xp, 1e-6 * t if self.warmup_init else limit, 1 / sqrt(xp, t))
        pair = (1 - forgotten, forgotten)
        return super().scalars(xp, t) | {"lr": limit, "weights": pair}

    def direction(self, xp, grad, param, state, s):
        added, axes = self.eps_at == "added", factored_axes(param.shape, self.axes, self.min_dim)
        square = grad * grad + s.eps[0] if added else grad * grad
        if axes:
            row, col = (
                ema(old, xp.mean(square, axis=axis, keepdims=True), s.weights)
                for old, axis in zip(state.v, axes, strict=True)
            )
            mean = xp.mean(row, axis=axes[1], keepdims=True)
            means, full = [row, col], row / (mean if added else at_least(xp, mean, s.eps[0])) * col
        else:
            full = ema(state.v[0], square, s.weights)
            means = [full]
        u = grad / xp.sqrt(full if added else at_least(xp, full, s.eps[0] * s.eps[0]))
        u = u / at_least(xp, _rms(xp, u) / s.clip_threshold, 1.0)
        scaled = param if self.scale_at == "before" else decayed_parameter(param, s)
        scale = at_least(xp, _rms(xp, scaled), s.eps[1]) if self.scale_parameter else 1.0
        step, momentum = self.accelerated(xp, scale * u, state, s)
        if self.decay == "in_update":
            step = step + (s.lr * s.weight_decay * scale) * param
        return step, {"v": tuple(means)} | momentum


def _rms(xp, x):
    return xp.sqrt(xp.mean(x * x))
