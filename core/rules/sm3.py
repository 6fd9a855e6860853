from ..vocabulary import Rule, ema, hyper, per_axis, slot, weights


class SM3(Rule):
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element.

        nu    = min over axes of mu + grad^2
        mu    = for every axis, the maximum of nu along all the others
        m     = momentum m + (1 - momentum) grad / sqrt(nu)      (0 where nu is 0)
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
    momentum = hyper(0.9, "decay per step of m", unit="1/step", ge=0, lt=1)

    mu = slot("per axis, upper bound on the sum of squared gradients", init=per_axis)
    m = slot("mean of the scaled gradient", only_if="momentum")

    def scalars(self, xp, t):
        return {"weights": weights(self.momentum)}

    def direction(self, xp, grad, param, state, s):
        bound = state.mu[0]
        for other in state.mu[1:]:
            bound = xp.minimum(bound, other)
        nu = bound + grad * grad
        axes = range(param.ndim)
        mu = tuple(_max_beside(xp, nu, axis, axes) for axis, _ in enumerate(state.mu))
        scaled = grad / xp.where(nu == 0, 1.0, xp.sqrt(nu))
        if not hasattr(state, "m"):
            return scaled, {"mu": mu}
        m = ema(state.m, scaled, s.weights)
        return m, {"mu": mu, "m": m}


def _max_beside(xp, nu, axis, axes):
    others = tuple(other for other in axes if other != axis)
    return xp.max(nu, axis=others, keepdims=True) if others else nu
