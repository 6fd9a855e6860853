"""Whatever people do to an optimizer, in any order: torch.optim has the same, and all is let go."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import samestep.torch as adapter

EXECUTIONS = ("reference", "packed", "compiled")
SHAPES = ((3, 2), (5,), (), (2, 3))
FORMS = {"m": "exp_avg", "v": "exp_avg_sq"}
NUMBERS = {"lr": 0.1, "weight_decay": 0.1}


class Life(RuleBasedStateMachine):
    """Ours in every execution beside torch.optim.AdamW, each with parameters of its own."""

    executions = EXECUTIONS[:2]

    @initialize()
    def begin(self):
        self.made = self.clock = 0
        self.lives = []
        first = [self._values(shape) for shape in SHAPES]
        for execution in (None, *self.executions):
            params = [torch.nn.Parameter(value.clone()) for value in first]
            groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.02}]
            if execution is None:
                self.lives.append(torch.optim.AdamW(groups, **NUMBERS))
            else:
                self.lives.append(adapter.AdamW(groups, **NUMBERS, execution=execution))

    def _values(self, shape):
        self.made += 1
        return torch.cos(
            torch.arange(shape.numel() if hasattr(shape, "numel") else torch.Size(shape).numel())
            + self.made
        ).reshape(shape)

    def _params(self, optimizer):
        return [param for group in optimizer.param_groups for param in group["params"]]

    def _count(self):
        return len(self._params(self.lives[0]))

    def _each(self, at):
        """The same parameter of each."""
        for optimizer in self.lives:
            params = self._params(optimizer)
            yield optimizer, params[at % len(params)]

    @rule(steps=st.integers(1, 2))
    def step(self, steps):
        for _ in range(steps):
            self.clock += 1
            for optimizer in self.lives:
                for place, param in enumerate(self._params(optimizer)):
                    frozen = not param.requires_grad
                    param.grad = (
                        None if frozen else torch.sin(param.detach() * 3 + place + self.clock)
                    )
                optimizer.step()

    @rule(late=st.booleans())
    def add_a_group(self, late):
        value = self._values((4,))
        for optimizer in self.lives:
            more = {"params": [torch.nn.Parameter(value.clone())]}
            optimizer.add_param_group({**more, "lr": 0.3} if late else more)

    @precondition(lambda self: len(self.lives[0].param_groups) > 1)
    @rule(at=st.integers(0, 9), forget=st.booleans())
    def remove_a_group(self, at, forget):
        for optimizer in self.lives:
            gone = optimizer.param_groups.pop(at % len(optimizer.param_groups))
            for param in gone["params"] if forget else ():
                optimizer.state.pop(param, None)

    @rule(at=st.integers(0, 9))
    def extend_a_group(self, at):
        value = self._values((2, 2))
        for optimizer in self.lives:
            group = optimizer.param_groups[at % len(optimizer.param_groups)]
            group["params"].append(torch.nn.Parameter(value.clone()))

    @rule(at=st.integers(0, 9))
    def shrink_a_group(self, at):
        for optimizer in self.lives:
            group = optimizer.param_groups[at % len(optimizer.param_groups)]
            if group["params"]:
                optimizer.state.pop(group["params"].pop(), None)

    @precondition(lambda self: self._count())
    @rule(at=st.integers(0, 9), doubled=st.booleans())
    def replace_data(self, at, doubled):
        for _, param in self._each(at):
            param.data = param.data.clone() * (2 if doubled else 1)

    @precondition(lambda self: self._count())
    @rule(at=st.integers(0, 9))
    def replace_a_parameter(self, at):
        for optimizer, old in self._each(at):
            new = torch.nn.Parameter(old.detach() + 1)
            for group in optimizer.param_groups:
                group["params"] = [new if own is old else own for own in group["params"]]
            if old in optimizer.state:
                optimizer.state[new] = optimizer.state.pop(old)

    @precondition(lambda self: self._count())
    @rule(at=st.integers(0, 9), slot=st.sampled_from("mv"), how=st.sampled_from(["new", "data"]))
    def replace_a_slot(self, at, slot, how):
        for optimizer, param in self._each(at):
            name = slot if isinstance(optimizer, adapter.RuleOptimizer) else FORMS[slot]
            state = optimizer.state.get(param)
            if state and how == "new":
                state[name] = state[name] * 0.5
            elif state:
                state[name].data = state[name].data * 0.5

    @rule()
    def offload_and_bring_back(self):
        """To another device and back, as torch's forum has it."""
        for optimizer in self.lives:
            for state in optimizer.state.values():
                for value in state.values():
                    kept = value.clone()
                    value.data = value.data.to("meta")
                    value.data = kept

    @rule(at=st.integers(0, 9), lr=st.sampled_from([0.0, 0.01, 0.5]), tensor=st.booleans())
    def change_a_number(self, at, lr, tensor):
        for optimizer in self.lives:
            group = optimizer.param_groups[at % len(optimizer.param_groups)]
            group["lr"] = torch.tensor(lr, dtype=torch.float64) if tensor else lr

    @rule(at=st.integers(0, 9))
    def change_a_tensor_of_a_number(self, at):
        for optimizer in self.lives:
            group = optimizer.param_groups[at % len(optimizer.param_groups)]
            if torch.is_tensor(group["lr"]):
                group["lr"].mul_(0.5)

    @precondition(lambda self: self._count())
    @rule(at=st.integers(0, 9))
    def freeze_or_unfreeze(self, at):
        for _, param in self._each(at):
            param.requires_grad_(not param.requires_grad)
            param.grad = None

    @rule()
    def forget_the_state(self):
        for optimizer in self.lives:
            optimizer.state.clear()

    @rule()
    def save_and_load(self):
        for optimizer in self.lives:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            optimizer.load_state_dict(torch.load(file, weights_only=True))

    @rule(how=st.sampled_from([copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]))
    def copied(self, how):
        self.lives = [how(optimizer) for optimizer in self.lives]

    @rule()
    def share_memory(self):
        for optimizer in self.lives:
            for state in optimizer.state.values():
                for value in state.values():
                    value.share_memory_()

    @rule()
    def let_go(self):
        """All tensors of ours are dropped, and seen to be gone, and new ones take their place."""
        for optimizer in self.lives:
            params = self._params(optimizer)
            watched = [*params, *(p.grad for p in params if p.grad is not None)]
            watched += [v for state in optimizer.state.values() for v in state.values()]
            watched = [*map(weakref.ref, watched)]
            fresh = [param.detach().clone() for param in params]
            optimizer.state.clear()
            del params
            values = iter(fresh)
            for group in optimizer.param_groups:
                group["params"] = [torch.nn.Parameter(next(values)) for _ in group["params"]]
            gc.collect()
            assert all(one() is None for one in watched), type(optimizer)

    @invariant()
    def the_same(self):
        theirs, *ours = self.lives
        for optimizer in ours:
            pairs = zip(self._params(optimizer), self._params(theirs), strict=True)
            for one, other in pairs:
                torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-6)


class LifeCompiled(Life):
    """The same, compiled too."""

    executions = EXECUTIONS


bounded = settings(max_examples=6, stateful_step_count=12, deadline=None, derandomize=True)
Life.TestCase.settings = bounded
TestLife = Life.TestCase
LifeCompiled.TestCase.settings = settings(bounded, max_examples=100, stateful_step_count=40)
TestLifeCompiled = pytest.mark.thorough(LifeCompiled.TestCase)
