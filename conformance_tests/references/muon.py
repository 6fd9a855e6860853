"""Reference for Muon."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._reference import Array, Reference

JORDAN = (3.4445, -4.7750, 2.0315)
QUINTIC = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


def express() -> list[tuple[float, ...]]:
    """The list of the authors of Polar Express, divided by 1.01^degree but for the last."""
    printed = [
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
        (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
        (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    ]
    scaled = [tuple(v / 1.01**d for v, d in zip(abc, (1, 3, 5), strict=True)) for abc in printed]
    return [*scaled, (1.875, -1.25, 0.375)]


PRINTED: dict[str, tuple[Any, float]] = {
    "jordan": ([JORDAN], 1.0),
    "quintic": (QUINTIC, 1.0),
    "polar_express": (express(), 1.01),
    "polar_express_5": (
        [
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ],
        1.02,
    ),
    "cans": (
        [
            (8.4703, -25.1081, 18.6293),
            (4.1828, -3.1087, 0.5806),
            (3.9619, -2.9541, 0.5630),
            (3.2866, -2.4647, 0.5074),
            (2.2737, -1.6447, 0.4162),
        ],
        1.0,
    ),
    "deepseek": ([JORDAN] * 8 + [(2.0, -1.5, 0.5)] * 2, 1.0),
}
"""Coefficients, and the factor of the norm that goes with them.

Sources: KellerJordan/Muon; modded-nanogpt, train_gpt_medium.py of 2025; Amsel et al., arXiv
2505.16932; microsoft/dion, polar_express.py; Emerging-Optimizers, muon_utils.py, for Grishina et
al., arXiv 2506.10935, and for DeepSeek-V4.
"""


class Orthogonal(Reference):
    """Momentum, orthogonalised as a matrix by Newton-Schulz iterations.

    Source: KellerJordan/Muon, muon.py, and Jordan et al., "Muon: An optimizer for hidden
    layers in neural networks" (2024). The iteration runs in float64, not in bfloat16. Rows
    are the output axis (first with layout "oi", last with "io"), columns all other axes
    together. The code takes the final scale of a convolution from its kernel's two sides;
    this takes it from rows and columns of the matrix.
    """

    both_corrected, look_ahead, scale_axes = False, "momentum", "all"

    def slots(self, p: Array) -> dict[str, Array]:
        """The momentum, zero."""
        return {"m": np.zeros_like(p)}

    def orthogonalise(self, matrix: Array) -> Array:
        """Return the matrix with its singular values taken near 1."""
        given = self.ns_coefficients
        triples, safety = PRINTED[given] if isinstance(given, str) else (given, 1.0)
        rows, cols = matrix.shape
        x: Array = matrix.T if rows > cols else matrix
        size = safety * np.sqrt(np.sum(x**2))
        kind, eps = self.ns_guard
        x = x / (size + eps if kind == "sum" else max(size, eps))
        for i in range(self.ns_steps):
            at = i % len(triples) if self.ns_beyond == "cycle" else min(i, len(triples) - 1)
            a, b, c = triples[at]
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x.T if rows > cols else x

    def look(self, g: Array, m: Array) -> Array:
        """Update the momentum in place; return what is orthogonalised."""
        beta = self.momentum
        fresh = 1 - beta if self.momentum_form == "mean" else 1.0
        m[...] = beta * m + fresh * g
        if self.both_corrected:
            gained = 1 - beta**self.t
            later = beta * m / (1 - beta ** (self.t + 1)) + (1 - beta) * g / gained
            return later if self.nesterov else m / gained
        if not self.nesterov:
            return m
        return m + g if self.look_ahead == "gradient" else beta * m + fresh * g

    def scaling(self, rows: int, cols: int) -> float:
        """Return the factor of the orthogonalised matrix."""
        if self.scale == "shape":
            return math.sqrt(max(1, rows / cols))
        if self.scale == "unit_rms":
            return math.sqrt(rows / cols)
        longer = math.sqrt(max(rows, cols))
        return {"spectral": longer, "match_rms": 0.2 * longer, "none": 1.0}[self.scale]

    def matrix(self, u: Array) -> Array:
        """Return an array as its matrix, a row for each output."""
        u = np.moveaxis(u, -1 if self.layout == "io" else 0, 0)
        return u.reshape(u.shape[0], -1)

    def shaped(self, matrix: Array, p: Array) -> Array:
        """Return a matrix as an array like a parameter."""
        outputs = -1 if self.layout == "io" else 0
        return np.moveaxis(matrix.reshape(np.moveaxis(p, outputs, 0).shape), 0, outputs)

    def length(self, before: Array, after: Array) -> Array:
        """Return the matrix after with the length that ``norm_to`` says."""
        if self.norm_to == "none":
            return after
        long = np.linalg.norm(before) if self.norm_to == "before" else np.sqrt(min(before.shape))
        return np.asarray(after * long / (np.linalg.norm(after) + self.eps))


class Muon(Orthogonal):
    """The orthogonalised momentum, scaled by its sides."""

    def change(self, p: Array, g: Array, m: Array) -> Array:
        """Return lr times the orthogonalised momentum, scaled by its sides."""
        matrix = self.matrix(self.look(g, m))
        sides = matrix.shape if self.scale_axes == "all" else p.shape[-2:]
        if self.scale_axes == "inputs" and p.ndim > 2 and self.layout == "oi":
            sides = p.shape[-1], p.shape[1]  # of OIHW, where the library keeps OHWI
        return self.lr * self.scaling(*sides) * self.shaped(self.orthogonalise(matrix), p)
