"""Rules run on tensors without memory: what they raise, and whether they can be stacked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import array_api_compat.torch as xp

import torch
from samestep.arrays import map_parts
from samestep.rule import Rule
from samestep.step import Entry, run

from .exchange import Pretended
from .kernels import is_plain

__all__ = ["stackable", "tried", "variant"]


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
    list(run(xp, entries, empty(common), vmap=torch.vmap, exchange=exchange)[0])


def stackable(common: dict[str, Any]) -> Callable[[Entry], bool]:
    """Whether PyTorch can map an entry's rule over a stack; it cannot if the rule reads a value."""
    known: dict[Any, bool] = {}

    def stacks(entry: Entry) -> bool:
        if entry.param.ndim == 0 or not is_plain(entry.param):
            return False
        key = id(entry.rule), entry.kept, entry.placement, entry.param.ndim
        if key not in known:
            two = {
                name: _mapped(_two_without_memory, getattr(entry, name))
                for name in ("grad", "param", "slots")
            }
            try:
                _run_without_memory(entry._replace(stacked=True, **two), common)
                known[key] = True
            except (
                Exception
            ):  # any error of vmap; without a stack the rule works, or raises its own
                known[key] = False
        return known[key]

    return stacks


def _mapped(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """``function`` of a tensor, of every part of a slot, or of every tensor of a dict."""
    if isinstance(value, dict):
        return {name: map_parts(function, item) for name, item in value.items()}
    return map_parts(function, value)


def _two_without_memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_empty((2, *tensor.shape), device="meta")
