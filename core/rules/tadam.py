from samestep.vocabulary import count, hyper, preset, scalar, slot

from .adam import Adam


class TAdam(Adam):
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

    betas = hyper((0.9, 0.999), "decay per step of m and v", unit="1/step", ge=0, lt=1)
    eps = Adam.eps.replaced(ge=None, gt=0)
    dof = hyper(None, "degrees of freedom of the t-distribution", unit="1", gt=0, typical=7.0)
    start = "zero"
    dialects = {"holocron": preset()}

    w_sum = slot(
        "decaying sum of weights",
        init=scalar,
        start=lambda rule: rule.betas[0] / (1 - rule.betas[0]),
    )

    def validate(self):
        if self.betas[0] == 0:
            raise ValueError("TAdam(betas=(0, ...)): beta1 must be > 0, w_sum divides by it")

    def scalars(self, xp, t):
        return super().scalars(xp, t) | {"keep_sum": 2 - 1 / self.betas[0]}

    def direction(self, xp, grad, param, state, s):
        size = count(xp, param)
        dof = s.dof if hasattr(s, "dof") else size
        apart = grad - state.m
        w = (dof + size) / (dof + xp.sum(apart * apart / (state.v + s.eps)))
        m = (state.w_sum * state.m + w * grad) / (state.w_sum + w)
        v = self.square(xp, grad, m, state, s)
        direction, slots = self.divided(xp, grad, m, v, state, s)
        return direction, slots | {"w_sum": s.keep_sum * state.w_sum + w}
