from samestep.parts import moments
from samestep.parts.moments import gathered, over_root, root
from samestep.vocabulary import Rule, ema, hyper, slot, weights


class SimplifiedAdEMAMix(Rule):
    """Simplified AdEMAMix: Adam with a sum of the gradients, and the newest once more.

        m     = beta1 m + grad
        v     = beta2 v + (1 - beta2) grad^2
        param = (1 - lr weight_decay) param - lr (m + alpha grad) / (sqrt(v_hat) + eps)

    m is 1 / (1 - beta1) times as large as a mean, so lr is that much smaller than in Adam.

    Source: Morwani, Vyas, Zhang and Kakade, "Connections between Schedule-Free optimizers,
        AdEMAMix, and accelerated SGD variants", arXiv 2502.02431, as in optax.
    Agrees with: optax.contrib.simplified_ademamix.
    Differs from: pytorch_optimizer's, whose m is a mean, and which divides by the root of
        1 - beta2^t where it should multiply.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr = moments.lr.replaced(default=1e-4)
    betas = moments.betas.replaced(default=(0.99, 0.95))
    alpha = hyper(0.0, "weight of the newest gradient", unit="1", ge=0, typical=5.0)
    eps, eps_root = moments.eps, moments.eps_root
    eps_at, bias_correction = moments.eps_at, moments.bias_correction

    m = slot("decaying sum of the gradients")
    v = moments.v

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        corrected = root(self, xp, gathered(self, xp, beta2, t))
        return {"beta1": beta1, "beta2": weights(beta2), "root": corrected}

    def direction(self, xp, grad, param, state, s):
        m = s.beta1 * state.m + grad
        v = ema(state.v, grad * grad, s.beta2)
        return over_root(xp, m + s.alpha * grad, v, s.root), {"m": m, "v": v}
