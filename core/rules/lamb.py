from samestep.parts import layerwise, moments
from samestep.parts.layerwise import rescaled
from samestep.parts.moments import corrections, largest, over_root
from samestep.vocabulary import Rule, ema, hyper


class LAMB(Rule):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm.

        m, v  = as in Adam;  m_hat, v_hat = corrected for their start at zero
        r     = m_hat / (sqrt(v_hat) + eps) + weight_decay param
        param = param - lr (phi(||param||) / ||r||) r       (phi clips to scale_clip)

    Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
        arXiv 1904.00962, Algorithm 2 with phi the identity.
    Agrees with: optax.lamb; mlx-optimizers' Lamb; timm's with always_adapt, without its clipping.
    Differs from: pytorch_optimizer's Lamb, which corrects m after the ratio (first step 10 times
        as long); holocron's, which corrects nothing; keras's, which decays outside the ratio.
    Shapes: grad, param, m and v are equal; the two norms run over the whole parameter.
    """

    needs, decays_inside = "tensor", True

    lr = hyper(1e-3, "step size, relative to the norm of the parameter", unit="1", ge=0)
    betas = moments.betas
    eps = moments.eps.replaced(default=1e-6)
    eps_root, eps_at = moments.eps_root, moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad
    scale_clip = layerwise.scale_clip
    decay = Rule.decay.replaced(default="in_update")

    m, v, v_max = moments.m, moments.v, moments.v_max

    scalars = corrections

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        r = over_root(xp, s.unbias_m * m, divisor, s.root)
        return rescaled(self, xp, r, param, s), {"m": m, "v": v} | v_max
