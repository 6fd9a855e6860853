from samestep.vocabulary import option, preset

from .adam import Adam


class AMSGrad(Adam):
    """AMSGrad: Adam that divides by the largest mean square so far.

        v_max = max(v_max, v)
        param = param - lr m_hat / (sqrt(v_max_hat) + eps)

    with m, v and the corrections (of v_max by 1 - beta2^t) as in Adam. amsgrad="corrected" takes
    the maximum of the corrected v instead; then v_max needs no correction.

    Source: Reddi, Kale and Kumar, "On the convergence of Adam and beyond", arXiv 1904.09237,
        Algorithm 2, with Adam's bias correction, which the paper leaves out.
    Agrees with: torch.optim.Adam(amsgrad=True); optax.amsgrad with amsgrad="corrected".
    Differs from: optax.amsgrad, which takes the other reading (optax#1389); keras and labml in the
        place and size of eps.
    Shapes: grad, param, m, v and v_max are equal, any shape.
    """

    amsgrad = option(
        True, "take the maximum before the correction of v, or after", choices=(True, "corrected")
    )
    dialects = {
        "torch": preset(of="torch.optim.Adam(amsgrad=True)"),
        "optax": preset(amsgrad="corrected"),
        "keras": preset(
            of="keras.optimizers.Adam(amsgrad=True)",
            eps=1e-7,
            eps_at="uncorrected",
            decay="decoupled",
        ),
        "paper": preset("no bias correction", of="Algorithm 2", bias_correction=False),
        "labml": preset(eps=1e-16, eps_at="uncorrected", decay="decoupled"),
    }
