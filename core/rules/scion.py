from samestep.parts import oracle, orthogonal
from samestep.parts.oracle import nearest
from samestep.vocabulary import Rule, ema, hyper, slot, weights


class Scion(Rule):
    """Scion: steps as long as a ball allows, in the norm that suits the layer.

        m     = momentum m + (1 - momentum) grad
        param = (1 - lr weight_decay) param - lr radius lmo(m)

    lmo(m) is the point of the ball of radius 1 that is furthest along m. By norm:

        spectral      sqrt(outputs/inputs) NS(m)                    hidden layers
        spectral_max  max(1, sqrt(outputs/inputs)) NS(m)            layers on images
        column        sqrt(outputs) m / ||column||                  embeddings, with layout="io"
        sign          sign(m) / inputs                              the last layer
        row           m / (sqrt(inputs) ||row||)                    the last layer
        rms           m / RMS(m)                                    vectors, always

    A column is what belongs to one input. weight_decay=1 is the constrained form: a param within
    the ball of that radius stays there. 0 is the unconstrained form. A kernel is a matrix of
    (outputs, everything else), but for the spectral norms, which divide by the number of its
    places, too.

    Source: Pethick et al., "Training deep learning models with norm-constrained LMOs",
        arXiv 2502.07529, and the authors' scion.py, in which momentum is 1 - momentum, 1 by
        default, and radius is scale. NS and eps are as there.
    Agrees with: the authors' code and pytorch_optimizer's SCION, but for their bfloat16.
    Differs from: these where column, sign or row is chosen for a kernel, which they do not take.
    Shapes: grad, param and m are equal, the outputs first.
    """

    needs, min_ndim, tells_places = "matrix", 0, True
    amplifies = orthogonal.amplified()

    lr = hyper(1e-3, "step size, in radii", unit="1", ge=0)
    momentum = hyper(0.9, "decay per step of m", unit="1/step", ge=0, lt=1)
    radius = hyper(1.0, "radius of the ball", unit="parameter", gt=0)
    norm, normalized = oracle.norm, oracle.normalized
    eps = hyper(1e-8, "added to the norms of columns, rows and vectors", unit="gradient", ge=0)
    ns_steps, ns_coefficients = orthogonal.ns_steps, orthogonal.ns_coefficients
    ns_beyond, ns_guard = orthogonal.ns_beyond, orthogonal.ns_guard
    ns_dtype, validate = orthogonal.ns_dtype, orthogonal.refuse_short
    weight_decay = Rule.weight_decay.replaced(default=1.0)

    m = slot("mean of the gradient")

    @property
    def continuous(self):
        return self.norm != "sign"

    def scalars(self, xp, t):
        return {"mean": weights(self.momentum), "vanishes": oracle.lost(self.eps)}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.mean)
        return s.radius * nearest(self, xp, m, s), {"m": m}
