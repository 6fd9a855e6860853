"""The DTensors of an optimizer: the pieces that a step is made of, and the other processes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from samestep.kept import rule_of
from samestep.placement import Mesh, Placement
from samestep.rule import Rule

from .exchange import Exchange, Facts
from .placement import mesh_of, placement_of
from .slices import copied, mesh_of_group, sliced

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer
    from .plan import Member

__all__ = ["Shards"]


class Shards:
    """The pieces of an optimizer's parameters, and the processes that have the others."""

    def __init__(self, who: str, checks: bool) -> None:
        self.exchange = Exchange(who, checks)
        self.placements: dict[int, Placement | None] = {}
        self.facts: Facts = {}
        self.slices: dict[int, tuple[tuple[int, ...], ...]] = {}

    def placed(self, optimizer: RuleOptimizer, rules: Sequence[Rule]) -> None:
        """Find where the pieces of all parameters are, of those without a gradient too."""
        self.placements = {}
        self._measure(optimizer)
        for group, rule in zip(optimizer.param_groups, rules, strict=True):
            for name, param in optimizer._named(group):
                who = f"{rule.name}: parameter {name!r}"
                self.placements[id(param)] = self._placed(
                    optimizer, rule_of(rule, name, param), who, param
                )

    def _measure(self, optimizer: RuleOptimizer) -> None:
        """Find the shapes of the slices that all processes have, if that is not known."""
        params, group = optimizer._params(), optimizer.reduce_over
        if group is None or all(id(param) in self.slices for param in params):
            return
        said: list[Any] = [None] * group.size()
        own = [tuple(param.shape) for param in params]
        torch.distributed.all_gather_object(said, own, group=group)
        if len({*map(len, said)}) > 1:
            raise ValueError(
                f"{optimizer.rule.name}: the processes of reduce_over have "
                f"{', '.join(str(len(each)) for each in said)} parameters; give every process a "
                "slice of every parameter, which may be empty"
            )
        self.slices = dict(zip(map(id, params), zip(*said, strict=True), strict=True))

    def _placed(self, optimizer: RuleOptimizer, rule: Rule, who: str, param: Any) -> Any:
        """The placement of a parameter; ``None`` if it is whole for its rule."""
        if optimizer.share_work is not None:
            return copied(rule, param, optimizer.share_work)
        if optimizer.reduce_over is not None:
            return sliced(rule, who, param, optimizer.reduce_over, self.slices[id(param)])
        return placement_of(rule, who, param)

    def of(self, members: Sequence[Member]) -> Shards | None:
        """Note the parameters that are stepped; nothing if no rule sees more than an element."""
        found: dict[Any, list[str]] = {
            placement.mesh: [] for placement in self.placements.values() if placement is not None
        }
        for member in members:
            placement = self.placements[id(member.param)]
            if placement is not None:
                bounds = [cut and cut.bounds for cut in placement.cuts]
                form = f"of shape {placement.shape}, {member.param.dtype}, cut at {bounds}"
                found[placement.mesh].append(f"{member.name!r} {form}")
        self.facts = {mesh: tuple(words) for mesh, words in found.items()}
        return self if found else None

    def begun(self) -> Exchange:
        """The other processes, which step the same parameters."""
        self.exchange.begin(self.facts)
        return self.exchange

    def failed(self, optimizer: RuleOptimizer, error: Exception) -> None:
        """Tell the other processes of an error before they wait for this one."""
        if optimizer.differentiable:  # DTensor itself exchanges what it needs
            return
        with contextlib.suppress(ValueError):
            self._measure(optimizer)  # which the others do in their first step
        meshes: dict[Any, None] = {}
        for group in optimizer.param_groups:
            rule = optimizer._own(group)  # no number of the group, which may be what is wrong
            for name, param in optimizer._named(group):
                with contextlib.suppress(TypeError, ValueError):
                    meshes[self._mesh(optimizer, rule_of(rule, name, param), param)] = None
        self.exchange.failed(error, [mesh for mesh in meshes if mesh is not None])

    def _mesh(self, optimizer: RuleOptimizer, rule: Rule, param: Any) -> Mesh | None:
        """The processes that wait for this one with a parameter, though it cannot be placed."""
        if optimizer.share_work is not None:
            one = copied(rule, param, optimizer.share_work)
            return None if one is None else one.mesh
        if optimizer.reduce_over is not None:
            return None if rule.needs == "element" else mesh_of_group(optimizer.reduce_over)
        return mesh_of(rule, param)
