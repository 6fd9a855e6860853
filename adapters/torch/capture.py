"""A step in a CUDA graph: what cannot be captured, and what a replay does not follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from samestep.notice import warn

from .held import alike

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["Captured", "capturing", "refuse_uncounted", "refuse_unplanned", "warn_of_memory"]


def capturing() -> bool:
    """Whether a CUDA graph is being captured."""
    try:
        return torch.cuda.is_current_stream_capturing()
    except RuntimeError:  # a PyTorch without CUDA
        return False


def refuse_unplanned(optimizer: RuleOptimizer) -> None:
    """Raise if a plan would have to be made while a graph is captured."""
    if not capturing():
        return
    refuse_uncounted(optimizer)
    reason = "this is the first step, which makes state and reads counts"
    if optimizer._plan is not None:
        reason = (
            "parameters, gradients or state have changed since the last step, and this one "
            "arranges memory and reads counts"
        )
    raise RuntimeError(
        f"{optimizer.rule.name}: a CUDA graph cannot capture this step: {reason}; take one step "
        "like it before the capture"
    )


def refuse_uncounted(optimizer: RuleOptimizer) -> None:
    """Raise if a replay of the step that is captured would repeat its count."""
    if not optimizer.capturable:
        raise RuntimeError(
            f"{optimizer.rule.name}: a step that counts on the host is captured in a CUDA graph, "
            "which would replay this one step; make the optimizer with capturable=True"
        )


class Captured:
    """The numbers of all groups when a step was captured, which a replay keeps."""

    def __init__(self, numbers: list[tuple[Any, ...]]) -> None:
        self.numbers = numbers
        self.said: list[Any] = []

    def warn_of_changes(self, optimizer: RuleOptimizer) -> None:
        """Warn, once for each value, of a number that has changed since then."""
        if capturing():  # with the new number
            return
        groups = zip(optimizer.param_groups, self.numbers, strict=False)
        for place, (group, (rule, *held)) in enumerate(groups):
            _, *values = optimizer._values_of(group)
            for name, was, now in zip(rule.hypers, held, values, strict=False):
                said = any(alike((place, name, now), other) for other in self.said)
                if not (alike(was, now) or said):
                    self.said.append((place, name, now))
                    warn(
                        f"{optimizer.rule.name}: {name} of group {place} was {_shown(was)} when a "
                        f"step was captured in a CUDA graph and is {_shown(now)} now; a replay "
                        "does not follow. Make it a tensor on the device of the parameters before "
                        "the capture and write into that, or capture again"
                    )


def warn_of_memory(optimizer: RuleOptimizer) -> None:
    """Warn that the memory of a captured step is not that of the optimizer any more."""
    warn(
        f"{optimizer.rule.name}: parameters, gradients or state have changed since a step was "
        "captured in a CUDA graph, and memory is arranged anew; a replay does not follow. Capture "
        "again after this step"
    )


def _shown(value: Any) -> str:
    """A number; the value of a tensor stays on its device."""
    return "a tensor" if isinstance(value, torch.Tensor) else repr(value)
