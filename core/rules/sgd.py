from samestep.parts.momentum import Momentum
from samestep.vocabulary import Rule, hyper, option, preset


class SGD(Momentum):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead.

        m     = momentum m + (1 - dampening) grad      (m = grad at the first step)
        param = param - lr m                           (nesterov: lr (grad + momentum m))

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
        in deep learning", ICML 2013, in the form that torch.optim.SGD gives it.
    Agrees with: torch.optim.SGD; optax.sgd and mlx.optimizers.SGD without dampening.
    Differs from: mlx.optimizers.SGD with dampening, which starts m at zero and so dampens the
        first gradient too; keras.optimizers.SGD, which keeps lr inside m, as the paper does; MLX
        0.0, which forgot weight decay where there was no momentum.
    Shapes: grad, param and m are equal, any shape. m exists only with momentum.
    """

    lr = hyper(1e-3, "step size", unit="parameter/gradient", ge=0)
    momentum_start = Momentum.momentum_start.replaced(default="gradient")
    bare_decay = option(True, "weight decay applies without momentum too")
    decay = Rule.decay.replaced(default="l2")
    dialects = {
        "torch": preset(),
        "optax": preset(momentum_start="zero"),
        "mlx": preset(momentum_start="zero"),
        "keras": preset(lr=1e-2, momentum_start="zero", lr_at="inside", decay="decoupled"),
        "paper": preset(of="equations 1 and 2", momentum_start="zero", lr_at="inside"),
        "mlx-0.0": preset("decays only with momentum", momentum_start="zero", bare_decay=False),
        "jax-example": preset(
            of="jax.example_libraries.optimizers.sgd, momentum and nesterov", momentum_start="zero"
        ),
    }

    def scalars(self, xp, t):
        ignored = not self.bare_decay and not self._on("momentum")
        return super().scalars(xp, t) | ({"weight_decay": 0.0} if ignored else {})

    def direction(self, xp, grad, param, state, s):
        return self.accelerated(xp, grad, state, s)
