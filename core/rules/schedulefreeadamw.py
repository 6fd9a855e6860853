from samestep.parts import averaged as form
from samestep.parts import moments
from samestep.parts.averaged import averaged, between, lagging, warmed, weighed
from samestep.parts.moments import gathered, over_root, root
from samestep.vocabulary import Rule, ema, weights


class ScheduleFreeAdamW(Rule):
    """Schedule-Free AdamW: an average of the steps takes the place of momentum and schedule.

        a     = lr min(1, t / warmup_steps)
        v     = beta2 v + (1 - beta2) grad^2
        step  = -a grad / (sqrt(v_hat) + eps), and the decay of param
        c     = w_t / (w_1 + ... + w_t),  w_t = t^weight_power max(a_1, ..., a_t)^weight_lr_power
        param = (1 - c) param + c z + (1 - beta1 (1 - c)) step
        z     = z + step

    The gradient is taken at param, y in the paper. The model is evaluated at
    x = param + (1 - 1 / beta1) (z - param), which ``samestep.averaged`` and ``eval()`` of torch
    give. Statistics of batches, as BatchNorm keeps them, are to be recomputed there.

    Source: Defazio et al., "The road less scheduled", arXiv 2405.15682, and schedulefree 1.4.1.
    Agrees with: schedulefree.AdamWScheduleFree; optax.contrib.schedule_free_adamw without warmup.
    Differs from: optax, whose warmup begins at 0 and which weighs by the next step's size;
        heavyball's SFAdamW, which weighs by the step size itself instead of the largest.
    Shapes: grad, param, v and z are equal, any shape; weight_sum and lr_max are 0-d.
    """

    needs, steady = "tensor", ("betas.0", *form.POWERS)

    lr = moments.lr.replaced(default=0.0025)
    betas = moments.betas.replaced(ge=(None, 0), gt=(0, None))
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction = moments.bias_correction
    warmup_steps = form.warmup_steps
    weight_power, weight_lr_power = form.weight_power, form.weight_lr_power

    v, z, weight_sum, lr_max = moments.v, form.z, form.weight_sum, form.lr_max

    def scalars(self, xp, t):
        beta2 = self.betas[1]
        own = {"step_size": warmed(xp, self, t), "aged": (1 - 1 / t) ** self.weight_power}
        divisor = root(self, xp, gathered(self, xp, beta2, t))
        return own | {"x": weights(self.betas[0]), "beta2": weights(beta2), "root": divisor}

    def direction(self, xp, grad, param, state, s):
        v = ema(state.v, grad * grad, s.beta2)
        return over_root(xp, grad, v, s.root), {"v": v}

    def moved(self, xp, grad, param, state, s):
        step, slots = super().changed(xp, grad, param, state, s)
        c, new = weighed(xp, s.step_size, state, s)
        move, z = between(step, param, state.z, c, lagging(c, s.x))
        return move, {**slots, **new, "z": z}

    def point(self, param, state):
        return averaged(param, state.z, self.betas[0])
