from samestep.parts import momentum as form
from samestep.vocabulary import Rule, choose, hyper, kept, sign


class Signum(Rule):
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
    momentum = form.momentum.replaced(default=0.9)
    momentum_start = form.momentum_start

    m = form.m

    def scalars(self, xp, t):
        return {"first": form.first(self, t), "fresh": 1 - self.momentum}

    def direction(self, xp, grad, param, state, s):
        if not kept(self, "m", state):
            return sign(xp, grad), {}
        m = s.momentum * state.m + s.fresh * grad
        if self.momentum_start == "gradient":
            m = choose(xp, s.first, grad, m)
        return sign(xp, m), {"m": m}
