"""What a torch optimizer counts: calls of ``step``, and the calls that a parameter has missed.

The updates of a parameter are the ``step`` in its state, as in ``torch.optim``. The calls, which
schedules count, are kept where they differ from the most updates of a parameter. Of the steps that
a wrapper withholds, those that a parameter had missed anyway are in its state, if there are any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from samestep.rule import Rule

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["CALLS", "calls_of", "entry", "missed", "missed_so_far", "note", "now"]

CALLS = "calls"
"""The entry of a saved parameter group."""


def entry(name: str) -> str:
    """The entry of a parameter's state for the steps withheld under a name."""
    return f"missed_{name}"


def calls_of(optimizer: RuleOptimizer, params: Sequence[torch.Tensor]) -> Any:
    """The calls so far: a number, or with ``capturable`` a tensor on the first one's device."""
    if optimizer._calls is None:
        optimizer._calls = optimizer.steps_taken
    if optimizer.capturable and params and not isinstance(optimizer._calls, torch.Tensor):
        optimizer._calls = torch.tensor(optimizer._calls, device=params[0].device)
    return optimizer._calls


def missed(rule: Rule, state: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """The withheld steps that a parameter had missed anyway, where there are any."""
    found = ((name, int(state.get(entry(name), 0))) for name in rule.withholds)
    return tuple(pair for pair in found if pair[1])


def note(
    optimizer: RuleOptimizer,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    taken: torch.Tensor | None = None,
) -> None:
    """Count a call, and what parameters without a gradient miss in it.

    Args:
        optimizer: the optimizer.
        before: the shared state before the call.
        after: the shared state after it.
        taken: whether a step is taken; if not, it is no call.
    """
    if isinstance(optimizer._calls, torch.Tensor):
        optimizer._calls.add_(1 if taken is None else taken.to(optimizer._calls.device))
    else:
        vars(optimizer)["_calls"] += 1 if taken is None else int(taken)
    names = optimizer.rule.withholds if before else ()
    for group in optimizer.param_groups if names else ():
        for param in group["params"]:
            state = optimizer.state.get(param)
            if state and param.grad is None:
                for name in names:
                    more = after[name] - before[name]
                    state[entry(name)] = state.get(entry(name), 0) + more


def missed_so_far(optimizer: RuleOptimizer) -> dict[str, Any]:
    """The entries of a new state: a parameter that comes later has missed what was before."""
    first = optimizer.param_groups[0] if optimizer.state else {}
    names = [name for name in optimizer.rule.withholds if name in first]
    return {entry(name): first[name].detach().clone() for name in names}


def now(optimizer: RuleOptimizer, rule: Rule) -> Rule:
    """A group's rule with the numbers of its schedules at the last call."""
    calls = optimizer.steps_taken if optimizer._calls is None else int(optimizer._calls)
    group = optimizer.param_groups[0]
    if rule.withholds:
        rule = rule.withholding({name: int(group.get(name, 0)) for name in rule.withholds})
    return rule.at(max(calls - 1, 0))
