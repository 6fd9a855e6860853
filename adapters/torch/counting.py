"""What a torch optimizer counts: calls of ``step``, and the calls that a parameter has missed.

The updates of a parameter are the ``step`` in its state, as in ``torch.optim``. The calls, which
schedules count, are kept where they differ from the most updates of a parameter. Of the steps that
a wrapper withholds, those that a parameter had missed anyway are in its state, if there are any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from samestep.arrays import dtype_name
from samestep.rule import Rule
from samestep.step import FLOATING

from .kernels import is_fake

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = [
    "CALLS",
    "calls_in",
    "calls_of",
    "counts_in",
    "entry",
    "missed",
    "missed_so_far",
    "note",
    "now",
    "numbers_in",
    "withheld_in",
]

CALLS = "calls"
"""The entry of a parameter group, which torch's functions of state dicts look for in all groups."""


def entry(name: str) -> str:
    """The entry of a parameter's state for the steps withheld under a name."""
    return f"missed_{name}"


def calls_in(optimizer: RuleOptimizer) -> int:
    """The calls so far, which are read from a device if they are counted there."""
    calls = optimizer._calls
    if isinstance(calls, torch.Tensor):
        (calls,) = counts_in([calls])
    return optimizer.steps_taken if calls is None else calls


def calls_of(optimizer: RuleOptimizer, params: Sequence[torch.Tensor]) -> Any:
    """The calls so far: a number, or with ``capturable`` a tensor on the first one's device."""
    if optimizer._calls is None:
        optimizer._calls = optimizer.steps_taken
    if optimizer.capturable and params and not isinstance(optimizer._calls, torch.Tensor):
        optimizer._called(torch.tensor(optimizer._calls, device=params[0].device))
    return optimizer._calls


def counts_in(values: Sequence[Any]) -> list[int | None]:
    """The whole numbers >= 0 in 0-d tensors, read once per device; ``None`` where there is none.

    A fake tensor, or one on meta, which has no value, counts as 0.
    """
    found: list[int | None] = [None] * len(values)
    places: dict[torch.device, dict[torch.dtype, list[int]]] = {}
    for place, value in enumerate(values):
        if isinstance(value, torch.Tensor) and not value.ndim:
            if value.is_meta or is_fake(value):
                found[place] = 0
            elif not (value.is_complex() or value.dtype is torch.bool):
                kinds = places.setdefault(value.device, {})
                kinds.setdefault(value.dtype, []).append(place)
    for kinds in places.values():
        alike = [torch.stack([values[place].detach() for place in own]) for own in kinds.values()]
        numbers = torch.cat([_whole(several) for several in alike]).tolist()
        for place, number in zip(chain(*kinds.values()), numbers, strict=True):
            found[place] = number if number >= 0 else None
    return found


def numbers_in(values: Sequence[Any]) -> list[float | None]:
    """The finite numbers in 0-d tensors, read once per device and dtype; ``None`` of others.

    A tensor without a value counts as 0.
    """
    found: list[float | None] = [None] * len(values)
    kinds: dict[Any, list[int]] = {}
    for place, value in enumerate(values):
        dense = isinstance(value, torch.Tensor) and value.layout is torch.strided
        if dense and not value.ndim and dtype_name(value.dtype) in FLOATING:
            if value.is_meta or is_fake(value):
                found[place] = 0.0
            else:
                kinds.setdefault((value.device, value.dtype), []).append(place)
    for places in kinds.values():
        numbers = torch.stack([values[place].detach() for place in places]).tolist()
        for place, number in zip(places, numbers, strict=True):
            found[place] = number if math.isfinite(number) else None
    return found


def _whole(numbers: torch.Tensor) -> torch.Tensor:
    """Numbers as integers; -1 where one is none."""
    whole = numbers.to(torch.int64)
    return torch.where(whole == numbers, whole, -1) if numbers.is_floating_point() else whole


def withheld_in(rule: Rule, state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a state for the withheld steps that a parameter had missed anyway."""
    return {name: state[entry(name)] for name in rule.withholds if entry(name) in state}


def missed(rule: Rule, state: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """The withheld steps that a parameter had missed anyway, where there are any."""
    found = withheld_in(rule, state)
    numbers = zip(found, counts_in([*found.values()]), strict=True)
    return tuple((name, number) for name, number in numbers if number)


def note(
    optimizer: RuleOptimizer,
    stepped: Sequence[torch.Tensor],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    taken: torch.Tensor | None = None,
) -> None:
    """Count a call, and what parameters miss in it that have no gradient or are in no group.

    Args:
        optimizer: the optimizer.
        stepped: the parameters that have a gradient, all of which have a state now.
        before: the shared state before the call.
        after: the shared state after it.
        taken: whether a step is taken; if not, it is no call.
    """
    if isinstance(optimizer._calls, torch.Tensor):
        optimizer._calls.add_(1 if taken is None else taken.to(optimizer._calls.device))
    else:
        optimizer._called(optimizer._calls + (1 if taken is None else int(taken)))
    names = optimizer.rule.withholds if before else ()
    if not names or len(optimizer.state) == len(stepped):
        return
    present = {*map(id, stepped)}
    for param, state in optimizer.state.items():
        begun = isinstance(param, torch.Tensor) and isinstance(state, dict) and "step" in state
        for name in names if begun and id(param) not in present else ():
            more = after[name] - before[name]
            held = state.get(entry(name), more.new_zeros(()))  # loaded to the parameter
            state[entry(name)] = held.to(more.device) + more


def missed_so_far(optimizer: RuleOptimizer) -> dict[str, Any]:
    """The entries of a new state: a parameter that comes later has missed what was before.

    Every state has them, zeros too, since torch's functions of state dicts load into entries that
    are there.
    """
    first, zero = optimizer.param_groups[0], torch.zeros(())
    return {
        entry(name): first.get(name, zero).detach().clone() for name in optimizer.rule.withholds
    }


def now(optimizer: RuleOptimizer, rule: Rule) -> Rule:
    """A group's rule with the numbers of its schedules at the last call."""
    group = optimizer.param_groups[0]
    if rule.withholds:
        rule = rule.withholding({name: int(group.get(name, 0)) for name in rule.withholds})
    return rule.at(max(calls_in(optimizer) - 1, 0))
