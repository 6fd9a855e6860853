"""The state of torch's own optimizers, and of torch-optimi's and heavyball's, from and to ours.

    samestep.save(path, torch_adamw, model)     # the file that samestep.torch.AdamW would write
    samestep.load(path, torch_adamw, model)     # our state, in place
    samestep.torch.from_state_dict("AdamW", state_dict, model)

The step that comes next is the one that would have come, in either direction. heavyball divides by
``max(sqrt(v), eps)`` where every rule here divides by ``sqrt(v) + eps``: there the next update
agrees to ``eps / sqrt(v)``, and the state exactly.

This file names rules and hyperparameters: it says what they are called elsewhere.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy

import torch

from .. import step as stepping
from ..arrays import dtype_name, listed, map_parts
from ..checkpoint.checkpoint import Checkpoint, CheckpointError, ParameterState, Wanted
from ..checkpoint.correspondence import About, Field, Kept, Native, common_count, natives, placed
from ..checkpoint.description import describe
from ..checkpoint.tensor import Tensor
from ..checkpoint.trees import check_value
from ..rule import Rule
from .checkpoint import Params
from .kernels import real

__all__ = [
    "HEAVYBALL",
    "LIBRARIES",
    "OPTIMI",
    "TORCH",
    "checkpoint",
    "from_state_dict",
    "into_state_dict",
    "restore",
]

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The distance from 1 to the next number of a dtype."""


def _resolution(value: Any, about: About) -> dict[str, Any]:
    """Adafactor's eps, the first of which may be ``None`` for that of the dtype."""
    first, second = value
    left_open = about.numbers.get("eps", (None,))[0] is None
    return {"eps": (None if left_open and first == EPS[about.dtype] else first, second)}


def _resolved(about: About) -> Any:
    first, second = about.numbers["eps"]
    return EPS[about.dtype] if first is None else first, second


def _pair(state: Mapping[str, Any], about: About) -> Any:
    """Adafactor's averages: per row and column, or per element."""
    if state.get("variance") is not None:
        return (state["variance"],)
    found = state.get("row_var"), state.get("col_var")
    return None if None in found else found


_DECOUPLED = Field(
    lambda about: "decoupled" if about.numbers["decoupled_weight_decay"] else "l2",
    lambda value, about: {"decoupled_weight_decay": value == "decoupled"},
)
_COMMON = {name: name for name in ("lr", "weight_decay", "maximize")}
_ADAM = {**_COMMON, "betas": "betas", "eps": "eps"}
_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}
_AMSGRAD = {**_MOMENTS, "v_max": "max_exp_avg_sq"}

TORCH = {
    "SGD": Native(
        "SGD",
        {**_COMMON, **{name: name for name in ("momentum", "dampening", "nesterov")}},
        {"m": "momentum_buffer"},
        like="torch",
        counts=False,
    ),
    "RMSprop": Native(
        "RMSprop",
        {**_COMMON, **{name: name for name in ("alpha", "eps", "centered", "momentum")}},
        {"v": "square_avg", "g": "grad_avg", "m": "momentum_buffer"},
        like="torch",
    ),
    "Adagrad": Native(
        "Adagrad",
        {
            **_COMMON,
            "lr_decay": "lr_decay",
            "eps": "eps",
            "initial_v": "initial_accumulator_value",
        },
        {"v": "sum"},
        like="torch",
        eager=True,
    ),
    "Adadelta": Native(
        "AdaDelta",
        {**_COMMON, "rho": "rho", "eps": "eps"},
        {"v": "square_avg", "u": "acc_delta"},
        like="torch",
    ),
    "Adam": Native(
        "Adam",
        {**_ADAM, "amsgrad": "amsgrad", "decay": _DECOUPLED},
        _AMSGRAD,
        like="torch",
        also=("AMSGrad",),
    ),
    "AdamW": Native("AdamW", {**_ADAM, "amsgrad": "amsgrad"}, _AMSGRAD, like="torch"),
    "Adamax": Native("Adamax", _ADAM, {"m": "exp_avg", "u": "exp_inf"}, like="torch"),
    "NAdam": Native(
        "NAdam",
        {**_ADAM, "momentum_decay": "momentum_decay", "decay": _DECOUPLED},
        {**_MOMENTS, "product": "mu_product"},
        like="torch",
    ),
    "RAdam": Native("RAdam", {**_ADAM, "decay": _DECOUPLED}, _MOMENTS, like="torch"),
    "Rprop": Native(
        "Rprop",
        {name: name for name in ("lr", "maximize", "etas", "step_sizes")},
        {"prev": "prev", "size": "step_size"},
        like="torch",
    ),
    "Adafactor": Native(
        "Adafactor",
        {
            **_COMMON,
            "eps": Field(_resolved, _resolution),
            "clip_threshold": "d",
            "decay_rate": Field(
                lambda about: -about.numbers["beta2_decay"],
                lambda value, about: {"beta2_decay": -value},
            ),
        },
        {
            "v": Kept(
                _pair,
                lambda value, about: (
                    dict(zip(("row_var", "col_var"), value, strict=True))
                    if len(value) > 1
                    else {"variance": value[0]}
                ),
            )
        },
        like="torch",
    ),
}
"""The optimizers of torch.optim that compute what a rule here does."""

