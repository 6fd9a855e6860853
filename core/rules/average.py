from samestep.vocabulary import (
    Storage,
    Wrapper,
    choose,
    debias,
    ema,
    hyper,
    initial_parameter,
    option,
    slot,
)


class Average(Wrapper):
    """Average: an average of the parameters over the steps, in addition to the parameters.

        param   = the wrapped rule's step
        average = param                                            in the first average_start steps
        average = average_decay average + (1 - average_decay) param      "ema", from then on
        average = average + (param - average) / n                        "equal", n = 1, 2, ...

    "debiased" divides the weights of "ema" by 1 - average_decay^n, which removes the weight of the
    first value of average. The model is evaluated at average, which ``samestep.averaged`` and
    ``eval()`` of torch give. An average in bfloat16 stands still: average_dtype="float32".

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992
        ("equal"); Izmailov et al., arXiv 1803.05407 (the same, from a step on).
    Agrees with: torch.optim.swa_utils.AveragedModel, updated after every step ("ema" with
        average_start=1; "equal"); optax.incremental_update and timm's ModelEma ("ema"); optax.ema
        of the parameters ("debiased").
    Differs from: averages of buffers, such as batch norm's, which no optimizer sees.
    Shapes: average is shaped like param; everything else is the wrapped rule's.
    """

    average_decay = hyper(0.999, "decay per step of average", unit="1/step", ge=0, lt=1)
    average_start = hyper(0, "steps before averaging begins", unit="steps", ge=0, typical=3)
    averaging = option("ema", "the weights", choices=("ema", "debiased", "equal"))
    average_dtype = Storage(None, "dtype of average; None is that of the state")

    average = slot("average of the parameter", init=initial_parameter)

    def scalars(self, xp, t):
        begun, one = t > self.average_start, 0.0 * t + 1
        n = choose(xp, begun, t - self.average_start, one)
        decay, gathered = self.average_decay, 1.0
        if self.averaging == "debiased":
            gathered = debias(xp, decay, n)
        share = 1 / n if self.averaging == "equal" else (1 - decay) / gathered
        share = choose(xp, begun, share * one, one)
        return {"average": (1 - share, share)}

    def moved(self, xp, grad, param, state, s):
        move, slots = super().moved(xp, grad, param, state, s)
        return move, {**slots, "average": ema(state.average, move.param, s.average)}

    def point(self, param, state):
        return state.average
