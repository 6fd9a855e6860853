"""What is executed on tensors: the rule, written into them; in pieces; or compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import array_api_compat.torch as xp

import torch
from torch._inductor.cpp_builder import get_cpp_compiler
from torch.utils._triton import has_triton

from .. import step as stepping
from ..packing import CHUNK, in_chunks
from ..rule import Rule

__all__ = ["as_tensors", "chosen", "compiled", "packed", "reference"]

Kernel = Callable[..., Any]

PACK = {"reference": 0, "packed": CHUNK, "compiled": 4 * CHUNK}
"""Elements of a vector of gathered parameters, at most, by execution."""

LENGTH = 1 << 16
"""Elements that a kernel is compiled with: enough for code that runs on all cores."""


def reference(function: Kernel, xp: Any, rule: Rule) -> Kernel:
    """The rule, its results written into parameter and slots."""
    return _writing(partial(function, xp, rule))


def packed(function: Kernel, xp: Any, rule: Rule) -> Kernel:
    """The same in pieces that stay in cache, for rules that look at nothing but an element."""
    whole = reference(function, xp, rule)
    if rule.needs != "element":
        return whole
    in_pieces = in_chunks(whole)

    def kernel(grad: torch.Tensor, param: torch.Tensor, *rest: Any) -> Any:
        vector = type(param) is torch.Tensor and param.ndim == 1
        return (in_pieces if vector else whole)(grad, param, *rest)

    return kernel


def compiled(function: Kernel, xp: Any, rule: Rule) -> Kernel:
    """The same compiled, once per rule, dtype and device; once per shape if the rule sees it."""

    def kernel(grad: torch.Tensor, param: torch.Tensor, *rest: Any) -> Any:
        shape = tuple(param.shape) if rule.sees_axes else None
        return _compiled(function, rule, param.dtype, param.device, shape)(grad, param, *rest)

    return kernel


def _writing(kernel: Kernel) -> Kernel:
    """A pure kernel, its results written into the tensors that it was given."""

    def write(
        grad: torch.Tensor, param: torch.Tensor, slots: dict[str, Any], common: Any, s: Any
    ) -> Any:
        first, second = kernel(grad, param, slots, common, s)
        if isinstance(first, dict):  # local: slots and sums
            _write(slots, first)
            return slots, second
        _write({"param": param, **slots}, {"param": first, **second})
        return param, slots

    return write


def _write(old: dict[str, Any], new: dict[str, Any]) -> None:
    pairs = [
        pair
        for name, value in old.items()
        for pair in zip(_parts(value), _parts(new[name]), strict=True)
    ]
    pairs = [(into, value) for into, value in pairs if into is not value]
    later = [(into, value.clone() if _among(value, pairs) else value) for into, value in pairs]
    for into, value in later:
        into.copy_(value)


def _among(tensor: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    """Whether a tensor will be written into."""
    return any(tensor is into for into, _ in pairs)


def _parts(value: Any) -> tuple[torch.Tensor, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def as_tensors(values: Any, param: torch.Tensor) -> Any:
    """Scalars as 0-d tensors, so that a change of value is no reason to compile again."""
    if isinstance(values, dict):
        return {name: as_tensors(value, param) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(as_tensors(value, param) for value in values)
    if isinstance(values, (bool, torch.Tensor)):
        return torch.as_tensor(values)
    return torch.tensor(values, dtype=stepping.compute_dtype(xp, param.dtype))


@cache
def _compiled(
    function: Kernel, rule: Rule, dtype: torch.dtype, device: torch.device, shape: Any
) -> Kernel:
    write = reference(function, xp, rule)

    def kernel(grad: Any, param: Any, slots: Any, common: Any, s: Any) -> Any:
        result = write(grad, param, slots, common, s)
        return result[1] if isinstance(result[0], dict) else None

    # Dynamo counts recompilations per code object, so every kernel gets one of its own; its name
    # is what profiles and compilation logs show.
    kernel.__code__ = kernel.__code__.replace(co_name=f"{rule.name}_{function.__name__}")
    compiled = torch.compile(kernel, dynamic=shape is None, fullgraph=True)

    def run(grad: Any, param: Any, slots: Any, common: Any, s: Any) -> Any:
        if shape is None and not run.warm:
            run.warm = True
            if param.numel() < LENGTH:  # a kernel made from few elements would use one core
                compiled(*map(_enlarged, (grad, param)), _each(_enlarged, slots), common, s)
        if shape is None and param.numel() == 1:  # to Dynamo that would be another kernel
            return write(grad, param, slots, common, s)
        sums = compiled(grad, param, slots, common, s)
        return (param, slots) if sums is None else (slots, sums)

    run.warm = False
    return run


def _each(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _each(function, item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_each(function, item) for item in value)
    return function(value)


def _enlarged(array: torch.Tensor) -> torch.Tensor:
    return array.new_ones(LENGTH) if array.ndim else array.clone()


MANY = 10_000_000
"""Elements from which on a step is worth the seconds that a kernel takes to compile."""


def chosen(params: Sequence[torch.Tensor]) -> tuple[str, str]:
    """What ``execution="auto"`` means for these parameters, and why."""
    if torch.compiler.is_compiling():
        return "reference", "the step itself is being compiled"
    if not all(type(param.detach()) is torch.Tensor for param in params):
        return "reference", "some parameters are tensors of a class of their own"
    elements = sum(param.numel() for param in params)
    if elements < MANY:
        return "packed", f"{elements:,} elements, fewer than {MANY:,}, are not worth compiling for"
    missing = _missing({param.device.type for param in params})
    if missing:
        return "packed", missing
    return "compiled", f"{elements:,} elements; compiling takes some seconds at the first step"


def _missing(devices: set[str]) -> str | None:
    """What torch.compile lacks on these devices, if anything."""
    if devices == {"cpu"}:
        try:
            get_cpp_compiler()
        except Exception as error:  # whatever torch says about it
            return f"torch.compile finds no C++ compiler ({type(error).__name__})"
        return None
    if devices == {"cuda"} and has_triton():
        return None
    return f"torch.compile is not used on {', '.join(sorted(devices))}"
