"""Muon's arithmetic: momentum, its orthogonalisation as a matrix, and the scale of the step.

    m     = momentum m + (1 - momentum) grad         (momentum_form "sum": + grad)
    look  = momentum m + (1 - momentum) grad         (the same; m itself without nesterov)
    x     = look / guarded norm of look
    x     = a x + (b x x' + c (x x')^2) x,           for the (a, b, c) of every step
    scale = sqrt(max(1, outputs/inputs))             (or as ``scale`` says)

A rule takes over the declarations, ``refuse_short`` as its ``validate`` and ``gains`` as its
``scalars``, and calls ``looked_ahead``, ``orthogonalized`` and ``factor`` in its ``direction``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from samestep.arrays import cast
from samestep.declaration import Initial, Option, hyper, option
from samestep.parts import momentum as momenta
from samestep.parts.matrix import narrowed
from samestep.parts.moments import lost, quotient
from samestep.precisions import precision
from samestep.vocabulary import at_least, ema, norm, sqrt, weights, whole

__all__ = [
    "SETS",
    "adaptive_gains",
    "amplified",
    "coefficients",
    "factor",
    "gains",
    "lines",
    "looked_ahead",
    "mean_along",
    "normalized",
    "orthogonalize",
    "orthogonalized",
    "refuse_short",
    "rescaled",
]

Array = Any
Triple = tuple[float, float, float]


class Schedule(NamedTuple):
    """The coefficients of an iteration, one triple for each step."""

    steps: tuple[Triple, ...]
    safety: float = 1.0
    """The factor of the norm that the coefficients are made for."""
    shorter: bool = True
    """Whether the first steps alone are an iteration, too."""
    amplifies: float = 1
    """How much more than ``jordan`` the iteration amplifies a rounding."""


_JORDAN = (3.4445, -4.7750, 2.0315)
_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)

SETS: Mapping[str, Schedule] = {
    "jordan": Schedule((_JORDAN,)),
    "quintic": Schedule(
        (
            (4.0848, -6.8946, 2.9270),
            (3.9505, -6.3029, 2.6377),
            (3.7418, -5.5913, 2.3037),
            (2.8769, -3.1427, 1.2046),
            (2.8366, -3.0525, 1.2012),
        ),
        shorter=False,
    ),
    "polar_express": Schedule(
        (
            *((a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in _POLAR_EXPRESS),
            (1.875, -1.25, 0.375),
        ),
        safety=1.01,
    ),
    "polar_express_5": Schedule(
        (
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ),
        safety=1.02,
        shorter=False,
        amplifies=5,
    ),
    "cans": Schedule(
        (
            (8.4703, -25.1081, 18.6293),
            (4.1828, -3.1087, 0.5806),
            (3.9619, -2.9541, 0.5630),
            (3.2866, -2.4647, 0.5074),
            (2.2737, -1.6447, 0.4162),
        ),
        shorter=False,
        amplifies=25,
    ),
    "deepseek": Schedule((*[_JORDAN] * 8, *[(2.0, -1.5, 0.5)] * 2), shorter=False),
}
"""By name.

