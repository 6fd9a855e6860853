from samestep.parts import orthogonal
from samestep.parts.matrix import as_matrix
from samestep.parts.orthogonal import factor, gains, looked_ahead, orthogonalized, refuse_short
from samestep.vocabulary import Rule, ema, hyper, slot


class Muon(Rule):
    """Muon: orthogonalised momentum: every direction of a matrix moves by the same amount.

        m     = momentum m + (1 - momentum) grad
        look  = momentum m + (1 - momentum) grad             (m itself without nesterov)
        param = (1 - lr weight_decay) param - lr sqrt(max(1, outputs/inputs)) NS(look)

    NS is the Newton-Schulz iteration, its products in ns_dtype. In bfloat16 it loses singular
    values below 1/256 of the largest, and amplifies the rounding: the stated error is for a full
    rank and jordan. A convolution kernel counts as a matrix of (outputs, everything else).

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, and
        the authors' muon.py (no paper number). scale="match_rms": Liu et al. (Moonlight), arXiv
        2502.16982; "unit_rms": Pethick et al. (Scion), arXiv 2502.07529.
    Agrees with: the libraries of like, but for their rounding: most iterate in bfloat16.
    Differs from: the authors' and MLX's scale of a convolution kernel, taken from kernel height
        and width there (like has it).
    Shapes: two dimensions or more, the outputs first; grad, param and m are equal.
    """

    needs = "matrix"
    min_ndim, amplifies = 2, orthogonal.amplified()

    lr = hyper(0.02, "step size, in spectral norm per step", unit="parameter", ge=0)
    momentum, nesterov = orthogonal.momentum, orthogonal.nesterov
    momentum_form, scale = orthogonal.momentum_form, orthogonal.scale
    ns_steps, ns_coefficients = orthogonal.ns_steps, orthogonal.ns_coefficients
    ns_beyond, ns_guard = orthogonal.ns_beyond, orthogonal.ns_guard
    ns_dtype = orthogonal.ns_dtype

    m = slot("momentum of the gradient")

    validate, scalars = refuse_short, gains

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.weights)
        matrix = as_matrix(xp, looked_ahead(self, m, grad, s))
        scale = factor(self, matrix.shape, param.shape)
        step = scale * orthogonalized(self, xp, matrix)
        return xp.reshape(step, param.shape), {"m": m}
