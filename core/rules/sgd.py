from ..vocabulary import Rule, choose, hyper, option, slot


class SGD(Rule):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead.

        m     = momentum m + (1 - dampening) grad      (m = grad at the first step)
        param = param - lr m                           (nesterov: lr (grad + momentum m))

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
        in deep learning", ICML 2013, in the form that torch.optim.SGD gives it.
    Agrees with: torch.optim.SGD; optax.sgd and mlx.optimizers.SGD without dampening.
    Differs from: mlx.optimizers.SGD with dampening, which starts m at zero and so dampens the
        first gradient too; keras.optimizers.SGD, which keeps lr inside m.
    Shapes: grad, param and m are equal, any shape. m exists only with momentum.
    """

    lr = hyper(1e-3, "step size", unit="parameter/gradient", ge=0)
    momentum = hyper(0.0, "decay per step of m", unit="1/step", ge=0, lt=1, typical=0.9)
    dampening = hyper(0.0, "part of the gradient kept out of m", unit="1", ge=0, le=1)
    nesterov = option(False, "step along grad + momentum m")
    decay = option("l2", "how weight decay enters", choices=Rule.decay.choices)

    m = slot("momentum: decaying sum of gradients", only_if="momentum")

    def validate(self):
        if self.nesterov and not (self._on("momentum") and self.dampening == 0):
            raise ValueError(
                f"SGD(nesterov=True, momentum={self.momentum!r}, dampening={self.dampening!r}): "
                "nesterov needs momentum > 0 and dampening = 0"
            )

    def scalars(self, xp, t):
        return {"first": t == 1, "fresh": 1 - self.dampening}

    def direction(self, xp, grad, param, state, s):
        if not hasattr(state, "m"):
            return grad, {}
        m = choose(xp, s.first, grad, s.momentum * state.m + s.fresh * grad)
        return (grad + s.momentum * m if self.nesterov else m), {"m": m}
