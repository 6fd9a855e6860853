from samestep.parts.moments import Moments, Rooted, over_root
from samestep.vocabulary import Rule, choose, ema, hyper, option, preset, slot, weights


class Adan(Rooted):
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

    lr = hyper(1e-3, "step size", unit="parameter", ge=0)
    betas = hyper((0.98, 0.92, 0.99), "decay per step of m, v and n", unit="1/step", ge=0, lt=1)
    bias_correction, start = Moments.bias_correction, Moments.start
    amsgrad = option(False, "divide by the largest n so far")
    difference_weight = option("beta2", "weight of diff and v_hat", choices=("beta2", "1-beta2"))
    keep_previous = option(True, "prev is kept; if not, it is zero at every step")
    decay = Rule.decay.replaced(default="proximal")
    dialects = {
        "optax": preset(eps_root=1e-8, difference_weight="1-beta2", decay="in_update"),
        "paper": preset(of="Algorithm 1", bias_correction=False, start="gradient"),
        "holocron": preset(keep_previous=False, decay="l2+proximal"),
    }

    m = slot("mean of the gradient")
    v = slot("mean of the difference between successive gradients")
    n = slot("mean of the squared, corrected gradient")
    prev = slot("gradient of the step before")
    n_max = slot("largest n so far", only_if="amsgrad")

    def scalars(self, xp, t):
        pairs = [weights(beta) for beta in self.betas]
        m, v, n = (self.gathered(xp, beta, t) for beta in self.betas)
        beta2, rest = pairs[1]
        ahead = beta2 if self.difference_weight == "beta2" else rest
        known = dict(zip(("beta1", "beta2", "beta3"), pairs, strict=True))
        own = {"first": t == 1, "second": t == 2, "ahead": ahead, "root": self.root(xp, n)}
        return known | own | {"unbias_m": 1 / m, "unbias_v": ahead / v}

    def direction(self, xp, grad, param, state, s):
        prev = choose(xp, s.first, grad, state.prev) if self.keep_previous else state.prev
        diff = grad - prev
        look = grad + s.ahead * diff
        square = look * look
        old_m, old_v, old_n = state.m, state.v, state.n
        if self.start == "gradient":
            old_m, old_n = choose(xp, s.first, grad, old_m), choose(xp, s.first, square, old_n)
            old_v = choose(xp, s.second, diff, old_v)
        m, v, n = ema(old_m, grad, s.beta1), ema(old_v, diff, s.beta2), ema(old_n, square, s.beta3)
        slots = {"m": m, "v": v, "n": n, "prev": grad if self.keep_previous else state.prev}
        if self.amsgrad:
            n = xp.maximum(state.n_max, n)
            slots = slots | {"n_max": n}
        return over_root(xp, s.unbias_m * m + s.unbias_v * v, n, s.root), slots
