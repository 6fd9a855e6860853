from samestep.vocabulary import Rule, hyper, sign, slot


class Rprop(Rule):
    """Rprop: the sign of the gradient, times a step size that every element finds for itself.

        size  = size eta_plus where grad keeps its sign, size eta_minus where it changes
        grad  = 0 where it has changed
        param = param - sign(grad) size,  prev = grad

    Source: Riedmiller and Braun, ICNN 1993, in the variant iRprop- of Igel and Huesken, 2000.
    Agrees with: torch.optim.Rprop.
    Differs from: optax.rprop (0.2.8), which applies the update of the step before (optax#1725).
    Shapes: grad, param and every slot are equal, any shape.
    """

    continuous = False

    lr = hyper(1e-2, "first step size", unit="parameter", ge=0)
    etas = hyper(
        (0.5, 1.2), "factors of size: sign changed, sign kept", unit="1", gt=(0, 1), lt=(1, None)
    )
    step_sizes = hyper((1e-6, 50.0), "bounds of size", unit="parameter", ge=0, ordered=True)

    prev = slot("gradient of the step before, 0 where it had changed its sign")
    size = slot("step size", start="lr")

    def scalars(self, xp, t):
        return {"rate": 1.0}

    def direction(self, xp, grad, param, state, s):
        trend = sign(xp, grad) * sign(xp, state.prev)
        factor = xp.where(trend > 0, s.etas[1], xp.where(trend < 0, s.etas[0], xp.ones_like(trend)))
        size = xp.clip(factor * state.size, s.step_sizes[0], s.step_sizes[1])
        kept = xp.where(trend < 0, 0.0, grad)
        return sign(xp, kept) * size, {"prev": kept, "size": size}
