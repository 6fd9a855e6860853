from samestep.parts import moments
from samestep.parts import momentum as form
from samestep.parts.moments import gathered, over_root, root
from samestep.parts.momentum import accelerated, gains, refuse_momentum
from samestep.vocabulary import Rule, ema, hyper, option, slot, weights


class RMSprop(Rule):
    """RMSprop: the gradient in units of its root mean square.

        v     = alpha v + (1 - alpha) grad^2
        param = param - lr grad / (sqrt(v) + eps)       (centered: sqrt(v - g^2), g the mean)

    Source: Tieleman and Hinton, "Lecture 6.5-rmsprop", Coursera 2012 (alpha = 0.9 there), in the
        form that torch.optim.RMSprop gives it; centered: Graves, arXiv 1308.0850, equation 40.
    Agrees with: torch.optim.RMSprop; mlx.optimizers.RMSprop.
    Differs from: optax.rmsprop, keras.optimizers.RMSprop and jax.example_libraries, which add eps
        under the root, keep lr inside the momentum, and have alpha = 0.9.
    Shapes: grad, param and every slot are equal, any shape.
    """

    lr = hyper(1e-2, "step size", unit="parameter", ge=0)
    alpha = hyper(0.99, "decay per step of v and g", unit="1/step", ge=0, lt=1)
    initial_v = hyper(0.0, "v before the first step", unit="gradient^2", ge=0)
    momentum, dampening = form.momentum, form.dampening
    centered = option(
        False,
        "divide by the standard deviation, not the root mean square",
        says={True: "divides by the standard deviation", False: "divides by the root mean square"},
    )
    bias_correction = moments.bias_correction.replaced(
        default=False, meaning="correct v and g for their start"
    )
    eps, eps_root = moments.eps, moments.eps_root
    eps_at = moments.eps_at.replaced(choices=("outside", "inside"))
    nesterov, momentum_form = form.nesterov, form.momentum_form
    momentum_start, lr_at = form.momentum_start, form.lr_at
    decay = Rule.decay.replaced(default="l2")

    m = form.m
    v = slot("mean of the squared gradient", start="initial_v")
    g = slot("mean of the gradient", only_if="centered")

    validate = refuse_momentum

    def scalars(self, xp, t):
        gained = gathered(self, xp, self.alpha, t)
        own = {"weights": weights(self.alpha), "root": root(self, xp, gained), "unbias": 1 / gained}
        return gains(self, xp, t) | own

    def direction(self, xp, grad, param, state, s):
        v, g = ema(state.v, grad * grad, s.weights), {}
        spread = v
        if self.centered:
            g = {"g": ema(state.g, grad, s.weights)}
            apart = v - s.unbias * (g["g"] * g["g"])
            spread = xp.where(apart > 0, apart, 0.0)
        step, m = accelerated(self, xp, over_root(xp, grad, spread, s.root), state, s)
        return step, {"v": v} | g | m
