from samestep.vocabulary import Wrapper, hyper, rms, shrinkage


class ClipUpdate(Wrapper):
    """ClipUpdate: the direction of each parameter clipped to a root mean square.

        u     = the wrapped rule's direction
        param = param - lr u min(1, max_rms / RMS(u)),  with the wrapped rule's decay

    It is the clip of Adafactor, of the step itself, for any rule. The clip of StableAdamW is of
    grad / sqrt(v_hat), which its momentum has not smoothed, and shortens its decay too: that is the
    rule StableAdamW. Decay outside the direction is not clipped. Where the direction has a step
    size in it, as in Adafactor and Prodigy, that is clipped with it.

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost",
        arXiv 1804.04235, section 6.
    Agrees with: optax.clip_by_block_rms after scale_by_adam, and before decay and learning rate.
    Differs from: ClipNorm, which clips the gradient, to a norm.
    Shapes: the mean runs over each parameter by itself; no state of its own.
    """

    reads = "tensor"

    max_rms = hyper(
        1.0,
        "largest root mean square of a direction",
        unit="parameter/lr",
        gt=0,
        typical=0.25,
        infinite=True,
    )

    def redirect(self, xp, direction, grad, s):
        return shrinkage(xp, rms(xp, direction), s.max_rms) * direction
