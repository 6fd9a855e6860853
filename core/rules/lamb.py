from ..vocabulary import Rule, decayed_direction, hyper, norm, option
from .adamw import AdamW


class LAMB(AdamW):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm.

        m, v  = as in Adam;  m_hat, v_hat = corrected for their start at zero
        r     = m_hat / (sqrt(v_hat) + eps) + weight_decay param
        param = param - lr (||param|| / ||r||) r       (the ratio is 1 where a norm is zero)

    Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
        arXiv 1904.00962, Algorithm 2 with phi the identity.
    Agrees with: optax.lamb; mlx-optimizers' Lamb; timm's Lamb with always_adapt and without its
        clipping of the global norm.
    Differs from: pytorch_optimizer's Lamb, which corrects m after the ratio (first step 10 times
        as long); holocron's, which corrects nothing; keras.optimizers.Lamb, which decays outside
        the ratio (here decay="decoupled").
    Shapes: grad, param, m and v are equal; the two norms run over the whole parameter.
    """

    needs = "tensor"
    decays_inside = True

    lr = hyper(1e-3, "step size, relative to the norm of the parameter", unit="1", ge=0)
    eps = hyper(1e-6, "added to the root of v", unit="gradient", ge=0)
    weight_decay = Rule.weight_decay
    decay = option("in_update", "how weight decay enters", choices=Rule.decay.choices)

    def direction(self, xp, grad, param, state, s):
        r, slots = super().direction(xp, grad, param, state, s)
        r = decayed_direction(self.decay, r, param, s)
        size, length = norm(xp, param), norm(xp, r)
        moves = (size > 0) & (length > 0)
        ratio = xp.where(moves, size / xp.where(moves, length, 1.0), 1.0)
        return ratio * r, slots
