"""Rules run on tensors without memory: what they raise, and whether they can be stacked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import array_api_compat.torch as xp

import torch
from samestep.arrays import map_parts
from samestep.kept import PLAIN
from samestep.proof import sums_segments
from samestep.rule import Rule
from samestep.step import Entry, run

from .exchange import Pretended
from .kernels import SEGMENT, is_plain

__all__ = ["kinds", "totals", "tried", "variant"]


def variant(rule: Rule) -> Any:
    """The properties of a rule that a plan depends on: everything except its numbers."""
    return rule.bare, rule.slots().keys(), rule.groups


def tried(entries: Sequence[Entry], common: dict[str, Any], known: set[Any]) -> set[Any]:
    """Run the rule on tensors without memory, so that it raises before the step changes anything.

    Args:
        entries: the entries of the step; of several equal ones, one is tried.
        common: shared state.
        known: what this returned before.

    Returns:
        What has been tried now, for the next call.
    """
    new = {}
    for entry in entries:
        arrays = {"param": entry.param, "grad": entry.grad, **entry.slots}
        formats = _mapped(lambda array: (tuple(array.shape), array.dtype), arrays)
        key = variant(entry.rule)[0], entry.kept, entry.stacked, entry.placement, *formats.items()
        if key not in known and is_plain(entry.param):
            new[key] = entry
    for entry in new.values():
        with contextlib.suppress(RuntimeError, TypeError):  # a rule that asks for a value
            _run_without_memory(entry, common)
    return {*new}


def _run_without_memory(entry: Entry, common: dict[str, Any]) -> None:
    empty = partial(_mapped, partial(torch.empty_like, device="meta"))
    arrays = {name: empty(getattr(entry, name)) for name in ("grad", "param", "slots")}
    step = entry.step if isinstance(entry.step, int) else 0
    exchange = None if entry.placement is None else Pretended()
    entries = [entry._replace(step=step, **arrays)]
    list(run(xp, entries, empty(common), vmap=torch.vmap, totals=totals, exchange=exchange)[0])


def totals(vector: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The sums of the segments of a vector that begin at some places; the last one is the end."""
    return torch.segment_reduce(vector, "sum", offsets=places, unsafe=True)  # which reads nothing


def kinds(common: dict[str, Any]) -> Callable[[Entry], Any]:
    """What entries have in common that PyTorch executes together, though they are no elements.

    It maps a rule over parameters of one shape, unless the rule reads a value. Small ones of all
    shapes are a vector where it can sum segments of that, and the rule needs no more.
    """
    known: dict[Any, bool] = {}

    def kind(entry: Entry) -> Any:
        if entry.param.ndim == 0 or not is_plain(entry.param):
            return None
        key = id(entry.rule), entry.kept, entry.placement, entry.param.ndim
        if key not in known:
            known[key] = _can_be_mapped(entry, common)
        if not known[key]:
            return None
        small = entry.param.numel() <= SEGMENT.get(entry.param.device.type, 0)
        plain = entry.kept == PLAIN and entry.placement is None
        return (
            "segments"
            if small and plain and sums_segments(entry.rule)
            else tuple(entry.param.shape)
        )

    return kind


def _can_be_mapped(entry: Entry, common: dict[str, Any]) -> bool:
    two = {
        name: _mapped(_two_without_memory, getattr(entry, name))
        for name in ("grad", "param", "slots")
    }
    try:
        _run_without_memory(entry._replace(stacked=True, **two), common)
    except Exception:  # any error of vmap; without a stack the rule works, or raises its own
        return False
    return True


def _mapped(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """``function`` of a tensor, of every part of a slot, or of every tensor of a dict."""
    if isinstance(value, dict):
        return {name: map_parts(function, item) for name, item in value.items()}
    return map_parts(function, value)


def _two_without_memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_empty((2, *tensor.shape), device="meta")
