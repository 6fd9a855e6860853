from samestep.parts import moments
from samestep.parts.moments import over_root, root
from samestep.vocabulary import Rule, choose, decayed_direction, ema, scalar, slot, weights


class NovoGrad(Rule):
    """NovoGrad: momentum of gradients that are divided by the mean of their own length.

        v     = beta2 v + (1 - beta2) ||grad||^2       (||grad||^2 at the first step)
        m     = beta1 m + grad / (sqrt(v) + eps) + weight_decay param
        param = param - lr m

    Source: Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments for
        training of deep networks", arXiv 1905.11286, Algorithm 1; one v per layer is one per
        parameter.
    Agrees with: pytorch_optimizer's NovoGrad; optax.novograd.
    Differs from: optax.novograd in betas (0.9, 0.25) and eps (1e-6) by default.
    Shapes: grad, param and m are equal, any shape; v is 0-d.
    """

    needs, decays_inside = "tensor", True

    lr = moments.lr
    betas = moments.betas.replaced(default=(0.95, 0.98))
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    decay = Rule.decay.replaced(default="in_update")

    m = slot("decaying sum of the normalised gradients")
    v = slot("mean of the squared norm of the gradient", init=scalar)

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        return {"beta1": beta1, "beta2": weights(beta2), "first": t == 1, "root": root(self, xp)}

    def direction(self, xp, grad, param, state, s):
        square = xp.sum(grad * grad)
        v = choose(xp, s.first, square, ema(state.v, square, s.beta2))
        unit = over_root(xp, grad, v, s.root)
        m = s.beta1 * state.m + decayed_direction(self.decay, unit, param, s)
        return m, {"m": m, "v": v}
