"""Other people's optimizers for torch in our terms, and how each library lays state out.

Those of torch.optim, of torch-optimi and of heavyball. This file names rules and hyperparameters:
it says what they are called elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from samestep.checkpoints.correspondence import About, Field, Kept, Native
from samestep.checkpoints.state import CheckpointError

__all__ = ["HEAVYBALL", "LIBRARIES", "OPTIMI", "TORCH", "Library", "Member"]

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The distance from 1 to the next number of a dtype."""


def _resolution(value: Any, about: About) -> dict[str, Any]:
    """Adafactor's eps; the first may be ``None``, for the eps of the dtype."""
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
_ON = Field(lambda about: about.numbers["amsgrad"], lambda value, about: {"amsgrad": bool(value)})
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
        {**_ADAM, "amsgrad": _ON, "decay": _DECOUPLED},
        _AMSGRAD,
        like="torch",
        also={"AMSGrad": {"amsgrad": True}},
    ),
    "AdamW": Native("AdamW", {**_ADAM, "amsgrad": _ON}, _AMSGRAD, like="torch"),
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
"""The optimizers of torch.optim that compute the same as a rule."""

_NOT_OF_TORCH = {
    "ASGD": "there is no rule here for averaged SGD; its rates and averages are its own",
    "LBFGS": "it keeps a history of gradients of all parameters together, as no rule here does",
    "Muon": "torch.optim.Muon iterates in bfloat16 and samestep's Muon does not, so that the next "
    "step would be another (by 1 % of the update)",
    "SparseAdam": "it advances only the rows that a sparse gradient names, as no rule here does",
}


def _debiased(name: str, beta: Callable[[Mapping[str, Any]], float]) -> Kept:
    """An average that is kept divided by its weight so far."""

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
            # its adam_wd is noted and never handed on (torch-optimi 0.3.3)
            "decay": _one_way(lambda about: "proximal"),
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


class Member(NamedTuple):
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
        """What conversions may look at."""
        return About(self.group, self.dtype, self.step)


class Library:
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
        self, slots: dict[str, Any], native: Native, member: Member, step: int
    ) -> dict[Any, Any]:
        """A parameter's state in the library's form."""
        if native.counts:
            slots["step"] = self._counter(step, member)
        return slots

    @staticmethod
    def _counter(step: int, member: Member) -> torch.Tensor:
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

    def check(self, slot: str, found: str, member: Member) -> None:
        """Refuse a slot of a dtype that the library does not keep it in."""
        if found != member.dtype:
            raise CheckpointError(
                f"slot {slot} of {member.path!r} is {found} in the checkpoint and the parameter "
                f"{member.dtype}; {self.name} keeps state in the parameter's dtype"
            )


class _Optimi(Library):
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
        self, slots: dict[str, Any], native: Native, member: Member, step: int
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


class _HeavyBall(Library):
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
        self, slots: dict[str, Any], native: Native, member: Member, step: int
    ) -> dict[Any, Any]:
        first = {"step": torch.tensor(step)} if member.at == 0 else {}
        return {0: {**first, **slots, "is_initialized": {0}}}

    def counted(self, native: Native, step: int) -> dict[str, Any]:
        return {"step_count": torch.tensor(step)}

    def check(self, slot: str, found: str, member: Member) -> None:
        if found != "float32":
            raise CheckpointError(
                f"slot {slot} of {member.path!r} is {found} in the checkpoint; heavyball keeps "
                "state in float32"
            )


LIBRARIES = {"torch": Library(), "optimi": _Optimi(), "heavyball": _HeavyBall()}
"""By the name of the package."""
