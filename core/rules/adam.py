from samestep.vocabulary import Rule, preset

from .adamw import AdamW


class Adam(AdamW):
    """Adam: a step along the mean gradient, in units of its root mean square.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) grad^2
        m_hat = m / (1 - beta1^t),  v_hat = v / (1 - beta2^t)
        param = param - lr m_hat / (sqrt(v_hat) + eps)

    Weight decay, if any, is coupled: weight_decay param is added to the gradient first.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980,
        Algorithm 1 (eps added to the root of the corrected v).
    Agrees with: torch.optim.Adam; optax.adam; mlx.optimizers.Adam(bias_correction=True).
    Differs from: mlx.optimizers.Adam by default, which leaves the bias correction out (first step
        3.16 times as long); keras.optimizers.Adam, which adds eps = 1e-7 before the correction;
        labml's Adam, where optimized_update=True adds 1e-16 there (False: eps_at="outside"), and
        whose text has 1 - beta2^t where its root is meant. MLX 0.0 says it follows the paper,
        which corrects the bias and starts at zero.
    Shapes: grad, param, m and v are equal, any shape.
    """

    weight_decay = Rule.weight_decay
    decay = Rule.decay.replaced(default="l2")
    dialects = {
        "torch": preset(),
        "optax": preset(),
        "mlx": preset("no bias correction", bias_correction=False),
        "keras": preset(eps=1e-7, eps_at="uncorrected", decay="decoupled"),
        "paper": preset(),
        "mlx-0.0": preset("no bias correction", bias_correction=False, start="gradient"),
        "jax-example": preset(),
        "labml": preset(eps=1e-16, eps_at="uncorrected", decay="decoupled"),
    }
