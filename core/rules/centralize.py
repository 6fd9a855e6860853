from samestep.parts.matrix import LAYOUTS
from samestep.parts.units import inputs
from samestep.vocabulary import Wrapper, option


class Centralize(Wrapper):
    """Centralize: the gradient of every output's weights less its mean.

        grad = grad - mean of grad over the inputs,  and the wrapped rule's step with it

    Vectors and scalars do not change. The mean is taken before ``maximize`` and before coupled
    weight decay.

    Source: Yong, Huang, Hua and Zhang, "Gradient centralization: a new optimization technique for
        deep neural networks", arXiv 2004.01461, equation 1.
    Agrees with: the authors' GC on all layers; optax.centralize, which takes the first axis for the
        output's ("oi") whatever the layout of the kernels (that of Flax is "io").
    Differs from: the authors' GC on convolutions only, which is a ``route``.
    Shapes: grad keeps its shape; ``center_layout`` names the output axis; no state of its own.
    """

    reads = "matrix"  # as in a product, an element has the rounding errors of others

    center_layout = option("oi", "output axis first ('oi') or last ('io')", choices=LAYOUTS)

    def prepare(self, xp, grad, param, state, s):
        if grad.ndim < 2:
            return grad
        return grad - xp.mean(grad, axis=inputs(grad, self.center_layout), keepdims=True)
