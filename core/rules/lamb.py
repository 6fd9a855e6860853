from samestep.parts.layerwise import Layerwise
from samestep.vocabulary import hyper, preset

from .adamw import AdamW


class LAMB(Layerwise, AdamW):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm.

        m, v  = as in Adam;  m_hat, v_hat = corrected for their start at zero
        r     = m_hat / (sqrt(v_hat) + eps) + weight_decay param
        param = param - lr (||param|| / ||r||) r       (the ratio is 1 where a norm is zero)

    ||param|| is clipped to scale_clip, the phi of the paper.

    Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
        arXiv 1904.00962, Algorithm 2 with phi the identity.
    Agrees with: optax.lamb; mlx-optimizers' Lamb; timm's Lamb with always_adapt and without its
        clipping of the global norm.
    Differs from: pytorch_optimizer's Lamb, which corrects m after the ratio (first step 10 times
        as long); holocron's, which corrects nothing, and whose text divides by the norm of
        r + param; keras.optimizers.Lamb, which decays outside the ratio.
    Shapes: grad, param, m and v are equal; the two norms run over the whole parameter.
    """

    lr = hyper(1e-3, "step size, relative to the norm of the parameter", unit="1", ge=0)
    eps = AdamW.eps.replaced(default=1e-6)
    dialects = {
        "optax": preset(),
        "keras": preset(of="keras.optimizers.Lamb", eps=1e-7, decay="decoupled"),
        "paper": preset(),
        "holocron": preset(
            "no bias correction", eps=1e-8, bias_correction=False, scale_clip=(0.0, 10.0)
        ),
    }

    def direction(self, xp, grad, param, state, s):
        direction, slots = super().direction(xp, grad, param, state, s)
        return self.rescaled(xp, direction, param, s), slots
