"""A step that gradients flow through."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import array_api_compat.torch as xp

import torch
from samestep import step as stepping
from samestep.counts import Counts
from samestep.kept import kept_by, rule_of
from samestep.spread import spread_of
from torch._compile import _disable_dynamo

from . import kernels
from .counting import calls_of, note
from .entries import entries_of
from .kernels import real, real_gradient
from .members import members_of, shared_of

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["advance_in_graph"]

device = attrgetter("device")


@_disable_dynamo
@torch.enable_grad()
def advance_in_graph(optimizer: RuleOptimizer) -> None:
    """A step that gradients flow through.

    Nothing that an operation has read is written into: the rule gets copies of the parameters,
    and its results replace the state.
    """
    rules = optimizer._rules_of_groups()
    members, grads = members_of(optimizer, rules)
    common = shared_of(optimizer, [member.param for member in members])
    calls = calls_of(optimizer, [member.param for member in members])
    entries = []
    for member, grad in zip(members, grads, strict=True):
        rule = rule_of(rules[member.group], member.name, member.param)
        rule = rule.beginning() if member.begins else rule
        step = member.state["step"] if optimizer.capturable else member.steps
        counted = Counts(calls, step, member.missed)
        param, grad = real(member.param.clone()), real_gradient(grad)  # noqa: PLW2901
        kept = kept_by(rule, param.ndim)
        entries.append(stepping.Entry(rule, counted, grad, param, member.slots, kept))
    before = common
    params = [member.param for member in members]
    spread = spread_of(xp, params, common, device, rules)
    results, common = stepping.run(kernels.Differentiable(), entries, common, spread=spread)
    for member, (param, slots) in zip(members, list(results), strict=True):
        real(member.param).copy_(param)
        state = {**member.state, **entries_of(slots), "step": member.state["step"] + 1}
        optimizer.state[member.param] = state
    note(optimizer, params, before, common)
    optimizer._share(common)
