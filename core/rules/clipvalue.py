from samestep.vocabulary import Wrapper, hyper


class ClipValue(Wrapper):
    """ClipValue: every element of the gradient no larger than a value.

        grad = min(max(grad, -max_value), max_value),  and the wrapped rule's step with it

    The gradient is clipped before ``maximize`` and before coupled weight decay.
    NaN stays NaN.

    Source: Graves, "Generating sequences with recurrent neural networks", arXiv 1308.0850, who
        clips derivatives so.
    Agrees with: torch.nn.utils.clip_grad_value_; optax.clip; Keras' clipvalue.
    Differs from: ClipNorm and ClipGlobalNorm, which keep the direction of the gradient.
    Shapes: grad keeps its shape; no state of its own.
    """

    max_value = hyper(
        1.0, "largest absolute value", unit="gradient", gt=0, typical=0.01, infinite=True
    )

    def prepare(self, xp, grad, param, state, s):
        return xp.clip(grad, -s.max_value, s.max_value)
