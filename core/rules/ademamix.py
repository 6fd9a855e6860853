from samestep.parts import moments
from samestep.parts.moments import gathered, over_root, root
from samestep.vocabulary import Rule, ema, hyper, slot, weights


class AdEMAMix(Rule):
    """AdEMAMix: Adam with a second, much slower mean of the gradient.

        m1    = beta1 m1 + (1 - beta1) grad
        m2    = beta3 m2 + (1 - beta3) grad
        v     = beta2 v + (1 - beta2) grad^2
        param = (1 - lr weight_decay) param - lr (m1_hat + alpha m2) / (sqrt(v_hat) + eps)

    The paper raises alpha and beta3 over T steps: alpha=schedules.Linear(0, 5, T) and
    betas=(0.9, 0.999, schedules.HalfLife(0.9, 0.9999, T)). They count from step slow_start,
    for a run whose m2 starts at zero after that many steps.

    Source: Pagliardini, Ablin and Grangier, "The AdEMAMix optimizer: better, faster, older",
        arXiv 2409.03137, Algorithm 1 (m2 is not corrected).
    Agrees with: apple/ml-ademamix (both versions); optax.contrib.ademamix; pytorch_optimizer's.
    Differs from: holocron's, which couples the decay, and whose text averages (grad - m)^2; apple's
        torch version in alpha by default (2); optax's, whose mu_dtype holds for one step only.
    Shapes: grad, param and every slot are equal, any shape.
    """

    lr = moments.lr
    betas = hyper((0.9, 0.999, 0.9999), "decay per step of m1, v and m2", unit="1/step", ge=0, lt=1)
    alpha = hyper(5.0, "weight of m2", unit="1", ge=0)
    slow_start = hyper(0, "step from which alpha's and beta3's schedules count", unit="steps", ge=0)
    bias_correction = moments.bias_correction
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at

    m1 = slot("fast mean of the gradient")
    m2 = slot("slow mean of the gradient")
    v = moments.v

    def schedule_step(self, name, place, step):
        slow = name == "alpha" or (name == "betas" and place == 2)
        return (step > self.slow_start) * (step - self.slow_start) if slow else step

    def scalars(self, xp, t):
        beta1, beta2, beta3 = self.betas
        m1, v = gathered(self, xp, beta1, t), gathered(self, xp, beta2, t)
        known = {"beta1": weights(beta1), "beta2": weights(beta2), "beta3": weights(beta3)}
        return known | {"unbias_m1": 1 / m1, "root": root(self, xp, v)}

    def direction(self, xp, grad, param, state, s):
        m1, m2 = ema(state.m1, grad, s.beta1), ema(state.m2, grad, s.beta3)
        v = ema(state.v, grad * grad, s.beta2)
        step = over_root(xp, s.unbias_m1 * m1 + s.alpha * m2, v, s.root)
        return step, {"m1": m1, "m2": m2, "v": v}
