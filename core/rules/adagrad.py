from samestep.parts import moments
from samestep.parts import momentum as form
from samestep.parts.moments import over_root, root
from samestep.parts.momentum import accelerated, gains, refuse_momentum
from samestep.vocabulary import Rule, hyper, slot


class Adagrad(Rule):
    """Adagrad: the gradient in units of the root of all its squares so far.

        v     = v + grad^2
        param = param - lr / (1 + (t - 1) lr_decay) grad / (sqrt(v) + eps)

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods", JMLR 12, 2011, Figure 1.
    Agrees with: torch.optim.Adagrad; mlx.optimizers.Adagrad.
    Differs from: optax.adagrad and keras's, which start v at 0.1 and add eps under the root.
    Shapes: grad, param and every slot are equal, any shape. A quotient 0/0 counts as 0.
    """

    lr = hyper(1e-2, "step size", unit="parameter", ge=0)
    lr_decay = hyper(0.0, "lr is divided by 1 + (t - 1) lr_decay", unit="1/step", ge=0, typical=0.1)
    eps = moments.eps.replaced(default=1e-10)
    initial_v = hyper(0.0, "v before the first step", unit="gradient^2", ge=0)
    momentum, dampening, nesterov = form.momentum, form.dampening, form.nesterov
    eps_root, eps_at = moments.eps_root, moments.eps_at.replaced(choices=("outside", "inside"))
    momentum_form = form.momentum_form.replaced(default="mean")
    momentum_start, lr_at = form.momentum_start, form.lr_at
    decay = Rule.decay.replaced(default="l2")

    m = form.m
    v = slot("sum of the squared gradients", start="initial_v")

    validate = refuse_momentum

    def scalars(self, xp, t):
        lr = self.lr / (1 + (t - 1) * self.lr_decay)
        return {"rate": lr, "lr": lr, "root": root(self, xp)} | gains(self, xp, t)

    def direction(self, xp, grad, param, state, s):
        v = state.v + grad * grad
        step, momentum = accelerated(self, xp, over_root(xp, grad, v, s.root), state, s)
        return step, {"v": v} | momentum
