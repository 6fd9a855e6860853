import math

from ..vocabulary import expm1, hyper, log, option, preset
from .adam import Adam


class NAdam(Adam):
    """NAdam: Adam with Nesterov momentum, and a momentum that grows over the first steps.

        mu_t  = beta1 (1 - 0.96^(t momentum_decay) / 2)
        ahead = (1 - mu_t) grad / (1 - mu_1 ... mu_t) + mu_(t+1) m / (1 - mu_1 ... mu_(t+1))
        param = param - lr ahead / (sqrt(v_hat) + eps)

    Without momentum_schedule mu is beta1, and m is corrected by 1 - beta1^(t+1). The product is
    taken in closed form from t, so that no state holds it; a schedule of beta1 counts as if it had
    always been what it is now, as in Adam's corrections.

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, Algorithm 2
        (which multiplies v_hat by beta2, as no library does).
    Agrees with: torch.optim.NAdam.
    Differs from: optax.nadam, which has no schedule; keras.optimizers.Nadam, whose momentum_decay
        is 1, so that the schedule is over 250 times as soon; timm's NAdamW, which corrects both
        terms alike.
    Shapes: grad, param, m and v are equal, any shape.
    """

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

    def scalars(self, xp, t):
        beta1 = self.betas[0]
        now, after = (1 - self._slack(xp, step) for step in (t, t + 1))
        fresh, kept = (1 - beta1 * now), beta1 * after
        gathered = self._gathered(xp, t), self._gathered(xp, t + 1)
        if not self.bias_correction:
            gathered = 1.0, 1.0
        own = {"of_grad": fresh / gathered[0], "of_m": kept / gathered[1]}
        return super().scalars(xp, t) | own

    def _slack(self, xp, t):
        """What the momentum lacks of beta1, as a share, at step t."""
        pace = self.momentum_decay * math.log(0.96)
        return 0.5 * (expm1(xp, t * pace) + 1) if self.momentum_schedule else 0.0

    def _gathered(self, xp, t):
        """1 - mu_1 ... mu_t: log(1 - q^i / 2), summed over i, as a series in powers of a half."""
        product = t * log(xp, self.betas[0])
        pace = self.momentum_decay * math.log(0.96)
        for n in range(1, 50) if self.momentum_schedule else ():
            powers = expm1(xp, n * t * pace) / expm1(xp, n * pace)  # 1 + q^n + ... + q^(n(t-1))
            product = product - 0.5**n / n * (expm1(xp, n * pace) + 1) * powers
        return -expm1(xp, product)

    def numerator(self, grad, m, s):
        return s.of_grad * grad + s.of_m * m
