from samestep.parts import layerwise
from samestep.parts import momentum as form
from samestep.parts.momentum import accelerated, gains, refuse_momentum
from samestep.vocabulary import Rule, decayed_direction, decayed_parameter, hyper, norm


class LARS(Rule):
    """LARS: momentum whose steps are, for every parameter, a fraction of its own norm.

        ratio = trust_coefficient ||param|| / (||grad|| + weight_decay ||param|| + eps)
        m     = momentum m + lr ratio (grad + weight_decay param)
        param = param - m

    ||param|| is clipped to scale_clip; where it is then zero, or the divisor is, the ratio is 1.

    Source: You, Gitman and Ginsburg, "Large batch training of convolutional networks",
        arXiv 1708.03888, Algorithm 1 and equation 6.
    Agrees with: optax.lars with decay="l2", whose divisor is ||grad + weight_decay param||.
    Differs from: timm's and pytorch_optimizer's, which keep lr outside m; holocron's, which has no
        trust coefficient (its steps are 1,000 times as long), applies the ratio after the momentum
        and never uses scale_clip.
    Shapes: grad, param and m are equal; the two norms run over the whole parameter.
    """

    needs, decays_inside = "tensor", True

    lr = hyper(1.0, "step size, in units of the parameter's norm", unit="1/trust_coefficient", ge=0)
    momentum = form.momentum.replaced(default=0.9)
    trust_coefficient = hyper(1e-3, "norm of a step over that of the parameter", unit="1", gt=0)
    eps = hyper(0.0, "added to the divisor of the ratio", unit="gradient", ge=0, typical=1e-8)
    scale_clip = layerwise.scale_clip
    dampening, nesterov = form.dampening, form.nesterov
    momentum_form, momentum_start = form.momentum_form, form.momentum_start
    lr_at = form.lr_at.replaced(default="inside")
    decay = Rule.decay.replaced(default="in_update")

    m = form.m

    validate, scalars = refuse_momentum, gains

    def direction(self, xp, grad, param, state, s):
        length = norm(xp, decayed_parameter(param, s))
        size = xp.clip(length, s.scale_clip[0], s.scale_clip[1])
        total = decayed_direction(self.decay, norm(xp, grad), length, s)
        moves, divisor = (size > 0) & (total > 0), total + s.eps
        ratio = xp.where(moves, s.trust_coefficient * size / xp.where(moves, divisor, 1.0), 1.0)
        total = decayed_direction(self.decay, grad, param, s)
        return accelerated(self, xp, ratio * total, state, s)