_NOT_OF_TORCH = {
    "ASGD": "there is no rule here for averaged SGD; its rates and averages are its own",
    "LBFGS": "it keeps a history of gradients of all parameters together, as no rule here does",
    "Muon": "torch.optim.Muon iterates in bfloat16 and samestep's Muon does not, so that the next "
    "step would be another (by 1 % of the update)",
    "SparseAdam": "it advances only the rows that a sparse gradient names, as no rule here does",
}


def _debiased(name: str, beta: Callable[[Mapping[str, Any]], float]) -> Kept:
    """An average that is kept divided by the weight that it has gathered so far."""

    def gathered(about: About) -> float:
        decay = beta(about.numbers)
        return -math.expm1(about.step * math.log(decay)) if decay else 1.0

    def ours(state: Mapping[str, Any], about: About) -> Any:
        return _scaled(state.get(name), gathered(about))

    return Kept(ours, lambda value, about: {name: _scaled(value, 1 / gathered(about))})


def _scaled(value: torch.Tensor | None, factor: float) -> torch.Tensor | None:
    return None if value is None else (value.double() * factor).to(value.dtype)


def _negative(name: str) -> Kept:
    return Kept(
        lambda state, about: None if state.get(name) is None else -state[name],
        lambda value, about: {name: -value},
    )


def _joined(*names: str) -> Field:
    """A tuple of ours whose elements have names of their own there."""
    return Field(
        lambda about: tuple(about.numbers[name] for name in names),
        lambda value, about: dict(zip(names, value, strict=True)),
    )


def _relative_decay(about: About) -> Any:
    """Decay that is scaled by lr over its largest value is a smaller one scaled by lr."""
    decay = about.numbers["weight_decay"]
    return decay / about.numbers["max_lr"] if about.numbers["decouple_lr"] else decay


def _optimi_decay(about: About) -> str:
    return "decoupled" if about.numbers["decouple_wd"] or about.numbers["decouple_lr"] else "l2"


def _one_way(ours: Callable[[About], Any]) -> Field:
    """An option of ours, which is compared and never written."""
    return Field(ours, lambda value, about: {})


_OPTIMI_COMMON: dict[str, str | Field] = {
    "lr": "lr",
    "weight_decay": Field(
        _relative_decay,
        lambda value, about: {
            "weight_decay": value * about.numbers["max_lr"]
            if about.numbers["decouple_lr"]
            else value
        },
    ),
}
_OPTIMI_ADAM = {
    **_OPTIMI_COMMON,
    "betas": _joined("beta1", "beta2"),
    "eps": "eps",
    "decay": _one_way(_optimi_decay),
}
_NO_RELEASE = {
    "gradient_release": (
        False,
        "each parameter then counts its own steps while its gradient is made; turn it off",
    )
}
_OPTIMI_MOMENTS = {
    "m": _debiased("exp_avg", lambda group: group["beta1"]),
    "v": _debiased("exp_avg_sq", lambda group: group["beta2"]),
}


