from samestep.parts import distance
from samestep.parts import momentum as form
from samestep.parts.moments import quotient, vanishing
from samestep.parts.roots import cube_root
from samestep.vocabulary import Rule, hyper, slot, sqrt


class MADGRAD(Rule):
    """MADGRAD: dual averaging with momentum, over the cube root of a sum of squares.

        s     = s + lr sqrt(t) grad
        v     = v + lr sqrt(t) grad^2
        z     = p0 - s / (v^(1/3) + eps)
        param = momentum param + (1 - momentum) z

    The cube root is made of square roots and quotients, which round alike in every framework.

    Source: Defazio and Jelassi, "Adaptivity without compromise: a momentumized, adaptive, dual
        averaged gradient method for stochastic optimization", arXiv 2101.11075, Algorithm 1.
    Agrees with: facebookresearch/madgrad where eps is nothing beside lr.
    Differs from: facebookresearch/madgrad, optax.contrib.madgrad and pytorch_optimizer's, which
        add eps to lr.
    Shapes: grad, param and slots are equal, any shape.
    """

    lr = hyper(1e-2, "step size", unit="parameter^(3/2)/gradient^(1/2)", ge=0)
    momentum = form.momentum.replaced(default=0.9, meaning="share of the old parameter")
    eps = hyper(1e-6, "added to the root of v", unit="lr^(1/3) gradient^(2/3)", ge=0)
    decay = Rule.decay.replaced(default="l2")

    s = slot("sum of weighted gradients")
    v = slot("sum of weighted squared gradients")
    p0 = distance.p0

    def scalars(self, xp, t):
        own = {"weight": self.lr * sqrt(xp, t), "vanishes": vanishing(xp, self.eps, self.eps)}
        return own | {"rate": 1.0, "share": 1 - self.momentum}

    def direction(self, xp, grad, param, state, s):
        total, v = state.s + s.weight * grad, state.v + s.weight * (grad * grad)
        step = quotient(xp, total, cube_root(xp, v) + s.eps, s.vanishes)
        return s.share * (param - state.p0 + step), {"s": total, "v": v}
