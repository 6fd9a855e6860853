"""A recorder around a torch training loop.

    with samestep.torch.recorder("run.safetensors", optimizer, model=model, steps=1000):
        train()

It hooks into ``optimizer.step``, so that any ``torch.optim.Optimizer`` will do, with learning rate
schedulers, several groups, ``GradScaler`` and closures. What a step does not change is not written
twice. Arrays on an accelerator are brought to the host, which waits for it.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from types import FrameType
from typing import Any, Unpack

import torch
from samestep.arrays import dtype_name, known
from samestep.checkpoints import checkpoint as state_of
from samestep.checkpoints.correspondence import About, called
from samestep.checkpoints.state import Checkpoint, CheckpointError
from samestep.kept import rule_of
from samestep.names import around, unwrapped
from samestep.recording.around import Choice, LoopRecorder, grouped, with_choice
from samestep.recording.chosen import Group
from samestep.recording.recorder import Recorder
from samestep.recording.spool import RecordingError
from samestep.rule import Rule
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakTensorKeyDictionary

from .checkpoint import Params, named
from .counting import now
from .finding import numbers
from .kernels import real
from .libraries import LIBRARIES
from .optimizer import RuleOptimizer

__all__ = ["TorchRecorder", "recorder"]


PUBLIC = {"torch": "torch.optim", "samestep": "samestep.torch"}


@with_choice
def recorder(
    path: str | os.PathLike[str],
    optimizer: Any,
    *,
    model: Params | None = None,
    **choice: Unpack[Choice],
) -> TorchRecorder:
    """Record a training run, in a ``with`` block around its loop.

    Args:
        optimizer: any ``torch.optim.Optimizer``, or a wrapper of accelerate or Lightning.
        model: the model, or named tensors, for the parameters' names.

    Raises:
        RecordingError: the file cannot be written, a pattern fits no parameter, or a parameter is
            spread over processes.
        TypeError: ``optimizer`` is not an optimizer of torch.
    """
    inner = optimizer
    while not isinstance(inner, torch.optim.Optimizer) or hasattr(inner, "optimizer"):
        inner = getattr(inner, "optimizer", None)
        if inner is None:
            raise TypeError(
                f"recorder(path, optimizer): {type(optimizer).__name__} is no torch.optim.Optimizer"
            )
    made = Recorder(
        path,
        optimizer=called(inner, PUBLIC),
        framework="torch",
        counts="each",
        versions={"torch": torch.__version__},
        **choice,
    )
    return TorchRecorder(made, inner, model)


class TorchRecorder(LoopRecorder):
    """Records the steps of an optimizer while it is entered; see ``recorder``."""

    def __init__(self, made: Recorder, optimizer: torch.optim.Optimizer, model: Any) -> None:
        super().__init__(made)
        self.optimizer = optimizer
        self._names = {id(param): name for name, param in named(model)}
        self._numbers: Any = WeakTensorKeyDictionary()
        """The number by which a parameter without a name is called, wherever it is moved."""
        self._before: tuple[int, dict[str, Any]] | None = None
        self._outer: FrameType | None = None
        self._hooks: list[Any] = []
        made.named([*self._params()])

    @property
    def step(self) -> int:
        """The number of the step that comes next."""
        return self.recorder.number

    def _attach(self) -> None:
        alive = weakref.ref(self)  # a hook of all optimizers outlives this one

        def innermost(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if (recorder := alive()) is not None and recorder.optimizer is optimizer:
                recorder._innermost()

        self._hooks = [
            self.optimizer.register_step_pre_hook(self._begin),
            self.optimizer.register_step_post_hook(self._end),
            register_optimizer_step_pre_hook(innermost),
        ]

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _innermost(self) -> None:
        """Let no other hook come between the recorder and the step, whenever it was registered.

        The hooks of all optimizers run before torch looks at those of this optimizer.
        """
        before: Any = self.optimizer._optimizer_step_pre_hooks
        after: Any = self.optimizer._optimizer_step_post_hooks
        for hooks, handle, last in (before, self._hooks[0], True), (after, self._hooks[1], False):
            ours = [isinstance(getattr(h, "__self__", None), TorchRecorder) for h in hooks.values()]
            if ours != sorted(ours, reverse=not last) and handle.id in hooks:
                hooks.move_to_end(handle.id, last)

    def _params(self) -> dict[str, torch.Tensor]:
        """Every parameter of the optimizer by its name."""
        found: dict[str, torch.Tensor] = {}
        for _, name, param in self._owned():
            if name in found:
                raise RecordingError(f"two parameters are called {name!r}; give the model")
            found[name] = param
        return found

    def _owned(self) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
        """Group, name and tensor of every parameter."""
        groups = self.optimizer.param_groups
        numbers = self._numbered([param for group in groups for param in group["params"]])
        within = around([n for group in groups for n in group.get("param_names", ())])
        if isinstance(self.optimizer, RuleOptimizer):  # which has dropped it
            within = frozenset()
        for group in groups:
            own = unwrapped([*map(str, group.get("param_names", ()))], within)
            for at, param in enumerate(group["params"]):
                name = own[at] if own else self._names.get(id(param), str(numbers[param]))
                yield group, name, param

    def _numbered(self, params: list[torch.Tensor]) -> Mapping[torch.Tensor, int]:
        """The numbers of parameters: their places when they were first seen, or the next free."""
        numbers: MutableMapping[torch.Tensor, int] = self._numbers
        new = [(place, param) for place, param in enumerate(params) if param not in numbers]
        taken = {numbers[param] for param in params if param in numbers} if new else set()
        for place, param in new:
            numbers[param] = place if place not in taken else max(*taken, *numbers.values()) + 1
            taken.add(numbers[param])
        return numbers

    def _begin(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        """The hook before ``step``; with a closure there are no gradients yet."""
        if self._is_inside():
            return None
        self._outer, self._before = sys._getframe(1), None
        if not self.recorder.wants(self.step):
            return None
        given = args[1:]  # after the optimizer itself
        closure = given[0] if given else kwargs.get("closure")
        if closure is None:
            with self.recorder.harmless():
                self._note()
            return None
        again = self._closed(closure)
        if given:
            return (args[0], again, *given[1:]), kwargs
        return args, {**kwargs, "closure": again}

    def _is_inside(self) -> bool:
        """Whether this step was called by another step, such as a subclass's step.

        Frames are compared since torch runs the hooks of both, and a counter of open steps would
        stay raised after a step that ends by an exception, for which no hook is run.
        """
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and self._outer is not None:
            if frame is self._outer:
                return True
            frame = frame.f_back
        return False

    def _closed(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """A closure that also notes the gradients that it has computed."""

        def noted() -> Any:
            with self.recorder.harmless():
                if self._before is not None:
                    raise RecordingError(
                        f"{type(self.optimizer).__name__} calls its closure several times in a "
                        "step, so that there is no one gradient to record"
                    )
            loss = closure()
            with self.recorder.harmless():
                self._note()
            return loss

        return noted

    def _note(self) -> None:
        """Write gradients, parameters and state as they are before the step."""
        if not self.recorder.is_open:
            return
        params = self._params()
        chosen = {n: params[n] for n in self.recorder.named([*params])}
        for name, param in chosen.items():
            _refuse(name, param)
        if any(param.is_cuda for param in chosen.values()) and _is_captured():
            raise RecordingError("a step that a CUDA graph captures cannot be recorded")
        found = getattr(self.optimizer, "found_inf", None)
        if found is not None and bool(found):
            return  # GradScaler lets a fused optimizer skip the step
        factor = getattr(self.optimizer, "grad_scale", None)
        grads = {
            name: _read(param.grad if factor is None else param.grad / factor.to(param.device))
            for name, param in chosen.items()
            if param.grad is not None
        }
        values = {name: _read(param) for name, param in params.items()}
        begun = any(self.optimizer.state.get(param) for param in chosen.values())
        taken = self._state if begun else None
        fresh = not begun or self._is_eager(chosen)
        self.recorder.begin(self.step, grads, values, taken, fresh=fresh)
        self._before = self.step, params

    def _is_eager(self, chosen: Mapping[str, torch.Tensor]) -> bool:
        """Whether the state existed before the first step."""
        try:
            steps = [self.optimizer.state[param].get("step") for param in chosen.values()]
        except (AttributeError, KeyError):
            return False
        return all(known(step) == 0 for step in steps)

    def _state(self) -> Checkpoint:
        taken = state_of(self.optimizer, self._params())
        own = {name: replace(state, value=None) for name, state in taken.parameters.items()}
        return replace(taken, parameters=own)

    def _end(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Write the parameters after the step, and its numbers."""
        if sys._getframe(1) is not self._outer:
            return
        before, self._before, self._outer = self._before, None, None
        if self.recorder.wants(self.step) and before is None:
            return  # skipped: there has been no step
        with self.recorder.harmless():
            if before is not None and self.recorder.is_open:
                after = {name: _read(param) for name, param in before[1].items()}
                self.recorder.end(before[0], after, self._groups())
        self.recorder.passed()

    def _groups(self) -> dict[str, Group]:
        """The hyperparameters of every parameter."""
        of_groups = {id(group): numbers(group) for group in self.optimizer.param_groups}
        return grouped(
            {
                name: (of_groups[id(group)], self._rule(group, name, param))
                for group, name, param in self._owned()
            }
        )

    def _rule(self, group: dict[str, Any], name: str, param: torch.Tensor) -> Rule | None:
        """The rule that computes the same, if known, with schedules at the parameter's step."""
        if isinstance(self.optimizer, RuleOptimizer):
            own = {id(p): n for n, p in self.optimizer._named(group)}[id(param)]
            rule = rule_of(self.optimizer._rule_of(group), own, param)
            return now(self.optimizer, rule).map_numbers(_number)
        library = LIBRARIES.get(type(self.optimizer).__module__.partition(".")[0])
        native = None if library is None else library.table.get(type(self.optimizer).__name__)
        if native is None:
            return None
        about = About(numbers(group), dtype_name(real(param.detach()).dtype))
        try:
            return native.rule_of(called(self.optimizer, PUBLIC), about)
        except CheckpointError:
            return None


def _refuse(name: str, param: torch.Tensor) -> None:
    """Raise if a tensor does not belong to this process alone."""
    if hasattr(param, "__tensor_flatten__") or hasattr(param.data, "full_tensor"):
        raise RecordingError(
            f"parameter {name!r} is a {type(param.data).__name__}, spread over processes; record a "
            "run in one process"
        )
    if param.grad is not None and param.grad.layout is not torch.strided:
        raise RecordingError(
            f"parameter {name!r} has a sparse gradient; only dense ones are recorded "
            "(sparse=False, or leave it out with parameters=)"
        )


def _is_captured() -> bool:
    return bool(torch.cuda.is_current_stream_capturing())


def _read(tensor: Any) -> torch.Tensor:
    found: torch.Tensor = real(tensor.detach().resolve_conj())
    return found


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value
