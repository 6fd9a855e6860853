from samestep.parts.moments import Moments
from samestep.vocabulary import Rule, ema, hyper, option, preset

from .radam import RAdam


class AdaBelief(RAdam):
    """AdaBelief: Adam that divides by the spread of the gradient around its mean.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) (grad - m)^2 + eps_root
        param = param - lr m_hat / (sqrt(v_hat) + eps)       (rectify: as in RAdam)

    Source: Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed
        gradients", arXiv 2010.07468, Algorithm 2 (one eps for both, 1e-16 in the authors' code).
    Agrees with: optax.adabelief; adabelief-pytorch with rectify=False.
    Differs from: adabelief-pytorch and timm, which rectify by default; holocron's, which adds
        nothing to v and couples the decay; labml's, whose constructor passes its arguments one
        place on, so that it always takes the largest v and stands still until it rectifies.
    Shapes: grad, param, m and v are equal, any shape.
    """

    eps = RAdam.eps.replaced(default=1e-16)
    eps_root = hyper(1e-16, "added to v at every step", unit="gradient^2", ge=0)
    keep_eps = option(True, "what is added to v stays there, or is added where v is read")
    rectify = option(False, "rectify as RAdam does")
    start = "zero"
    decay = Rule.decay
    dialects = {
        "optax": preset(),
        "paper": preset(),
        "labml": preset(
            "amsgrad always, no step until rectified",
            keep_eps=False,
            amsgrad=True,
            rectify=True,
            threshold=5.0,
            below="skip",
        ),
        "holocron": preset(eps=1e-8, eps_root=0.0, decay="l2"),
    }

    def root(self, xp, gathered=1.0):
        found = self._root(xp, gathered, 0.0)
        under = self.eps_root + found.get("under", 0.0)
        return found if self.keep_eps else found | {"under": under}

    def square(self, xp, grad, m, state, s):
        apart = grad - m
        v = ema(state.v, apart * apart, s.beta2)
        return v + s.eps_root if self.keep_eps else v

    def scalars(self, xp, t):
        return RAdam.scalars(self, xp, t) if self.rectify else Moments.scalars(self, xp, t)

    def divided(self, xp, grad, m, v, state, s):
        return (RAdam if self.rectify else Moments).divided(self, xp, grad, m, v, state, s)
