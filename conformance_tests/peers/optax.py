"""The optimizers of Optax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any

from . import RECTIFIED, Arguments, Peer

try:  # the one correspondence, of which the converters of states are made too
    from samestep.jax.natives import KEPT, MAKERS, SHARED, field_of
    from samestep.jax.natives.making import MUON, muon
except ImportError:  # without JAX there is nothing to be run
    KEPT, MUON, SHARED = {}, {}, {}

NAME = "optax"
LIBRARIES = ("jax", "optax")
PACKAGE = "optax"

Hypers = Mapping[str, Any]


def target(peer: Peer, hypers: Hypers) -> Callable[[], Any]:
    """A function that makes the transformation."""

    def make() -> Any:
        import optax  # type: ignore[import-untyped]  # noqa: PLC0415

        made = peer.make(optax, hypers)
        return _single(optax, made) if peer.rule == "Lookahead" else made

    return make


def _single(optax: Any, lookahead: Any) -> Any:
    """``optax.lookahead``, whose parameters are a pair, for one set of parameters."""

    def init(params: Any) -> Any:
        return optax.LookaheadParams.init_synced(params), lookahead.init(params)

    def update(grads: Any, state: Any, params: Any) -> Any:
        pair, inner = state
        updates, inner = lookahead.update(grads, inner, pair)
        return updates.fast, (optax.apply_updates(pair, updates), inner)

    return optax.GradientTransformation(init, update)


def read(peer: Peer, stepper: Any) -> dict[str, Any]:
    """The peer's slots, each by a function of state and parameters."""
    found = {slot: read(stepper.state, stepper.values) for slot, read in peer.slots.items()}
    return {slot: {} if value is None else value for slot, value in found.items()}


def kept(rule: str, *slots: str) -> dict[str, Callable[[Any, Any], Any]]:
    """Readers of a rule's slots, by the correspondence that converts its states."""
    return {slot: partial(_read, rule, slot) for slot in slots}


def _read(rule: str, slot: str, state: Any, values: Any) -> Any:
    return field_of({**KEPT[rule], **SHARED.get(rule, {})}[slot], state, values)


def _factors(state: Any, values: Any) -> dict[str, Any]:
    """Rows and columns of what is factored, and the full average of what is not."""
    kept = state[0]
    return {
        path: [kept.v[path]]
        if kept.v[path].shape == value.shape
        else [kept.v_row[path], kept.v_col[path]]
        for path, value in values.items()
    }


def _native(rule: str) -> Callable[[Any, Hypers], Any]:
    """A function that makes a transformation of optax from our hyperparameters."""

    def make(optax: Any, h: Hypers) -> Any:
        return MAKERS[rule](optax, h)

    return make


def _peer(
    rule: str,
    *settings: Hypers,
    make: Callable[[Any, Hypers], Any] | None = None,
    slots: Mapping[str, Any] | None = None,
    **others: Any,
) -> Peer:
    """A transformation of optax, with all the slots that have a place in it, and its rule."""
    left_out = others.get("left_out", ())
    own: dict[str, Any] = {}
    for name in (settings[0].get("inner", rule), rule):
        places = {**KEPT.get(name, {}), **SHARED.get(name, {})}.keys() - {*left_out}
        own |= kept(name, *sorted(places))
    return Peer(rule, make or _native(rule), slots or own, settings, **others)


def _inside(optax: Any, h: Hypers) -> Any:
    return _native(h["inner"])(optax, h)


def _lookahead(optax: Any, h: Hypers) -> Any:
    return optax.lookahead(_inside(optax, h), h["sync_period"], h["sync_rate"])


def _schedule_free(optax: Any, h: Hypers) -> Any:
    more = {"b1": h["toward"], "weight_lr_power": h["weight_lr_power"]}
    return optax.contrib.schedule_free(_inside(optax, h), h["lr"], **more)


WEIGHTS = dict.fromkeys(("weight_sum", "lr_max"), "once for all parameters, as a sum")


