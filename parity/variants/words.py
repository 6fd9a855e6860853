"""What the values of options say in words: what a library does that has them.

Braces are filled with the numbers of the rule. An option that is not here is said by its name and
its declared meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samestep.declaration import Hyper

from .variant import Variant

__all__ = ["does", "number_shown"]

SAID: Mapping[tuple[str, Any], str] = {
    ("amsgrad", False): "divides by the root of v as it is now",
    ("amsgrad", True): "divides by the largest v so far, taken before its correction",
    ("amsgrad", "corrected"): "divides by the largest v so far, taken after its correction",
    ("bias_correction", False): "does not correct its averages for their start at zero",
    ("bias_correction", True): "corrects its averages for their start at zero",
    ("centered", False): "divides by the root mean square",
    ("centered", True): "divides by the standard deviation",
    ("decay", "l2"): "adds weight_decay times the parameter to the gradient",
    ("decay", "decoupled"): "removes lr * weight_decay of the parameter, apart from the gradient",
    ("decay", "absolute"): "removes weight_decay of the parameter, not multiplied by lr",
    ("decay", "proximal"): "divides the parameter by 1 + lr * weight_decay after the step",
    ("decay", "in_update"): "adds weight_decay times the parameter to the update",
    ("decay", "l2+proximal"): "decays twice: in the gradient, and by division after the step",
    ("difference_weight", "beta2"): "weights the gradient difference by b2 = {betas[1]:.3g}",
    (
        "difference_weight",
        "1-beta2",
    ): "weights the gradient difference by 1 - b2 = {complement:.3g}",
    ("eps_at", "added"): "adds eps to the squared gradient",
    ("eps_at", "clamped"): "bounds the mean square from below by eps",
    ("keep_previous", False): "never stores the gradient of the step before",
    ("keep_previous", True): "stores the gradient of the step before",
    ("lag", False): "applies each update at once",
    ("lag", True): "applies the update of the step before",
    ("lr_at", "inside"): "multiplies by lr before the momentum",
    ("lr_at", "outside"): "multiplies by lr after the momentum",
    ("maximize", False): "descends",
    ("maximize", True): "ascends: the sign of its step is turned",
    ("momentum_form", "mean"): "keeps a mean of the steps as momentum",
    ("momentum_form", "sum"): "keeps a decaying sum of the steps as momentum",
    ("momentum_schedule", False): "keeps the momentum at beta1 = {betas[0]:g}",
    (
        "momentum_schedule",
        True,
    ): "lets the momentum grow as beta1 (1 - 0.96^(t {momentum_decay:g}) / 2)",
    ("momentum_start", "gradient"): "starts the momentum at the first gradient",
    ("momentum_start", "zero"): "starts the momentum at zero",
    ("nesterov", False): "does not look ahead",
    ("nesterov", True): "looks one step of momentum ahead",
    ("scale_at", "after"): "scales by the parameter's RMS after its decay",
    ("scale_at", "before"): "scales by the parameter's RMS before its decay",
    ("layout", "io"): "takes the last axis of a matrix for the outputs",
    ("layout", "oi"): "takes the first axis of a matrix for the outputs",
    ("start", "gradient"): "starts its averages at the first gradient",
    ("start", "zero"): "starts its averages at zero",
}
PLACES = {
    "outside": "adds eps = {eps:g} to the root",
    "uncorrected": "adds eps = {eps:g} to the root before its correction",
    "inside": "adds eps = {eps:g} under the root",
}
OF_THE_MAXIMUM = {
    "outside": "adds eps = {eps:g} to the divisor, after the maximum",
    "inside": "adds eps = {eps:g} to the gradient's size, inside the maximum",
}


def does(variant: Variant, field: str) -> str:
    """What a variant does where others have another value of a field."""
    made = variant.made()
    assert made is not None
    declared = made.fields()[field]
    numbers = {**made.hypers}
    numbers["complement"] = 1 - numbers["betas"][1] if len(numbers.get("betas", ())) > 1 else 0.0
    value = made.hypers[field]
    said = SAID.get((field, value))
    if field == "eps_at" and said is None:
        places = OF_THE_MAXIMUM if "u" in made.slots() else PLACES
        said = places.get(value)
    if said is None or isinstance(declared, Hyper):
        return f"has {field} = {number_shown(value)} ({declared.meaning})"
    return said.format(**numbers)


def number_shown(value: Any) -> str:
    """A number as people write it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(number_shown, value))})"
    return "a schedule" if callable(value) else repr(value)
