"""Parameters of several processes that are plain tensors: slices, also of FSDP1, and copies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from samestep.kept import rule_of
from samestep.notice import warn
from samestep.placement import Cut, Mesh, Placement
from samestep.rule import Rule

from .kernels import real
from .pieces import is_spread

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = [
    "checked_group",
    "copied",
    "mesh_of_group",
    "refuse_parts",
    "refuse_slices",
    "sliced",
    "warn_of_replaced",
]


def _needs(rule: Rule) -> set[str]:
    """The needs of a rule and of the rules inside."""
    return {rule._own_need}.union(*map(_needs, rule.inside))


def mesh_of_group(group: Any) -> Mesh:
    """The processes of a group."""
    return Mesh(group, (group.size(),), (group.rank(),))


def copied(rule: Rule, param: torch.Tensor, group: Any) -> Placement | None:
    """The placement of a parameter of which every process has a copy; they divide the work.

    ``None`` if there is no work with whole matrices.
    """
    if "matrix" not in _needs(rule):
        return None
    shape = tuple(real(param).shape)
    return Placement(shape, (None,) * len(shape), mesh_of_group(group), shares=True)


def sliced(rule: Rule, who: str, param: torch.Tensor, group: Any, known: Any) -> Placement | None:
    """The placement of a slice, of which only the number of elements matters.

    Args:
        rule: its rule.
        who: the parameter in messages.
        param: the slice of this process.
        group: the processes.
        known: the shapes of the slices in all processes.
    """
    if rule.needs == "element":
        return None
    if any(not shape or shape[1:] != known[0][1:] for shape in known):
        raise ValueError(
            f"{who} has the shapes {', '.join(map(str, known))} in the processes of reduce_over; "
            "slices must be cut along the first axis, or be vectors"
        )
    bounds = tuple(accumulate((shape[0] for shape in known), initial=0))
    cuts = (Cut(bounds, (0,)), *(None for _ in known[0][1:]))
    shape = (bounds[-1], *known[0][1:])
    if param.is_complex():
        shape, cuts = (*shape, 2), (*cuts, None)
    return Placement(shape, cuts, mesh_of_group(group))


def refuse_slices(optimizer: RuleOptimizer) -> None:
    """Refuse a rule that reads more of a parameter than there is in any process.

    All parameters are looked at, so that every process has the same words.
    """
    group = optimizer.reduce_over
    for own in optimizer.param_groups:
        rule = optimizer._rule_of(own)
        for name, param in optimizer._named(own):
            if group is None and not hasattr(param, "_fsdp_flattened"):
                continue
            one = rule_of(rule, name, param)
            seen = _needs(one) - {"element"} - ({"tree"} if group is not None else set())
            if one.needs == "element" or not seen:
                continue
            what = "in one piece with others, without its shape, since FSDP1 has made it flat"
            if not hasattr(param, "_fsdp_flattened"):
                what = "a slice (reduce_over=)"
            more = "" if seen != {"tree"} else ", or give reduce_over=group, its processes"
            raise ValueError(
                f"{one.name}: parameter {name!r} is {what}; {one.name} reads more of a parameter "
                f"than an element (needs = {one.needs!r}). Shard the model with FSDP2 "
                f"(torch.distributed.fsdp.fully_shard){more}"
            )
    for option in ("reduce_over", "share_work"):
        value = getattr(optimizer, option)
        if value is not None and any(map(is_spread, optimizer._params())):
            raise ValueError(
                f"{optimizer.rule.name}({option}=...): there are DTensors, whose mesh says it; "
                f"leave {option} out"
            )


def warn_of_replaced(rule: Rule, members: Sequence[Any]) -> None:
    """Warn, where there are several processes, of a step in which no parameter has a gradient.

    An engine that replaces the parameters of a model leaves the old ones to an optimizer that was
    made before, where nothing steps them.
    """
    if not members and torch.distributed.is_available() and torch.distributed.is_initialized():
        warn(
            f"{rule.name}: no parameter has a gradient, so that this step moves nothing. "
            "fully_shard and parallelize_module replace a model's parameters: make the optimizer "
            "after them"
        )


def refuse_parts(rule: Rule) -> None:
    """Refuse a sum over all parameters inside ``ZeroRedundancyOptimizer``, which gives it some."""
    if not rule.phases:
        return
    frame: Any = sys._getframe(1)
    while frame is not None:
        if type(frame.f_locals.get("self")).__name__ == "ZeroRedundancyOptimizer":
            raise ValueError(
                f"{rule.name}: ZeroRedundancyOptimizer gives every process some of the parameters, "
                f"and {rule.name} sums over all of them; leave it out, or shard the model with "
                "FSDP2 (torch.distributed.fsdp.fully_shard)"
            )
        frame = frame.f_back


def checked_group(rule: Rule, option: str, group: Any) -> Any:
    """A process group, or ``None``; raises where it is none, or this process is no part of it."""
    if group is None:
        return None
    if not isinstance(group, torch.distributed.ProcessGroup):
        raise TypeError(
            f"{rule.name}({option}={group!r}): it must be a process group of torch.distributed, "
            "such as torch.distributed.group.WORLD after init_process_group"
        )
    return group
