"""Other spellings of our names: mistakes, and the names of other libraries."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "ELSEWHERE",
    "NAMES",
    "absent",
    "did_you_mean",
    "nearest",
    "own_name",
    "resembles",
    "unknown",
]

NAMES: Mapping[str, tuple[str | tuple[str, ...], ...]] = {
    "lr": ("lr", "learning_rate", "step_size"),
    "betas": (
        "betas",
        ("b1", "b2", "b3"),
        ("b1", "b2"),
        ("beta1", "beta2", "beta3"),
        ("beta1", "beta2"),
        ("beta_1", "beta_2", "beta_3"),
        ("beta_1", "beta_2"),
    ),
    "eps": ("eps", "epsilon", ("epsilon_1", "epsilon_2"), ("eps1", "eps2")),
    "weight_decay": ("weight_decay", "wd", "weight_decay_rate"),
    "momentum": ("momentum", "beta", "beta_1", "mu", "mass"),
    "alpha": ("alpha", "decay", "rho", "gamma"),
    "initial_v": ("initial_v", "initial_accumulator_value", "initial_scale"),
    "etas": ("etas", ("eta_minus", "eta_plus")),
    "step_sizes": ("step_sizes", ("min_step_size", "max_step_size")),
    "decay_rate": ("decay_rate", "beta2_decay", "beta_2_decay"),
    "clip_threshold": ("clip_threshold", "clipping_threshold", "d"),
    "d0": ("d0", "estim_lr0"),
    "d_coef": ("d_coef", "estim_lr_coef"),
}
"""The names of our hyperparameters in other libraries; other fields have one name everywhere. The
names in a tuple are arguments for the elements of our tuple."""

PLAIN = ("lr", "eps", "weight_decay")
"""Fields whose names are unambiguous in every library; ``beta`` and ``decay`` are not."""


def _names(field: str) -> list[str]:
    """All names of a field, and of its elements."""
    names = NAMES[field]
    return [part for name in names for part in (name if isinstance(name, tuple) else (name,))]


ELSEWHERE = {
    name: field
    for field in (*PLAIN, "betas")
    for name in _names(field)
    if name not in (field, "beta3")  # which is a hyperparameter of Prodigy's own
} | {"clip_layout": "layout", "center_layout": "layout"}
"""Our hyperparameter for another library's spelling, if it is unambiguous."""


def own_name(name: str, known: Collection[str]) -> str:
    """The name of an argument in an optimizer: ``learning_rate`` for ``lr``, for example.

    Args:
        name: the argument under the name of any library.
        known: the arguments of the optimizer.

    Returns:
        One of ``known``; ``name`` itself if no known name means the same.
    """
    for field in PLAIN if name not in known else ():
        if name in NAMES[field]:
            return next((str(other) for other in NAMES[field] if other in known), name)
    return name


def nearest(name: Any, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names that resemble ``name``, the most similar first; case is ignored."""
    spelled = {other.lower(): other for other in known}
    found = difflib.get_close_matches(str(name).lower(), spelled, most)
    return [spelled[match] for match in found]


def resembles(name: str, known: Iterable[str]) -> str:
    """The known name of four letters or more that is a slip of the pen away, or ""."""
    long = [other for other in known if len(other) >= 4]
    return next(iter(difflib.get_close_matches(name, long, 1, cutoff=0.85)), "")


def did_you_mean(name: Any, known: Iterable[str], *, quoted: bool = False, most: int = 1) -> str:
    """A question for the end of a message about an unknown name; empty if no name is near.

    Args:
        name: the unknown name.
        known: the names that exist.
        quoted: whether the message quotes names.
        most: how many names to suggest.
    """
    near = nearest(name, known, most)
    shown = " or ".join(map(repr, near) if quoted else near)
    return f". Did you mean {shown}?" if near else ""


def unknown(kind: str, name: str, known: list[str]) -> str:
    """A sentence about a name that does not exist, with the known names and the similar ones."""
    question = did_you_mean(name, known, most=3) or "."
    return f"there is no {kind} {name!r}{question} The known ones are {', '.join(known)}."


def absent(rule: Rule, name: str) -> str:
    """The message about an attribute that a rule lacks: who has it, or which fields exist."""
    if name.startswith("_"):
        return f"{type(rule).__name__} has no attribute {name!r}"
    if name in rule.fields():
        return (
            f"{rule.name}: {name} is a number, and numbers do not exist inside the kernel; "
            f"return it from scalars() and read s.{name}"
        )
    holders = [held.name for held in _holders(rule, name)]
    if holders:
        one = "the rule inside," if len(holders) == 1 else "one of the rules"
        return f"{rule.name}: there is no {name}; it belongs to {one} {', '.join(holders)}"
    fields = ", ".join(rule.fields()) or "none"
    inside = "".join(f", and {held.name} is inside" for held in rule.inside)
    meant = did_you_mean(ELSEWHERE.get(name, name), rule.fields())
    return f"{rule.name}: there is no {name}; its own fields are {fields}{inside}{meant}"


def _holders(rule: Rule, name: str) -> list[Rule]:
    """The rules inside, at any depth, that declare a field."""
    return [
        holder
        for held in rule.inside
        for holder in ([held] if name in held.fields() else _holders(held, name))
    ]
