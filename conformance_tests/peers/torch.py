"""The optimizers of torch.optim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from samestep.checkpoints.correspondence import About, Kept
from samestep.parity.backend import Snapshot
from samestep.rule import registry

from . import RECTIFIED, Arguments, Peer, nested

try:  # the one correspondence, of which the converters of states are made too
    from samestep.torch.libraries import TORCH as NATIVES
except ImportError:  # without torch there is nothing to be run
    NATIVES = {}

NAME = "torch"
LIBRARIES = ("torch",)

Hypers = Mapping[str, Any]


def run(
    peer: Peer, hypers: Hypers, params: Mapping[str, Any], grads: Sequence[Mapping[str, Any]]
) -> list[Snapshot]:
    """Step an optimizer of torch, or one written like them, in float64.

    ``make`` gets the tensors and our hyperparameters. A slot is the name of an entry of a tensor's
    state (the first that exists, of several names), or a function of optimizer and index.
    """
    import torch  # noqa: PLC0415

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # the dtype of step counts and of NAdam's product
    try:
        return _follow(torch, peer, hypers, params, grads)
    finally:
        torch.set_default_dtype(before)


def _follow(torch: Any, peer: Peer, hypers: Hypers, params: Any, grads: Any) -> list[Snapshot]:
    tensors = {
        path: torch.tensor(array, dtype=torch.float64, requires_grad=True)
        for path, array in params.items()
    }
    optimizer = peer.make(list(tensors.values()), hypers)

    def value(slot: str, index: int, tensor: Any) -> Any:
        read = peer.slots[slot]
        if callable(read):
            found = read(optimizer, index)
        elif isinstance(read, Kept):
            parts = read.ours(optimizer.state[tensor], About({}))
            return None if parts is None else [part.detach().numpy() for part in parts]
        else:
            state = getattr(optimizer, "base_optimizer", optimizer).state[tensor]
            names = (read,) if isinstance(read, str) else read
            found = next((state[name] for name in names if state.get(name) is not None), None)
        return None if found is None else found.detach().numpy()

    def snapshot() -> Snapshot:
        taken: dict[str, Any] = {
            "param": {path: tensor.detach().numpy() for path, tensor in tensors.items()}
        }
        for slot in peer.slots:
            taken[slot] = {
                path: value(slot, index, tensor)
                for index, (path, tensor) in enumerate(tensors.items())
            }
        return nested(taken)

    snapshots = [snapshot()]
    for step in grads:
        for path, tensor in tensors.items():
            tensor.grad = torch.tensor(step[path], dtype=torch.float64)
        optimizer.step()
        snapshots.append(snapshot())
    return snapshots


def arguments(hypers: Hypers, *names: str, **renamed: str) -> dict[str, Any]:
    """The rate, the decay, and the named hyperparameters, under torch's names for them."""
    taken = {name: hypers[name] for name in ("lr", "weight_decay", "maximize", *names)}
    return taken | {theirs: hypers[ours] for theirs, ours in renamed.items()}


def _optim() -> Any:
    import torch  # noqa: PLC0415

    return torch.optim


def _native(name: str) -> Callable[[Any, Hypers], Any]:
    """What makes an optimizer of torch.optim from our hyperparameters."""

    def make(tensors: Any, h: Hypers) -> Any:
        taken = NATIVES[name].arguments(h, About({}, "float64"))
        return getattr(_optim(), name)(tensors, **taken)

    return make


def _amsgrad(tensors: Any, h: Hypers) -> Any:
    return _native("Adam")(tensors, {**h, "amsgrad": bool(h["amsgrad"])})


def _peer(rule: str, *settings: Hypers, native: str | None = None, **others: Any) -> Peer:
    """A rule beside the optimizer of torch.optim that computes the same."""
    name = native or rule
    slots = NATIVES[name].slots if name in NATIVES else {}
    return Peer(rule, others.pop("make", _native(name)), slots, settings, **others)


class _Clipped:
    """An optimizer whose gradients are clipped before every step."""

    def __init__(self, optimizer: Any, clip: Callable[[Any], Any]) -> None:
        self.base_optimizer, self.clip = optimizer, clip

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


LARGE = {"lr": 0.01, "eps": 1e-2, "weight_decay": 0.1}
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
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    ),
    _peer(
        "RMSprop",
        {},
        {"momentum": 0.8},
        {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-2},
    ),
    _peer("Adagrad", {}, {"lr_decay": 0.1, "initial_v": 0.3, **LARGE}),
    _peer("AdaDelta", {}, {"rho": 0.8, **LARGE}, native="Adadelta"),
    _peer("Adam", {}, LARGE, {**FALLING, "amsgrad": True, "maximize": True}),
    _peer("AdamW", {}, LARGE, {**FALLING, "amsgrad": True}),
    _peer("AMSGrad", {}, FALLING, native="Adam", make=_amsgrad),
    _peer("Adamax", {}, LARGE),
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
    _peer("Rprop", {}, {"lr": 0.5, "etas": (0.4, 1.5), "step_sizes": (1e-2, 0.6)}),
    _peer(
        "Adafactor",
        {},
        {"lr": 0.5, "weight_decay": 0.1, "clip_threshold": 1.5, "eps": (1e-2, 1e-2)},
        {"decay_rate": 0.7, "weight_decay": 0.1, "eps": (1e-10, 1e-2)},
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
