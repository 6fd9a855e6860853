from samestep.parts import momentum as form
from samestep.parts.momentum import accelerated, gains, refuse_momentum
from samestep.vocabulary import Rule, hyper


class SGD(Rule):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead.

        m     = momentum m + (1 - dampening) grad      (m = grad at the first step)
        param = param - lr m                           (nesterov: lr (grad + momentum m))

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
        in deep learning", ICML 2013, in the form that torch.optim.SGD gives it.
    Agrees with: torch.optim.SGD; optax.sgd and mlx.optimizers.SGD without dampening.
    Differs from: torch.optim.SGD where a schedule of momentum is 0: m is the dampened gradient
        then, as in optax; torch leaves its buffer, and so does samestep.torch where momentum is 0
        in a parameter group; mlx.optimizers.SGD with dampening, which starts m at zero and so
        dampens the first gradient too; keras.optimizers.SGD, which keeps lr inside m, as the paper
        does; MLX 0.0, which forgot weight decay where there was no momentum.
    Shapes: grad, param and m are equal, any shape. m exists only with momentum.
    """

    lr = hyper(1e-3, "step size", unit="parameter/gradient", ge=0)
    momentum, dampening, nesterov = form.momentum, form.dampening, form.nesterov
    momentum_start = form.momentum_start.replaced(default="gradient")
    momentum_form, lr_at = form.momentum_form, form.lr_at
    decay = Rule.decay.replaced(default="l2")

    m = form.m

    validate, scalars = refuse_momentum, gains

    def direction(self, xp, grad, param, state, s):
        return accelerated(self, xp, grad, state, s)
