from samestep.parts.moments import Rooted, over_root
from samestep.parts.momentum import Momentum
from samestep.vocabulary import Rule, ema, hyper, option, preset, slot, weights


class RMSprop(Rooted, Momentum):
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
    centered = option(False, "divide by the standard deviation, not the root mean square")
    bias_correction = option(False, "correct v and g for their start")
    eps_at = Rooted.eps_at.replaced(choices=("outside", "inside"))
    decay = Rule.decay.replaced(default="l2")
    dialects = {
        "torch": preset(),
        "optax": preset(alpha=0.9, eps_at="inside", lr_at="inside"),
        "mlx": preset(),
        "keras": preset(
            lr=1e-3, alpha=0.9, eps=1e-7, eps_at="inside", lr_at="inside", decay="decoupled"
        ),
        "paper": preset("no eps", of="slide 29", alpha=0.9, eps=0.0),
        "mlx-0.0": preset(),
        "jax-example": preset(
            of="jax.example_libraries.optimizers.rmsprop and rmsprop_momentum",
            alpha=0.9,
            eps_at="inside",
            lr_at="inside",
        ),
    }

    v = slot("mean of the squared gradient", start="initial_v")
    g = slot("mean of the gradient", only_if="centered")

    def scalars(self, xp, t):
        gathered = self.gathered(xp, self.alpha, t)
        own = {
            "weights": weights(self.alpha),
            "root": self.root(xp, gathered),
            "unbias": 1 / gathered,
        }
        return super().scalars(xp, t) | own

    def direction(self, xp, grad, param, state, s):
        v = ema(state.v, grad * grad, s.weights)
        slots, spread = {"v": v}, v
        if self.centered:
            g = ema(state.g, grad, s.weights)
            apart = v - s.unbias * (g * g)
            slots, spread = {"v": v, "g": g}, xp.where(apart > 0, apart, 0.0)
        step, momentum = self.accelerated(xp, over_root(xp, grad, spread, s.root), state, s)
        return step, slots | momentum
