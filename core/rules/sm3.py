from samestep.parts.moments import Rooted, over_root
from samestep.parts.momentum import Momentum
from samestep.vocabulary import hyper, per_axis, preset, slot


class SM3(Rooted, Momentum):
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element.

        nu    = min over axes of mu + grad^2
        mu    = for every axis, the maximum of nu along all the others
        m     = momentum m + (1 - momentum) grad / sqrt(nu + eps)      (0 where nu is 0)
        param = param - lr m

    Source: Anil, Gupta, Koren and Singer, "Memory-efficient adaptive optimization",
        arXiv 1901.11150, Algorithm SM3-II, with the momentum of the authors' code.
    Agrees with: jax.example_libraries.optimizers.sm3; pytorch_optimizer's SM3(momentum=0.9).
    Differs from: optax.sm3, which adds eps = 1e-8 inside the root and has one accumulator per
        element for vectors as here; jax.example_libraries, which refuses 0-d parameters.
    Shapes: grad, param and m are equal; mu holds for each axis one array of size 1 along all
        the others, and one of the parameter's own shape below two dimensions.
    """

    needs = "factored"

    lr = hyper(0.1, "step size", unit="parameter", ge=0)
    momentum = Momentum.momentum.replaced(default=0.9)
    eps = hyper(0.0, "added to the root of nu, or under it", unit="gradient", ge=0, typical=1e-8)
    eps_at = Rooted.eps_at.replaced(default="inside", choices=("inside", "outside"))
    momentum_form = Momentum.momentum_form.replaced(default="mean")
    dialects = {
        "optax": preset(eps=1e-8),
        "paper": preset(of="Algorithm SM3-II"),
        "jax-example": preset(),
    }

    mu = slot("per axis, upper bound on the sum of squared gradients", init=per_axis)

    def scalars(self, xp, t):
        return super().scalars(xp, t) | {"root": self.root(xp)}

    def direction(self, xp, grad, param, state, s):
        bound = state.mu[0]
        for other in state.mu[1:]:
            bound = xp.minimum(bound, other)
        nu = bound + grad * grad
        axes = range(param.ndim)
        mu = tuple(_max_beside(xp, nu, axis, axes) for axis, _ in enumerate(state.mu))
        step, momentum = self.accelerated(xp, over_root(xp, grad, nu, s.root), state, s)
        return step, {"mu": mu} | momentum


def _max_beside(xp, nu, axis, axes):
    others = tuple(other for other in axes if other != axis)
    return xp.max(nu, axis=others, keepdims=True) if others else nu
