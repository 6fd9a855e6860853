from samestep.parts import moments
from samestep.parts.moments import gathered, over_root, root
from samestep.vocabulary import Rule, choose, ema, hyper, option, slot, weights


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
        beta2 = 0.92 (optax#1715); holocron's, which never stores the previous gradient and whose
        text weights v_hat by 1 - beta2; the paper, without correction, from m = grad, n = grad^2.
    Shapes: grad, param and every slot are equal, any shape.
    """

    lr = moments.lr
    betas = hyper((0.98, 0.92, 0.99), "decay per step of m, v and n", unit="1/step", ge=0, lt=1)
    bias_correction, start = moments.bias_correction, moments.start
    amsgrad = option(False, "divide by the largest n so far", says=moments.amsgrad.says)
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    decay = Rule.decay.replaced(default="proximal")

    m = moments.m
    v = slot("mean of the difference between successive gradients")
    n = slot("mean of the squared, corrected gradient")
    prev = slot("gradient of the step before")
    n_max = slot("largest n so far", only_if="amsgrad")

    def scalars(self, xp, t):
        beta1, beta2, beta3 = self.betas
        m, v, n = (gathered(self, xp, beta, t) for beta in self.betas)
        known = {"beta1": weights(beta1), "beta2": weights(beta2), "beta3": weights(beta3)}
        own = {"first": t == 1, "second": t == 2, "ahead": beta2, "root": root(self, xp, n)}
        return known | own | {"unbias_m": 1 / m, "unbias_v": beta2 / v}

    def direction(self, xp, grad, param, state, s):
        diff = grad - choose(xp, s.first, grad, state.prev)
        look = grad + s.ahead * diff
        m, v, n = state.m, state.v, state.n
        if self.start == "gradient":
            m, n = choose(xp, s.first, grad, m), choose(xp, s.first, look * look, n)
            v = choose(xp, s.second, diff, v)
        m, v, n = ema(m, grad, s.beta1), ema(v, diff, s.beta2), ema(n, look * look, s.beta3)
        n_max = {"n_max": xp.maximum(state.n_max, n)} if self.amsgrad else {}
        ahead, divisor = s.unbias_m * m + s.unbias_v * v, n_max.get("n_max", n)
        slots = {"m": m, "v": v, "n": n, "prev": grad}
        return over_root(xp, ahead, divisor, s.root), slots | n_max
