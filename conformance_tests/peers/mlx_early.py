"""MLX's first optimizers, of December 2023, as vectors worked out by hand.

No package that can be installed carries that code any more. The vectors follow its formulas, which
stand above each: SGD ignored weight decay without momentum, AdaDelta wrote its average of squared
steps under one name and read it under another (as 0), Adam had no bias correction and started m at
the first gradient and v at its square, Lion started m at the first gradient.

The numbers were computed with 60 decimal digits and rounded once, to float64.
"""

from __future__ import annotations

from . import Vector

NAME = "mlx-0.0"

START = [1.0, -2.0, 0.5]
GRADS = [[4.0, -1.0, 0.0], [-2.0, 3.0, 0.0], [1.0, 0.5, 8.0]]

VECTORS = [
    # p = p - g/2. Weight decay is ignored: without momentum, the code returned before it.
    Vector(
        "SGD",
        {"lr": 0.5, "weight_decay": 0.1},
        START,
        GRADS,
        {
            "param": [
                [-1.0, -1.5, 0.5],
                [0.0, -3.0, 0.5],
                [-0.5, -3.25, -3.5],
            ],
        },
    ),
    # g = grad + p/10;  m = m/2 + 3/4 g  (dampening from the first step on);  p = p - m/2.
    # First element: g = 4.1, m = 3.075, p = 1 - 1.5375.
    Vector(
        "SGD",
        {"lr": 0.5, "momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1},
        START,
        GRADS,
        {
            "param": [
                [-0.5375, -1.55, 0.48125],
                [-0.53609375, -2.391875, 0.453828125],
                [-0.890287109375, -2.9106171875, -2.5769013671875],
            ],
            "m": [
                [3.075, -0.9, 0.0375],
                [-0.0028125, 1.68375, 0.05484375],
                [0.70838671875, 1.037484375, 6.061458984375],
            ],
        },
    ),
    # g = grad + p/10;  m = m/2 + g;  p = p - (g + m/2)/2.
    # First element: g = m = 4.1, p = 1 - 6.15/2.
    Vector(
        "SGD",
        {"lr": 0.5, "momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
        START,
        GRADS,
        {
            "param": [
                [-2.075, -1.1, 0.4625],
                [-0.931875, -3.1175, 0.4215625],
                [-1.592296875, -3.5449375, -5.6189609375],
            ],
            "m": [
                [4.1, -1.2, 0.05],
                [-0.1575, 2.29, 0.07125],
                [0.8280625, 1.33325, 8.07778125],
            ],
        },
    ),
    # v = 3/4 v + g^2/4;  p = p - g/2 / (sqrt(v) + 1/2).
    # First element: v = 4, p = 1 - 2/2.5.
    Vector(
        "RMSprop",
        {"lr": 0.5, "alpha": 0.75, "eps": 0.5},
        START,
        GRADS,
        {
            "param": [
                [0.2, -1.5, 0.5],
                [0.6, -2.2277139425825827, 0.5],
                [0.38287072704466757, -2.361047275915916, -0.3888888888888889],
            ],
            "v": [
                [4.0, 0.25, 0.0],
                [4.0, 2.4375, 0.0],
                [3.25, 1.890625, 16.0],
            ],
        },
    ),
    # v = v + g^2;  p = p - g/2 / (sqrt(v) + 1/2).
    # First element: v = 16, p = 1 - 2/4.5.
    Vector(
        "Adagrad",
        {"lr": 0.5, "eps": 0.5},
        START,
        GRADS,
        {
            "param": [
                [0.5555555555555556, -1.6666666666666667, 0.5],
                [0.7566763634036355, -2.0762478451541098, 0.5],
                [0.6583010454528924, -2.1437868981220203, 0.029411764705882353],
            ],
            "v": [
                [16.0, 1.0, 0.0],
                [20.0, 10.0, 0.0],
                [21.0, 10.25, 64.0],
            ],
        },
    ),
    # v = 3/4 v + g^2/4;  d = sqrt(0 + 1/4) / sqrt(v + 1/4) g;  u = d^2/4, never read;  p = p - 2 d.
    # First element: v = 4, d = 2/sqrt(4.25), u = 4/4.25/4 = 4/17, p = 1 - 4/sqrt(4.25).
    Vector(
        "AdaDelta",
        {"lr": 2.0, "rho": 0.75, "eps": 0.25},
        START,
        GRADS,
        {
            "param": [
                [-0.9402850002906638, -0.585786437626905, 0.5],
                [0.029857499854668106, -2.415769281618161, 0.5],
                [-0.5046649839701807, -2.7575123447048653, -1.4845557534273353],
            ],
            "v": [
                [4.0, 0.25, 0.0],
                [4.0, 2.4375, 0.0],
                [3.25, 1.890625, 16.0],
            ],
            "u": [
                [0.23529411764705882, 0.125, 0.0],
                [0.058823529411764705, 0.20930232558139536, 0.0],
                [0.017857142857142856, 0.0072992700729927005, 0.24615384615384617],
            ],
        },
    ),
    # m = m/2 + g/2 from m = g;  v = 3/4 v + g^2/4 from v = g^2;  p = p - m/2 / (sqrt(v) + 1/2).
    # First element: m = 4, v = 16, p = 1 - 2/4.5; then m = 1, v = 12 + 1 = 13.
    Vector(
        "Adam",
        {"lr": 0.5, "betas": (0.5, 0.75), "eps": 0.5},
        START,
        GRADS,
        {
            "param": [
                [0.5555555555555556, -1.6666666666666667, 0.5],
                [0.433769231027556, -1.8906759044064625, 0.5],
                [0.29724217153174165, -2.076256019420018, 0.05555555555555555],
            ],
            "m": [
                [4.0, -1.0, 0.0],
                [1.0, 1.0, 0.0],
                [1.0, 0.75, 4.0],
            ],
            "v": [
                [16.0, 1.0, 0.0],
                [13.0, 3.0, 0.0],
                [10.0, 2.3125, 16.0],
            ],
        },
    ),
    # The same after p = p (1 - 1/2 1/4). First element: p = 0.875 - 2/4.5.
    Vector(
        "AdamW",
        {"lr": 0.5, "betas": (0.5, 0.75), "eps": 0.5, "weight_decay": 0.25},
        START,
        GRADS,
        {
            "param": [
                [0.4305555555555556, -1.4166666666666667, 0.4375],
                [0.2549497865831115, -1.4635925710731292, 0.3828125],
                [0.08655400376440826, -1.4662236147025436, -0.10948350694444445],
            ],
            "m": [
                [4.0, -1.0, 0.0],
                [1.0, 1.0, 0.0],
                [1.0, 0.75, 4.0],
            ],
            "v": [
                [16.0, 1.0, 0.0],
                [13.0, 3.0, 0.0],
                [10.0, 2.3125, 16.0],
            ],
        },
    ),
    # m = m/2 + g/2;  u = max(3/4 u, |g|);  p = p - m/2 / (u + 1/2).
    # First element: m = 2, u = 4, p = 1 - 1/4.5; then m = 0.
    Vector(
        "Adamax",
        {"lr": 0.5, "betas": (0.5, 0.75), "eps": 0.5},
        START,
        GRADS,
        {
            "param": [
                [0.7777777777777778, -1.8333333333333333, 0.5],
                [0.7777777777777778, -2.011904761904762, 0.5],
                [0.6868686868686869, -2.170995670995671, 0.2647058823529412],
            ],
            "m": [
                [2.0, -0.5, 0.0],
                [0.0, 1.25, 0.0],
                [0.5, 0.875, 4.0],
            ],
            "u": [
                [4.0, 1.0, 0.0],
                [3.0, 3.0, 0.0],
                [2.25, 2.25, 8.0],
            ],
        },
    ),
    # c = m/2 + g/2, where m = g before the first step;  m = 3/4 m + g/4;
    # p = p (1 - 1/8) - sign(c)/2.
    # First element: c = m = 4, p = 0.875 - 0.5; then c = 1, m = 3 - 0.5.
    Vector(
        "Lion",
        {"lr": 0.5, "betas": (0.5, 0.75), "weight_decay": 0.25},
        START,
        GRADS,
        {
            "param": [
                [0.375, -1.25, 0.4375],
                [-0.171875, -1.59375, 0.3828125],
                [-0.650390625, -1.89453125, -0.1650390625],
            ],
            "m": [
                [4.0, -1.0, 0.0],
                [2.5, 0.0, 0.0],
                [2.125, 0.125, 2.0],
            ],
        },
    ),
]
