from samestep.parts import moments, momentum
from samestep.parts.matrix import projected, views
from samestep.parts.moments import SMALLEST, corrections, largest, over_root
from samestep.vocabulary import Rule, choose, ema, hyper


class AdamP(Rule):
    """AdamP: Adam without the part that only makes scale-invariant weights grow.

        m, v  = as in Adam;  u = m_hat / (sqrt(v_hat) + eps)
        u     = u - <p, u> p,  p = param / ||param||     where |cos(param, grad)| < delta / sqrt(n)
        param = param - lr (u + weight_decay (wd_ratio where projected, else 1) param)

    tried on every output channel of n elements, then on the whole parameter; never on vectors.

    Source: Heo et al., "AdamP: slowing down the slowdown for momentum optimizers on
        scale-invariant weights", arXiv 2006.08217, Algorithm 2, as in clovaai/AdamP.
    Agrees with: clovaai/AdamP; timm's AdamP.
    Differs from: holocron's, which projects wherever the cosine is negative, vectors too, and whose
        text starts m at the first gradient.
    Shapes: grad, param, m and v are equal, the outputs first.
    """

    needs, decays_inside = "axes", True

    lr, betas = moments.lr, moments.betas
    eps = moments.eps.replaced(ge=None, gt=0)
    delta = hyper(0.1, "largest cosine that is taken for a right angle", unit="1", ge=0)
    wd_ratio = hyper(0.1, "share of the decay where projected", unit="1", ge=0, le=1)
    nesterov = momentum.nesterov
    eps_root, eps_at = moments.eps_root, moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad
    decay = Rule.decay.replaced(default="in_update")

    m, v, v_max = moments.m, moments.v, moments.v_max

    def scalars(self, xp, t):
        least = choose(xp, self.eps < SMALLEST, SMALLEST, self.eps)  # no 0 in float32
        return corrections(self, xp, t) | {"least": least}

    def direction(self, xp, grad, param, state, s):
        m, v = ema(state.m, grad, s.beta1), ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        look = ema(m, grad, s.beta1) if self.nesterov else m
        u = over_root(xp, s.unbias_m * look, divisor, s.root)
        decays = self.decay == "in_update"
        moved = u + s.weight_decay * param if decays else u
        for whole in views(param):  # the last that fits wins
            fits, tangent = projected(xp, u, param, grad, whole, s)
            share = s.weight_decay * s.wd_ratio
            moved = xp.where(fits, tangent + share * param if decays else tangent, moved)
        return moved, {"m": m, "v": v} | v_max
