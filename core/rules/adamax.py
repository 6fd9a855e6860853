from samestep.parts import moments
from samestep.parts.moments import SMALLEST, gathered
from samestep.vocabulary import Rule, ema, hyper, option, slot, weights


class Adamax(Rule):
    """Adamax: Adam with the largest decayed gradient in place of the root mean square.

        m     = beta1 m + (1 - beta1) grad
        u     = max(beta2 u, |grad| + eps)
        param = param - lr m / (1 - beta1^t) / u

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980,
        Algorithm 2, with eps against division by zero, which the paper leaves out.
    Agrees with: torch.optim.Adamax; optax.adamax.
    Differs from: keras.optimizers.Adamax and jax.example_libraries, which add eps to u where it is
        read; mlx.optimizers.Adamax, which does so and leaves the correction of m out, so that the
        first step is a tenth as long.
    Shapes: grad, param, m and u are equal, any shape.
    """

    lr = hyper(2e-3, "step size", unit="parameter", ge=0)
    betas = hyper((0.9, 0.999), "decay per step of m and u", unit="1/step", ge=0, lt=1)
    eps = moments.eps
    bias_correction = option(
        True, "correct m for its start at zero", says=moments.bias_correction.says
    )
    eps_at = option(
        "inside",
        "eps is added to |grad| inside the maximum, or to u where it is read",
        choices=("inside", "outside"),
        says={
            "inside": "adds eps = {eps:g} to the gradient's size, inside the maximum",
            "outside": "adds eps = {eps:g} to the divisor, after the maximum",
        },
    )
    decay = Rule.decay.replaced(default="l2")

    m = moments.m
    u = slot("largest gradient, decaying")

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        unbias_m = 1 / gathered(self, xp, beta1, t)
        return {"beta1": weights(beta1), "beta2": beta2, "unbias_m": unbias_m}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        inside = self.eps_at == "inside"
        u = xp.maximum(s.beta2 * state.u, xp.abs(grad) + s.eps if inside else xp.abs(grad))
        divisor = u if inside else u + s.eps
        gone = divisor <= SMALLEST
        step = xp.where(gone, 0.0, s.unbias_m * m / xp.where(gone, 1.0, divisor))
        return step, {"m": m, "u": u}
