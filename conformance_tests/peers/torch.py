"""The optimizers of torch.optim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest import mock

from samestep.arrays import map_parts
from samestep.checkpoints.correspondence import About, Kept
from samestep.rule import registry

from . import RECTIFIED, Arguments, Peer

try:  # the one correspondence, of which the converters of states are made too
    from samestep.torch.tables import TORCH as NATIVES
except ImportError:  # without torch there is nothing to be run
    NATIVES = {}

NAME = "torch"
LIBRARIES = ("torch",)
PACKAGE = "torch"

Hypers = Mapping[str, Any]


def target(peer: Peer, hypers: Hypers) -> Callable[[Any], Any]:
    """A function that makes the optimizer from tensors."""
    return lambda tensors: peer.make(tensors, hypers)


def read(peer: Peer, stepper: Any) -> dict[str, Any]:
    """The peer's slots.

    A slot is read by the correspondence; by the names of entries of a tensor's state, of which the
    first that exists counts; or by a function of optimizer and index.
    """
    optimizer = getattr(stepper.optimizer, "base_optimizer", stepper.optimizer)
    found: dict[str, Any] = {}
    for index, (path, tensor) in enumerate(stepper.tensors.items()):
        state = optimizer.state[tensor]
        for slot, place in peer.slots.items():
            if isinstance(place, Kept):
                value = place.ours(state, About({}))
            elif callable(place):
                value = place(stepper.optimizer, index)
            else:
                names = (place,) if isinstance(place, str) else place
                value = next((state[name] for name in names if state.get(name) is not None), None)
            if value is not None:
                found.setdefault(slot, {})[path] = map_parts(_array, value)
    return found


def _array(tensor: Any) -> Any:
    return tensor.detach().numpy()


def _optim() -> Any:
    import torch  # noqa: PLC0415

    return torch.optim


def _native(name: str) -> Callable[[Any, Hypers], Any]:
    """A function that makes an optimizer of torch.optim from our hyperparameters."""

    def make(tensors: Any, h: Hypers) -> Any:
        taken = NATIVES[name].arguments(h, About({}, "float64"))
        return getattr(_optim(), name)(tensors, **taken)

    return make


def _amsgrad(tensors: Any, h: Hypers) -> Any:
    return _native("Adam")(tensors, {**h, "amsgrad": True})


def _peer(rule: str, *settings: Hypers, native: str | None = None, **others: Any) -> Peer:
    """A rule and the optimizer of torch.optim that computes the same."""
    name = native or rule
    slots = NATIVES[name].slots if name in NATIVES else {}
    return Peer(rule, others.pop("make", _native(name)), slots, settings, **others)


class Within:
    """An optimizer whose steps are taken within a context."""

    def __init__(self, optimizer: Any, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self.base_optimizer, self.context = optimizer, context
        self.param_groups = optimizer.param_groups

    def step(self) -> None:
        """Enter the context and step."""
        with self.context():
            self.base_optimizer.step()


def without_bfloat16() -> AbstractContextManager[Any]:
    """A context in which a copy of a tensor in bfloat16 has the tensor's own dtype."""
    import torch  # noqa: PLC0415

    return mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone)


def _muon(tensors: Any, h: Hypers) -> Any:
    return Within(_native("Muon")(tensors, h), without_bfloat16)


class _Clipped:
    """An optimizer whose gradients are clipped before every step."""

    def __init__(self, optimizer: Any, clip: Callable[[Any], Any]) -> None:
        self.base_optimizer, self.clip = optimizer, clip
        self.param_groups = optimizer.param_groups

    def step(self) -> None:
        """Clip in place, as loops do, and step."""
        for group in self.base_optimizer.param_groups:
            self.clip(group["params"])
        self.base_optimizer.step()


def _inside(tensors: Any, h: Hypers) -> Any:
    return _native(h["inner"])(tensors, h)


def _clipped_by_value(tensors: Any, h: Hypers) -> Any:
    import torch  # noqa: PLC0415

    clip = partial(torch.nn.utils.clip_grad_value_, clip_value=h["max_value"])
    return _Clipped(_inside(tensors, h), clip)


def _clipped_by_norm(tensors: Any, h: Hypers) -> Any:
    import torch  # noqa: PLC0415

    clip = partial(torch.nn.utils.clip_grad_norm_, max_norm=h["max_norm"])
    return _Clipped(_inside(tensors, h), clip)


