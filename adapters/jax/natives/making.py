"""The transformation of optax that computes the same as a rule, from the rule's numbers.

This file names rules and hyperparameters: it has their names in optax. Each function
takes optax as an argument, so that a caller may have the call written down instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

from samestep.checkpoints import CheckpointError
from samestep.checkpoints.correspondence import About
from samestep.checkpoints.faithful import refuse_lost
from samestep.checkpoints.table_rows import row
from samestep.parts.orthogonal import coefficients
from samestep.rule import registry

__all__ = ["MAKERS", "MUON", "muon"]

Hypers = Mapping[str, Any]


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


def _amsgrad(optax: Any, h: Hypers) -> Any:
    corrected = h["bias_correction"]
    make = _call("amsgrad", f"{_ADAM} eps eps_root")
    return make(optax, h, bias_correction_mu=corrected, bias_correction_nu=corrected)


def _sm3(optax: Any, h: Hypers) -> Any:
    if h["eps"] == 1e-8:  # optax.sm3 lets nothing else be chosen
        return optax.sm3(h["lr"], h["momentum"])
    scaled = optax.scale_by_sm3(b1=h["momentum"], b2=1.0, eps=h["eps"])
    return optax.chain(scaled, optax.scale(-h["lr"]))


def _rprop(optax: Any, h: Hypers) -> Any:
    return optax.rprop(h["lr"], *h["etas"], *h["step_sizes"])


def _adafactor(optax: Any, h: Hypers) -> Any:
    if h["scale_parameter"] and h["eps"][1] != 1e-3:
        raise CheckpointError(f"optax.adafactor takes no eps[1], {h['eps'][1]!r}; it has 0.001")
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


def _call(path: str, numbers: str = "", *first: str) -> Callable[..., Any]:
    """A call of a function of optax.

    Args:
        path: the function's name in optax.
        numbers: the arguments that are given by keyword, as in a ``row`` of a table.
        first: the numbers that come before them.
    """
    native = row("", numbers)

    def make(optax: Any, h: Hypers, **more: Any) -> Any:
        given = native.arguments({name: h[name] for name in native.fields}, About({}))
        return reduce(getattr, path.split("."), optax)(*map(h.get, first), **more, **given)

    return make


_ADAM = "lr=learning_rate betas=b1,b2"
_ADAM_3 = "lr=learning_rate betas=b1,b2,b3"


def _triples(h: Hypers) -> Any:
    read = {name: h[name] for name in ("ns_coefficients", "ns_steps", "ns_beyond")}
    steps, safety = coefficients(SimpleNamespace(**read))
    if safety != 1:
        raise CheckpointError(
            f"ns_coefficients={h['ns_coefficients']!r} are made for {safety} times the norm, by "
            "which optax.contrib.muon does not divide"
        )
    return steps[0] if len({*steps}) == 1 else steps


def _added(h: Hypers) -> float:
    kind, eps = h["ns_guard"]
    if kind != "sum":
        raise CheckpointError(f"ns_guard is {h['ns_guard']!r}; optax.contrib.muon adds its eps")
    return float(eps)


def _rms(h: Hypers) -> float | None:
    known = {"shape": None, "match_rms": 0.2, "spectral": 1.0}
    if h["scale"] not in known:
        raise CheckpointError(f"optax.contrib.muon has no scale as {h['scale']!r}")
    return known[h["scale"]]


MUON: Mapping[str, Callable[[Hypers], Any]] = {
    "ns_coeffs": _triples,
    "ns_steps": itemgetter("ns_steps"),
    "beta": itemgetter("momentum"),
    "eps": _added,
    "weight_decay": itemgetter("weight_decay"),
    "nesterov": itemgetter("nesterov"),
    "consistent_rms": _rms,
}
"""The arguments of ``optax.contrib.muon`` by their names."""


def muon(optax: Any, h: Hypers, **more: Any) -> Any:
    """The transformation, whose Adam is for no parameter, or for those that ``more`` says."""
    return optax.contrib.muon(h["lr"], **{name: how(h) for name, how in MUON.items()}, **more)


class _Read(dict[str, Any]):
    """Numbers that know which of them have been read."""

    def __init__(self, given: Hypers) -> None:
        super().__init__(given)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The number, which is read."""
        self.read.add(name)
        return super().get(name, default)


