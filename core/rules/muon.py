from samestep.parts.matrix import as_matrix, orthogonalize
from samestep.vocabulary import Rule, ema, hyper, option, precision, slot, weights


class Muon(Rule):
    """Muon: orthogonalised momentum: every direction of a matrix moves by the same amount.

        m     = momentum m + (1 - momentum) grad
        look  = momentum m + (1 - momentum) grad             (m itself without nesterov)
        param = (1 - lr weight_decay) param - lr sqrt(max(1, outputs/inputs)) NS(look)

    NS is the Newton-Schulz iteration, its products in ns_dtype. In bfloat16 it loses singular
    values below 1/256 of the largest, and amplifies the rounding: the stated error is for a full
    rank. A convolution kernel counts as a matrix of (outputs, everything else).

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, and
        the authors' muon.py (no paper number).
    Agrees with: mlx.optimizers.Muon without decay; optax.contrib.muon(nesterov=False).
    Differs from: the authors' code and torch.optim.Muon, which iterate in bfloat16, sums
        too; mlx.optimizers.Muon, which decays through the iteration; optax's
        nesterov, which corrects both terms for their start; the authors' and MLX's scale of a
        convolution kernel, taken from kernel height and width there.
    Shapes: two dimensions or more, the outputs first; grad, param and m are equal.
    """

    needs = "matrix"
    min_ndim = 2

    lr = hyper(0.02, "step size, in spectral norm per step", unit="parameter", ge=0)
    momentum = hyper(0.95, "decay per step of m", unit="1/step", ge=0, lt=1)
    nesterov = option(True, "look one step of momentum ahead")
    ns_steps = option(5, "Newton-Schulz iterations", ge=1)
    ns_dtype = precision("dtype of the products in Newton-Schulz", bfloat16=0.05)

    m = slot("mean of the gradient")

    def scalars(self, xp, t):
        return {"weights": weights(self.momentum)}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.weights)
        look = ema(m, grad, s.weights) if self.nesterov else m
        matrix = as_matrix(xp, look)
        outputs, inputs = matrix.shape
        scale = max(1.0, outputs / max(1, inputs)) ** 0.5
        direction = scale * orthogonalize(xp, matrix, self.ns_steps, dtype=self.ns_dtype)
        return xp.reshape(direction, param.shape), {"m": m}
