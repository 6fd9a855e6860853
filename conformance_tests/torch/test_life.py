"""Whatever people do to an optimizer, in any order: torch.optim has the same, and all is let go.

The same is done to torch.optim.AdamW and to ours in every execution, each with parameters of its
own. After each operation all take a step, and have the same parameters. A mistake is refused by
all, or by none, and ours is as it was before. No tensor and no memory is alive that the optimizer
had and its owner has let go.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.multiprocessing.reductions import StorageWeakRef

import samestep.torch as adapter
from samestep.conformance.harness.torch_mistakes import MISTAKES
from samestep.conformance.harness.torch_operations import (
    OPERATIONS,
    Optimizer,
    Pick,
    held,
    params_of,
    values,
)

EXECUTIONS = ("reference", "packed")
SHAPES = ((3, 2), (5,), (), (2, 3), (0, 2))
NUMBERS = {"lr": 0.1, "weight_decay": 0.1}
GRADIENTS = ("fresh", "kept", "some", "strided")
OURS_ONLY = {
    "a_number_out_of_range": "torch checks the numbers of its constructor only",
    "a_word_for_a_number": "torch reads no number of a group without gradients",
    "a_parameter_twice": "torch steps it twice in one call, which nobody means",
}
"""Mistakes that ours refuses and torch takes, with the reason."""
THEIRS_ONLY = {
    "an_option_that_has_no_state": "ours begins the slot that the option asks for",
    "another_dtype": "ours computes in the parameter's dtype with a state of any",
}
"""Mistakes that torch refuses and ours takes, with the reason."""


def step(optimizer: Optimizer, gradients: str, clock: int) -> None:
    """Give gradients, and take a step."""
    for place, param in enumerate(params_of(optimizer)):
        if gradients == "kept":
            continue
        param.grad = None
        if param.requires_grad and not (gradients == "some" and (place + clock) % 3 == 0):
            grad = values(param.shape, place + clock) * 10.0 ** (clock % 3)
            strided = gradients == "strided" and param.ndim == 2
            grad = grad.t().contiguous().t() if strided else grad
            param.grad = grad.to(param.dtype)
    optimizer.step()


class Watched:
    """The tensors that an optimizer has, and their memory."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.tensors = [weakref.ref(tensor) for tensor in held(optimizer)]
        self.memory = [StorageWeakRef(tensor.untyped_storage()) for tensor in held(optimizer)]

    def kept(self, optimizer: Optimizer) -> int:
        """How many are alive that the optimizer does not show any more."""
        now = held(optimizer)
        tensors, memory = {*map(id, now)}, {t.untyped_storage()._cdata for t in now}
        left = [
            one for one in self.tensors if (found := one()) is not None and id(found) not in tensors
        ]
        found = None
        alive = [one for one in self.memory if not one.expired() and one.cdata not in memory]
        return len(left) + len(alive)


class Before:
    """An optimizer as it was, to which it is brought back after a mistake."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.groups = optimizer, [*optimizer.param_groups]
        self.entries = [
            {name: [*v] if isinstance(v, list) else v for name, v in group.items()}
            for group in self.groups
        ]
        self.state = {param: dict(state) for param, state in optimizer.state.items()}
        self.values = [(one, one.data, one.data.clone()) for one in held(optimizer)]
        self.grads = [(param, param.grad) for param in params_of(optimizer)]

    def is_still(self) -> bool:
        """Whether no number has been written."""
        return all(torch.equal(data, value) for _, data, value in self.values)

    def put_back(self) -> None:
        """Undo everything."""
        for param, _ in self.grads:
            param.grad = None
        for one, data, value in self.values:
            one.data = data.copy_(value)
        for param, grad in self.grads:
            param.grad = grad
        for group, entries in zip(self.groups, self.entries, strict=True):
            group.clear()
            group.update(entries)
        self.optimizer.param_groups = self.groups
        self.optimizer.state.clear()
        self.optimizer.state.update(self.state)


class Life:
    """torch.optim.AdamW, and ours in every execution."""

    def __init__(self, executions: tuple[str, ...], named: bool) -> None:
        self.clock, self.lives = 0, []
        for execution in (None, *executions):
            params: list[Any] = [torch.nn.Parameter(values(s, n)) for n, s in enumerate(SHAPES)]
            params = [*zip("abcde", params, strict=True)] if named else params
            groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.02}]
            if execution is None:
                self.lives.append(torch.optim.AdamW(groups, **NUMBERS))
            else:
                self.lives.append(adapter.AdamW(groups, **NUMBERS, execution=execution))

    def then(self, name: str, at: int = 0, flag: bool = False, gradients: str = "fresh") -> None:
        """An operation or a mistake, and a step."""
        self.clock += 1
        pick = Pick(at, flag, self.clock)
        watched = [*map(Watched, self.lives)]
        if name in MISTAKES:
            self.refused(name, pick)
        else:
            self.lives = [OPERATIONS[name](own, pick) or own for own in self.lives]
        for optimizer in self.lives:
            shared = [one for one in held(optimizer) if one.is_shared()]
            step(optimizer, gradients, self.clock)
            assert all(one.is_shared() for one in shared)
            del shared
        self.same()
        for before, optimizer in zip(watched, self.lives, strict=True):
            if before.kept(optimizer):
                gc.collect()
                assert not before.kept(optimizer), f"{type(optimizer)} keeps what is let go"

    def refused(self, name: str, pick: Pick) -> None:
        """A mistake, which is undone."""
        found = [self.words(optimizer, name, pick) for optimizer in self.lives]
        theirs, *ours = found
        apart = name in (OURS_ONLY if theirs is None else THEIRS_ONLY)
        for words in ours:
            assert apart or (words is None) == (theirs is None), f"{name}: {found}"

    def words(self, optimizer: Any, name: str, pick: Pick) -> str | None:
        """The words with which a mistake is refused."""
        before, words = Before(optimizer), None
        try:
            MISTAKES[name](optimizer, pick)
            step(optimizer, "fresh", self.clock)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            assert not isinstance(optimizer, adapter.RuleOptimizer) or before.is_still(), words
        before.put_back()
        return words

    def same(self) -> None:
        """Whether all have the same parameters."""
        theirs, *ours = map(params_of, self.lives)
        for own in ours:
            for one, other in zip(own, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-6)


@pytest.fixture(scope="module", autouse=True)
def _quick_collection() -> Any:
    """What is alive already is not looked through whenever garbage is collected."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", [*OPERATIONS, *MISTAKES])
def test_what_people_do(name: str) -> None:
    life = Life(EXECUTIONS, named=len(name) % 2 == 0)
    life.then("nothing")
    life.then(name, at=0, flag=False)
    life.then(name, at=1, flag=True, gradients="some")
    life.then("nothing")


DONE = st.tuples(
    st.sampled_from([*OPERATIONS, *MISTAKES]),
    st.integers(0, 9),
    st.booleans(),
    st.sampled_from(GRADIENTS),
)
bounded = settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])


@bounded
@given(st.booleans(), st.lists(DONE, min_size=8, max_size=16))
def test_what_people_do_in_any_order(named: bool, done: list[Any]) -> None:
    life = Life(EXECUTIONS, named)
    for one in done:
        life.then(*one)


@pytest.mark.thorough
@settings(bounded, max_examples=30)
@given(st.booleans(), st.lists(DONE, min_size=25, max_size=30))
def test_what_people_do_in_any_order_and_compiled(named: bool, done: list[Any]) -> None:
    life = Life((*EXECUTIONS, "compiled"), named)
    for one in done:
        life.then(*one)
