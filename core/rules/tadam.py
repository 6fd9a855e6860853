from samestep.parts import moments
from samestep.parts.moments import corrections, largest, lost, over_root, quotient
from samestep.vocabulary import Rule, count, ema, hyper, scalar, slot


class TAdam(Rule):
    """TAdam: Adam whose mean gradient gives outliers little weight.

        w     = (dof + n) / (dof + sum of (grad - m)^2 / (v + eps))       (n elements)
        m     = (w_sum m + w grad) / (w_sum + w)
        w_sum = (2 - 1 / beta1) w_sum + w                  (beta1 / (1 - beta1) at first)
        v     = beta2 v + (1 - beta2) grad^2
        param = param - lr m_hat / (sqrt(v_hat) + eps)

    with the m and v of the step before in w. dof is n if it is not given.

    Source: Ilboudo, Kobayashi and Sugimoto, "TAdam: a robust stochastic gradient optimizer",
        arXiv 2003.00179, Algorithm 1, as in the authors' code.
    Agrees with: holocron.optim.TAdam.
    Differs from: holocron's text, which averages grad - prev into v and has no line for w_sum.
    Shapes: grad, param, m and v are equal; w_sum is 0-d; the sum runs over the whole parameter.
    """

    needs, amplifies = "tensor", 4  # one element with a tiny v decides w, for all

    lr = moments.lr
    betas = hyper((0.9, 0.999), "decay per step of m and v", unit="1/step", ge=0, lt=1)
    eps = moments.eps.replaced(ge=None, gt=0)
    dof = hyper(None, "degrees of freedom of the t-distribution", unit="1", gt=0, typical=7.0)
    eps_root, eps_at = moments.eps_root, moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad
    decay = Rule.decay.replaced(default="l2")

    m, v, v_max = moments.m, moments.v, moments.v_max
    w_sum = slot(
        "decaying sum of weights", init=scalar, start=lambda r: r.betas[0] / (1 - r.betas[0])
    )

    def validate(self):
        if self.betas[0] == 0:
            raise ValueError("TAdam(betas=(0, ...)): beta1 must be > 0, w_sum divides by it")

    def scalars(self, xp, t):
        given = () if self.dof is None else (self.dof,)
        own = {"keep_sum": 2 - 1 / self.betas[0], "given": given, "vanishes": lost(self.eps)}
        return corrections(self, xp, t) | own

    def direction(self, xp, grad, param, state, s):
        size, apart = count(xp, param), grad - state.m
        dof = s.given[0] if s.given else size
        far = xp.sum(quotient(xp, apart * apart, state.v + s.eps, s.vanishes))
        w = (dof + size) / (dof + far)
        m = (state.w_sum * state.m + w * grad) / (state.w_sum + w)
        v = ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        slots = {"m": m, "v": v, "w_sum": s.keep_sum * state.w_sum + w}
        return over_root(xp, s.unbias_m * m, divisor, s.root), slots | v_max
