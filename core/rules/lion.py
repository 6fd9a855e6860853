from samestep.vocabulary import Rule, ema, hyper, sign, slot, weights


class Lion(Rule):
    """Lion: the sign of an interpolation between momentum and gradient.

        c     = beta1 m + (1 - beta1) grad
        param = (1 - lr weight_decay) param - lr sign(c)
        m     = beta2 m + (1 - beta2) grad

    Source: Chen et al., "Symbolic discovery of optimization algorithms", arXiv 2302.06675,
        Algorithm 2, as in the authors' code (google/automl, lion).
    Agrees with: lion-pytorch; optax.lion; mlx.optimizers.Lion.
    Differs from: optax.lion in weight_decay by default (1e-3), keras.optimizers.Lion in lr by
        default (1e-3); MLX 0.0, which started m at the first gradient.
    Shapes: grad, param and m are equal, any shape. A NaN stays NaN.
    """

    continuous = False

    lr = hyper(1e-4, "step size: every element moves by as much", unit="parameter", ge=0)
    betas = hyper(
        (0.9, 0.99), "weight of m in the sign, and decay per step of m", unit="1/step", ge=0, lt=1
    )

    m = slot("mean of the gradient")

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        return {"beta1": weights(beta1), "beta2": weights(beta2)}

    def direction(self, xp, grad, param, state, s):
        c = ema(state.m, grad, s.beta1)
        return sign(xp, c), {"m": ema(state.m, grad, s.beta2)}
