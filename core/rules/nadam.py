from samestep.parts import moments
from samestep.parts.moments import corrections, gathered, over_root
from samestep.vocabulary import Rule, ema, expm1, hyper, option, scalar, slot

LOG_096 = -0.040821994520255166


class NAdam(Rule):
    """NAdam: Adam with Nesterov momentum, and a momentum that grows over the first steps.

        mu_t  = beta1 (1 - 0.96^(t momentum_decay) / 2)      (beta1 without momentum_schedule)
        ahead = (1 - mu_t) grad / (1 - mu_1 ... mu_t) + mu_(t+1) m / (1 - mu_1 ... mu_(t+1))
        param = param - lr ahead / (sqrt(v_hat) + eps)

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, Algorithm 2
        (which multiplies v_hat by beta2, as no library does).
    Agrees with: torch.optim.NAdam.
    Differs from: optax.nadam, which has no schedule; keras.optimizers.Nadam, whose momentum_decay
        is 1 (250 times as soon); timm's NAdamW, which corrects both terms alike.
    Shapes: grad, param, m and v are equal, any shape; product is 0-d.
    """

    needs = "tensor"

    lr = hyper(2e-3, "step size", unit="parameter", ge=0)
    betas = moments.betas
    momentum_decay = hyper(4e-3, "pace of the momentum's schedule", unit="1/step", gt=0)
    momentum_schedule = option(
        True,
        "let the momentum grow from beta1 / 2 to beta1",
        says={
            True: "lets the momentum grow as beta1 (1 - 0.96^(t {momentum_decay:g}) / 2)",
            False: "keeps the momentum at beta1 = {betas[0]:g}",
        },
    )
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction = moments.bias_correction
    decay = Rule.decay.replaced(default="l2")

    m, v = moments.m, moments.v
    product = slot("mu_1 ... mu_t", init=scalar, start=1.0, only_if="momentum_schedule")

    def scalars(self, xp, t):
        beta1, known = self.betas[0], corrections(self, xp, t)
        if not self.momentum_schedule:
            fresh, ahead = gathered(self, xp, beta1, t), gathered(self, xp, beta1, t + 1)
            return known | {"of_grad": (1 - beta1) / fresh, "of_m": beta1 / ahead}
        pace = self.momentum_decay * LOG_096
        mu, ahead = (beta1 * (0.5 - 0.5 * expm1(xp, step * pace)) for step in (t, t + 1))
        return known | {"mu": mu, "of_grad": 1 - mu, "of_m": ahead}

    def direction(self, xp, grad, param, state, s):
        m, v = ema(state.m, grad, s.beta1), ema(state.v, grad * grad, s.beta2)
        of_grad, of_m, slots = s.of_grad, s.of_m, {"m": m, "v": v}
        if self.momentum_schedule:
            product = s.mu * state.product
            slots = {**slots, "product": product}
            if self.bias_correction:
                of_grad, of_m = of_grad / (1 - product), of_m / (1 - of_m * product)
        return over_root(xp, of_grad * grad + of_m * m, v, s.root), slots
