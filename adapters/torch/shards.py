"""The DTensors of an optimizer: the pieces that a step is made of, and the other processes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from samestep.differing import numbers_of
from samestep.kept import rule_of
from samestep.placement import Mesh, Placement
from samestep.rule import Rule

from .exchange import Exchange, Facts, number_of, ranks_of
from .pieces import is_spread
from .placement import everywhere, mesh_of, placement_of
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
        self.copies: dict[int, Mesh] = {}
        """The processes that have the whole of a parameter, and agree on its terms of sums."""
        self.facts: Facts = {}
        self.places: dict[Mesh, list[int]] = {}
        self.members: list[tuple[int, str]] = []
        self.rules: list[Rule] = []
        self.shares = False
        self.slices: dict[int, tuple[tuple[int, ...], ...]] = {}

    def placed(self, optimizer: RuleOptimizer, rules: Sequence[Rule]) -> None:
        """Find where the pieces of all parameters are, of those without a gradient too."""
        self.placements, self.copies, plain = {}, {}, []
        self._measure(optimizer)
        for group, rule in zip(optimizer.param_groups, rules, strict=True):
            for name, param in optimizer._named(group):
                who = f"{rule.name}: parameter {name!r}"
                own = rule_of(rule, name, param)
                self.placements[id(param)] = self._placed(optimizer, own, who, param)
                if self.placements[id(param)] is None and own.phases:
                    if is_spread(param):
                        self.copies[id(param)] = everywhere(param)
                    else:
                        plain.append(id(param))
        found = [one.mesh for one in self.placements.values() if one is not None]
        meshes = sorted((*found, *self.copies.values()), key=lambda mesh: -math.prod(mesh.sizes))
        self.copies |= {one: meshes[0] for one in plain if meshes}
        several = [{*ranks_of(mesh)} for mesh in dict.fromkeys(meshes)]
        holds = len(several) > 1 and all(map(several[0].issuperset, several))
        self.exchange.wide = meshes[0] if holds else None
        self.shares = optimizer.share_work is not None

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
        placed = [one.mesh for one in self.placements.values() if one is not None]
        self.places = {mesh: [] for mesh in (*placed, *self.copies.values())}
        self.members = [(member.group, member.name) for member in members]
        words = []
        for at, member in enumerate(members):
            words.append(self._words(member))
            for mesh in self._meshes(member):
                self.places[mesh].append(at)
        self.facts = {mesh: tuple(words[at] for at in own) for mesh, own in self.places.items()}
        self.rules = []
        return self if self.places else None

    def _words(self, member: Member) -> str:
        """A parameter in words, which are the same in all processes."""
        placement = self.placements[id(member.param)]
        shape, bounds = tuple(member.param.shape), ""
        if placement is not None:
            shape, cuts = placement.shape, [cut and cut.bounds for cut in placement.cuts]
            bounds = f", cut at {cuts}"
        return f"{member.name!r} of shape {shape}, {member.param.dtype}{bounds}"

    def _meshes(self, member: Member) -> Iterable[Mesh]:
        """The meshes whose processes all have a parameter, of those that exchange something."""
        param: Any = member.param
        placement = self.placements[id(param)]
        if placement is not None:
            return [placement.mesh]
        if is_spread(param):
            return [mesh for mesh in self.places if mesh.key == param.device_mesh]
        return self.places if self.shares or id(param) in self.copies else ()

    def begun(self, rules: list[Rule], calls: Any, counts: list[int]) -> Exchange:
        """The other processes, which step the same parameters with the same numbers.

        Args:
            rules: one per parameter group.
            calls: the calls so far, if they are counted on the host.
            counts: the steps that each parameter has taken.
        """
        now = calls if type(calls) is int else None
        if rules is not self.rules or not all(rule.constant for rule in rules):
            self.rules = rules
            self.words = [numbers_of(rule, now) for rule in rules]
            self.numbers = {
                mesh: number_of(tuple(self.words[group] for group in self._groups(mesh)))
                for mesh in self.places
            }
        counted = {
            mesh: number + hash((now, *map(counts.__getitem__, self.places[mesh])))
            for mesh, number in (self.numbers if now is not None else {}).items()
        }
        said = partial(self._said, now, counts)
        self.exchange.begin(self.facts, counted or self.numbers, said)
        return self.exchange

    def _groups(self, mesh: Mesh) -> Iterable[int]:
        """The groups of the parameters that all processes of a mesh have."""
        return dict.fromkeys(self.members[at][0] for at in self.places[mesh])

    def _said(self, calls: int | None, counts: Sequence[int], mesh: Mesh) -> tuple[str, ...]:
        """The numbers of a step in words."""
        own = (words for group in self._groups(mesh) for words in self.words[group])
        if calls is None:
            return tuple(own)
        late = (
            f"{counts[at]} steps of {self.members[at][1]!r}"
            for at in self.places[mesh]
            if counts[at] != calls
        )
        return *own, f"calls so far: {calls}", *late

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
        sums = rule.phases and is_spread(param)
        return mesh_of(rule, param) or (everywhere(param) if sums else None)
