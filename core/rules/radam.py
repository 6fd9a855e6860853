from samestep.parts.rectification import average_length
from samestep.vocabulary import choose, hyper, option, preset, sqrt

from .adam import Adam


class RAdam(Adam):
    """RAdam: Adam rectified for the variance of its divisor in the first steps.

        rho_inf = 2 / (1 - beta2) - 1,  rho = rho_inf - 2 t beta2^t / (1 - beta2^t)
        param   = param - lr r m_hat / (sqrt(v_hat) + eps)       where rho > threshold
        param   = param - lr m_hat            before that (below="adam": with the divisor)
        r^2     = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond",
        arXiv 1908.03265, Algorithm 2 (threshold 4; without eps).
    Agrees with: optax.radam(threshold=4).
    Differs from: torch.optim.RAdam, labml's, and optax.radam by default, whose threshold is 5 (one
        step more without divisor at beta2 = 0.999); torch and labml add eps before v's correction.
    Shapes: grad, param, m and v are equal, any shape.
    """

    threshold = hyper(4.0, "rho from which the divisor is trusted", unit="steps", ge=4)
    below = option("momentum", "the step before that", choices=("momentum", "adam", "skip"))
    dialects = {
        "torch": preset(threshold=5.0, eps_at="uncorrected"),
        "optax": preset(threshold=5.0),
        "paper": preset("no eps", of="Algorithm 2", eps=0.0),
        "labml": preset(threshold=5.0, eps_at="uncorrected", decay="decoupled"),
    }

    def scalars(self, xp, t):
        rho, rho_inf = average_length(xp, self.betas[1], t)
        trusted = rho > self.threshold
        divisor = choose(xp, trusted, (rho_inf - 4) * (rho_inf - 2) * rho, 1.0)  # 0 for beta2 = 0.6
        square = (rho - 4) * (rho - 2) * rho_inf / divisor
        before = 1.0 if self.below == "adam" else 0.0
        r = sqrt(xp, choose(xp, trusted, square, before))
        return super().scalars(xp, t) | {"trusted": trusted, "r": r}

    def divided(self, xp, grad, m, v, state, s):
        adaptive, slots = super().divided(xp, grad, m, v, state, s)
        if self.below != "momentum":
            return s.r * adaptive, slots
        return choose(xp, s.trusted, s.r * adaptive, self.numerator(grad, m, s)), slots
