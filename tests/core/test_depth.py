"""How deep a step is: the functions of the package that one warm step enters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import samestep

ROOT = f"{Path(samestep.__file__).parent.parent}/"


def entered(step: Callable[[], Any]) -> set[CodeType]:
    """The code objects of the package that a call enters, including comprehensions."""
    found: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(ROOT) and path != __file__:
            found.add(frame.f_code)

    sys.setprofile(note)
    try:
        step()
    finally:
        sys.setprofile(None)
    return {code for code in found if ".venv" not in code.co_filename}


def in_torch(execution: str) -> Callable[[], Any]:
    torch = pytest.importorskip("torch")
    params = [torch.nn.Parameter(torch.ones(16, 16)) for _ in range(2)]
    for param in params:
        param.grad = torch.ones(16, 16)
    return samestep.torch.AdamW(params, lr=1e-3, execution=execution).step


def in_jax(execution: str) -> Callable[[], Any]:
    pytest.importorskip("optax")
    xp = pytest.importorskip("jax.numpy")
    params = {"a": xp.ones((16, 16)), "b": xp.ones((16, 16))}
    optimizer = samestep.jax.AdamW(lr=1e-3, execution=execution)
    state = [optimizer.init(params)]

    def step() -> None:
        _, state[0] = optimizer.update(params, state[0], params)

    return step


@pytest.mark.parametrize(
    ("make", "execution", "most"),
    [
        pytest.param(in_torch, "reference", 45, id="torch"),
        pytest.param(in_torch, "auto", 45, id="torch by default"),
        pytest.param(in_jax, "reference", 40, id="JAX"),
        pytest.param(in_jax, "auto", 40, id="JAX by default"),
    ],
)
def test_a_warm_step_of_two_tensors_enters_few_functions(make, execution, most):
    step = make(execution)
    for _ in range(3):
        step()
    found = entered(step)
    names = sorted(f"{Path(code.co_filename).name}:{code.co_qualname}" for code in found)
    assert 10 < len(names) <= most, names
