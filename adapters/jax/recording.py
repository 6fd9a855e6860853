"""A recorder around a transformation of optax.

    with samestep.jax.recorder("run.safetensors") as recording:
        optimizer = recording(optax.adamw(1e-3))
        ...  # init, update and apply_updates as ever, under jax.jit too

What it returns is a transformation. Steps that are wanted call the host, in order
(``jax.experimental.io_callback``), and others do not. The parameters behind a step are those given
to ``update`` plus the updates, in the parameters' dtype, as ``optax.apply_updates`` has them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeGuard, Unpack

import numpy
import optax  # type: ignore[import-untyped]  # ships no types

import jax
import jax.numpy as xp
from jax.experimental import io_callback
from samestep.arrays import is_array
from samestep.checkpoints.state import Checkpoint, CheckpointError
from samestep.counts import standing
from samestep.kept import rule_of
from samestep.recording.around import Choice, LoopRecorder, grouped, with_choice
from samestep.recording.chosen import Steps
from samestep.recording.recorder import Recorder
from samestep.recording.spool import RecordingError
from samestep.rule import Rule, State

from .checkpoint import taken as taken_of
from .natives import from_optax
from .trees import dotted, flattened, leaves, matched

__all__ = ["JaxRecorder", "RecordedState", "recorder"]

Hypers = Mapping[str, Any] | Callable[[int], Mapping[str, Any]]


class RecordedState(NamedTuple):
    """The state of a transformation that is recorded."""

    step: Any
    """The number of the step that comes next, int32."""
    inner: Any


@with_choice
def recorder(
    path: str | os.PathLike[str],
    *,
    rule: Rule | None = None,
    hyperparameters: Hypers | None = None,
    **choice: Unpack[Choice],
) -> JaxRecorder:
    """Record a training run, in a ``with`` block around its loop.

    Args:
        rule: the rule of the transformation, such as ``samestep.AdamW(lr=1e-3, like="optax")``;
            one of samestep says it itself. A transformation of optax tells neither its name nor
            its numbers: without a rule ``samestep replay`` must be given them, and the state is not
            recorded, so that a replay needs the run from its first step on.
        hyperparameters: numbers by name, or a function of the step that gives them, to be recorded
            in addition to those of ``optax.inject_hyperparams``.
        steps: the steps to record, from 0: all, the first N, a range, a set, or a function
            of the step that can be traced, such as ``lambda step: step % 100 < 5``.

    Raises:
        RecordingError: the file cannot be written.
    """
    versions = {"jax": jax.__version__, "optax": optax.__version__}
    made = Recorder(path, framework="jax", versions=versions, **choice)
    return JaxRecorder(made, rule, hyperparameters, choice.get("steps"))


class JaxRecorder(LoopRecorder):
    """Makes transformations that are recorded while it is entered; see ``recorder``."""

    def __init__(
        self, made: Recorder, rule: Rule | None, hyperparameters: Hypers | None, steps: Steps
    ) -> None:
        super().__init__(made)
        self.rule, self.hyperparameters = rule, hyperparameters
        listed = isinstance(steps, Iterable) and not isinstance(steps, range)
        self._steps: Any = frozenset(steps) if listed else steps  # type: ignore[arg-type]
        self._wrapped = self._restored = False

    def _detach(self) -> None:
        jax.effects_barrier()  # type: ignore[no-untyped-call]

    def __call__(self, transformation: Any) -> optax.GradientTransformationExtraArgs:
        """The transformation, recorded.

        Its state is a ``RecordedState``: a count, and the state of the transformation itself.

        Raises:
            RecordingError: this recorder has been given one already, or is not entered.
        """
        if self._wrapped:
            raise RecordingError("a recorder records one transformation; make another recorder")
        if not self.recorder.is_open:
            raise RecordingError("enter the recorder first: with recorder(...) as recording: ...")
        self._wrapped = True
        inner = optax.with_extra_args_support(transformation)
        own = getattr(transformation, "rule", None)
        rule = self.rule or own
        if isinstance(own, Rule):
            self.recorder.run["optimizer"] = f"samestep.jax.{own.name}"

        def init(params: Any) -> RecordedState:
            self.recorder.named([dotted(path) for path, _ in flattened(params)[0]])
            return RecordedState(xp.asarray(self.recorder.number, xp.int32), inner.init(params))

        def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            if not isinstance(state, RecordedState):
                raise RecordingError(
                    f"the state is {type(state).__name__}; give recording.wrap(state) to update"
                )
            if params is None:
                raise RecordingError("update(grads, state, params) needs params to record them")
            if any(map(_ours, jax.tree.leaves(state.inner, is_leaf=_ours))):
                self.recorder.run["counts"] = "each"  # a transformation of optax counts for all
            updates, new = inner.update(grads, state.inner, params, **extra)
            self._record(rule, grads, params, updates, state, new)
            return updates, RecordedState(state.step + 1, new)

        return optax.GradientTransformationExtraArgs(init, update)

    def wrap(self, state: Any, step: int | None = None) -> RecordedState:
        """The state of a transformation, such as one that was restored, to be gone on with.

        Args:
            state: of the transformation itself.
            step: the number of the step that comes next; by default that of the recorder.
        """
        self._restored = True
        if step is not None:
            self.recorder.number = int(step)
        return RecordedState(xp.asarray(self.recorder.number, xp.int32), state)

    def _wants(self, step: Any) -> Any:
        """Whether a traced step is recorded."""
        steps = self._steps
        if steps is None:
            return True
        if callable(steps):
            try:
                return steps(step)
            except TypeError as error:
                raise RecordingError(
                    f"steps= is a function that cannot be traced: {error}"
                ) from error
        if isinstance(steps, int):
            return step < steps
        if isinstance(steps, range):
            first, last = min(steps[0], steps[-1]), max(steps[0], steps[-1])
            return (step >= first) & (step <= last) & ((step - first) % abs(steps.step) == 0)
        return xp.isin(step, xp.asarray(sorted(steps), xp.int32))

    def _record(
        self, rule: Rule | None, grads: Any, params: Any, updates: Any, state: Any, new: Any
    ) -> None:
        """Have the host write a step, if it is wanted, and the state where a stretch begins."""
        paths, structure = flattened(params)
        values = {dotted(path): xp.asarray(leaf) for path, leaf in paths}
        who: Any = SimpleNamespace(name="the recorder")
        given = dict(
            zip(values, matched(who, "the gradients", grads, paths, structure), strict=True)
        )
        moves = dict(
            zip(values, matched(who, "the updates", updates, paths, structure), strict=True)
        )
        chosen = self.recorder.named([*values])
        sent = _Sent(
            {n: xp.asarray(given[n]) for n in chosen if given[n] is not None},
            {n: values[n] for n in chosen},
            {n: _moved(values[n], moves[n]) for n in chosen},
            _injected(new),
        )
        whole = {name: (tuple(v.shape), v.dtype) for name, v in values.items()}
        inside, tree = leaves(state.inner)

        def note(step: Any, sent: Any, inside: Any) -> None:
            with self.recorder.harmless(int(step)):
                sent, inside = jax.tree.map(numpy.asarray, (sent, inside))
                inner = tree.unflatten(inside) if inside else None
                self._note(rule, int(step), sent, inner, whole, structure)

        def call(inside: list[Any]) -> None:
            io_callback(note, None, state.step, sent, inside, ordered=True)

        def call_either() -> None:
            if _counts_skips(rule):  # its schedules count the steps that are not withheld
                call(inside)
            elif rule is None or not self.recorder.state:
                call([])
            else:
                _if(self._begins(state.step), lambda: call(inside), lambda: call([]))

        _if(self._wants(state.step), call_either, lambda: None)

    def _begins(self, step: Any) -> Any:
        """Whether the step before is not recorded."""
        first = step == self.recorder.number
        return first | xp.logical_not(xp.asarray(self._wants(step - 1)))

    def _note(
        self,
        rule: Rule | None,
        step: int,
        sent: _Sent,
        inner: Any,
        whole: Mapping[str, Any],
        structure: Any,
    ) -> None:
        recorder = self.recorder
        if not recorder.wants(step):
            return
        numbers: dict[str, Any] = {n: v.item() for n, v in sent.numbers.items()}
        given = self.hyperparameters
        numbers |= given(step) if callable(given) else given or {}
        recorder.count = len(whole)

        def taken() -> Checkpoint:  # of parameters that are not recorded only shapes matter
            arrays = [sent.before.get(n, numpy.zeros(*form)) for n, form in whole.items()]
            params = structure.unflatten([*map(xp.asarray, arrays)])
            if isinstance(inner, State):
                return taken_of(rule, params, inner)  # type: ignore[arg-type]
            try:
                return from_optax(rule, params, inner)
            except CheckpointError:  # where nothing counts steps
                return from_optax(rule, params, inner, step=step)

        known = taken if rule is not None and inner is not None else None
        fresh = step == 0 and not self._restored
        recorder.begin(step, sent.grads, sent.before, known, fresh=fresh)
        struct: Any = jax.ShapeDtypeStruct
        forms = {name: struct(*whole[name]) for name in sent.before}
        now = _after_skips(rule, taken) if _counts_skips(rule) else rule
        own = {n: None if now is None else rule_of(now, n, form) for n, form in forms.items()}
        groups = grouped({name: (numbers, of) for name, of in own.items()})
        recorder.end(step, sent.after, groups)


class _Sent(NamedTuple):
    """The arrays that are sent to the host in every recorded step."""

    grads: Any
    before: Any
    after: Any
    numbers: Any


def _ours(node: Any) -> bool:
    """Whether a part of a state is the state of a rule of samestep."""
    return isinstance(node, State)


def _counts_skips(rule: Rule | None) -> TypeGuard[Rule]:
    """Whether numbers depend on steps that a wrapper withholds."""
    return rule is not None and bool(rule.withholds) and not rule.constant


def _after_skips(rule: Rule, taken: Callable[[], Checkpoint]) -> Rule | None:
    """The rule after the steps that a state says are withheld; ``None`` if it is not known."""
    try:
        shared = taken().shared
    except (CheckpointError, TypeError):
        return None
    return standing(rule, {name: tensor.values() for name, tensor in shared.items()})


def _if(condition: Any, do: Callable[[], None], otherwise: Callable[[], None]) -> None:
    """One or the other, on the device where it is known only there."""
    if isinstance(condition, (bool, numpy.bool_)):
        (do if condition else otherwise)()
    else:
        jax.lax.cond(condition, do, otherwise)


def _moved(param: jax.Array, update: Any) -> jax.Array:
    """The parameter that ``optax.apply_updates`` makes."""
    return param if update is None else xp.asarray(param + update, param.dtype)


def _injected(state: Any) -> dict[str, Any]:
    """The numbers that ``optax.inject_hyperparams`` keeps, wherever it is in a state."""
    if hasattr(state, "hyperparams"):
        found = {name: value for name, value in state.hyperparams.items() if is_array(value)}
        return {name: xp.asarray(value) for name, value in found.items()}
    found = {}
    if isinstance(state, tuple):
        for part in state:
            found |= _injected(part)
    return found
