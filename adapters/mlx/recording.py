"""A recorder around an MLX training loop.

    with samestep.mlx.recorder("run.safetensors", optimizer):
        train()

It replaces ``optimizer.apply_gradients``, which ``update`` calls as well. Every step
that is recorded is evaluated; inside ``mx.compile`` there is nothing to write.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, Unpack

import mlx.core as xp
from mlx.optimizers.optimizers import Optimizer
from samestep.arrays import known
from samestep.checkpoints import checkpoint as state_of
from samestep.checkpoints.correspondence import called
from samestep.checkpoints.state import CheckpointError
from samestep.counts import standing
from samestep.kept import rule_of
from samestep.recording.around import Choice, LoopRecorder, grouped, with_choice
from samestep.recording.chosen import Group
from samestep.recording.recorder import Recorder
from samestep.recording.spool import RecordingError
from samestep.rule import Rule

from .natives import _ones, _owned, _tree
from .optimizer import RuleOptimizer
from .trees import leaves

__all__ = ["MlxRecorder", "recorder"]


@with_choice
def recorder(path: str | os.PathLike[str], optimizer: Any, **choice: Unpack[Choice]) -> MlxRecorder:
    """Record a training run, in a ``with`` block around its loop.

    Args:
        optimizer: any ``mlx.optimizers.Optimizer``.

    Raises:
        RecordingError: the file cannot be written.
        TypeError: ``optimizer`` is not an optimizer of MLX.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"recorder(path, optimizer): {type(optimizer).__name__} is no mlx.optimizers.Optimizer"
        )
    made = Recorder(
        path,
        optimizer=called(optimizer, {"mlx": "mlx.optimizers", "samestep": "samestep.mlx"}),
        framework="mlx",
        counts="each" if all(isinstance(o, RuleOptimizer) for o in _several(optimizer)) else "all",
        versions={"mlx": version("mlx")},
        **choice,
    )
    return MlxRecorder(made, optimizer)


class MlxRecorder(LoopRecorder):
    """Records the steps of an optimizer while it is entered; see ``recorder``."""

    def __init__(self, made: Recorder, optimizer: Any) -> None:
        super().__init__(made)
        self.optimizer = optimizer
        self._inner: Callable[..., Any] = optimizer.apply_gradients
        self._attached = False

    def _attach(self) -> None:
        self._inner, self._attached = self.optimizer.apply_gradients, True
        self.optimizer.apply_gradients = self._stepped

    def _detach(self) -> None:
        """Take the recorder away; one under another recorder lets every step pass from now on."""
        self._attached = False
        own = vars(self.optimizer)
        if own.get("apply_gradients") == self._stepped:
            del own["apply_gradients"]
            if self.optimizer.apply_gradients != self._inner:  # it was somebody's own
                self.optimizer.apply_gradients = self._inner

    def _stepped(self, gradients: Any, parameters: Any) -> Any:
        """``apply_gradients``, recording the arrays before and after it."""
        if not self._attached:
            return self._inner(gradients, parameters)
        recorder, begun = self.recorder, None
        step = recorder.number
        with recorder.harmless():
            grads = dict(leaves(gradients))
            _refuse_traced([*grads.values(), *self._counts()])
            if recorder.wants(step):
                tree = _tree(self.optimizer, parameters)
                params = dict(leaves(tree))
                taken = partial(state_of, self.optimizer, tree) if self._begun() else None
                recorder.begin(step, grads, params, taken, fresh=not self._begun())
                begun = tree, params
        result = self._inner(gradients, parameters)
        with recorder.harmless():
            if begun is not None and recorder.wants(step):
                after = {**begun[1], **dict(leaves(result))}
                recorder.end(step, after, self._groups(*begun))
        recorder.passed()
        return result

    def _begun(self) -> bool:
        """Whether a step has been taken."""
        return any(int(count.item()) for count in self._counts())

    def _counts(self) -> list[Any]:
        """How many steps have been taken; several counts where there are several optimizers."""
        return [one.state["step"] for one in _several(self.optimizer)]

    def _groups(self, tree: Any, params: dict[str, Any]) -> dict[str, Group]:
        """The hyperparameters of every parameter, as they were in the step just taken."""
        if isinstance(self.optimizer, RuleOptimizer):
            now = standing(self.optimizer.current, self.optimizer.state.get("shared_state", {}))
            now = now.at(self.optimizer.steps_taken - 1)
            return grouped(
                {name: (now.hypers, rule_of(now, name, v)) for name, v in params.items()}
            )
        found: dict[str, tuple[dict[str, Any], Rule | None]] = {}
        for one in _ones(self.optimizer, tree):
            numbers = {n: known(v) for n, v in vars(one.optimizer).items() if _is_number(n, v)}
            rate = one.flat.get("learning_rate")
            numbers |= {} if rate is None else {"learning_rate": float(rate.item())}
            rules = _rules(one)
            found |= {name: (numbers, rules.get(name)) for name in one.params}
        return grouped(found)


def _several(optimizer: Any) -> list[Any]:
    """The optimizers in a ``MultiOptimizer``, or the one."""
    return list(getattr(optimizer, "optimizers", [optimizer]))


def _rules(one: Any) -> dict[str, Rule]:
    """The rules that compute the same as one of several optimizers, by parameter."""
    if isinstance(one.optimizer, RuleOptimizer):
        rule = one.optimizer.current
        return {name: rule_of(rule, name, param) for name, param in one.params.items()}
    try:
        return {own.path: own.rule for own in _owned(one)}
    except CheckpointError:
        return {}


def _is_number(name: str, value: Any) -> bool:
    kinds = (bool, int, float, str, list, tuple, type(None))
    return not name.startswith("_") and isinstance(value, kinds)


def _refuse_traced(arrays: list[Any]) -> None:
    """Raise for arrays that mx.compile traces, because they have no values."""
    try:
        xp.eval(arrays)
    except (ValueError, RuntimeError) as error:
        raise RecordingError(
            "a step inside mx.compile cannot be recorded, since there are no values in it; leave "
            f"mx.compile out while recording ({error})"
        ) from None
