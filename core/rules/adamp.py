from samestep.parts.matrix import LAYOUTS, as_matrix, from_matrix
from samestep.vocabulary import Rule, at_least, hyper, option, preset

from .adam import Adam


class AdamP(Adam):
    """AdamP: Adam without the part that only makes scale-invariant weights grow.

        u     = m_hat / (sqrt(v_hat) + eps)
        u     = u - <p, u> p,  p = param / ||param||     where |cos(param, grad)| < delta / sqrt(n)
        param = param - lr (u + weight_decay (wd_ratio where projected, else 1) param)

    tried on every output channel of n elements, then on the whole parameter; never on vectors.
    projection="signed" tries the whole parameter alone, of any shape, with the cosine's sign, and
    leaves the decay as it is.

    Source: Heo et al., "AdamP: slowing down the slowdown for momentum optimizers on
        scale-invariant weights", arXiv 2006.08217, Algorithm 2, as in clovaai/AdamP.
    Agrees with: clovaai/AdamP; timm's AdamP.
    Differs from: holocron's, which projects wherever the cosine is negative, vectors too, and whose
        text starts m at the first gradient.
    Shapes: grad, param, m and v are equal. ``layout`` names the output axis.
    """

    needs, decays_inside = "axes", True

    eps = Adam.eps.replaced(ge=None, gt=0)
    delta = hyper(0.1, "largest cosine that is taken for a right angle", unit="1", ge=0)
    wd_ratio = hyper(0.1, "share of the decay where projected", unit="1", ge=0, le=1)
    nesterov = option(False, "look one step of momentum ahead")
    projection = option("channel", "the authors', or holocron's", choices=("channel", "signed"))
    layout = option("oi", "output axis first ('oi') or last ('io')", choices=LAYOUTS)
    decay = Rule.decay.replaced(default="in_update")
    dialects = {
        "paper": preset(),
        "holocron": preset("cosine with sign", projection="signed", decay="l2"),
    }

    def numerator(self, grad, m, s):
        ahead = s.beta1[0] * m + s.beta1[1] * grad if self.nesterov else m
        return s.unbias_m * ahead

    def direction(self, xp, grad, param, state, s):
        u, slots = super().direction(xp, grad, param, state, s)
        signed = self.projection == "signed"
        both = ("whole", self.layout) if param.ndim > 1 else ()
        decays = self.decay == "in_update"
        moved = u + s.weight_decay * param if decays else u
        for layout in ("whole",) if signed else both:  # the last one that fits wins
            p, g, along = (as_matrix(xp, x, layout) for x in (param, grad, u))
            size, cosine = _norm(xp, p), xp.sum(p * g, axis=1, keepdims=True)
            least = 1e-8 if signed else s.eps
            cosine = cosine / (at_least(xp, size, least) * at_least(xp, _norm(xp, g), least))
            fits = xp.max(cosine if signed else xp.abs(cosine)) < s.delta / p.shape[1] ** 0.5
            p = p / (size + s.eps)
            tangent = along - p * xp.sum(p * along, axis=1, keepdims=True)
            tangent = from_matrix(xp, tangent, param.shape, layout)
            share = s.weight_decay if signed else s.weight_decay * s.wd_ratio
            moved = xp.where(fits, tangent + share * param if decays else tangent, moved)
        return moved, slots


def _norm(xp, rows):
    return xp.sqrt(xp.sum(rows * rows, axis=1, keepdims=True))
