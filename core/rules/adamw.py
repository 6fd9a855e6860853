from samestep.parts import moments
from samestep.parts.moments import corrections, largest, over_root
from samestep.vocabulary import Rule, ema, hyper


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
        1 - beta^t in float32 (114 ULP after one step); weight_decay is 1e-4 in optax.
    Shapes: grad, param, m and v are equal, any shape.
    """

    lr, betas = moments.lr, moments.betas
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    bias_correction, amsgrad = moments.bias_correction, moments.amsgrad
    weight_decay = hyper(
        1e-2, "fraction of the parameter removed per step, times lr", unit="1/lr", ge=0, typical=0.1
    )

    m, v, v_max = moments.m, moments.v, moments.v_max

    scalars = corrections

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, grad * grad, s.beta2)
        divisor, v_max = largest(self, xp, v, state)
        return over_root(xp, s.unbias_m * m, divisor, s.root), {"m": m, "v": v} | v_max
