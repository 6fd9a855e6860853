from samestep.parts import averaged as form
from samestep.parts.averaged import averaged, between, lagging, weighed
from samestep.vocabulary import Wrapper, hyper, weights


class ScheduleFree(Wrapper):
    """Schedule-Free: an average of a rule's steps takes the place of momentum and schedule.

        step  = the wrapped rule's step from param
        c     = w_t / (w_1 + ... + w_t),  w_t = t^weight_power max(lr_1, ..., lr_t)^weight_lr_power
        param = (1 - c) param + c z + (1 - toward (1 - c)) step
        z     = z + step

    The gradient is taken at param, and the model is evaluated at
    x = param + (1 - 1 / toward) (z - param), which ``samestep.averaged`` and ``eval()`` of torch
    give. The momentum of the rule is to be 0, as in AdamW(betas=(0, 0.999)); Prodigy's lr is d lr.

    Source: Defazio et al., "The road less scheduled", arXiv 2405.15682, around any rule.
    Agrees with: optax.contrib.schedule_free with a constant step size.
    Differs from: optax where the step size changes, since it weighs by the next step's;
        schedulefree's ScheduleFreeWrapper, in which decay and trust ratios of the rule see z.
    Shapes: z is shaped like param; weight_sum and lr_max are 0-d.
    """

    reads, divides, steady = "tensor", True, ("toward", *form.POWERS)

    toward = hyper(0.9, "share of x in the point of the gradient", unit="1", gt=0, lt=1)
    weight_power, weight_lr_power = form.weight_power, form.weight_lr_power

    z, weight_sum, lr_max = form.z, form.weight_sum, form.lr_max

    def scalars(self, xp, t):
        return {"x": weights(self.toward), "aged": (1 - 1 / t) ** self.weight_power}

    def moved(self, xp, grad, param, state, s):
        step, slots = super().changed(xp, grad, param, state, s)
        c, new = weighed(xp, self.step_size(state, s), state, s)
        move, z = between(step, param, state.z, c, lagging(c, s.x))
        return move, {**slots, **new, "z": z}

    def point(self, param, state):
        return averaged(param, state.z, self.toward)
