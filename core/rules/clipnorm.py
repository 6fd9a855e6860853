from samestep.vocabulary import Wrapper, hyper, norm, shrinkage


class ClipNorm(Wrapper):
    """ClipNorm: each parameter's gradient clipped to a norm.

        grad = grad min(1, clip_norm / ||grad||),  and the wrapped rule's step with it

    The gradient is clipped before ``maximize`` and before coupled weight decay.
    ClipGlobalNorm has one norm over all parameters.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
        networks", arXiv 1211.5063, Algorithm 1, for one parameter at a time.
    Agrees with: tf.clip_by_norm; Keras' clipnorm.
    Differs from: torch.nn.utils.clip_grad_norm_ on a single parameter, which adds 1e-6 to the norm;
        optax.clip_by_block_rms, whose limit is one of the root mean square.
    Shapes: grad keeps its shape; no state of its own.
    """

    reads, amplifies = "tensor", 2  # an error of the norm enters a mean of squares twice

    clip_norm = hyper(
        1.0, "largest norm of a gradient", unit="gradient", gt=0, typical=0.1, infinite=True
    )

    def prepare(self, xp, grad, param, state, s):
        return shrinkage(xp, norm(xp, grad), s.clip_norm) * grad