def _optimi_form(about: About) -> str:
    return "mean" if about.numbers["dampening"] else "sum"


def _optimi_start(about: About) -> str:
    both = about.numbers["dampening"] and about.numbers["torch_init"]
    return "gradient" if both else "zero"


OPTIMI = {
    "Adam": Native("Adam", _OPTIMI_ADAM, _OPTIMI_MOMENTS, only=_NO_RELEASE),
    "AdamW": Native("AdamW", _OPTIMI_ADAM, _OPTIMI_MOMENTS, only=_NO_RELEASE),
    "RAdam": Native(
        "RAdam",
        {**_OPTIMI_ADAM, "threshold": _one_way(lambda about: 5.0)},
        _OPTIMI_MOMENTS,
        only=_NO_RELEASE,
    ),
    "Adan": Native(
        "Adan",
        {
            **_OPTIMI_COMMON,
            "betas": _joined("beta1", "beta2", "beta3"),
            "eps": "eps",
            "decay": _one_way(
                lambda about: "decoupled" if about.numbers["adam_wd"] else "proximal"
            ),
        },
        {
            "m": _debiased("exp_avg", lambda group: group["beta1"]),
            "v": _debiased("exp_avg_diff", lambda group: group["beta2"]),
            "n": _debiased("exp_avg_sq", lambda group: group["beta3"]),
            "prev": _negative("prev_grad"),
        },
        only=_NO_RELEASE,
    ),
    "Lion": Native(
        "Lion",
        {**_OPTIMI_COMMON, "betas": _joined("beta1", "beta2")},
        {"m": "exp_avg"},
        only=_NO_RELEASE,
        counts=False,
    ),
    "SGD": Native(
        "SGD",
        {
            **_OPTIMI_COMMON,
            "momentum": "momentum",
            "decay": _one_way(_optimi_decay),
            "momentum_form": _one_way(_optimi_form),
            "momentum_start": _one_way(_optimi_start),
        },
        {"m": "exp_avg"},
        only=_NO_RELEASE,
        counts=False,
    ),
}
"""Those of torch-optimi, which keeps averages divided by the weight that they have gathered."""

_NOT_OF_OPTIMI = {
    "StableAdamW": "there is no rule here that clips by the RMS of the update, as it does",
    "Ranger": "RAdam inside Lookahead; there the two are one and their averages are interleaved",
}

_HEAVYBALL_COMMON: dict[str, str | Field] = {
    "lr": "lr",
    "weight_decay": "weight_decay",
    "decay": _one_way(lambda about: "decoupled"),
}
_HEAVYBALL_ONLY = {
    **dict.fromkeys(
        ("caution", "cautious_weight_decay", "mars", "palm"),
        (False, "it changes the step as no rule here does"),
    ),
    "warmup_steps": (0, "the rate is warmed up inside; give ours a schedule, and set it to 0"),
    "ecc": (None, "state with error correction is not the state alone"),
    "param_ecc": (None, "parameters with error correction are not the parameters alone"),
}

HEAVYBALL = {
    "AdamW": Native(
        "AdamW",
        {**_HEAVYBALL_COMMON, "betas": "betas", "eps": "eps"},
        {
            "m": _debiased("update_by_adam_exp_avg_0", lambda group: group["betas"][0]),
            "v": _debiased("update_by_adam_exp_avg_sq_0", lambda group: group["betas"][1]),
        },
        only=_HEAVYBALL_ONLY,
    ),
    "RMSprop": Native(
        "RMSprop",
        {
            **_HEAVYBALL_COMMON,
            "eps": "eps",
            "bias_correction": _one_way(lambda about: True),
            "alpha": Field(
                lambda about: about.numbers["betas"][1],
                lambda value, about: {"betas": (about.numbers["betas"][0], value)},
            ),
        },
        {"v": _debiased("scale_by_exp_avg_sq_exp_avg_sq_0", lambda group: group["betas"][1])},
        only=_HEAVYBALL_ONLY,
    ),
    "SGD": Native(
        "SGD",
        {
            **_HEAVYBALL_COMMON,
            "momentum": "beta",
            "momentum_start": _one_way(lambda about: "zero"),
        },
        {"m": "heavyball_momentum_momentum_0"},
        only=_HEAVYBALL_ONLY,
    ),
}
"""Those of heavyball, which keeps averages in the same form, in float32."""