def _faithful(rule: str, make: Callable[[Any, Hypers], Any]) -> Callable[[Any, Hypers], Any]:
    """A function that refuses numbers of a rule that are not handed on."""

    def made(optax: Any, h: Hypers) -> Any:
        """The transformation.

        Raises:
            CheckpointError: it does not take all numbers, and its steps are others.
        """
        kind, given = registry[rule], _Read(h)
        found = make(optax, given)
        fields = kind.fields().keys()
        own = {name: value for name, value in h.items() if name in fields}
        taken = {name: value for name, value in own.items() if name in given.read}
        quirks = {"quirks": h.get("quirks", ())} if fields <= h.keys() else {}
        who = kind.dialects["optax"].of
        ours, theirs = kind(like="optax", **own, **quirks), kind(like="optax", **taken)
        refuse_lost(who, ours, theirs, taken)
        return found

    return made


_MAKERS: Mapping[str, Callable[[Any, Hypers], Any]] = {
    "SGD": _sgd,
    "RMSprop": _rmsprop,
    "Adagrad": _call("adagrad", "initial_v=initial_accumulator_value eps", "lr"),
    "AdaDelta": _call("adadelta", "rho eps weight_decay", "lr"),
    "Adam": _call("adam", f"{_ADAM} eps eps_root"),
    "AdamW": _call("adamw", f"{_ADAM} eps eps_root weight_decay"),
    "AMSGrad": _amsgrad,
    "Adamax": _call("adamaxw", f"{_ADAM} eps weight_decay"),
    "Lion": _call("lion", f"{_ADAM} weight_decay"),
    "SM3": _sm3,
    "LARS": _call("lars", "weight_decay trust_coefficient eps momentum nesterov", "lr"),
    "LAMB": _call("lamb", f"{_ADAM} eps eps_root weight_decay"),
    "AdaBelief": _call("adabelief", f"{_ADAM} eps eps_root"),
    "Adan": _call("adan", f"{_ADAM_3} eps eps_root weight_decay"),
    "AdEMAMix": _call("contrib.ademamix", f"{_ADAM_3} alpha eps eps_root weight_decay"),
    "SimplifiedAdEMAMix": _call(
        "contrib.simplified_ademamix", f"{_ADAM} alpha eps eps_root weight_decay"
    ),
    "ADOPT": _call("contrib.adopt", f"{_ADAM} eps clipping=use_clipping"),
    "Muon": muon,
    "NovoGrad": _call("novograd", f"{_ADAM} eps eps_root weight_decay"),
    "ScheduleFreeAdamW": _call(
        "contrib.schedule_free_adamw", f"{_ADAM} eps weight_decay weight_lr_power"
    ),
    "ScheduleFreeSGD": _call(
        "contrib.schedule_free_sgd", "lr=learning_rate momentum=b1 weight_decay weight_lr_power"
    ),
    "NAdam": _call("nadamw", f"{_ADAM} eps eps_root weight_decay"),
    "RAdam": _call("radam", f"{_ADAM} eps eps_root threshold"),
    "Rprop": _rprop,
    "Yogi": _call("yogi", f"{_ADAM} eps"),
    "Signum": _call("signum", "", "lr", "momentum"),
    "SignSGD": _call("sign_sgd", "", "lr"),
    "Adafactor": _adafactor,
    "MADGRAD": _call("contrib.madgrad", "momentum eps weight_decay", "lr"),
    "DAdaptAdam": _call("contrib.dadapt_adamw", "d0=estim_lr0 betas eps weight_decay", "lr"),
    "Prodigy": _call(
        "contrib.prodigy",
        "d0=estim_lr0 d_coef=estim_lr_coef betas beta3 eps weight_decay safeguard_warmup",
        "lr",
    ),
}
MAKERS = {rule: _faithful(rule, make) for rule, make in _MAKERS.items()}
"""By rule."""
