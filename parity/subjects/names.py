"""What libraries call the hyperparameters of ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["NAMES", "own_name"]

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
"""By field; a field that is not here is looked for under its own name."""

PLAIN = ("lr", "eps", "weight_decay")
"""Fields of which every name means the same wherever it occurs; ``beta`` and ``decay`` do not."""


def own_name(name: str, known: Collection[str]) -> str:
    """What an optimizer calls an argument: ``learning_rate`` for ``lr``, say.

    Args:
        name: as somebody calls it.
        known: the arguments that the optimizer has.

    Returns:
        One of these; or the name itself where nothing is like it.
    """
    for field in PLAIN if name not in known else ():
        if name in NAMES[field]:
            return next((str(other) for other in NAMES[field] if other in known), name)
    return name
