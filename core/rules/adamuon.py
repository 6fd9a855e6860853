from samestep.parts import orthogonal
from samestep.parts.matrix import as_matrix
from samestep.parts.orthogonal import (
    adaptive_gains,
    factor,
    looked_ahead,
    normalized,
    orthogonalized,
    rescaled,
)
from samestep.vocabulary import Rule, debias, ema, hyper, option, sign, slot


class AdaMuon(Rule):
    """AdaMuon: Muon on the signs of its momentum, each element divided by its mean square.

        m     = as in Muon;  O = NS(sign(look))                    (NS(look) without signs)
        v     = beta2 v + (1 - beta2) O^2
        u     = O / (sqrt(v) + eps);  u = u sqrt(min(outputs, inputs)) / (||u|| + eps)
        param = (1 - lr weight_decay) param - lr 0.2 sqrt(max(outputs, inputs)) u

    Source: Si, Zhang and Shen, "AdaMuon: adaptive Muon optimizer", arXiv 2507.11005, as in the
        authors' adamuon.py, whose beta2 is its momentum.
    Agrees with: the authors' code, but for its bfloat16.
    Differs from: pytorch_optimizer's and Megatron's, which orthogonalise the momentum itself; the
        first corrects v for its start, the second leaves u as long as it is.
    Shapes: two dimensions or more, the outputs first; grad, param, m and v are equal.
    """

    needs, continuous = "matrix", False
    min_ndim, amplifies = 2, orthogonal.amplified(40)  # by five iterations, in v

    lr = hyper(0.02, "step size, 5 times its RMS", unit="parameter", ge=0)
    momentum, nesterov = orthogonal.momentum, orthogonal.nesterov
    beta2 = hyper(0.95, "decay per step of v", unit="1/step", ge=0, lt=1)
    eps = hyper(1e-8, "added to sqrt(v) and to the length", unit="1", gt=0)
    signs = option(True, "orthogonalise the signs of the momentum, or itself")
    bias_correction = option(False, "divide v by 1 - beta2^t")
    momentum_form = orthogonal.momentum_form
    scale = orthogonal.scale.replaced(default="match_rms")
    norm_to = orthogonal.norm_to.replaced(default="rank")
    ns_steps, ns_coefficients = orthogonal.ns_steps, orthogonal.ns_coefficients
    ns_beyond, ns_guard = orthogonal.ns_beyond, orthogonal.ns_guard
    ns_dtype, validate = orthogonal.ns_dtype, orthogonal.refuse_short

    m, v = slot("momentum of the gradient"), slot("mean square of the orthogonalised momentum")

    def scalars(self, xp, t):
        root = 1 / debias(xp, self.beta2, t) if self.bias_correction else 1.0
        return {**adaptive_gains(self, xp, t), "unbias_v": root}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.weights)
        look = as_matrix(xp, looked_ahead(self, m, grad, s))
        ready = orthogonalized(self, xp, sign(xp, look) if self.signs else look)
        v = ema(as_matrix(xp, state.v), ready * ready, s.square)
        step = rescaled(self, xp, ready, normalized(xp, ready, s.unbias_v * v, s), s)
        step = factor(self, step.shape, param.shape) * step
        return xp.reshape(step, param.shape), {"m": m, "v": xp.reshape(v, param.shape)}
