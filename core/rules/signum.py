from samestep.parts.momentum import Momentum
from samestep.vocabulary import hyper, preset, sign


class Signum(Momentum):
    """Signum: the sign of the momentum.

        m     = momentum m + (1 - momentum) grad
        param = param - lr sign(m)

    Source: Bernstein, Wang, Azizzadenesheli and Anandkumar, "signSGD: compressed optimisation for
        non-convex problems", arXiv 1802.04434, Algorithm 2.
    Agrees with: optax.signum.
    Differs from: nothing known.
    Shapes: grad, param and m are equal, any shape. A NaN stays NaN.
    """

    continuous = False

    lr = hyper(1e-4, "step size: every element moves by as much", unit="parameter", ge=0)
    momentum = Momentum.momentum.replaced(default=0.9)
    dampening, nesterov, momentum_form, lr_at = 0.0, False, "mean", "outside"
    dialects = {
        "optax": preset(),
        "paper": preset(),
    }

    def direction(self, xp, grad, param, state, s):
        step, slots = self.accelerated(xp, grad, state, s)
        return sign(xp, step), slots
