from samestep.parts import moments
from samestep.parts.moments import corrections, gathered, over_root
from samestep.vocabulary import Rule, ema, hyper


class QHAdam(Rule):
    """QHAdam: Adam with quasi-hyperbolic means, which the newest gradient enters once more.

        m, v  = as in Adam
        m_now = nu1 m_hat + (1 - nu1) grad
        v_now = nu2 v_hat + (1 - nu2) grad^2
        param = (1 - lr weight_decay) param - lr m_now / (sqrt(v_now) + eps)

    With both nus 1 it is Adam; with nu1 = beta1 and nu2 = 1 it looks ahead as NAdam does.

    Source: Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning",
        arXiv 1810.06801; the defaults are those that its authors recommend.
    Agrees with: facebookresearch/qhoptim, whose defaults are those of Adam, with coupled decay.
    Differs from: pytorch_optimizer's QHAdam, which has the weights of its means in float32.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr = moments.lr
    betas = moments.betas.replaced(default=(0.995, 0.999))
    nus = hyper((0.7, 1.0), "weights of m and v", unit="1", ge=0, le=1, typical=(0.7, 0.9))
    eps, eps_root = moments.eps, moments.eps_root
    eps_at, bias_correction = moments.eps_at, moments.bias_correction

    m, v = moments.m, moments.v

    def scalars(self, xp, t):
        found, (nu1, nu2) = corrections(self, xp, t), self.nus
        v = gathered(self, xp, self.betas[1], t)  # by which the root divides all under it
        return found | {"nu1": (nu1 * found["unbias_m"], 1 - nu1), "nu2": (nu2, (1 - nu2) * v)}

    def direction(self, xp, grad, param, state, s):
        square = grad * grad
        m, v = ema(state.m, grad, s.beta1), ema(state.v, square, s.beta2)
        m_now, v_now = ema(m, grad, s.nu1), ema(v, square, s.nu2)
        return over_root(xp, m_now, v_now, s.root), {"m": m, "v": v}
