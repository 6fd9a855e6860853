from samestep.parts import orthogonal, variance
from samestep.parts.matrix import as_matrix
from samestep.parts.orthogonal import factor, orthogonalized, refuse_short
from samestep.parts.variance import reduced, strength
from samestep.vocabulary import Rule, ema, hyper, slot, weights


class MARSMuon(Rule):
    """MARS-M: Muon on gradients from which some of the noise is taken.

        c     = grad + gamma momentum / (1 - momentum) (grad - prev),  and then prev = grad
        c     = c / max(1, ||c|| / clip_norm)
        m     = momentum m + (1 - momentum) c
        param = (1 - lr weight_decay) param - lr 0.2 sqrt(max(outputs, inputs)) NS(m)

    prev and c are as in MARS, NS as in Muon. scale="shape" is MARS-Shampoo.

    Source: Liu, Yuan and Gu, "MARS-M: when variance reduction meets matrices", arXiv 2510.21800,
        Algorithm 3, the approximate form; MARS-Shampoo: Yuan et al., arXiv 2411.10438. prev is 0 at
        the first step, as in the authors' code.
    Agrees with: the authors' mars_m.py, but for its bfloat16; its vectors are AdamW's, which is a
        route here.
    Differs from: theirs and pytorch_optimizer's scale of a convolution kernel, taken from
        outputs and channels there.
    Shapes: two dimensions or more, the outputs first; grad, param and slots are equal.
    """

    needs = "matrix"
    min_ndim, amplifies = 2, orthogonal.amplified(2)  # an error of the norm is one of all c

    lr = hyper(1e-3, "step size, 5 times its RMS", unit="parameter", ge=0)
    momentum = orthogonal.momentum
    gamma, clip_norm = variance.gamma, variance.clip_norm
    scale = orthogonal.scale.replaced(default="match_rms")
    ns_steps, ns_coefficients = orthogonal.ns_steps, orthogonal.ns_coefficients
    ns_beyond, ns_guard = orthogonal.ns_beyond, orthogonal.ns_guard
    ns_dtype = orthogonal.ns_dtype
    weight_decay = Rule.weight_decay.replaced(default=0.1)

    m, prev = slot("mean of c"), variance.prev

    validate = refuse_short

    def scalars(self, xp, t):
        return {"mean": weights(self.momentum), "ahead": strength(self, self.momentum)}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, reduced(xp, grad, state, s), s.mean)
        matrix = as_matrix(xp, m)
        step = factor(self, matrix.shape, param.shape) * orthogonalized(self, xp, matrix)
        return xp.reshape(step, param.shape), {"m": m, "prev": grad}