LARGE = {"lr": 0.02, "eps": 1e-2, "weight_decay": 0.1, "maximize": True}
FALLING = {**LARGE, "betas": (0.9, 0.9)}
"""With these v falls again, so that the largest v is another."""


def _ours() -> dict[str, str | Callable[[Hypers], Any]]:
    """Every argument, and ``Rule.argument``: the field of ours that it is, or its value."""
    found: dict[str, str | Callable[[Hypers], Any]] = {}
    for native in NATIVES.values():
        for name, given in native.fields.items():
            if isinstance(given, str):
                found[given] = name
                continue
            for theirs in given.theirs(registry[native.rule](like=NAME).hypers[name], About({})):
                value = partial(_converted, given, name, theirs)
                found.setdefault(theirs, value)
                found[f"{native.rule}.{theirs}"] = value
    return found


def _converted(given: Any, name: str, theirs: str, h: Hypers) -> Any:
    return given.theirs(h[name], About({}))[theirs]


ARGUMENTS = Arguments(
    _ours(),
    {
        "AMSGrad.amsgrad": "given, to select the rule",
        "foreach": "how to compute, not what",
        "fused": "how to compute, not what",
        "capturable": "how to compute, not what",
        "differentiable": "how to compute, not what",
        "norm_type": "the Euclidean norm here",
        "error_if_nonfinite": "SkipNonFinite's business",
    },
)

PEERS = [
    _peer(
        "SGD",
        {},
        {"lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    ),
    _peer(
        "RMSprop",
        {},
        {"momentum": 0.8},
        {"centered": True, "momentum": 0.9, "alpha": 0.9, **LARGE},
    ),
    _peer("Adagrad", {}, {"lr_decay": 0.1, "initial_v": 0.3, **LARGE}),
    _peer("AdaDelta", {}, {"rho": 0.8, **LARGE}, native="Adadelta"),
    _peer("Adam", {}, LARGE, {**LARGE, "decay": "decoupled"}, {**FALLING, "amsgrad": True}),
    _peer("AdamW", {}, LARGE, {**FALLING, "amsgrad": True}),
    _peer("AMSGrad", {}, {**FALLING, "decay": "decoupled"}, native="Adam", make=_amsgrad),
    _peer("Adamax", {}, {**LARGE, "betas": (0.8, 0.99)}),
    _peer(
        "Muon",
        {},
        {"scale": "match_rms", "nesterov": False, "ns_guard": ("max", 1e-3)},
        {
            "lr": 0.02,
            "weight_decay": 0.3,
            "momentum": 0.9,
            "ns_steps": 4,
            "ns_coefficients": (3.0, -3.2, 1.2),
        },
        make=_muon,
        without={"kernel": "it takes matrices only"},
    ),
    _peer(
        "NAdam",
        {},
        LARGE,
        {**LARGE, "decay": "decoupled"},
        {**LARGE, "betas": (0.8, 0.99), "momentum_decay": 0.1},
        without={"empty": "the rule does nothing for it, so that its product stays 1"},
    ),
    _peer(
        "RAdam",
        {},
        LARGE,
        {**LARGE, "decay": "decoupled", "betas": (0.8, 0.9)},
        tolerance=RECTIFIED,
        because="the library finds rho by cancellation",
    ),
    _peer(
        "Rprop", {}, {"lr": 0.5, "etas": (0.4, 1.5), "step_sizes": (1e-2, 0.6), "maximize": True}
    ),
    _peer(
        "Adafactor",
        {},
        {"lr": 0.5, "weight_decay": 0.1, "clip_threshold": 1.5, "eps": (1e-2, 1e-2)},
        {"decay_rate": 0.7, "weight_decay": 0.1, "eps": (1e-10, 1e-2), "maximize": True},
        without={"empty": "it divides by the number of elements"},
    ),
    Peer(
        "ClipValue",
        _clipped_by_value,
        {"m": "momentum_buffer"},
        [{"inner": "SGD", "momentum": 0.9, "weight_decay": 0.1, "max_value": 0.01}],
    ),
    Peer(
        "ClipGlobalNorm",
        _clipped_by_norm,
        {"m": ("exp_avg", "momentum_buffer"), "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
        [
            {"inner": "SGD", "momentum": 0.9, "maximize": True, "max_norm": 0.5},
            {"inner": "SGD", "momentum": 0.9, "max_norm": 1e-5},
            {"inner": "AdamW", "max_norm": 0.5, **LARGE},
        ],
    ),
]
