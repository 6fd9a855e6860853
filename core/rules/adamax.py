from samestep.parts.moments import SMALLEST, Moments
from samestep.vocabulary import Rule, hyper, option, preset, slot


class Adamax(Moments):
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
    bias_correction = option(True, "correct m for its start at zero")
    eps_at = option(
        "inside",
        "eps is added to |grad| inside the maximum, or to u where it is read",
        choices=("inside", "outside"),
    )
    eps_root, start, amsgrad, v, v_max = 0.0, "zero", False, None, None
    decay = Rule.decay.replaced(default="l2")
    dialects = {
        "torch": preset(),
        "optax": preset(of="optax.adamax and adamaxw", decay="in_update"),
        "mlx": preset("no correction", eps_at="outside", bias_correction=False),
        "keras": preset(lr=1e-3, eps=1e-7, eps_at="outside", decay="decoupled"),
        "paper": preset("no eps", of="Algorithm 2", eps=0.0),
        "mlx-0.0": preset("no correction", eps_at="outside", bias_correction=False),
        "jax-example": preset(eps_at="outside"),
    }

    u = slot("largest gradient, decaying")

    def direction(self, xp, grad, param, state, s):
        m = self.mean(xp, grad, state, s)
        inside = self.eps_at == "inside"
        u = xp.maximum(s.beta2[0] * state.u, xp.abs(grad) + s.eps if inside else xp.abs(grad))
        divisor = u if inside else u + s.eps
        gone = divisor <= SMALLEST
        step = xp.where(gone, 0.0, s.unbias_m * m / xp.where(gone, 1.0, divisor))
        return step, {"m": m, "u": u}
