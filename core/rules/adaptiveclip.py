from samestep.parts.units import unit_norm
from samestep.vocabulary import Wrapper, at_least, hyper, shrinkage


class AdaptiveClip(Wrapper):
    """AdaptiveClip: the gradient of every unit no longer than a fraction of the unit's weights.

        most = clipping max(||unit of param||, min_norm)
        grad = grad min(1, most / ||unit of grad||),  and the wrapped rule's step with it

    A unit is what belongs to one output; vectors and scalars are one unit as a whole. The gradient
    is clipped as it is given, before ``maximize`` and before coupled weight decay. The paper leaves
    the last layer out: ``route`` it to the rule alone.

    Source: Brock, De, Smith and Simonyan, "High-performance large-scale image recognition without
        normalization", arXiv 2102.06171, equation 3.
    Agrees with: timm's adaptive_clip_grad; the authors' code and optax.adaptive_grad_clip with
        layout="io", for kernels of two and of four dimensions or more.
    Differs from: the authors' and optax's for three dimensions, of which they take the first alone
        as inputs, and for one that is a vector but for axes of one element, which they take as one
        unit; all three where clipping min_norm is below 1e-6, the least norm they divide by.
    Shapes: grad keeps its shape, the outputs first; no state of its own.
    """

    reads = "axes"

    clipping = hyper(
        0.01, "largest norm of a gradient, in norms of its unit", unit="gradient/parameter", gt=0
    )
    min_norm = hyper(1e-3, "least norm that a unit counts with", unit="parameter", gt=0)

    def prepare(self, xp, grad, param, state, s):
        size = at_least(xp, unit_norm(xp, param), s.min_norm)
        return shrinkage(xp, unit_norm(xp, grad), s.clipping * size) * grad
