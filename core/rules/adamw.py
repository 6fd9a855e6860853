from ..vocabulary import Rule, debias, ema, hyper, slot, weights


class AdamW(Rule):
    """Adam with weight decay kept apart from the gradient.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) grad^2
        m_hat = m / (1 - beta1^t),  v_hat = v / (1 - beta2^t)
        param = (1 - lr weight_decay) param - lr m_hat / (sqrt(v_hat) + eps)

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv 1711.05101,
        Algorithm 2, with the decay multiplied by lr as every library does.
    Agrees with: torch.optim.AdamW; optax.adamw; mlx.optimizers.AdamW(bias_correction=True).
    Differs from: mlx.optimizers.AdamW by default, which leaves the bias correction out;
        keras.optimizers.AdamW, which adds eps before the correction of v. optax and MLX take
        1 - beta^t in float32 (58 ULP of the first update); weight_decay is 1e-4 in optax.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr = hyper(1e-3, "step size", unit="parameter", ge=0)
    betas = hyper((0.9, 0.999), "decay per step of m and v", unit="1/step", ge=0, lt=1)
    eps = hyper(1e-8, "added to the root of v", unit="gradient", ge=0)
    weight_decay = hyper(
        1e-2, "fraction of the parameter removed per step, times lr", unit="1/lr", ge=0, typical=0.1
    )

    m = slot("mean of the gradient")
    v = slot("mean of the squared gradient")

    def scalars(self, xp, t):
        beta1, beta2 = self.betas
        return {
            "beta1": weights(beta1),
            "beta2": weights(beta2),
            "unbias_m": 1 / debias(xp, beta1, t),
            "unbias_root_v": 1 / xp.sqrt(debias(xp, beta2, t)),
        }

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        m_hat = s.unbias_m * m
        root_v_hat = s.unbias_root_v * xp.sqrt(v)
        return m_hat / (root_v_hat + s.eps), {"m": m, "v": v}
