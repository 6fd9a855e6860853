"""The optimizers of torch.optim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from samestep.backend import Snapshot
from samestep.conformance.dialects import RECTIFIED, Arguments, Peer, nested

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


def _amsgrad(tensors: Any, h: Hypers) -> Any:
    return _optim().Adam(tensors, amsgrad=bool(h["amsgrad"]), **arguments(h, "betas", "eps"))


def _adamw(tensors: Any, h: Hypers) -> Any:
    return _optim().AdamW(tensors, amsgrad=bool(h["amsgrad"]), **arguments(h, "betas", "eps"))


def _sgd(tensors: Any, h: Hypers) -> Any:
    return _optim().SGD(tensors, **arguments(h, "momentum", "dampening", "nesterov"))


def _rmsprop(tensors: Any, h: Hypers) -> Any:
    return _optim().RMSprop(tensors, **arguments(h, "alpha", "eps", "centered", "momentum"))


def _adagrad(tensors: Any, h: Hypers) -> Any:
    taken = arguments(h, "lr_decay", "eps", initial_accumulator_value="initial_v")
    return _optim().Adagrad(tensors, **taken)


def _nadam(tensors: Any, h: Hypers) -> Any:
    taken = arguments(h, "betas", "eps", "momentum_decay")
    decoupled = h["decay"] == "decoupled"
    return _optim().NAdam(tensors, decoupled_weight_decay=decoupled, **taken)


def _radam(tensors: Any, h: Hypers) -> Any:
    decoupled = h["decay"] == "decoupled"
    return _optim().RAdam(tensors, decoupled_weight_decay=decoupled, **arguments(h, "betas", "eps"))


def _rprop(tensors: Any, h: Hypers) -> Any:
    return _optim().Rprop(
        tensors,
        lr=h["lr"],
        etas=h["etas"],
        step_sizes=h["step_sizes"],
        maximize=h["maximize"],
    )


def _adafactor(tensors: Any, h: Hypers) -> Any:
    taken = arguments(h, "eps", d="clip_threshold")
    return _optim().Adafactor(tensors, beta2_decay=-h["decay_rate"], **taken)


def _resolutions(h: Hypers) -> tuple[float | None, float]:
    """Adafactor's eps, the first of which is None for that of the dtype; here it is float32's."""
    first, second = h["eps"]
    return None if first == 2.0**-23 else first, second


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
    return {"SGD": _sgd, "AdamW": _adamw}[h["inner"]](tensors, h)


def _clipped_by_value(tensors: Any, h: Hypers) -> Any:
    import torch  # noqa: PLC0415

    clip = partial(torch.nn.utils.clip_grad_value_, clip_value=h["max_value"])
    return _Clipped(_inside(tensors, h), clip)


def _clipped_by_norm(tensors: Any, h: Hypers) -> Any:
    import torch  # noqa: PLC0415

    clip = partial(torch.nn.utils.clip_grad_norm_, max_norm=h["max_norm"])
    return _Clipped(_inside(tensors, h), clip)


ADAM = {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"}
LARGE = {"lr": 0.01, "eps": 1e-2, "weight_decay": 0.1}

ARGUMENTS = Arguments(
    {
        **{name: name for name in ("lr", "betas", "eps", "weight_decay", "maximize")},
        **{name: name for name in ("momentum", "dampening", "nesterov", "alpha", "rho")},
        **{name: name for name in ("lr_decay", "momentum_decay", "centered", "amsgrad")},
        **{name: name for name in ("etas", "step_sizes")},
        "initial_accumulator_value": "initial_v",
        "decoupled_weight_decay": lambda h: h["decay"] == "decoupled",
        "beta2_decay": lambda h: -h["decay_rate"],
        "d": "clip_threshold",
        "Adafactor.eps": _resolutions,
    },
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
    Peer(
        "SGD",
        _sgd,
        {"m": "momentum_buffer"},
        [
            {},
            {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
        ],
    ),
    Peer(
        "RMSprop",
        _rmsprop,
        {"v": "square_avg", "g": "grad_avg", "m": "momentum_buffer"},
        [{}, {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-2}],
    ),
    Peer(
        "Adagrad",
        _adagrad,
        {"v": "sum"},
        [{}, {"lr_decay": 0.1, "initial_v": 0.3, **LARGE}],
    ),
    Peer(
        "AdaDelta",
        lambda tensors, h: _optim().Adadelta(tensors, **arguments(h, "rho", "eps")),
        {"v": "square_avg", "u": "acc_delta"},
        [{}, {"rho": 0.8, **LARGE}],
    ),
    Peer("Adam", _amsgrad, ADAM, [{}, LARGE, {**LARGE, "amsgrad": True, "maximize": True}]),
    Peer("AdamW", _adamw, ADAM, [{}, LARGE, {**LARGE, "amsgrad": True}]),
    Peer("AMSGrad", _amsgrad, ADAM, [{}, LARGE]),
    Peer(
        "Adamax",
        lambda tensors, h: _optim().Adamax(tensors, **arguments(h, "betas", "eps")),
        {"m": "exp_avg", "u": "exp_inf"},
        [{}, LARGE],
    ),
    Peer(
        "NAdam",
        _nadam,
        {**ADAM, "product": "mu_product"},
        [{}, LARGE, {**LARGE, "decay": "decoupled"}],
        without={"empty": "the rule does nothing for it, so that its product stays 1"},
    ),
    Peer(
        "RAdam",
        _radam,
        ADAM,
        [{}, LARGE, {**LARGE, "decay": "decoupled", "betas": (0.8, 0.9)}],
        tolerance=RECTIFIED,
        because="the library finds rho by cancellation",
    ),
    Peer(
        "Rprop",
        _rprop,
        {"prev": "prev", "size": "step_size"},
        [{}, {"lr": 0.5, "etas": (0.4, 1.5), "step_sizes": (1e-2, 0.6)}],
    ),
    Peer(
        "Adafactor",
        _adafactor,
        {"v.0": ("row_var", "variance"), "v.1": "col_var"},
        [{}, {"lr": 0.5, "weight_decay": 0.1, "clip_threshold": 1.5, "eps": (1e-2, 1e-2)}],
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
        {**ADAM, "m": ("exp_avg", "momentum_buffer")},
        [
            {"inner": "SGD", "momentum": 0.9, "maximize": True, "max_norm": 0.5},
            {"inner": "SGD", "momentum": 0.9, "max_norm": 1e-5},
            {"inner": "AdamW", "max_norm": 0.5, **LARGE},
        ],
    ),
]
