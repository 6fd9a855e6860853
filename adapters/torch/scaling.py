"""The work that ``torch.amp.GradScaler`` leaves to a step: unscaling, and skipping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["unscaled"]


def unscaled(optimizer: Any, grads: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Undo the scaling that a GradScaler has left to the step; return whether to take the step.

    A GradScaler sets attributes of the optimizer while it calls ``step``. Operations and
    results are the same as in ``GradScaler.unscale_``.
    """
    found: torch.Tensor | None = getattr(optimizer, "found_inf", None)
    factor: torch.Tensor | None = getattr(optimizer, "grad_scale", None)
    if factor is not None:
        exact = factor if factor.device.type == "mps" else factor.double()  # as in torch
        inverse = exact.reciprocal().float()
        there = {device: inverse.to(device) for device in {grad.device for grad in grads}}
        for alike in _grouped(grads):
            on_device = there[alike[0].device]
            seen = torch.zeros_like(on_device)
            torch._amp_foreach_non_finite_check_and_unscale_(alike, seen, on_device)
    return None if found is None else found == 0


def _grouped(grads: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Gradients by device and dtype."""
    groups: dict[Any, list[torch.Tensor]] = {}
    for grad in grads:
        groups.setdefault((grad.device, grad.dtype), []).append(grad)
    return [*groups.values()]
