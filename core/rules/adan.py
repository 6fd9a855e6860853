from ..vocabulary import Rule, choose, debias, ema, hyper, option, slot, weights


class Adan(Rule):
    """Adan: adaptive Nesterov momentum, from the difference of successive gradients.

        diff  = grad - prev                            (zero at the first step)
        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) diff
        n     = beta3 n + (1 - beta3) (grad + beta2 diff)^2
        param = (param - lr (m_hat + beta2 v_hat) / (sqrt(n_hat) + eps)) / (1 + lr weight_decay)

    with x_hat = x / (1 - beta^t), each with its own beta.

    Source: Xie, Zhou, Li, Lin and Yan, "Adan: adaptive Nesterov momentum algorithm for faster
        optimizing deep models", arXiv 2208.06677, Algorithm 1, as in the authors' code, whose
        betas are 1 minus the paper's; decay="decoupled" is their no_prox.
    Agrees with: sail-sg/Adan; the copies in timm, pytorch_optimizer and torch-optimi.
    Differs from: optax.adan (0.2.8), which weights diff and v_hat by 1 - beta2 = 0.08 instead of
        beta2 = 0.92 (optax#1715); holocron's Adan, which never stores the previous gradient.
    Shapes: grad, param and every slot are equal, any shape.
    """

    lr = hyper(1e-3, "step size", unit="parameter", ge=0)
    betas = hyper((0.98, 0.92, 0.99), "decay per step of m, v and n", unit="1/step", ge=0, lt=1)
    eps = hyper(1e-8, "added to the root of n", unit="gradient", ge=0)
    decay = option("proximal", "how weight decay enters", choices=Rule.decay.choices)

    m = slot("mean of the gradient")
    v = slot("mean of the difference between successive gradients")
    n = slot("mean of the squared, corrected gradient")
    prev = slot("gradient of the step before")

    def scalars(self, xp, t):
        beta1, beta2, beta3 = self.betas
        return {
            "first": t == 1,
            "beta1": weights(beta1),
            "beta2": weights(beta2),
            "beta3": weights(beta3),
            "unbias_m": 1 / debias(xp, beta1, t),
            "unbias_v": beta2 / debias(xp, beta2, t),
            "unbias_root_n": 1 / xp.sqrt(debias(xp, beta3, t)),
        }

    def direction(self, xp, grad, param, state, s):
        diff = grad - choose(xp, s.first, grad, state.prev)
        ahead = grad + s.beta2[0] * diff
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, diff, s.beta2)
        n = ema(state.n, ahead * ahead, s.beta3)
        root_n_hat = s.unbias_root_n * xp.sqrt(n)
        direction = (s.unbias_m * m + s.unbias_v * v) / (root_n_hat + s.eps)
        return direction, {"m": m, "v": v, "n": n, "prev": grad}
