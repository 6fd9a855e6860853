"""The recorder: writes the steps of a training loop to disk.

    with Recorder("run.safetensors") as recording:
        for step, batch in enumerate(batches):
            grads = gradients(params, batch)
            after, state = rule.update(grads, params, state)
            recording.note(step, grads, params, after, rule)
            params = after

The recorders of the frameworks use it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from samestep import tree
from samestep.arrays import is_array, known, listed
from samestep.checkpoints.contents import arrays, metadata
from samestep.checkpoints.state import Checkpoint, CheckpointError
from samestep.checkpoints.tensor import Tensor
from samestep.checkpoints.trees import from_tree
from samestep.counts import standing
from samestep.kept import rule_of
from samestep.rule import Rule, State

from .chosen import Group, Steps, chosen
from .sink import Sink
from .spool import RecordingError, crcs_of

__all__ = ["Recorder"]

Arrays = Mapping[str, Any]


class Recorder:
    """Writes gradients, parameters and hyperparameters of a run to a safetensors file.

    Args:
        path: path of the file; its folder must exist. The file is written when the ``with`` block
            ends, also by an exception. Until then, and after the process is killed, the recording
            is in ``<path>.part``, which can be read like the file.
        steps: the steps to record, counted from 0: all, the first N, a ``range``, a set, or a
            function that is true for these steps. Consecutive steps are a stretch. The optimizer's
            state is recorded at the beginning of a stretch, so that it can be replayed from there.
        parameters: the parameters to record: patterns such as ``"*.weight"``, which must match.
        state: whether the optimizer's state is recorded at the beginning of a stretch. Without it,
            a replay needs a recording from the first step on.
        append: whether to continue an existing recording, for a resumed run.
        first_step: the number of the first step; by default 0, or the next step when appending.
        optimizer: the name of the optimizer.
        framework: the library of the arrays.
        counts: ``"all"`` if all parameters have one step count, else ``"each"``, as with a rule.
        versions: versions of libraries, by name.

    Raises:
        RecordingError: the folder does not exist, or the file is not a recording to append to.
        TypeError, ValueError: ``steps`` chooses no step, or ``parameters`` has no pattern.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        steps: Steps = None,
        parameters: str | Iterable[str] = "*",
        state: bool = True,
        append: bool = False,
        first_step: int | None = None,
        optimizer: str = "",
        framework: str = "numpy",
        counts: str = "all",
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.state, self.append = Path(path), state, append
        self.patterns = (parameters,) if isinstance(parameters, str) else tuple(parameters)
        if not self.patterns:
            raise ValueError(f'parameters={parameters!r} must have a pattern; "*" is all of them')
        self.steps, self.sink = chosen(steps), Sink(self.path)
        self.first_step, self.number = first_step, first_step or 0
        self.count: int | None = None
        """The number of all parameters, including those that ``begin`` is not given."""
        self.run: dict[str, Any] = {
            "optimizer": optimizer,
            "framework": framework,
            "counts": counts,
            "versions": dict(versions or {}),
        }
        self._names: list[str] | None = None
        self._seen: int | None = None
        self._begun: int | None = None
        self._passed = False
        self._before: dict[str, list[int]] = {}
        self._crcs: dict[str, list[int]] = {}
        self._groups: Any = None

    # Called by users and frameworks.

    @contextmanager
    def harmless(self, step: int | None = None) -> Iterator[None]:
        """A context in which an error of the recorder ends the recording and not the run.

        Only in the first step of the run is it raised, when nothing is lost yet.

        Args:
            step: the number of the step; by default that of the next step.
        """
        step = self.number if step is None else step
        try:
            yield
        except Exception as error:
            if not self._passed and step == self.number:
                raise
            self.sink.end(step, error)

    def passed(self) -> None:
        """Count a step that has been taken, whether it is recorded or not."""
        self.number += 1
        self._passed = True

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close(ended=error)

    def open(self) -> None:
        """Open the file before training begins."""
        following = self.sink.open(self.append)
        if self.first_step is None:
            self.number = following

    def close(self, ended: BaseException | None = None) -> None:
        """Write the recorded steps to the final file."""
        self.sink.close(ended)

    @property
    def is_open(self) -> bool:
        """Whether steps can be recorded."""
        return self.sink.is_open

    def wants(self, step: int) -> bool:
        """Whether a step is recorded."""
        return self.is_open and bool(self.steps(step))

    def named(self, names: Collection[str]) -> list[str]:
        """The names of the recorded parameters.

        Raises:
            RecordingError: a pattern matches nothing.
        """
        for pattern in self.patterns:
            if names and not any(fnmatchcase(name, pattern) for name in names):
                raise RecordingError(
                    f"parameters={pattern!r} fits no parameter; there are {listed(names)}"
                )
        return [name for name in names if any(fnmatchcase(name, p) for p in self.patterns)]

    def note(
        self,
        step: int,
        grads: Any,
        before: Any,
        after: Any,
        hyperparameters: Rule | Mapping[str, Any],
        state: State | None = None,
    ) -> None:
        """Record a step, if it is chosen.

        Args:
            step: its number, from 0.
            grads: the gradients, a tree of arrays.
            before: the parameters before the step; ``after``, the parameters after it.
            hyperparameters: by name; or the rule, whose schedules are evaluated at this step.
            state: the state of the rule before the step. A replay can begin at a recorded state.
        """
        with self.harmless(step):
            if self.wants(step):
                self._noted(step, grads, before, after, hyperparameters, state)
        self._passed = True

    def _noted(
        self,
        step: int,
        grads: Any,
        before: Any,
        after: Any,
        hyperparameters: Rule | Mapping[str, Any],
        state: State | None,
    ) -> None:
        params = _by_name(before)
        given = hyperparameters
        rule = given if isinstance(given, Rule) else None
        if rule is not None:
            self.run["counts"], rule = "each", _standing(rule, state)
        groups = {
            name: Group({} if isinstance(given, Rule) else given)
            if rule is None
            else Group(rule.hypers, rule_of(rule, name, array))
            for name, array in params.items()
        }
        taken = None
        if rule is not None and state is not None:
            taken = _checkpoint_of(rule, before, state)
        fresh = step == 0 if state is None else state.steps_taken == 0
        self.begin(step, _by_name(grads), params, taken, fresh=fresh)
        self.end(step, _by_name(after), groups)

    # Called by the recorders of frameworks.

    def begin(
        self,
        step: int,
        grads: Arrays,
        before: Arrays,
        state: Callable[[], Checkpoint] | None,
        *,
        fresh: bool,
    ) -> None:
        """Write the arrays before a step: gradients, parameters, and perhaps the state.

        Args:
            step: its number.
            grads, before: gradients and parameters by name, of all parameters.
            state: returns the optimizer's state; called only if it is needed.
            fresh: whether the optimizer has no state yet.

        The same step from the same parameters once more takes the place of the one before, whose
        result was discarded: ``optax.MultiSteps`` computes an update for every gradient.
        """
        if self._names is None:
            self._open_session(before)
        names = self.named(before)
        params = {name: _fetched(before[name]) for name in names}
        crcs = {name: _crcs_of(tensor) for name, tensor in params.items()}
        record: dict[str, Any] = {"session": 0, "step": step}
        tensors = {f"grad/0/{step}/{n}": Tensor.of(grads[n]) for n in names if n in grads}
        if self._seen == step + 1 and crcs == self._before:
            record |= {"again": True, "grads": [name for name in names if name in grads]}
            self._crcs.clear()
        elif self._seen != step:
            record |= {"begins": True, "fresh": fresh}
            record |= {} if fresh else self._stated(step, names, state, tensors)
        if self._begun == step:  # and it failed: gradients of then may be missing now
            record |= {"grads": [name for name in names if name in grads]}
        self._begun = step
        for name in names:
            self._changed(f"param/0/{step}/{name}", name, params[name], crcs[name], tensors)
        self._before = crcs
        self.sink.write(record, tensors)

    def end(self, step: int, after: Arrays, groups: Mapping[str, Group]) -> None:
        """Write the arrays after a step: parameters, and hyperparameters that have changed."""
        names = self.named([*after])
        record: dict[str, Any] = {"session": 0, "step": step, "ended": True}
        described: list[dict[str, Any]] = []
        group_of, places = {}, {}
        for name in names:
            group = groups[name]
            if id(group) not in places:
                own = group.described(step)
                if own not in described:
                    described.append(own)
                places[id(group)] = described.index(own)
            group_of[name] = places[id(group)]
        now = json.dumps([described, group_of])
        if now != self._groups:
            record |= {"groups": described, "group_of": group_of}
        tensors: dict[str, Tensor] = {}
        for name in names:
            tensor = _fetched(after[name])
            self._changed(f"after/0/{step}/{name}", name, tensor, _crcs_of(tensor), tensors)
        self.sink.write(record, tensors)
        self._groups, self._seen, self._passed = now, step + 1, True

    def _open_session(self, params: Arrays) -> None:
        self._names = self.named(params)
        self.run |= {"id": secrets.token_hex(8), "parameters": self.count or len(params)}
        self.sink.write({"session": 0, "run": self.run}, {})

    def _stated(
        self,
        step: int,
        names: list[str],
        state: Callable[[], Checkpoint] | None,
        tensors: dict[str, Tensor],
    ) -> dict[str, Any]:
        """The record of the state before a step, and its arrays; or the reason if it is missing."""
        if not self.state:
            return {"why": "it was recorded with state=False"}
        if state is None:
            return {"why": "the recorder does not know where this optimizer keeps it"}
        try:
            taken = state()
        except (CheckpointError, TypeError) as error:
            return {"why": str(error)}
        own = {n: replace(s, value=None) for n, s in taken.parameters.items() if n in names}
        taken = replace(taken, parameters=own, others={})
        for key, tensor in arrays(taken).items():
            tensors[f"state/0/{step}/{key}"] = tensor
        return {"state": metadata(taken)}

    def _changed(
        self, key: str, name: str, tensor: Tensor, crcs: list[int], tensors: dict[str, Tensor]
    ) -> None:
        """Add an array to ``tensors`` if it has changed since it was last stored."""
        if self._crcs.get(name) != crcs:
            tensors[key], self._crcs[name] = tensor, crcs


def _fetched(array: Any) -> Tensor:
    """An array; one on an accelerator is fetched once."""
    tensor = Tensor.of(array)
    return tensor.reshaped(tensor.bits)


def _crcs_of(tensor: Tensor) -> list[int]:
    """Checksums of its form and of its pieces."""
    return [hash((tensor.dtype, tensor.shape)), *crcs_of(tensor)]


def _by_name(params: Any) -> dict[str, Any]:
    """Arrays of a tree by their dotted names."""
    return {tree.dotted(path): array for path, array in tree.leaves(params)}


def _standing(rule: Rule, state: State | None) -> Rule:
    """The rule, whose schedules do not count the steps that a wrapper has withheld."""
    if not rule.withholds or rule.constant:
        return rule
    if state is None:
        raise RecordingError(
            f"{rule.name} skips steps, which its schedules do not count; give the state too: "
            "note(step, grads, before, after, rule, state)"
        )
    return standing(rule, state.shared)


def _checkpoint_of(rule: Rule, params: Any, state: State) -> Callable[[], Checkpoint]:
    if is_array(known(state.step)):
        raise TypeError(f"{rule.name}: the step is traced; a run is recorded outside of jit")
    return lambda: from_tree(rule, params, state)
