"""AdEMAMix of xlstm-jax (apple/ml-ademamix's code for Optax), as vectors worked out by hand.

No package carries that code. Its formulas, with schedules that count from 0:

    m1 = b1 m1 + (1 - b1) g;  m2 = b3 m2 + (1 - b3) g;  v = b2 v + (1 - b2) g^2
    m1^ = m1/(1 - b1^t);  v^ = v/(1 - b2^t)
    p = p - lr ((m1^ + alpha m2)/(sqrt(v^ + eps_root) + eps) + weight_decay p)

Here lr = 1/2, b1 = 1/2, b2 = 3/4, eps = 1/2, weight_decay = 1/4. The numbers were computed with 60
decimal digits and rounded once, to float64.
"""

from __future__ import annotations

from samestep.conformance.dialects import Vector

NAME = "xlstm"

START = [1.0, -2.0, 0.5]
GRADS = [
    [4.0, -1.0, 0.0],
    [-2.0, 3.0, 0.0],
    [1.0, 0.5, 8.0],
    [-3.0, 2.0, 1.0],
    [2.0, -4.0, -2.0],
]


def alpha(step: int) -> float:
    """What alpha_scheduler(8.0, 0.0, warmup=4) returns."""
    return 2.0 * min(step, 4)


def beta3(step: int) -> float:
    """What beta3_scheduler(2**-0.2, 0.5, warmup=4) returns."""
    return float(2.0 ** (-1 / (1 + min(step, 4))))


VECTORS = [
    # p = p - (m1^ + 5 m2)/(sqrt(v^ + 1/4) + 1/2)/2 - p/8, with b3 = 7/8.
    # First element: m1^ = 4, m2 = 4/8, v^ = 16, p = 1 - 6.5/(sqrt(16.25) + 0.5)/2 - 0.125.
    Vector(
        "AdEMAMix",
        {
            "lr": 0.5,
            "betas": (0.5, 0.75, 0.875),
            "alpha": 5.0,
            "eps": 0.5,
            "eps_root": 0.25,
            "weight_decay": 0.25,
        },
        START,
        GRADS[:3],
        {
            "param": [
                [0.15773944743842855, -1.2478473841407105, 0.4375],
                [0.00652710962685056, -1.6059472442815992, 0.3828125],
                [-0.33924985779795347, -1.9259027400202764, -0.49237677475708974],
            ],
            "m1": [
                [2.0, -0.5, 0.0],
                [0.0, 1.25, 0.0],
                [0.5, 0.875, 4.0],
            ],
            "m2": [
                [0.5, -0.125, 0.0],
                [0.1875, 0.265625, 0.0],
                [0.2890625, 0.294921875, 1.0],
            ],
            "v": [
                [4.0, 0.25, 0.0],
                [4.0, 2.4375, 0.0],
                [3.25, 1.890625, 16.0],
            ],
        },
    ),
    # alpha_scheduler(8, 0, warmup=4) gives 0, 2, 4, 6, 8. beta3_scheduler(2**-0.2, 0.5, warmup=4)
    # is linear in the half-life, 1 at 0.5 and 5 at 2**-0.2: 2**(-1/(1 + k)), k = 0, 1, 2, 3, 4.
    # First element: alpha = 0, m1^ = 4, m2 = 4/2, v^ = 16, p = 1 - 4/4.5/2 - 0.125.
    Vector(
        "AdEMAMix",
        {
            "lr": 0.5,
            "betas": (0.5, 0.75, beta3),
            "alpha": alpha,
            "eps": 0.5,
            "weight_decay": 0.25,
        },
        START,
        GRADS,
        {
            "param": [
                [0.4305555555555556, -1.4166666666666667, 0.4375],
                [0.14163567296271035, -1.7145048806418162, 0.3828125],
                [-0.5773443656913095, -2.1672741184629984, -0.6347893221717916],
                [-0.5310072920286015, -3.170319879251852, -1.8176051874450165],
                [-1.1793624957254922, -2.742768647866679, -2.6687134499600336],
            ],
            "m1": [
                [2.0, -0.5, 0.0],
                [0.0, 1.25, 0.0],
                [0.5, 0.875, 4.0],
                [-1.25, 1.4375, 2.5],
                [0.375, -1.28125, 0.25],
            ],
            "m2": [
                [2.0, -0.5, 0.0],
                [0.8284271247461901, 0.5251262658470837, 0.0],
                [0.8638225186664468, 0.5199427304188466, 1.650395792127202],
                [0.24907450512319362, 0.7554251476390075, 1.5469154900958644],
                [0.47573082414545126, 0.1398380409896923, 1.087769277866703],
            ],
            "v": [
                [4.0, 0.25, 0.0],
                [4.0, 2.4375, 0.0],
                [3.25, 1.890625, 16.0],
                [4.6875, 2.41796875, 12.25],
                [4.515625, 5.8134765625, 10.1875],
            ],
        },
    ),
]
