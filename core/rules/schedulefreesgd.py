from samestep.parts import averaged as form
from samestep.parts.averaged import averaged, between, lagging, warmed, weighed
from samestep.vocabulary import Rule, hyper, weights


class ScheduleFreeSGD(Rule):
    """Schedule-Free SGD: an average of the steps takes the place of momentum and schedule.

        a     = lr min(1, t / warmup_steps)
        step  = -a grad, and the decay of param
        c     = w_t / (w_1 + ... + w_t),  w_t = t^weight_power max(a_1, ..., a_t)^weight_lr_power
        param = (1 - c) param + c z + (1 - momentum (1 - c)) step
        z     = z + step

    The gradient is taken at param, y in the paper. The model is evaluated at
    x = param + (1 - 1 / momentum) (z - param), which ``samestep.averaged`` and ``eval()`` of torch
    give. Statistics of batches, as BatchNorm keeps them, are to be recomputed there.

    Source: Defazio et al., "The road less scheduled", arXiv 2405.15682, and schedulefree 1.4.1.
    Agrees with: schedulefree.SGDScheduleFree; optax.contrib.schedule_free_sgd without warmup.
    Differs from: optax, whose warmup begins at 0 and which weighs by the next step's size.
    Shapes: grad, param and z are equal, any shape; weight_sum and lr_max are 0-d.
    """

    needs, steady = "tensor", ("momentum", *form.POWERS)

    lr = hyper(1.0, "step size", unit="parameter/gradient", ge=0)
    momentum = hyper(0.9, "share of x in the point of the gradient", unit="1", gt=0, lt=1)
    warmup_steps = form.warmup_steps
    weight_power, weight_lr_power = form.weight_power, form.weight_lr_power

    z, weight_sum, lr_max = form.z, form.weight_sum, form.lr_max

    def scalars(self, xp, t):
        return {
            "step_size": warmed(xp, self, t),
            "x": weights(self.momentum),
            "aged": (1 - 1 / t) ** self.weight_power,
        }

    def direction(self, xp, grad, param, state, s):
        return grad, {}

    def moved(self, xp, grad, param, state, s):
        step, slots = super().changed(xp, grad, param, state, s)
        c, new = weighed(xp, s.step_size, state, s)
        move, z = between(step, param, state.z, c, lagging(c, s.x))
        return move, {**slots, **new, "z": z}

    def point(self, param, state):
        return averaged(param, state.z, self.momentum)
