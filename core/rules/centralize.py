from samestep.parts.units import inputs
from samestep.vocabulary import Wrapper


class Centralize(Wrapper):
    """Centralize: the gradient of every output's weights less its mean.

        grad = grad - mean of grad over the inputs,  and the wrapped rule's step with it

    Vectors and scalars do not change. The mean is taken before ``maximize`` and before coupled
    weight decay.

    Source: Yong, Huang, Hua and Zhang, "Gradient centralization: a new optimization technique for
        deep neural networks", arXiv 2004.01461, equation 1.
    Agrees with: the authors' GC on all layers; optax.centralize, which takes the first axis for the
        output's ("oi") whatever the layout of the kernels (that of Flax is "io"), as like="optax".
    Differs from: the authors' GC on convolutions only, which is a ``route``.
    Shapes: grad keeps its shape, the outputs first; no state of its own.
    """

    reads = "matrix"  # as in a product, an element has the rounding errors of others

    def prepare(self, xp, grad, param, state, s):
        if grad.ndim < 2:
            return grad
        return grad - xp.mean(grad, axis=inputs(grad), keepdims=True)