``jordan``: Keller Jordan's Muon, 2024. ``quintic``: modded-nanogpt of 2025, by leloykun's method;
optax calls it dion. ``polar_express``: Amsel et al., arXiv 2505.16932, Algorithm 1, with its safety
factor of 1.01. ``polar_express_5``: the same method for five steps, as in modded-nanogpt and dion.
``cans``: Grishina et al., arXiv 2506.10935, and ``deepseek``: DeepSeek-V4's report, in the numbers
that NVIDIA's Emerging-Optimizers has.
"""


@dataclass(frozen=True, eq=False)
class _Coefficients(Option):
    """The name of a set, a triple of numbers, or a tuple of triples."""

    annotation = "str | tuple[float, float, float] | tuple[tuple[float, float, float], ...]"

    @property
    def range(self) -> str:
        """The allowed values in words."""
        return f"{super().range}, three numbers (a, b, c), or several such triples"

    def validated(self, rule: str, value: Any) -> Any:
        """The value to store: a name, or triples of floats."""
        if isinstance(value, str) or not isinstance(value, (tuple, list)):
            return super().validated(rule, value)
        triples = [value] if len(value) == 3 and not isinstance(value[0], (tuple, list)) else value
        for triple in triples:
            fits = isinstance(triple, (tuple, list)) and len(triple) == 3
            if not (fits and all(type(number) in (int, float) for number in triple)):
                raise self._refusal(rule, value)
        if not triples:
            raise self._refusal(rule, value)
        return tuple(tuple(map(float, triple)) for triple in triples)


@dataclass(frozen=True, eq=False)
class _Guard(Option):
    """A word, and the small number that goes with it."""

    annotation = "tuple[str, float]"

    @property
    def range(self) -> str:
        """The allowed values in words."""
        return "('sum', eps) for norm + eps, or ('max', eps) for max(norm, eps), eps > 0"

    def validated(self, rule: str, value: Any) -> Any:
        """The value to store: the word and a float."""
        pair = isinstance(value, (tuple, list)) and len(value) == 2
        if pair and value[0] in ("sum", "max") and type(value[1]) in (int, float) and value[1] > 0:
            return value[0], float(value[1])
        raise self._refusal(rule, value)


momentum = hyper(0.95, "decay per step of m", unit="1/step", ge=0, lt=1)
nesterov = option(
    True,
    "look one step of momentum ahead",
    says={True: "looks one step of momentum ahead", False: "does not look ahead"},
)
momentum_form = momenta.momentum_form.replaced(default="mean")
scale = option(
    "shape",
    "what the step is multiplied by: shape: sqrt(max(1, outputs/inputs)); "
    "unit_rms: sqrt(outputs/inputs); spectral: sqrt(max(outputs, inputs)); match_rms: 0.2 of that",
    choices=("shape", "unit_rms", "spectral", "match_rms", "none"),
    says={
        "shape": "multiplies the step by sqrt(max(1, outputs / inputs))",
        "unit_rms": "multiplies the step by sqrt(outputs / inputs)",
        "spectral": "multiplies the step by sqrt(max(outputs, inputs))",
        "match_rms": "multiplies the step by 0.2 sqrt(max(outputs, inputs))",
        "none": "multiplies the step by nothing for its shape",
    },
)
norm_to = option(
    "before",
    "length of the normalised step, before scale: before: that of NS; rank: sqrt(min(outputs, "
    "inputs)), that of an orthogonal matrix; none: its own",
    choices=("before", "rank", "none"),
    says={
        "before": "gives the normalised step the length that it had before",
        "rank": "gives the normalised step the length of an orthogonal matrix",
        "none": "leaves the normalised step as long as it is",
    },
)
per = option(
    "output",
    "v is one for each output, or for each line of the longer side",
    choices=("output", "longer"),
    says={
        "output": "keeps a mean square for each output",
        "longer": "keeps a mean square for each line of the longer side",
    },
)
ns_steps = option(5, "Newton-Schulz iterations", ge=1)
ns_coefficients = _Coefficients("jordan", "a, b and c of the iterations", tuple(SETS))
ns_beyond = option(
    "last",
    "what iterations beyond the coefficients take: the last ones again, or all in turn",
    choices=("last", "cycle"),
)
ns_guard = _Guard(("sum", 1e-7), "what the norm is kept above 0 by")
ns_dtype = precision("dtype of the products in Newton-Schulz", bfloat16=0.05)


def coefficients(rule: Any) -> tuple[tuple[Triple, ...], float]:
    """The triple of each step of a rule, and the factor of the norm."""
    steps, safety, *_ = _schedule(rule)
    number = rule.ns_steps
    rest = steps if rule.ns_beyond == "cycle" else steps[-1:]
    return (steps + rest * number)[:number], safety


def _schedule(rule: Any) -> Schedule:
    given = rule.ns_coefficients
    return SETS[given] if isinstance(given, str) else Schedule(given)


def amplified(by: float = 1) -> Any:
    """``amplifies`` of a rule, whose own arithmetic amplifies a rounding of NS by a number."""
    return property(lambda rule: by * _schedule(rule).amplifies)


def refuse_short(rule: Any) -> None:
    """Raise if an iteration would end before the steps that its coefficients are made for."""
    known = SETS.get(rule.ns_coefficients) if isinstance(rule.ns_coefficients, str) else None
    if known and not known.shorter and rule.ns_steps < len(known.steps):
        raise ValueError(
            f"{rule.name}(ns_coefficients={rule.ns_coefficients!r}, ns_steps={rule.ns_steps}): "
            f"the coefficients are made for {len(known.steps)} steps, of which the last would be "
            "missing; give more steps, or the triples themselves"
        )


def gains(rule: Any, xp: Any, t: Any) -> dict[str, Any]:
    """``weights``: of the old m and of the gradient."""
    mean = weights(rule.momentum)
    return {"weights": mean if rule.momentum_form == "mean" else (rule.momentum, 1.0)}


def adaptive_gains(rule: Any, xp: Any, t: Any) -> dict[str, Any]:
    """``gains``, and for a rule with ``beta2`` and ``eps`` what ``normalized`` needs."""
    return gains(rule, xp, t) | {"square": weights(rule.beta2), "vanishes": lost(rule.eps)}


def looked_ahead(rule: Any, m: Array, grad: Array, s: Any) -> Array:
    """The momentum that is orthogonalised: of one step later with nesterov."""
    return ema(m, grad, s.weights) if rule.nesterov else m


def factor(rule: Any, sides: tuple[int, ...], shape: tuple[int, ...]) -> float:
    """What ``scale`` multiplies the step by, for a matrix of a parameter of that shape."""
    outputs, inputs = sides
    longer, ratio = float(max(outputs, inputs)), outputs / max(1, inputs)
    found = {
        "shape": max(1.0, ratio),
        "unit_rms": ratio,
        "spectral": longer,
        "match_rms": 0.04 * longer,
        "none": 1.0,
    }
    return float(found[rule.scale] ** 0.5)


def orthogonalized(rule: Any, xp: Any, matrix: Array) -> Array:
    """The matrix, orthogonalised as the options of a rule say."""
    steps, safety = coefficients(rule)
    return orthogonalize(xp, matrix, steps, rule.ns_guard, safety, rule.ns_dtype)


def _averaged(shape: tuple[int, ...], rule: Any) -> tuple[int, ...]:
    """The axes over which the square is averaged."""
    by_output = rule.per == "output" or shape[0] >= math.prod(shape[1:])
    return tuple(range(1, len(shape))) if by_output else (0,)


lines = Initial(
    lambda xp, param, rule: xp.sum(
        xp.zeros_like(param), axis=_averaged(param.shape, rule), keepdims=True
    ),
    lambda shape, rule: tuple(
        1 if axis in _averaged(shape, rule) else size for axis, size in enumerate(shape)
    ),
)
"""Initialiser of a slot: one zero for each output, or as ``per`` says."""


def mean_along(rule: Any, xp: Any, square: Array) -> Array:
    """The mean of a matrix for each output, or as ``per`` says; a matrix of one column or row."""
    return xp.mean(square, axis=_averaged(square.shape, rule)[0], keepdims=True)


def normalized(xp: Any, x: Array, v: Array, s: Any) -> Array:
    """A matrix over the root of its mean square."""
    return quotient(xp, x, sqrt(xp, v) + s.eps, s.vanishes)


def rescaled(rule: Any, xp: Any, before: Array, after: Array, s: Any) -> Array:
    """A matrix after a normalisation, with the length that ``norm_to`` says."""
    if rule.norm_to == "none":
        return after
    rank = float(min(before.shape))
    length = norm(xp, before) if rule.norm_to == "before" else rank**0.5
    return length * quotient(xp, after, norm(xp, after) + s.eps, s.vanishes)


@whole
def orthogonalize(
    xp: Any,
    matrix: Array,
    steps: tuple[Triple, ...] = (_JORDAN,) * 5,
    guard: tuple[str, float] = ("sum", 1e-7),
    safety: float = 1.0,
    dtype: str = "float32",
) -> Array:
    """The matrix, of the same shape, with singular values driven towards 1.

    The Newton-Schulz iteration runs on the matrix or its transpose, whichever has the smaller Gram
    matrix. Products are in ``dtype``.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = xp.matrix_transpose(matrix) if tall else matrix
    kind, eps = guard
    size = norm(xp, x) if safety == 1 else safety * norm(xp, x)
    x = x / (size + eps if kind == "sum" else at_least(xp, size, eps))
    product = xp.matmul if dtype == "float32" else partial(_narrow_product, xp, dtype)
    for a, b, c in steps:
        gram = product(x, xp.matrix_transpose(x))
        x = a * x + product(b * gram + c * product(gram, gram), x)
    return xp.matrix_transpose(x) if tall else x


def _narrow_product(xp: Any, dtype: str, one: Array, other: Array) -> Array:
    """The product of matrices in a narrower dtype, in their own."""
    result = xp.matmul(narrowed(xp, one, dtype), narrowed(xp, other, dtype))
    return cast(xp, narrowed(xp, result, dtype), one.dtype)
