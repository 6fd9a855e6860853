"""The coefficients of a step as tensors: on the device, or copied to it all together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import array_api_compat.torch as xp

import torch
from samestep import step as stepping
from samestep.rule import Rule
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["TAKEN", "Coefficients", "Scalars", "conditional", "scalars"]

Enter = Callable[[dict[str, Any], torch.Tensor], Any]

TAKEN = "step is taken"
"""The coefficient that says whether the step is taken, if only the device knows."""

PINNED = "cuda", "xpu"
"""Devices that copy from pinned memory while the host goes on."""
ALIGNED = 8
"""Bytes: the place of every vector among others is a multiple."""


def scalars(
    rule: Rule, xp: Any, step: Any, dtype: torch.dtype, common: dict[str, Any]
) -> dict[str, Any]:
    """The same as ``samestep.step.scalars``, whatever the default dtype is."""
    on_host = type(step) is int and not rule.has_arrays
    if on_host or torch.get_default_dtype() is dtype:
        return stepping.scalars(rule, xp, step, dtype, common)
    with _Floats(dtype):
        return stepping.scalars(rule, xp, step, dtype, common)


class _Floats(TorchFunctionMode):
    """Floats that PyTorch makes of whole numbers and of Python's are of a dtype, in this thread.

    They would be of the default dtype, which is one for all threads.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        found = function(*args, **kwargs)
        if getattr(found, "dtype", None) is not torch.get_default_dtype():
            return found
        given = tree_leaves((args, kwargs))
        tensors = [each for each in given if isinstance(each, torch.Tensor)]
        if found.dtype in given or any(each.is_floating_point() for each in tensors):
            return found
        if not tensors:
            return function(*args, **{**kwargs, "dtype": self.dtype})
        truths = all(each.dtype is torch.bool for each in tensors)

        def wide(value: Any) -> Any:
            if isinstance(value, float) if truths else getattr(value, "dtype", None) != torch.bool:
                return torch.asarray(value, dtype=self.dtype, device=tensors[0].device)
            return value

        args, kwargs = tree_map_only((float, torch.Tensor), wide, (args, kwargs))
        return function(*args, **kwargs)


class Scalars(NamedTuple):
    """A rule's coefficients as one vector: a new value then needs no new compilation.

    ``structure`` has the name of every element, and whether it is a truth value. ``together``:
    those of the whole step, where the vector is on the host.
    """

    vector: torch.Tensor
    structure: Any
    together: Coefficients | None = None

    def on(self, device: torch.device) -> Scalars:
        """The same on a device."""
        if self.vector.device == device:
            return self
        if self.together is None:
            return self._replace(vector=self.vector.to(device, non_blocking=True))
        return self._replace(vector=self.together.copied(self.vector, device))

    def named(self) -> Any:
        """The coefficients as a rule reads them, 0-d."""
        elements = iter(self.vector.unbind())

        def built(structure: Any) -> Any:
            if isinstance(structure, bool):
                return next(elements) != 0 if structure else next(elements)
            if isinstance(structure[0], str):
                return {name: built(part) for name, part in zip(*structure[1:], strict=True)}
            return tuple(map(built, structure[1]))

        return stepping.Record(built(self.structure))


class Coefficients:
    """Makes vectors of the coefficients of one step, in the compute dtype of a parameter.

    The vectors on the host are copied to a device at once, whatever their number and dtypes.
    """

    def __init__(self, on_device: bool = False) -> None:
        """``on_device``: nothing is copied from the host, which a CUDA graph cannot capture."""
        self.on_device = on_device
        self.vectors: list[torch.Tensor] = []
        self.copies: dict[torch.device, dict[int, torch.Tensor]] = {}
        self.filled: dict[Any, torch.Tensor] = {}

    def __call__(self, values: dict[str, Any], param: torch.Tensor) -> Scalars:
        """The coefficients for the kernel of a parameter."""
        found: list[Any] = []

        def structure(value: Any) -> Any:
            if isinstance(value, dict):
                return "", tuple(value), several(value.values())
            if isinstance(value, tuple):
                return (), several(value)
            found.append(value)
            return isinstance(value, bool) or getattr(value, "dtype", None) is torch.bool

        def several(values: Iterable[Any]) -> tuple[Any, ...]:
            described: list[Any] = []
            for value in values:
                if type(value) is float:  # as most are
                    found.append(value)
                    described.append(False)
                else:
                    described.append(structure(value))
            return tuple(described)

        described = structure(values)
        dtype = stepping.compute_dtype(xp, param.dtype)
        tensors = [value for value in found if isinstance(value, torch.Tensor)]
        there = self.on_device or any(value.device.type != "cpu" for value in tensors)
        device = param.device if there else torch.device("cpu")
        if tensors or device.type != "cpu":
            vector = torch.stack([self._on(device, value, dtype) for value in found])
        else:
            vector = torch.tensor(found, dtype=dtype, device="cpu")
        if device.type != "cpu":
            return Scalars(vector, described)
        self.vectors.append(vector)
        return Scalars(vector, described, self)

    def copied(self, vector: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A vector on a device, where all that there are so far are copied at the first call."""
        if id(vector) not in self.copies.get(device, {}):
            self.copies[device] = self._copied(device)
        return self.copies[device][id(vector)]

    def _copied(self, device: torch.device) -> dict[int, torch.Tensor]:
        sizes = [-(-vector.nbytes // ALIGNED) * ALIGNED for vector in self.vectors]
        pin = device.type in PINNED
        memory = torch.empty(sum(sizes), dtype=torch.uint8, device="cpu", pin_memory=pin)
        for own, place in zip(self.vectors, torch.split(memory, sizes), strict=True):
            place.narrow(0, 0, own.nbytes).view(own.dtype).copy_(own)
        there = torch.split(memory.to(device, non_blocking=True), sizes)
        return {
            id(own): place.narrow(0, 0, own.nbytes).view(own.dtype)
            for own, place in zip(self.vectors, there, strict=True)
        }

    def _on(self, device: torch.device, value: Any, dtype: Any) -> torch.Tensor:
        """A coefficient on a device; a number is made there once, not copied from the host."""
        if isinstance(value, torch.Tensor):
            return value.to(device, dtype)
        key = repr(value), dtype, device  # 0.0 and -0.0 are equal
        if key not in self.filled:
            self.filled[key] = torch.full((), value, dtype=dtype, device=device)
        return self.filled[key]


def conditional(taken: torch.Tensor, enter: Enter) -> Enter:
    """Let coefficients enter a kernel that changes nothing unless ``taken``."""
    there: dict[torch.device, torch.Tensor] = {}

    def entered(values: dict[str, Any], param: torch.Tensor) -> Any:
        if param.device not in there:
            there[param.device] = taken.to(param.device)
        return enter({**values, TAKEN: there[param.device]}, param)

    return entered
