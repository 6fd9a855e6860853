from samestep.parts import averaged as form
from samestep.parts import moments
from samestep.parts.averaged import averaged, between, lagging, weighed
from samestep.parts.moments import gathered, over_root, root
from samestep.parts.rectification import below, rectifier, threshold
from samestep.vocabulary import Rule, choose, ema, weights


class ScheduleFreeRAdam(Rule):
    """Schedule-Free RAdam: RAdam's rectification in place of a warm-up.

        a     = lr r, with the r of RAdam;  0 while rho <= threshold
        v     = beta2 v + (1 - beta2) grad^2
        step  = -a grad / (sqrt(v_hat) + eps), and the decay of param
        c     = w_t / (w_1 + ... + w_t),  w_t = t^weight_power max(a_1, ..., a_t)^weight_lr_power
        param = (1 - c) param + c z + (1 - beta1 (1 - c)) step
        z     = z + step, evaluated at x as ScheduleFreeAdamW is

    Until then below="adam" steps with a = lr, below="momentum" also without the divisor.

    Source: schedulefree 1.4.1, after Defazio et al., arXiv 2405.15682; RAdam: arXiv 1908.03265.
    Agrees with: schedulefree.RAdamScheduleFree; below="momentum": silent_sgd_phase=False.
    Differs from: pytorch_optimizer's, whose threshold is another.
    Shapes: grad, param, v and z are equal, any shape; weight_sum and lr_max are 0-d.
    """

    needs, steady = "tensor", ("betas.0", *form.POWERS)

    lr = moments.lr.replaced(default=0.0025)
    betas = moments.betas.replaced(ge=(None, 0), gt=(0, None))
    threshold = threshold
    below = below.replaced(default="skip")
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction = moments.bias_correction
    weight_power, weight_lr_power = form.weight_power, form.weight_lr_power

    v, z, weight_sum, lr_max = moments.v, form.z, form.weight_sum, form.lr_max

    def scalars(self, xp, t):
        beta2 = self.betas[1]
        found = rectifier(xp, beta2, self.threshold, self.below, t)
        trusted, r = found["trusted"], found["r"]
        r = choose(xp, trusted, r, 1.0) if self.below == "momentum" else r
        own = {"step_size": r * self.lr, "trusted": trusted, "x": weights(self.betas[0])}
        own = {**own, "aged": (1 - 1 / t) ** self.weight_power, "beta2": weights(beta2)}
        return own | {"root": root(self, xp, gathered(self, xp, beta2, t))}

    def direction(self, xp, grad, param, state, s):
        v = ema(state.v, grad * grad, s.beta2)
        step = over_root(xp, grad, v, s.root)
        return choose(xp, s.trusted, step, grad) if self.below == "momentum" else step, {"v": v}

    def moved(self, xp, grad, param, state, s):
        step, slots = super().changed(xp, grad, param, state, s)
        c, new = weighed(xp, s.step_size, state, s)
        move, z = between(step, param, state.z, c, lagging(c, s.x))
        return move, {**slots, **new, "z": z}

    def point(self, param, state):
        return averaged(param, state.z, self.betas[0])
