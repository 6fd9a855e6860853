from samestep.parts.moments import lost, quotient
from samestep.vocabulary import Rule, ema, hyper, slot, weights


class AdaDelta(Rule):
    """AdaDelta: steps in units of the earlier steps, without a step size.

        v     = rho v + (1 - rho) grad^2
        delta = sqrt(u + eps) / sqrt(v + eps) grad
        u     = rho u + (1 - rho) delta^2
        param = param - lr delta

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", arXiv 1212.5701, Algorithm 1.
    Agrees with: torch.optim.Adadelta; optax.adadelta; mlx.optimizers.AdaDelta.
    Differs from: keras.optimizers.Adadelta, whose lr is 1e-3; MLX 0.0, which never read u back.
    Shapes: grad, param, v and u are equal, any shape.
    """

    lr = hyper(1.0, "multiple of the step", unit="1", ge=0)
    rho = hyper(0.9, "decay per step of v and u", unit="1/step", ge=0, lt=1)
    eps = hyper(1e-6, "added under both roots", unit="gradient^2", gt=0)
    decay = Rule.decay.replaced(default="l2")

    v = slot("mean of the squared gradient")
    u = slot("mean of the squared step")

    def scalars(self, xp, t):
        return {"weights": weights(self.rho), "vanishes": lost(self.eps)}

    def direction(self, xp, grad, param, state, s):
        v = ema(state.v, grad * grad, s.weights)
        ratio = quotient(xp, xp.sqrt(state.u + s.eps), xp.sqrt(v + s.eps), s.vanishes)
        delta = ratio * grad
        return delta, {"v": v, "u": ema(state.u, delta * delta, s.weights)}
