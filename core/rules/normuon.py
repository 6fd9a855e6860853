from samestep.parts import orthogonal
from samestep.parts.matrix import as_matrix
from samestep.parts.orthogonal import (
    factor,
    lines,
    looked_ahead,
    mean_along,
    normalized,
    orthogonalized,
    rescaled,
)
from samestep.vocabulary import Rule, ema, hyper, slot


class NorMuon(Rule):
    """NorMuon: Muon whose outputs move by the same amount, as far as their mean square tells.

        m, NS = as in Muon;  O = NS(look)
        v     = beta2 v + (1 - beta2) mean of O^2 over the inputs
        u     = O / (sqrt(v) + eps);  u = u ||O|| / (||u|| + eps)
        param = (1 - lr weight_decay) param - lr sqrt(max(1, outputs/inputs)) u

    v is not corrected for its start: that is a factor, which the length takes out.

    Source: Li et al., "NorMuon: making Muon more efficient and scalable", arXiv 2510.05491, as in
        the authors' normuon.py. In Algorithm 1 u has the length 0.2 sqrt(outputs inputs), which is
        norm_to="rank" with scale="match_rms".
    Agrees with: the authors' code and pytorch_optimizer's, but for their bfloat16.
    Differs from: modded-nanogpt's and Megatron's, which keep v along the longer side.
    Shapes: two dimensions or more, the outputs first; grad, param and m are equal.
    """

    needs = "matrix"
    min_ndim, amplifies = 2, orthogonal.amplified(40)  # by five iterations, in v

    lr = hyper(0.02, "step size, in spectral norm per step", unit="parameter", ge=0)
    momentum, nesterov = orthogonal.momentum, orthogonal.nesterov
    beta2 = hyper(0.95, "decay per step of v", unit="1/step", ge=0, lt=1)
    eps = hyper(1e-10, "added to sqrt(v) and to the length", unit="1", gt=0)
    momentum_form, scale = orthogonal.momentum_form, orthogonal.scale
    per, norm_to = orthogonal.per, orthogonal.norm_to
    ns_steps, ns_coefficients = orthogonal.ns_steps, orthogonal.ns_coefficients
    ns_beyond, ns_guard = orthogonal.ns_beyond, orthogonal.ns_guard
    ns_dtype, validate = orthogonal.ns_dtype, orthogonal.refuse_short
    scalars = orthogonal.adaptive_gains

    m = slot("momentum of the gradient")
    v = slot("mean square of the orthogonalised momentum", init=lines)

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.weights)
        ready = orthogonalized(self, xp, as_matrix(xp, looked_ahead(self, m, grad, s)))
        v = ema(as_matrix(xp, state.v), mean_along(self, xp, ready * ready), s.square)
        step = rescaled(self, xp, ready, normalized(xp, ready, v, s), s)
        step = factor(self, step.shape, param.shape) * step
        return xp.reshape(step, param.shape), {"m": m, "v": xp.reshape(v, state.v.shape)}
