"""How torch.optim and the libraries for torch lay out the state of a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from samestep.arrays import listed
from samestep.checkpoints.correspondence import About, Native
from samestep.checkpoints.state import CheckpointError

from .package_tables import (
    IN_ATTRIBUTES,
    MUON_OPTIMIZER,
    NOT_OF_MUON_OPTIMIZER,
    PYTORCH_OPTIMIZER,
    SCHEDULE_FREE,
    last_weight,
)
from .tables import HEAVYBALL, NOT_OF_OPTIMI, NOT_OF_TORCH, OPTIMI, TORCH

__all__ = ["LIBRARIES", "Library", "Member"]


class Member(NamedTuple):
    """A parameter of a native optimizer, or of its state dict."""

    path: str
    place: int
    """The index of the group."""
    at: int
    """The index of the parameter in the group."""
    group: Mapping[str, Any]
    key: Any
    """Under which its state is kept."""
    shape: tuple[int, ...]
    dtype: str
    device: Any
    state: Mapping[str, Any]
    step: int
    param: torch.Tensor | None
    """The parameter, as real numbers."""
    native: Native
    """The correspondence of the parameter."""

    @property
    def about(self) -> About:
        """The values that conversions may read."""
        return About(self.group, self.dtype, self.step, self.shape)


class Library:
    """The layout of a library's state; this class has the layout of torch.optim."""

    name = "torch.optim"
    table: Mapping[str, Native] = TORCH
    refused: Mapping[str, str] = NOT_OF_TORCH
    per_group = False
    """Whether steps are counted for a whole group."""
    sign = ""
    """The entry by which a group is known to be the library's, if there is one."""
    beside: tuple[str, ...] = ("step",)
    """The entries of a parameter's state that are no slots."""
    attributes: tuple[str, ...] = ()
    """The numbers that an optimizer has in attributes, and in no group."""

    def opened(self, who: str, state: Any) -> Mapping[str, Any]:
        """A parameter's state by name."""
        return dict(state or {})

    def count(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> int | None:
        """The steps that a parameter has taken; ``None`` if they are not counted."""
        return int(state["step"]) if "step" in state else None

    def closed(self, slots: dict[str, Any], member: Member, step: int) -> dict[Any, Any]:
        """A parameter's state in the library's form."""
        if member.native.counts:
            slots["step"] = self._counter(step, member)
        return slots

    @staticmethod
    def _counter(step: int, member: Member) -> torch.Tensor | int:
        fused = bool(member.group.get("fused"))
        there = fused or bool(member.group.get("capturable"))
        wide = torch.get_default_dtype() is torch.float64 and not fused
        return torch.tensor(
            float(step),
            dtype=torch.float64 if wide else torch.float32,
            device=member.device if there else "cpu",
        )

    def counted(
        self, native: Native, step: int, group: Mapping[str, Any], slots: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The entries of a group that count steps, from the slots of one of its parameters."""
        return {}

    def check(self, slot: str, found: str, member: Member) -> None:
        """Refuse a slot whose dtype is not the library's."""
        if found != member.dtype:
            raise CheckpointError(
                f"slot {slot} of {member.path!r} is {found} in the checkpoint and the parameter "
                f"{member.dtype}; {self.name} keeps state in the parameter's dtype"
            )


class _Optimi(Library):
    """The layout of torch-optimi."""

    name, table, refused, per_group = "optimi", OPTIMI, NOT_OF_OPTIMI, True
    sign, beside = "decouple_lr", ("kahan_comp",)

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

    def closed(self, slots: dict[str, Any], member: Member, step: int) -> dict[Any, Any]:
        low = member.dtype in ("float16", "bfloat16") and member.group["kahan_sum"] is not False
        first = next(iter(slots.values()), None)
        slots.setdefault("exp_avg", None)  # of SGD without momentum
        slots["kahan_comp"] = torch.zeros_like(first) if low and first is not None else None
        return slots

    def counted(
        self, native: Native, step: int, group: Mapping[str, Any], slots: Mapping[str, Any]
    ) -> dict[str, Any]:
        if not native.counts:
            return {"setup": True}
        return {"setup": True, "step": torch.tensor(step, dtype=torch.int32)}


class _HeavyBall(Library):
    """The layout of heavyball."""

    name, table, refused, per_group = "heavyball", HEAVYBALL, {}, True
    beside = "step", "is_initialized"

    def opened(self, who: str, state: Any) -> Mapping[str, Any]:
        pieces = dict(state or {})
        if len(pieces) > 1:
            raise CheckpointError(f"the state of {who} is kept in {len(pieces)} pieces, not in one")
        if pieces.keys() - {0}:
            raise CheckpointError(
                f"the state of {who} has {listed(pieces)}; heavyball has a piece 0"
            )
        return dict(pieces.get(0, {}))

    def count(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> int | None:
        return int(group["step_count"]) if group.get("step_count") is not None else None

    def closed(self, slots: dict[str, Any], member: Member, step: int) -> dict[Any, Any]:
        first = {"step": torch.tensor(step)} if member.at == 0 else {}
        return {0: {**first, **slots, "is_initialized": {0}}}

    def counted(
        self, native: Native, step: int, group: Mapping[str, Any], slots: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {"step_count": torch.tensor(step)}

    def check(self, slot: str, found: str, member: Member) -> None:
        if found != "float32":
            raise CheckpointError(
                f"slot {slot} of {member.path!r} is {found} in the checkpoint; heavyball keeps "
                "state in float32"
            )


class _InGroups(Library):
    """A library that counts steps in its groups."""

    def closed(self, slots: dict[str, Any], member: Member, step: int) -> dict[Any, Any]:
        return slots


class _ScheduleFree(_InGroups):
    """The layout of schedulefree."""

    name, table, refused, per_group = "schedulefree", SCHEDULE_FREE, {}, True
    sign, beside = "train_mode", ()

    def count(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> int | None:
        if group["k"] and not group["train_mode"]:
            raise CheckpointError(
                "an optimizer of schedulefree is evaluating: its parameters are not those at which "
                "gradients are taken, and cannot be carried; call its train() before"
            )
        return int(group["k"])

    def counted(
        self, native: Native, step: int, group: Mapping[str, Any], slots: Mapping[str, Any]
    ) -> dict[str, Any]:
        largest, total = (float(slots[name].copy()) for name in ("lr_max", "weight_sum"))
        weights = {"lr_max": largest, "weight_sum": total * last_weight(group, step, largest)}
        return {"k": step, "train_mode": True, **weights}


class _PytorchOptimizer(_InGroups):
    """The layout of pytorch_optimizer."""

    name, table, refused, per_group = "pytorch_optimizer", PYTORCH_OPTIMIZER, {}, True
    sign, beside, attributes = "weight_decouple", ("RMS",), IN_ATTRIBUTES

    def count(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> int | None:
        return int(group.get("step", 0))

    def counted(
        self, native: Native, step: int, group: Mapping[str, Any], slots: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {"step": step}


class _MuonOptimizer(Library):
    """The layout of muon-optimizer, whose counts are no tensors."""

    name, table, refused = "muon", MUON_OPTIMIZER, NOT_OF_MUON_OPTIMIZER

    @staticmethod
    def _counter(step: int, member: Member) -> int:
        return step


LIBRARIES = {
    "torch": Library(),
    "optimi": _Optimi(),
    "heavyball": _HeavyBall(),
    "schedulefree": _ScheduleFree(),
    "pytorch_optimizer": _PytorchOptimizer(),
    "muon": _MuonOptimizer(),
}
"""By the name of the package."""
