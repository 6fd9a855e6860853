from samestep.parts.moments import Moments
from samestep.vocabulary import hyper, preset


class AdamW(Moments):
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

    weight_decay = hyper(
        1e-2, "fraction of the parameter removed per step, times lr", unit="1/lr", ge=0, typical=0.1
    )
    dialects = {
        "torch": preset(),
        "optax": preset(decay="in_update", weight_decay=1e-4),
        "mlx": preset("no bias correction", bias_correction=False),
        "keras": preset(eps=1e-7, eps_at="uncorrected", weight_decay=4e-3),
        "paper": preset("decay not times lr", of="Algorithm 2", decay="absolute", weight_decay=0.0),
        "mlx-0.0": preset("no bias correction", bias_correction=False, start="gradient"),
    }
