from samestep.parts.moments import Moments
from samestep.vocabulary import hyper, preset, sign, slot


class Yogi(Moments):
    """Yogi: Adam whose v moves by at most (1 - beta2) grad^2 in one step.

        m     = beta1 m + (1 - beta1) grad
        v     = v - (1 - beta2) sign(v - grad^2) grad^2
        param = param - lr m / (sqrt(v) + eps)

    Source: Zaheer, Reddi, Sachan, Kale and Kumar, "Adaptive methods for nonconvex optimization",
        NeurIPS 2018, Algorithm 2 (v starts at 1e-6, no correction).
    Agrees with: the paper.
    Differs from: optax.yogi and pytorch_optimizer's, which start m at 1e-6 too and correct both for
        a start at zero that they did not have.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr = hyper(1e-2, "step size", unit="parameter", ge=0)
    eps = Moments.eps.replaced(default=1e-3)
    initial_m = hyper(0.0, "m before the first step", unit="gradient")
    initial_v = hyper(1e-6, "v before the first step", unit="gradient^2", ge=0)
    bias_correction = Moments.bias_correction.replaced(default=False)
    start, amsgrad, v_max = "zero", False, None
    dialects = {
        "optax": preset(bias_correction=True, initial_m=1e-6),
        "paper": preset(),
    }

    m = slot("mean of the gradient", start="initial_m")
    v = slot("decaying bound on the squared gradient", start="initial_v")

    def square(self, xp, grad, m, state, s):
        square = grad * grad
        return state.v - s.beta2[1] * sign(xp, state.v - square) * square
