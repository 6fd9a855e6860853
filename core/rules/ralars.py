from samestep.parts.layerwise import Layerwise
from samestep.vocabulary import option, preset

from .radam import RAdam


class RaLars(Layerwise, RAdam):
    """RaLars: RAdam's direction, rescaled for every parameter to the parameter's own norm.

        r     = RAdam's direction + weight_decay param
        param = param - lr (||param|| / ||r||) r       (the ratio is 1 where a norm is zero)

    ||param|| is clipped to scale_clip. force_adaptive_momentum takes Adam's direction, in place of
    m_hat, until rho exceeds the threshold.

    Source: Brain's and Howard's combination of RAdam (arXiv 1908.03265) with LARS
        (arXiv 1708.03888), 2019, as holocron.optim.RaLars has it; there is no paper.
    Agrees with: holocron.optim.RaLars.
    Differs from: LARS in the ratio, which has no trust coefficient here.
    Shapes: grad, param, m and v are equal; the two norms run over the whole parameter.
    """

    force_adaptive_momentum = option(False, "Adam's direction until rho exceeds the threshold")
    scale_clip = Layerwise.scale_clip.replaced(default=(0.0, 10.0))
    decay = Layerwise.decay
    dialects = {"holocron": preset()}

    @property
    def below(self):
        return "adam" if self.force_adaptive_momentum else "momentum"

    def direction(self, xp, grad, param, state, s):
        direction, slots = super().direction(xp, grad, param, state, s)
        return self.rescaled(xp, direction, param, s), slots