class _Library:
    """How a library lays state out: that of torch.optim."""

    name = "torch.optim"
    table: Mapping[str, Native] = TORCH
    refused: Mapping[str, str] = _NOT_OF_TORCH
    per_group = False
    """Whether steps are counted for a whole group."""

    def opened(self, who: str, state: Any) -> Mapping[str, Any]:
        """A parameter's state by name."""
        return dict(state or {})

    def count(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> int | None:
        """How many steps a parameter has taken; ``None`` where nobody counts."""
        return int(state["step"]) if "step" in state else None

    def closed(
        self, slots: dict[str, Any], native: Native, member: _Member, step: int
    ) -> dict[Any, Any]:
        """A parameter's state as it is kept."""
        if native.counts:
            slots["step"] = self._counter(step, member)
        return slots

    @staticmethod
    def _counter(step: int, member: _Member) -> torch.Tensor:
        fused = bool(member.group.get("fused"))
        there = fused or bool(member.group.get("capturable"))
        wide = torch.get_default_dtype() is torch.float64 and not fused
        return torch.tensor(
            float(step),
            dtype=torch.float64 if wide else torch.float32,
            device=member.device if there else "cpu",
        )

    def counted(self, native: Native, step: int) -> dict[str, Any]:
        """What a group says of the steps that its parameters have taken."""
        return {}

    def check(self, slot: str, found: str, member: _Member) -> None:
        """Refuse a slot of a dtype that the library does not keep it in."""
        if found != member.dtype:
            raise CheckpointError(
                f"slot {slot} of {member.path!r} is {found} in the checkpoint and the parameter "
                f"{member.dtype}; {self.name} keeps state in the parameter's dtype"
            )


class _Optimi(_Library):
    """That of torch-optimi."""

    name, table, refused, per_group = "optimi", OPTIMI, _NOT_OF_OPTIMI, True

    def opened(self, who: str, state: Any) -> Mapping[str, Any]:
        found = dict(state or {})
        kahan = found.get("kahan_comp")
        if kahan is not None and kahan.is_floating_point() and bool(torch.any(kahan != 0)):
            raise CheckpointError(
                f"the state of {who} has kahan_comp, what is still to be added to the parameter; "
                "no rule here keeps such a rest"
            )
        return found

    def count(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> int | None:
        return int(group["step"]) if "step" in group else None

    def closed(
        self, slots: dict[str, Any], native: Native, member: _Member, step: int
    ) -> dict[Any, Any]:
        low = member.dtype in ("float16", "bfloat16") and member.group["kahan_sum"] is not False
        first = next(iter(slots.values()), None)
        slots.setdefault("exp_avg", None)  # of SGD without momentum
        slots["kahan_comp"] = torch.zeros_like(first) if low and first is not None else None
        return slots

    def counted(self, native: Native, step: int) -> dict[str, Any]:
        if not native.counts:
            return {"setup": True}
        return {"setup": True, "step": torch.tensor(step, dtype=torch.int32)}


class _HeavyBall(_Library):
    """That of heavyball."""

    name, table, refused, per_group = "heavyball", HEAVYBALL, {}, True

    def opened(self, who: str, state: Any) -> Mapping[str, Any]:
        pieces = dict(state or {})
        if len(pieces) > 1:
            raise CheckpointError(f"the state of {who} is kept in {len(pieces)} pieces, not in one")
        return dict(pieces.get(0, {}))

    def count(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> int | None:
        return int(group["step_count"]) if group.get("step_count") is not None else None

    def closed(
        self, slots: dict[str, Any], native: Native, member: _Member, step: int
    ) -> dict[Any, Any]:
        first = {"step": torch.tensor(step)} if member.at == 0 else {}
        return {0: {**first, **slots, "is_initialized": {0}}}

    def counted(self, native: Native, step: int) -> dict[str, Any]:
        return {"step_count": torch.tensor(step)}

    def check(self, slot: str, found: str, member: _Member) -> None:
        if found != "float32":
            raise CheckpointError(
                f"slot {slot} of {member.path!r} is {found} in the checkpoint; heavyball keeps "
                "state in float32"
            )


LIBRARIES = {"torch": _Library(), "optimi": _Optimi(), "heavyball": _HeavyBall()}
"""By the name of the package."""


class _Member(NamedTuple):
    """A parameter of a native optimizer, or of its state dict."""

    path: str
    place: int
    """Of its group."""
    at: int
    """Of the parameter in the group."""
    group: Mapping[str, Any]
    key: Any
    """Under which its state is kept."""
    shape: tuple[int, ...]
    dtype: str
    device: Any
    state: Mapping[str, Any]
    step: int
    param: torch.Tensor | None
    """As real numbers."""

    @property
    def about(self) -> About:
        return About(self.group, self.dtype, self.step)


class _Found(NamedTuple):
    """A native optimizer, or its state dict: all of it that is looked at."""

    library: _Library
    native: Native
    who: str
    members: list[_Member]
    groups: list[dict[str, Any]]

    def rule(self, member: _Member) -> Rule:
        """What computes the same as its group."""
        return self.native.rule_of(self.who, member.about)


def checkpoint(optimizer: Any, params: Params | None = None, state: Any = None) -> Checkpoint:
    """The state of a native optimizer; see ``samestep.checkpoint``."""
    if state is not None:
        raise TypeError(f"{_who(optimizer)} holds its state itself; give no other")
    return _taken(_held(optimizer, params), params is not None)


def restore(optimizer: Any, saved: Checkpoint, params: Params | None = None) -> None:
    """Give a native optimizer the state in a checkpoint, in place; see ``samestep.restore``."""
    found = _held(optimizer, params)
    groups, states = _planned(found, saved, params is not None)
    for group, changed in zip(optimizer.param_groups, groups, strict=True):
        _update(group, changed)
    for member in found.members:
        new = states[member.path]
        if new is None:
            optimizer.state.pop(member.key, None)
        else:
            optimizer.state[member.key] = new
    with torch.no_grad():
        for member in found.members if params is not None else ():
            value = saved.parameters[member.path].value
            if value is not None and member.param is not None:
                member.param.copy_(_mapped(value))


def from_state_dict(
    optimizer: str | type,
    state_dict: Mapping[str, Any],
    params: Params | None = None,
    *,
    dialect: str = "torch",
) -> Checkpoint:
    """The state in a native optimizer's ``state_dict()``, without the optimizer.

    Parameters are called by ``param_names`` where the groups have them, by their keys where those
    are names (as ``torch.distributed.checkpoint`` has them), by the names in ``params``, or by
    their places.

    Args:
        optimizer: the optimizer's class or its name: ``"AdamW"``.
        state_dict: what its ``state_dict()`` returned, or a file has of it.
        params: a model or named tensors, in the order in which the optimizer had them; they become
            part of the checkpoint. Without it shapes and dtypes are those of the state.
        dialect: the library: ``"torch"``, ``"optimi"`` or ``"heavyball"``.

    Raises:
        CheckpointError: something in it cannot be carried, and why.
    """
    return _taken(_found(optimizer, state_dict, params, dialect), params is not None)


def into_state_dict(
    optimizer: str | type,
    state_dict: Mapping[str, Any],
    saved: Checkpoint,
    params: Params | None = None,
    *,
    dialect: str = "torch",
) -> dict[str, Any]:
    """A native optimizer's state dict with the state in a checkpoint; a new one.

    Args:
        optimizer: as for ``from_state_dict``.
        state_dict: that of an optimizer for these parameters; it may have taken no step.
        saved: the checkpoint, of a rule that computes the same.
        params: as for ``from_state_dict``; their values are not looked at.
        dialect: as for ``from_state_dict``.

    Raises:
        CheckpointError: the checkpoint is not of these parameters, or the optimizer computes
            something else.
    """
    found = _found(optimizer, state_dict, params, dialect, saved)
    changes, states = _planned(found, saved, with_values=False)
    groups = [dict(group) for group in state_dict["param_groups"]]
    for group, changed in zip(groups, changes, strict=True):
        group.update(changed)
    kept = {member.key: states[member.path] for member in found.members}
    new = {key: state for key, state in kept.items() if state is not None}
    return {**state_dict, "state": new, "param_groups": groups}


def _held(optimizer: Any, params: Params | None) -> _Found:
    """A native optimizer that is there."""
    cls, who = type(optimizer), _who(optimizer)
    package = cls.__module__.partition(".")[0]
    library = LIBRARIES.get(package)
    if library is None:
        raise CheckpointError(
            f"the state of {who} cannot be carried: it is no optimizer of {listed(LIBRARIES)}"
        )
    if package == "heavyball":
        raise CheckpointError(
            f"{who} reshapes its parameters while it steps; give its state_dict() to "
            'samestep.torch.from_state_dict(..., dialect="heavyball")'
        )
    native = natives(library.table, library.refused, who, cls.__name__)
    names = _names(params)
    seeds: list[Any] = []
    groups = [_numbers(group) for group in optimizer.param_groups]
    for place, group in enumerate(optimizer.param_groups):
        for at, param in enumerate(group["params"]):
            name = names.get(id(param))
            if params is not None and name is None:
                raise CheckpointError(
                    f"a parameter of {who}, of shape {tuple(param.shape)}, is not among the "
                    f"{len(names)} given; is it the model that the optimizer was made for?"
                )
            path = _path(group, at, name, len(seeds))
            state = optimizer.state.get(param)
            seeds.append((path, place, at, param, state, real(param.detach())))
    return _Found(library, native, who, _members(library, native, groups, seeds, None), groups)


def _found(
    optimizer: str | type,
    state_dict: Mapping[str, Any],
    params: Params | None,
    dialect: str,
    saved: Checkpoint | None = None,
) -> _Found:
    """A native optimizer's state dict."""
    if dialect not in LIBRARIES:
        raise ValueError(f"dialect is {dialect!r}; it must be one of {', '.join(LIBRARIES)}")
    library = LIBRARIES[dialect]
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    who = f"{library.name}.{name}"
    native = natives(library.table, library.refused, who, name)
    if not {"state", "param_groups"} <= {*state_dict}:
        raise CheckpointError(
            f"the state dict has {listed([*state_dict][:5])}; it must have state and param_groups"
        )
    given = _pairs(params)
    by_name = dict(given)
    groups = [_numbers(group) for group in state_dict["param_groups"]]
    seeds: list[Any] = []
    for place, group in enumerate(state_dict["param_groups"]):
        for at, key in enumerate(group["params"]):
            ordered = given[len(seeds)][0] if len(seeds) < len(given) else None
            path = _path(group, at, key if isinstance(key, str) else ordered, len(seeds))
            if params is not None and path not in by_name:
                raise CheckpointError(
                    f"parameter {path!r} of the state dict is not among the {len(given)} given"
                )
            param = real(by_name[path].detach()) if params is not None else None
            seeds.append((path, place, at, key, state_dict["state"].get(key), param))
    spare = [key for key in state_dict["state"] if key not in {seed[3] for seed in seeds}]
    if spare or (params is not None and len(given) != len(seeds)):
        raise CheckpointError(
            f"the state dict has {len(seeds)} parameters in its groups, state of "
            f"{len(spare)} others, and {len(given)} parameters are given"
        )
    return _Found(library, native, who, _members(library, native, groups, seeds, saved), groups)


def _members(
    library: _Library,
    native: Native,
    groups: list[dict[str, Any]],
    seeds: list[Any],
    saved: Checkpoint | None,
) -> list[_Member]:
    placed(seed[0] for seed in seeds)
    members = []
    for path, place, at, key, kept, param in seeds:
        state = {name: _plain(v) for name, v in library.opened(repr(path), kept).items()}
        shape, dtype = _form(path, native, state, param, saved)
        step = library.count(state, groups[place]) if native.counts else None
        if step is None:  # that it has begun is all there is to know
            step = int(any(state.get(str(name)) is not None for name in native.slots.values()))
        arrays = [array for array in state.values() if torch.is_tensor(array) and array.ndim]
        device = arrays[0].device if arrays else torch.device("cpu")
        members.append(
            _Member(
                path,
                place,
                at,
                groups[place],
                key,
                shape,
                dtype,
                device if param is None else param.device,
                state,
                step if state else 0,
                param,
            )
        )
    return members


def _form(
    path: str,
    native: Native,
    state: Mapping[str, Any],
    param: torch.Tensor | None,
    saved: Checkpoint | None,
) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a parameter, or those that its state speaks of."""
    if param is not None:
        return tuple(param.shape), dtype_name(param.dtype)
    arrays = [v for n, v in state.items() if torch.is_tensor(v) and n != "step"]
    if arrays:
        largest = max(arrays, key=lambda array: array.ndim)
        shape = numpy.broadcast_shapes(*(tuple(array.shape) for array in arrays))
        return tuple(shape), dtype_name(largest.dtype)
    if saved is not None and path in saved.parameters:
        return saved.parameters[path].shape, saved.parameters[path].dtype
    raise CheckpointError(
        f"parameter {path!r} has no state, which would tell its shape; give the parameters"
    )


def _taken(found: _Found, with_values: bool) -> Checkpoint:
    states = {}
    for member in found.members:
        rule = found.rule(member)
        try:
            slots = found.native.taken(rule, member.state, member.about)
        except CheckpointError as error:
            raise CheckpointError(
                f"the state of {member.path!r} is not that of {found.who}: {error}"
            ) from None
        kept = None if slots is None else {n: map_parts(Tensor.of, v) for n, v in slots.items()}
        step = 0 if kept is None else member.step
        rule = _stored(rule, kept, member.dtype)
        value = None
        if with_values and member.param is not None:
            value = Tensor.of(member.param)
        described = describe(rule, max(step - 1, 0))
        states[member.path] = ParameterState(
            member.shape, member.dtype, step, described, kept, value
        )
        if kept is not None:
            _refuse_shapes(found.who, rule, member, kept)
    return Checkpoint(states, {}, "torch")


def _stored(rule: Rule, slots: Mapping[str, Any] | None, dtype: str) -> Rule:
    """The rule that keeps state in the dtype that this state has."""
    parts = [p for v in (slots or {}).values() for p in (v if isinstance(v, tuple) else (v,))]
    found = {part.dtype for part in parts if part.shape}
    return rule.replace(state_dtype=found.pop()) if len(found) == 1 and {dtype} != found else rule


def _refuse_shapes(who: str, rule: Rule, member: _Member, slots: Mapping[str, Any]) -> None:
    try:
        stepping.check_slots(rule, member.path, slots, member.shape)
    except ValueError as error:
        raise CheckpointError(f"the state is not that of {who}: {error}") from None


def _planned(
    found: _Found, saved: Checkpoint, with_values: bool
) -> tuple[list[dict[str, Any]], dict[str, dict[Any, Any] | None]]:
    """What every group is to say, and the state of every parameter; nothing is changed."""
    library, native = found.library, found.native
    rules = {member.path: found.rule(member) for member in found.members}
    wanted = {member.path: Wanted(rules[member.path], member) for member in found.members}
    states = native.matched(found.who, saved, wanted)
    groups, kept = [], {}
    for place, group in enumerate(found.groups):
        members = [member for member in found.members if member.place == place]
        own = {member.path: states[member.path] for member in members}
        changed = _numbers_of_group(found, place, [rules[path] for path in own], [*own.values()])
        step = common_count(f"a group of {found.who}", own) if library.per_group else 0
        numbers = {**group, **changed}
        for member in members:
            state = own[member.path]
            if with_values and member.param is not None:
                check_value(member.path, state, member.param)
            kept[member.path] = _kept(found, member, numbers, rules[member.path], state)
        begun = any(kept[member.path] is not None for member in members)
        groups.append({**changed, **(library.counted(native, step) if begun else {})})
    return groups, kept


def _numbers_of_group(
    found: _Found, place: int, rules: list[Rule], states: list[ParameterState]
) -> dict[str, Any]:
    """The hyperparameters that a group is to have, by their names."""
    common, several = found.native.numbers_for(rules, states)
    for name, values in several.items():
        warnings.warn(
            f"{found.who}: group {place} keeps its own {name}; in the checkpoint its parameters "
            f"have {', '.join(sorted(map(repr, values)))}",
            UserWarning,
            stacklevel=5,
        )
    members = [member for member in found.members if member.place == place]
    return found.native.arguments(common, members[0].about) if members else {}


def _kept(
    found: _Found,
    member: _Member,
    numbers: Mapping[str, Any],
    rule: Rule,
    state: ParameterState,
) -> dict[Any, Any] | None:
    """The state of a parameter as the library keeps it; ``None`` for one that is yet to begin."""
    library, native = found.library, found.native
    about = About(numbers, member.dtype, state.step)
    slots = state.slots
    if state.step == 0 and not native.eager:
        return None
    if slots is None and native.eager:
        first = torch.zeros(member.shape, dtype=getattr(torch, member.dtype))
        slots = stepping.init_slots(rule, torch, first)
    arrays = {}
    for name, value in (slots or {}).items():
        for part in value if isinstance(value, tuple) else (value,):
            if part.shape or not member.shape:
                library.check(name, dtype_name(part.dtype), member)
        arrays[name] = map_parts(lambda part: _own(part, member), value)
    given = native.given(arrays, about)
    if not given and not native.counts:
        return None
    return library.closed(given, native, member, state.step)


def _own(part: Any, member: _Member) -> torch.Tensor:
    """A tensor of its own, on the parameter's device and complex where the parameter is."""
    array = part if torch.is_tensor(part) else _mapped(part)
    if not member.shape or array.ndim:
        array = array.to(member.device, copy=True)
        was = member.key if torch.is_tensor(member.key) else None
        return torch.view_as_complex(array) if was is not None and was.is_complex() else array
    wide = array.to(dtype=torch.promote_types(array.dtype, torch.float32), copy=True)
    return wide.to(member.device) if member.group.get("capturable") else wide


def _update(group: dict[str, Any], changed: Mapping[str, Any]) -> None:
    """Set hyperparameters; a tensor stays the one that it is."""
    for name, value in changed.items():
        old = group.get(name)
        if torch.is_tensor(old) and not torch.is_tensor(value):
            with torch.no_grad():
                old.fill_(value)
        else:
            group[name] = value


def _mapped(tensor: Tensor) -> torch.Tensor:
    """The tensor without a copy; it may be a map of a file."""
    return torch.from_numpy(tensor.bits).view(getattr(torch, tensor.dtype))


def _plain(value: Any) -> Any:
    """A tensor of a state as real numbers, of all ranks together."""
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()
    return real(value.detach()) if torch.is_tensor(value) else value


def _numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's hyperparameters, tensors as numbers."""

    def number(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(map(number, value))
        return value.item() if torch.is_tensor(value) else value

    own = {name: value for name, value in group.items() if name not in ("params", "param_names")}
    return {name: number(value) for name, value in own.items()}


def _pairs(params: Params | None) -> list[tuple[str, torch.Tensor]]:
    if isinstance(params, torch.nn.Module):
        params = params.named_parameters()
    found: Iterable[Any] = params.items() if isinstance(params, Mapping) else params or ()
    return [*found]


def _names(params: Params | None) -> dict[int, str]:
    return {id(param): name for name, param in _pairs(params)}


def _path(group: Mapping[str, Any], at: int, name: str | None, place: int) -> str:
    """What a parameter is called: by its own name, by that of the model given, or by its place."""
    if "param_names" in group:
        return str(group["param_names"][at])
    return str(place) if name is None else name


def _who(optimizer: Any) -> str:
    cls = type(optimizer)
    package = cls.__module__.partition(".")[0]
    known = LIBRARIES.get(package)
    return f"{known.name if known else cls.__module__}.{cls.__qualname__}"
