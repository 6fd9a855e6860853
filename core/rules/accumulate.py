from samestep.parts.conditional import Conditional
from samestep.vocabulary import Storage, choose, option, slot


class Accumulate(Conditional):
    """Accumulate: the gradients of several calls, of micro-batches, make one step.

        accumulated = mean of the gradients since the last step
        every ``every`` calls:  the wrapped rule's step with it;  else nothing moves

    In the other calls, parameters and the wrapped rule's state do not change. The wrapped rule's
    schedules and bias corrections count its steps; schedules of wrappers around this one count
    calls. A mean in bfloat16 loses gradients: use accumulated_dtype="float32".

    A parameter counts the calls in which it has a gradient: its step comes with its own
    ``every``-th gradient, and its mean is the mean of these. Sums over parameters inside, such as
    the norm of ClipGlobalNorm, are of those that take their step in the call.
    Accumulate(SkipNonFinite(rule)) skips a step whose mean is NaN or infinite; it counts skips for
    all parameters together, and warns where they have missed different gradients.
    SkipNonFinite(Accumulate(rule)) leaves a call with such a gradient out of the mean.

    Source: none; the running mean of Welford (1962), which does not grow with ``every``.
    Agrees with: optax.MultiSteps; in torch the sum of the gradients of losses divided by ``every``.
    Differs from: optax.MultiSteps in that ``every`` is fixed.
    Shapes: accumulated is shaped like param; everything else is the wrapped rule's.
    """

    amplifies = 4  # gradients of either sign have a small mean

    every = option(2, "calls that make one step", ge=1)
    accumulated_dtype = Storage(None, "dtype of accumulated; None is that of the state")
    accumulated = slot("mean of the gradients since the last step")

    def steps_inside(self, step):
        return step // self.every

    def scalars(self, xp, t):
        place = (t - 1) % self.every + 1
        return {"share": 1 / place, "last": place == self.every}

    def acts(self, state, s):
        return s.last

    def prepare(self, xp, grad, param, state, s):
        return state.accumulated + s.share * (grad - state.accumulated)

    def moved(self, xp, grad, param, state, s):
        mean = self.prepare(xp, grad, param, state, s)
        move, slots = super().moved(xp, grad, param, state, s)
        return move, {**slots, "accumulated": choose(xp, s.last, xp.zeros_like(mean), mean)}