def multi_steps(optax: Any, inner: Any, every: Any, **given: Any) -> Any:
    """``optax.MultiSteps`` in float64; before 0.2.8 it adds up in the dtype of the parameters."""
    known = signature(optax.MultiSteps).parameters
    wide = {name: "float64" for name in ("accumulator_dtype",) if name in known}
    return optax.MultiSteps(inner, every, **wide, **given)


def _accumulate(optax: Any, h: Hypers) -> Any:
    return multi_steps(optax, _inside(optax, h), h["every"])


LARGE = {"lr": 0.01, "eps": 1e-2}
ROOT = {"lr": 0.01, "eps": 1e-3, "eps_root": 1e-3}
DECAY = {"weight_decay": 0.1}
BETAS = {"betas": (0.8, 0.99)}

ADAM = ("adam_b1", "adam_b2", "adam_eps_root", "adam_weight_decay", "adam_learning_rate")

ARGUMENTS = Arguments(
    {
        **{name: name for name in ("eps", "eps_root", "weight_decay", "momentum", "rho", "alpha")},
        **{name: name for name in ("centered", "bias_correction", "trust_coefficient")},
        **{name: name for name in ("threshold", "decay_rate", "betas", "beta3")},
        "safeguard_warmup": "safeguard_warmup",
        "use_clipping": "clipping",
        "weight_lr_power": "weight_lr_power",
        "ScheduleFreeSGD.b1": "momentum",
        "ScheduleFree.b1": "toward",
        "ScheduleFree.learning_rate": "lr",
        "learning_rate": "lr",
        "b1": lambda h: h["betas"][0],
        "b2": lambda h: h["betas"][1],
        "b3": lambda h: h["betas"][2],
        "nesterov": lambda h: h.get("nesterov", False),
        "NAdam.nesterov": lambda _: True,
        "decay": "alpha",
        "initial_scale": "initial_v",
        "eps_in_sqrt": lambda h: h["eps_at"] == "inside",
        "initial_accumulator_value": "initial_v",
        "bias_correction_mu": "bias_correction",
        "bias_correction_nu": "bias_correction",
        "beta": "momentum",
        "eta_minus": lambda h: h["etas"][0],
        "eta_plus": lambda h: h["etas"][1],
        "min_step_size": lambda h: h["step_sizes"][0],
        "max_step_size": lambda h: h["step_sizes"][1],
        "min_dim_size_to_factor": "min_dim",
        "multiply_by_parameter_scale": "scale_parameter",
        "clipping_threshold": "clip_threshold",
        "weight_decay_rate": "weight_decay",
        "estim_lr0": "d0",
        "estim_lr_coef": "d_coef",
        "Adafactor.eps": lambda h: h["eps"][0],
        "Adafactor.learning_rate": lambda h: None if h["lr"] == 1 else h["lr"],  # None scales not
        **{f"Muon.{name}": how for name, how in MUON.items()},
    },
    {
        **{f"Muon.{name}": "AdamW's, whose the vectors are" for name in ADAM},
        "Muon.adaptive": "a scale by the dual norm",
        "Muon.preconditioning": "another norm than Frobenius'",
        "Muon.muon_weight_dimension_numbers": "layout and batch_axes here",
        "AdaDelta.learning_rate": "None there, but the call fails without a number",
        "ADOPT.nesterov": "a look ahead, which its authors have not",
        "warmup_steps": "it begins at 0 there, and weighs by the next step's size",
        "state_dtype": "None there, as the parameters",
        "clip_value_fn": "any function of the step; here it is the power",
        "mask": "a choice of parameters, which groups make here",
        "weight_decay_mask": "a choice of parameters, which groups make here",
        "trust_ratio_mask": "a choice of parameters, which groups make here",
        "mu_dtype": "a dtype, and state_dtype is for all slots",
        "accumulator_dtype": "a dtype, and state_dtype is for all slots",
        "dtype_momentum": "a dtype, and state_dtype is for all slots",
        "decay_offset": "the number of steps already done, which the state knows here",
        "factored": "what is factored follows from the shape and min_dim",
        "reset_state": "the state inside is never reset here",
        "use_grad_mean": "a mean always, here",
        "should_skip_update_fn": "SkipNonFinite's business",
    },
)


