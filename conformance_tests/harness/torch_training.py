"""Steps of a torch optimizer on gradients of any size, and all that is left by them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

import samestep.torch
from samestep.arrays import parts
from samestep.rule import Rule

__all__ = [
    "PEERS",
    "Model",
    "assert_close",
    "assert_equal",
    "everything",
    "gradient",
    "models",
    "parameters",
    "peers",
    "same",
    "smooth",
    "train",
]

Tensors = Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
Found = dict[tuple[Any, ...], torch.Tensor]
SHAPES = ((), (3,), (4, 5), (2, 3, 2), (6, 1))


def parameters(
    rule: Rule,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shapes: Iterable[tuple[int, ...]] = SHAPES,
) -> list[torch.Tensor]:
    """Parameters that the rule takes."""
    noise = torch.Generator().manual_seed(seed)
    shapes = [shape for shape in shapes if len(shape) >= rule.min_ndim]
    return [torch.randn(s, generator=noise).to(dtype).requires_grad_() for s in shapes]


NATIVE = {name.lower(): native for name, native in vars(torch.optim).items()}
PEERS = [
    name
    for name in samestep.rules.__all__
    if isinstance(NATIVE.get(name.lower()), type) and "torch" in getattr(samestep, name).dialects
    if name != "Muon"  # which is in bfloat16 there, and takes matrices only
]
"""Rules that torch.optim has too."""


def peers(name: str, params: Any, others: Any, **hypers: Any) -> tuple[Any, Any]:
    """Our optimizer and torch.optim's own of that name, with the numbers that torch's takes."""
    native: Any = NATIVE[name.lower()]
    known = inspect.signature(native).parameters
    hypers = {name: value for name, value in hypers.items() if name in known}
    ours = getattr(samestep.torch, name)(params, like="torch", **hypers)
    return ours, native(others, **hypers)


def gradient(step: int, place: int, param: torch.Tensor) -> torch.Tensor:
    """A random gradient with both signs and sizes over several decades."""
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


def assert_close(
    params: Iterable[torch.Tensor], others: Iterable[torch.Tensor], tolerance: float = 1e-12
) -> None:
    """Assert that the values are nearly the same."""
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=tolerance, atol=tolerance)


def smooth(seed: int, *shape: int) -> torch.Tensor:
    """Normal numbers in float64."""
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=noise, dtype=torch.float64)


class Model(torch.nn.Module):
    """Two layers, from a seed."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        self.inner = torch.nn.Linear(4, 8, dtype=dtype)
        self.outer = torch.nn.Linear(8, 2, dtype=dtype)
        for param in self.parameters():
            param.data = torch.randn(param.shape, generator=noise, dtype=dtype) / 2

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Two numbers for each point."""
        found: torch.Tensor = self.outer(torch.tanh(self.inner(points)))
        return found

    def loss(self, step: int) -> torch.Tensor:
        """The loss of a batch; its scale changes over decades."""
        points = smooth(step, 16, 4).to(self.inner.weight.dtype)
        wanted = points[:, :2] * points[:, 2:] * 10.0 ** (step % 3 - 1)
        found: torch.Tensor = (self(points) - wanted).pow(2).mean()
        return found


def models(count: int = 2, **options: Any) -> list[Model]:
    """Several that are alike."""
    return [Model(**options) for _ in range(count)]


def _named(params: Tensors) -> Iterable[tuple[Any, torch.Tensor]]:
    return params.items() if isinstance(params, Mapping) else enumerate(params)
