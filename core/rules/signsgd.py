from samestep.vocabulary import Rule, hyper, sign


class SignSGD(Rule):
    """signSGD: the sign of the gradient.

        param = param - lr sign(grad)

    Source: Bernstein, Wang, Azizzadenesheli and Anandkumar, "signSGD: compressed optimisation for
        non-convex problems", arXiv 1802.04434, Algorithm 1.
    Agrees with: optax.sign_sgd.
    Differs from: nothing known.
    Shapes: grad and param are equal, any shape; there is no state. A NaN stays NaN.
    """

    continuous = False

    lr = hyper(1e-4, "step size: every element moves by as much", unit="parameter", ge=0)

    def direction(self, xp, grad, param, state, s):
        return sign(xp, grad), {}
