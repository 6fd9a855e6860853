from samestep.vocabulary import Wrapper, at_least, count, option, same_sign


class Cautious(Wrapper):
    """Cautious: no element moves against the sign of its gradient; the others move further.

        mask  = 1 where the wrapped rule's direction and the gradient have one sign, else 0
        param = param - lr direction mask / max(mean(mask), 1e-3),  with the wrapped rule's decay

    Weight decay outside the direction is not masked. The gradient is the wrapped rule's: after
    ``maximize``, coupled decay and the wrappers around it.
    rescale="count" divides by (sum(mask) + 1) / elements instead.

    Source: Liang, Chen, Liu and Liu, "Cautious optimizers: improving training with one line of
        code", arXiv 2411.16085, Algorithm 1, as in the authors' c_adamw.py.
    Agrees with: timm's caution=True; rescale="count": the authors' first version;
        pytorch_optimizer's cautious=True.
    Differs from: Algorithm 1, which adds an eps to the mean; rules that decay inside their
        direction (LAMB, Prodigy), of which timm masks the step before its decay.
    Shapes: the mean runs over each parameter by itself; no state of its own.
    """

    reads = "tensor"
    continuous = False

    rescale = option(
        "mean",
        "how far the rest moves: over the mean of the mask, or a count",
        choices=("mean", "count"),
    )

    def redirect(self, xp, direction, grad, s):
        mask = xp.where(same_sign(xp, direction, grad), xp.ones_like(grad), 0.0)
        kept, elements = xp.sum(mask), count(xp, mask)
        if self.rescale == "count":
            return elements / (kept + 1) * mask * direction
        return mask / at_least(xp, kept / elements, 1e-3) * direction
