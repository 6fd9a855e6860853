from samestep.parts.moments import Rooted, over_root
from samestep.parts.momentum import Momentum
from samestep.vocabulary import Rule, hyper, preset, slot


class Adagrad(Rooted, Momentum):
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
    eps = Rooted.eps.replaced(default=1e-10)
    initial_v = hyper(0.0, "v before the first step", unit="gradient^2", ge=0)
    eps_at = Rooted.eps_at.replaced(choices=("outside", "inside"))
    momentum_form = Momentum.momentum_form.replaced(default="mean")
    decay = Rule.decay.replaced(default="l2")
    dialects = {
        "torch": preset(),
        "optax": preset(eps=1e-7, eps_at="inside", initial_v=0.1),
        "mlx": preset(eps=1e-8),
        "keras": preset(lr=1e-3, eps=1e-7, eps_at="inside", initial_v=0.1, decay="decoupled"),
        "paper": preset(of="Figure 1"),
        "mlx-0.0": preset(eps=1e-8),
        "jax-example": preset("no eps", eps=0.0, momentum=0.9),
    }

    v = slot("sum of the squared gradients", start="initial_v")

    def scalars(self, xp, t):
        lr = self.lr / (1 + (t - 1) * self.lr_decay)
        return {"rate": lr, "lr": lr, "root": self.root(xp)} | super().scalars(xp, t)

    def direction(self, xp, grad, param, state, s):
        v = state.v + grad * grad
        step, momentum = self.accelerated(xp, over_root(xp, grad, v, s.root), state, s)
        return step, {"v": v} | momentum
