from samestep.parts.moments import over_root
from samestep.vocabulary import expm1, hyper, option, preset, scalar, slot

from .adam import Adam

LOG_096 = -0.040821994520255166


class NAdam(Adam):
    """NAdam: Adam with Nesterov momentum, and a momentum that grows over the first steps.

        mu_t  = beta1 (1 - 0.96^(t momentum_decay) / 2)
        ahead = (1 - mu_t) grad / (1 - mu_1 ... mu_t) + mu_(t+1) m / (1 - mu_1 ... mu_(t+1))
        param = param - lr ahead / (sqrt(v_hat) + eps)

    Without momentum_schedule mu is beta1, and m is corrected by 1 - beta1^(t+1).

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, Algorithm 2
        (which multiplies v_hat by beta2, as no library does).
    Agrees with: torch.optim.NAdam.
    Differs from: optax.nadam, which has no schedule; keras.optimizers.Nadam, whose momentum_decay
        is 1, so that the schedule is over 250 times as soon; timm's NAdamW, which corrects both
        terms alike.
    Shapes: grad, param, m and v are equal, any shape; product is 0-d.
    """

    needs = "tensor"

    lr = hyper(2e-3, "step size", unit="parameter", ge=0)
    momentum_decay = hyper(4e-3, "pace of the momentum's schedule", unit="1/step", gt=0)
    momentum_schedule = option(True, "let the momentum grow from beta1 / 2 to beta1")
    start, amsgrad, v_max = "zero", False, None
    dialects = {
        "torch": preset(),
        "optax": preset("no schedule", momentum_schedule=False, decay="in_update"),
        "keras": preset(
            of="keras.optimizers.Nadam", lr=1e-3, eps=1e-7, momentum_decay=1.0, decay="decoupled"
        ),
    }

    product = slot("mu_1 ... mu_t", init=scalar, start=1.0, only_if="momentum_schedule")

    def scalars(self, xp, t):
        beta1 = self.betas[0]
        if not self.momentum_schedule:
            fresh, ahead = self.gathered(xp, beta1, t), self.gathered(xp, beta1, t + 1)
            return super().scalars(xp, t) | {"of_grad": (1 - beta1) / fresh, "of_m": beta1 / ahead}
        pace = self.momentum_decay * LOG_096
        mu, ahead = (beta1 * (0.5 - 0.5 * expm1(xp, step * pace)) for step in (t, t + 1))
        return super().scalars(xp, t) | {"mu": mu, "of_grad": 1 - mu, "of_m": ahead}

    def direction(self, xp, grad, param, state, s):
        m, v = self.mean(xp, grad, state, s), self.square(xp, grad, None, state, s)
        of_grad, of_m, slots = s.of_grad, s.of_m, {"m": m, "v": v}
        if self.momentum_schedule:
            product = s.mu * state.product
            slots = {**slots, "product": product}
            if self.bias_correction:
                of_grad, of_m = of_grad / (1 - product), of_m / (1 - of_m * product)
        return over_root(xp, of_grad * grad + of_m * m, v, s.root), slots
