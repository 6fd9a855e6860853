"""Steps of a torch optimizer on gradients of any size, and all that is left by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from samestep.arrays import parts

__all__ = ["assert_equal", "everything", "gradient", "same", "train"]

Tensors = Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
Found = dict[tuple[Any, ...], torch.Tensor]


def gradient(step: int, place: int, param: torch.Tensor) -> torch.Tensor:
    """Of either sign, over several decades."""
    noise = torch.Generator().manual_seed(7919 * step + place)

    def values() -> torch.Tensor:
        exponent = torch.randint(-3, 2, param.shape, generator=noise)
        normal = torch.randn(param.shape, generator=noise, dtype=torch.float64)
        return normal * 10.0 ** exponent.double()

    found = torch.complex(values(), values()) if param.is_complex() else values()
    return found.to(param.dtype)


def train(
    optimizer: torch.optim.Optimizer, params: Tensors, steps: Iterable[int], offset: int = 0
) -> None:
    """Step on gradients that depend on the number of the step and the parameter's place."""
    for step in steps:
        for place, (_, param) in enumerate(_named(params)):
            param.grad = gradient(step, place + offset, param)
        optimizer.step()


def everything(optimizer: torch.optim.Optimizer, params: Tensors) -> Found:
    """Parameters, state and what groups share, copied, by name or place."""
    found: Found = {}
    for name, param in _named(params):
        found["param", name] = param.detach().clone()
        for slot, value in optimizer.state.get(param, {}).items():
            found |= {(slot, name, i): part.detach().clone() for i, part in enumerate(parts(value))}
    for i, group in enumerate(optimizer.param_groups):
        tensors = {name: value for name, value in group.items() if torch.is_tensor(value)}
        found |= {(name, "group", i): value.detach().clone() for name, value in tensors.items()}
    return found


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal to the last bit; NaN, where float16 overflows, is equal to NaN."""
    return one.dtype == other.dtype and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def assert_equal(found: Mapping[Any, torch.Tensor], expected: Mapping[Any, torch.Tensor]) -> None:
    """Assert that all of it is the same to the last bit."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert same(found[key], value), key


def _named(params: Tensors) -> Iterable[tuple[Any, torch.Tensor]]:
    return params.items() if isinstance(params, Mapping) else enumerate(params)
