from samestep.parts import averaged as form
from samestep.parts import moments
from samestep.parts.averaged import averaged, between, lagging
from samestep.parts.moments import corrections, largest, over_root
from samestep.vocabulary import Rule, ema, hyper, weights


class GPAAdamW(Rule):
    """GPA-AdamW: the gradient is taken between AdamW's iterate and a decaying average of it.

        m, v  = as in Adam
        step  = -lr m_hat / (sqrt(v_hat) + eps), and the decay of param
        param = mu_x param + (1 - mu_x) z + (1 - mu_y mu_x) step
        z     = z + step

    This is the recursion of Schedule-Free with a fixed share 1 - mu_x, and with momentum in the
    step. The model is evaluated at x = param + (1 - 1 / mu_y) (z - param), which
    ``samestep.averaged`` and ``eval()`` of torch give.

    Source: "Smoothing DiLoCo with primal averaging for faster training of LLMs",
        arXiv 2512.17131, with numbers and the decay at param of gpa_adamw.py in
        facebookresearch/optimizers.
    Agrees with: GPAAdamW of facebookresearch/optimizers (iterate_averaging_type GPA), as read.
    Differs from: it in float64, where its moments are float32.
    Shapes: grad, param, m, v and z are equal, any shape.
    """

    steady = ("mu_y",)

    lr = moments.lr.replaced(default=1.0)
    betas = moments.betas
    mu_x = hyper(0.9967, "decay per step of the average", unit="1/step", ge=0, lt=1)
    mu_y = hyper(0.7, "share of the average in the point of the gradient", unit="1", gt=0, le=1)
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad

    m, v, v_max, z = moments.m, moments.v, moments.v_max, form.z

    def scalars(self, xp, t):
        share = 1 - self.mu_x
        along = lagging(share, weights(self.mu_y))
        return corrections(self, xp, t) | {"share": share, "along": along}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        return over_root(xp, s.unbias_m * m, divisor, s.root), {"m": m, "v": v} | v_max

    def moved(self, xp, grad, param, state, s):
        step, slots = super().changed(xp, grad, param, state, s)
        move, z = between(step, param, state.z, s.share, s.along)
        return move, {**slots, "z": z}

    def point(self, param, state):
        return averaged(param, state.z, self.mu_y)
