from samestep.parts import moments
from samestep.parts import momentum as form
from samestep.parts.factored import largest_by_axis, smallest
from samestep.parts.moments import over_root, root
from samestep.parts.momentum import accelerated, gains, refuse_momentum
from samestep.vocabulary import Rule, hyper, per_axis, slot


class SM3(Rule):
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

    needs, axes_alike = "factored", True

    lr = hyper(0.1, "step size", unit="parameter", ge=0)
    momentum = form.momentum.replaced(default=0.9)
    eps = hyper(0.0, "added to the root of nu, or under it", unit="gradient", ge=0, typical=1e-8)
    dampening, eps_root = form.dampening, moments.eps_root
    eps_at = moments.eps_at.replaced(default="inside", choices=("inside", "outside"))
    momentum_form = form.momentum_form.replaced(default="mean")
    nesterov, momentum_start, lr_at = form.nesterov, form.momentum_start, form.lr_at

    m = form.m
    mu = slot("per axis, upper bound on the sum of squared gradients", init=per_axis)

    validate = refuse_momentum

    def scalars(self, xp, t):
        return gains(self, xp, t) | {"root": root(self, xp)}

    def direction(self, xp, grad, param, state, s):
        nu = smallest(xp, state.mu) + grad * grad
        mu = tuple(largest_by_axis(xp, nu, axis) for axis, _ in enumerate(state.mu))
        step, m = accelerated(self, xp, over_root(xp, grad, nu, s.root), state, s)
        return step, {"mu": mu} | m
