"""Parameters of many sizes, stepped by several executions in PyTorch, and what is left by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import samestep.torch
from samestep.arrays import parts
from samestep.rule import Rule

__all__ = [
    "FAST",
    "NothingRead",
    "both",
    "close",
    "equal",
    "give_gradients",
    "parameters",
    "stepped",
    "train",
    "values",
]

SHAPES = [(), (1,), (3, 2), (4, 5), (0, 3), (40_000,), (300, 1000), (7,)]
FAST = ["packed", "compiled"]
Values = list[torch.Tensor]


def parameters(
    shapes: Iterable[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Values:
    """Normal numbers."""
    noise = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=noise, dtype=dtype) for shape in shapes]


def give_gradients(params: Values, seed: int) -> None:
    """A gradient for each parameter."""
    noise = torch.Generator().manual_seed(seed)
    for param in params:
        grad = torch.randn(param.shape, generator=noise, dtype=torch.float64)
        param.grad = grad.to(param.dtype)


def train(optimizer: Any, params: Values, steps: int = 4, first: int = 0) -> None:
    """Take steps, counted from the first."""
    for step in range(first, first + steps):
        give_gradients(params, step)
        optimizer.step()


def values(params: Values, optimizer: Any) -> Values:
    """Parameters and state, copied."""
    kept = [optimizer.state[param].values() for param in params]
    slots = [part for state in kept for value in state for part in parts(value)]
    return [tensor.clone() for tensor in (*params, *slots)]


def stepped(rule: Rule, params: Values, execution: Any, steps: int = 4) -> Values:
    """The parameters and the state of a rule's optimizer after some steps."""
    optimizer = samestep.torch.bind(rule, params, execution=execution)
    train(optimizer, params, steps)
    return values(params, optimizer)


def both(execution: str, run: Callable[[str], Values]) -> tuple[Values, Values]:
    """The results of a run with the reference and with another execution."""
    return run("reference"), run(execution)


def equal(some: Values, others: Values) -> bool:
    """Whether all values are the same."""
    return len(some) == len(others) and all(map(torch.equal, some, others))


def close(some: Values, others: Values, tolerance: float = 2e-6) -> bool:
    """Assert that all values are nearly the same."""
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    return True


class NothingRead(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """No value of a tensor may be asked for: a GPU waits for it, and a CUDA graph cannot."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of PyTorch that reads nothing."""
        assert function is not torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))