def _yogi(optax: Any, h: Hypers) -> Any:
    """The same as optax.yogi, with starting values that can be chosen."""
    betas = dict(zip(("b1", "b2"), h["betas"], strict=True))
    scaled = optax.scale_by_yogi(initial_accumulator_value=h["initial_v"], eps=h["eps"], **betas)
    return optax.chain(scaled, optax.scale_by_learning_rate(h["lr"]))


def _muon(optax: Any, h: Hypers) -> Any:
    import jax  # noqa: PLC0415

    def numbers(params: Any) -> Any:
        def one(param: Any) -> Any:
            axes = [*range(param.ndim)]
            output = axes.pop(0 if h["layout"] == "oi" else -1)
            return optax.contrib.MuonDimensionNumbers(tuple(axes), output)

        return jax.tree.map(one, params)

    return muon(optax, h, muon_weight_dimension_numbers=numbers)


PEERS = [
    _peer("SGD", {}, {"momentum": 0.9, **DECAY}, {"momentum": 0.9, "nesterov": True, **DECAY}),
    _peer(
        "RMSprop",
        {},
        {"centered": True, "momentum": 0.9, **LARGE},
        {"eps_at": "outside", "momentum": 0.9, "nesterov": True, "initial_v": 0.3, **LARGE},
        {"bias_correction": True, "alpha": 0.8, **LARGE},
        {"bias_correction": True, "centered": True, **LARGE},
    ),
    _peer("Adagrad", {}, {"initial_v": 0.0, **LARGE}),
    _peer("AdaDelta", {}, {"rho": 0.8, **LARGE, **DECAY}),
    _peer("Adam", {}, {**ROOT, **BETAS}),
    _peer("AdamW", {}, {**ROOT, **DECAY, **BETAS}),
    _peer("AMSGrad", {}, {**ROOT, "betas": (0.8, 0.9)}, {"bias_correction": False}),
    _peer("Adamax", {}, {**LARGE, **DECAY, **BETAS, "decay": "in_update"}),
    _peer("Lion", {}, {"lr": 0.01, **DECAY, "betas": (0.8, 0.95)}),
    _peer(
        "SM3",
        {},
        {"lr": 0.01, "momentum": 0.5, "eps": 1e-2},
        {"momentum": 0.0, "eps": 1e-2},
        {"eps": 0.0},
        without={"scalar": "it looks for a first axis", "empty": "no maximum over no elements"},
    ),
    _peer(
        "LARS",
        {},
        {**DECAY, "eps": 1e-2, "nesterov": True, "momentum": 0.8, "trust_coefficient": 0.1},
    ),
    _peer("LAMB", {}, {**ROOT, **DECAY, **BETAS}),
    _peer("AdaBelief", {}, {**ROOT, **BETAS}),
    _peer("Adan", {}, {**ROOT, **DECAY, "betas": (0.8, 0.9, 0.95)}),
    _peer("AdEMAMix", {}, {**ROOT, **DECAY, "alpha": 2.0, "betas": (0.8, 0.99, 0.999)}),
    _peer("SimplifiedAdEMAMix", {}, {**ROOT, **DECAY, "alpha": 2.0, "betas": (0.8, 0.99)}),
    _peer("ADOPT", {}, {**LARGE, "clipping": False}, {**LARGE, **BETAS}),
    _peer(
        "MADGRAD",
        {},
        {**LARGE, **DECAY, "momentum": 0.5},
        tolerance=1e-6,
        because="the root of the step is in float32",
    ),
    _peer(
        "ScheduleFreeAdamW",
        {},
        {**LARGE, **DECAY, **BETAS, "weight_lr_power": 1.0},
        left_out=WEIGHTS,
    ),
    _peer(
        "ScheduleFreeSGD",
        {},
        {"lr": 0.1, "momentum": 0.5, "weight_lr_power": 1.0, **DECAY},
        left_out=WEIGHTS,
    ),
    _peer(
        "ScheduleFree",
        {"inner": "SGD", "lr": 0.1, "toward": 0.5, "weight_lr_power": 1.0, **DECAY},
        make=_schedule_free,
        left_out=WEIGHTS,
    ),
    _peer("NovoGrad", {}, {**ROOT, **DECAY, **BETAS}),
    _peer(
        "Muon",
        {},
        {"scale": "match_rms", "nesterov": False, "weight_decay": 0.1, "layout": "oi"},
        {
            "lr": 0.1,
            "weight_decay": 0.1,
            "momentum": 0.9,
            "ns_steps": 5,
            "ns_coefficients": "quintic",
            "ns_guard": ("sum", 1e-3),
        },
        {"ns_steps": 7, "scale": "spectral"},
        make=_muon,
        without={"empty": "no quotient of its sides"},
    ),
    _peer("NAdam", {}, {**ROOT, **DECAY, **BETAS}),
    _peer(
        "RAdam",
        {},
        {**ROOT, "threshold": 10.0},
        {**ROOT, "betas": (0.8, 0.9)},
        tolerance=RECTIFIED,
        because="the library finds rho by cancellation",
    ),
    _peer(
        "Rprop",
        {},
        {"lr": 0.5, "etas": (0.4, 1.5), "step_sizes": (1e-2, 0.6)},
        left_out={"prev": "optax compares the signs of gradient and kept update"},
    ),
    _peer("Yogi", {}, {"lr": 0.1, "eps": 1e-2, "betas": (0.8, 0.9)}),
    _peer("Yogi", {"initial_v": 0.1, "initial_m": 0.1}, make=_yogi),
    _peer("Signum", {}, {"lr": 0.01, "momentum": 0.5}),
    _peer("SignSGD", {}, {"lr": 0.01}),
    _peer(
        "Adafactor",
        {},
        {"lr": 0.1, "min_dim": 2, "momentum": 0.9, **DECAY},
        {
            "lr": 0.1,
            "min_dim": 4,
            "scale_parameter": False,
            "eps": (1e-3, 1e-3),
            "clip_threshold": 1.5,
            "decay_rate": 0.7,
        },
        slots={"v": _factors, **kept("Adafactor", "m")},
        tolerance=1e-6,
        because="optax computes 1 - t**-0.8 in float32, which rounds by 6e-8",
    ),
    _peer("DAdaptAdam", {}, {**DECAY, **BETAS, "d0": 1e-2, "lr": 0.5, "eps": 1e-4}),
    _peer(
        "Prodigy",
        {"d0": 1e-2},
        {
            **DECAY,
            **BETAS,
            "beta3": 0.95,
            "d0": 1e-2,
            "lr": 0.5,
            "d_coef": 2.0,
            "eps": 1e-4,
            "safeguard_warmup": True,
        },
        left_out={"d_max": "without a limit to its growth, d is its own maximum"},
    ),
    _peer(
        "Prodigy",
        DECAY,
        left_out={"d_max": "without a limit to its growth, d is its own maximum"},
        tolerance=1e-9,
        because="parameters near 1 first move by 1e-6, so that p0 - p keeps ten digits",
    ),
    _peer(
        "Lookahead",
        {"inner": "SGD", "momentum": 0.9, "sync_period": 7, "sync_rate": 0.3, **DECAY},
        {"inner": "SGD", "sync_period": 3, "sync_rate": 0.8},
        make=_lookahead,
    ),
    _peer(
        "ClipValue",
        {"inner": "SGD", "momentum": 0.9, "max_value": 0.01, **DECAY},
        make=lambda optax, h: optax.chain(optax.clip(h["max_value"]), _inside(optax, h)),
    ),
    _peer(
        "ClipGlobalNorm",
        {"inner": "SGD", "momentum": 0.9, "max_norm": 0.5, **DECAY},
        {"inner": "SGD", "momentum": 0.9, "max_norm": 1e-5},
        make=lambda optax, h: optax.chain(
            optax.clip_by_global_norm(h["max_norm"]), _inside(optax, h)
        ),
    ),
    _peer(
        "Centralize",
        {"inner": "SGD", "momentum": 0.9, **DECAY},
        make=lambda optax, h: optax.chain(optax.centralize(), _inside(optax, h)),
    ),
    _peer(
        "Accumulate",
        {"inner": "SGD", "momentum": 0.9, "every": 3, **DECAY},
        {"inner": "SGD", "momentum": 0.9, "every": 1},
        make=_accumulate,
    ),
]
