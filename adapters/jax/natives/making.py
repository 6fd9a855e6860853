"""The transformation of optax that computes the same as a rule, from the rule's numbers.

This file names rules and hyperparameters: it has their names in optax. Each function
takes optax as an argument, so that a caller may have the call written down instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MAKERS"]

Hypers = Mapping[str, Any]


def _betas(h: Hypers, *names: str) -> dict[str, Any]:
    """The rate, betas and the named numbers, under optax's names."""
    betas = {f"b{i}": beta for i, beta in enumerate(h["betas"], 1)}
    return {"learning_rate": h["lr"], **betas, **{name: h[name] for name in names}}


def _sgd(optax: Any, h: Hypers) -> Any:
    return optax.chain(
        optax.add_decayed_weights(h["weight_decay"]),
        optax.sgd(h["lr"], momentum=h["momentum"] or None, nesterov=h["nesterov"]),
    )


def _rmsprop(optax: Any, h: Hypers) -> Any:
    return optax.rmsprop(
        h["lr"],
        decay=h["alpha"],
        eps=h["eps"],
        initial_scale=h["initial_v"],
        eps_in_sqrt=h["eps_at"] == "inside",
        centered=h["centered"],
        momentum=h["momentum"] or None,
        nesterov=h["nesterov"],
        bias_correction=h["bias_correction"],
    )


def _adagrad(optax: Any, h: Hypers) -> Any:
    return optax.adagrad(h["lr"], initial_accumulator_value=h["initial_v"], eps=h["eps"])


def _adadelta(optax: Any, h: Hypers) -> Any:
    return optax.adadelta(h["lr"], rho=h["rho"], eps=h["eps"], weight_decay=h["weight_decay"])


def _amsgrad(optax: Any, h: Hypers) -> Any:
    corrected = h["bias_correction"]
    return optax.amsgrad(
        bias_correction_mu=corrected,
        bias_correction_nu=corrected,
        **_betas(h, "eps", "eps_root"),
    )


def _lars(optax: Any, h: Hypers) -> Any:
    names = ("weight_decay", "trust_coefficient", "eps", "momentum", "nesterov")
    return optax.lars(h["lr"], **{name: h[name] for name in names})


def _sm3(optax: Any, h: Hypers) -> Any:
    if h["eps"] == 1e-8:  # optax.sm3 lets nothing else be chosen
        return optax.sm3(h["lr"], h["momentum"])
    scaled = optax.scale_by_sm3(b1=h["momentum"], b2=1.0, eps=h["eps"])
    return optax.chain(scaled, optax.scale(-h["lr"]))


def _rprop(optax: Any, h: Hypers) -> Any:
    return optax.rprop(h["lr"], *h["etas"], *h["step_sizes"])


def _adafactor(optax: Any, h: Hypers) -> Any:
    return optax.adafactor(
        h["lr"],
        min_dim_size_to_factor=h["min_dim"],
        decay_rate=h["decay_rate"],
        multiply_by_parameter_scale=h["scale_parameter"],
        clipping_threshold=h["clip_threshold"],
        momentum=h["momentum"] or None,
        dtype_momentum="float64",
        weight_decay_rate=h["weight_decay"] or None,
        eps=h["eps"][0],
    )


def _prodigy(optax: Any, h: Hypers) -> Any:
    names = ("betas", "beta3", "eps", "weight_decay", "safeguard_warmup")
    return optax.contrib.prodigy(
        h["lr"],
        estim_lr0=h["d0"],
        estim_lr_coef=h["d_coef"],
        **{name: h[name] for name in names},
    )


def _with_betas(path: str, *names: str) -> Callable[[Any, Hypers], Any]:
    """What calls a function of optax with the rate, betas and the named numbers."""

    def make(optax: Any, h: Hypers) -> Any:
        function = optax
        for part in path.split("."):
            function = getattr(function, part)
        return function(**_betas(h, *names))

    return make


MAKERS: Mapping[str, Callable[[Any, Hypers], Any]] = {
    "SGD": _sgd,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "AdaDelta": _adadelta,
    "Adam": _with_betas("adam", "eps", "eps_root"),
    "AdamW": _with_betas("adamw", "eps", "eps_root", "weight_decay"),
    "AMSGrad": _amsgrad,
    "Adamax": _with_betas("adamaxw", "eps", "weight_decay"),
    "Lion": _with_betas("lion", "weight_decay"),
    "SM3": _sm3,
    "LARS": _lars,
    "LAMB": _with_betas("lamb", "eps", "eps_root", "weight_decay"),
    "AdaBelief": _with_betas("adabelief", "eps", "eps_root"),
    "Adan": _with_betas("adan", "eps", "eps_root", "weight_decay"),
    "AdEMAMix": _with_betas("contrib.ademamix", "alpha", "eps", "eps_root", "weight_decay"),
    "NAdam": _with_betas("nadamw", "eps", "eps_root", "weight_decay"),
    "RAdam": _with_betas("radam", "eps", "eps_root", "threshold"),
    "Rprop": _rprop,
    "Yogi": _with_betas("yogi", "eps"),
    "Signum": lambda optax, h: optax.signum(h["lr"], h["momentum"]),
    "SignSGD": lambda optax, h: optax.sign_sgd(h["lr"]),
    "Adafactor": _adafactor,
    "Prodigy": _prodigy,
}
"""By rule."""
