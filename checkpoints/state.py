"""The state of an optimizer in no framework's terms, which is written, mapped and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from samestep.arrays import dtype_name, listed, map_parts
from samestep.counts import counts_of
from samestep.names import counterparts
from samestep.rule import Rule
from samestep.spelling import nearest
from samestep.step import FLOATING, check_slots

from .description import Description, describe, differing_options
from .tensor import Tensor

if TYPE_CHECKING:
    from .maps import Map

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ParameterState",
    "Wanted",
    "common_count",
    "few",
    "matched",
    "sorted_for",
]

Slots = dict[str, Any]
"""By slot: a ``Tensor``, or a tuple of tensors."""


class CheckpointError(ValueError):
    """A checkpoint cannot be read or is of another optimizer; nothing has been changed."""


@dataclass(frozen=True)
class ParameterState:
    """The state of one parameter."""

    shape: tuple[int, ...]
    dtype: str
    """Dtype of the parameter; a slot may have another."""
    step: int
    """The calls in which the parameter had a gradient."""
    rule: Description
    slots: Slots | None
    """``None`` if there is no state yet, as in torch before the first gradient."""
    value: Tensor | None = None
    """The parameter itself, if it is part of the checkpoint."""
    missed: Mapping[str, int] = field(default_factory=dict)
    """Of the calls counted under a name in the shared state, in which a wrapper withheld the step,
    how many the parameter had missed anyway, if any."""

    @classmethod
    def of(
        cls,
        rule: Rule,
        param: Any,
        step: Any,
        slots: Slots | None,
        value: Tensor | None = None,
    ) -> ParameterState:
        """The state of a parameter of any framework, under its own rule.

        ``step`` is a number or ``Counts``; schedules are described at the last call.
        """
        calls, updates, missed = counts_of(step)
        described = describe(rule, max(calls - 1, 0))
        own = {name: int(count) for name, count in missed if count}
        kind = tuple(param.shape), dtype_name(param.dtype)
        return cls(*kind, updates, described, slots, value, own)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every array of the state by its slot, with the part's number if a slot has several."""
        for name, value in (self.slots or {}).items():
            if isinstance(value, tuple):
                yield from ((f"{name}.{i}", part) for i, part in enumerate(value))
            else:
                yield name, value

    @property
    def nbytes(self) -> int:
        """Bytes of state, without the parameter itself."""
        return sum(tensor.nbytes for _, tensor in self.tensors())


@dataclass(frozen=True)
class Checkpoint:
    """The state of an optimizer, and the parameters if they are part of it.

    ``samestep.save`` writes one, ``samestep.load`` reads one, and ``samestep.checkpoint`` makes one
    of a running optimizer.

    Args:
        parameters: the state of each parameter by path, its names joined by dots.
        shared: 0-d arrays kept once for all parameters, by name.
        layout: the framework whose conventions the shapes follow. A Flax kernel is a transposed
            weight of torch, and convolutions are OIHW in torch, HWIO in JAX and OHWI in MLX.
        others: frozen parameters and buffers of the model by path. The optimizer does not have
            them.
        calls: the calls of the optimizer, where they are more than the most updates of a parameter.
        written_by: the version of samestep that wrote the file, of a checkpoint from a file.
        point: "training" where a model is evaluated elsewhere than at these parameters, at which
            gradients are taken; else nothing.
    """

    parameters: Mapping[str, ParameterState]
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    layout: str = "numpy"
    others: Mapping[str, Tensor] = field(default_factory=dict)
    calls: int = 0
    written_by: str = field(default="", compare=False)
    point: str = ""

    @property
    def all_calls(self) -> int:
        """The calls of the optimizer, which schedules count."""
        return max(self.calls, self.step)

    @property
    def step(self) -> int:
        """The largest number of steps that a parameter has taken."""
        return max((own.step for own in self.parameters.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, including the parameters."""
        own = self.parameters.values()
        values = sum(one.value.nbytes for one in own if one.value is not None)
        rest = sum(tensor.nbytes for tensor in (*self.shared.values(), *self.others.values()))
        return sum(one.nbytes for one in own) + values + rest

    def copied(self) -> Checkpoint:
        """The checkpoint with copies of its arrays, which no later step changes."""
        held = methodcaller("held")

        def state(own: ParameterState) -> ParameterState:
            slots = {name: map_parts(held, value) for name, value in (own.slots or {}).items()}
            value = None if own.value is None else own.value.held()
            return replace(own, slots=None if own.slots is None else slots, value=value)

        return replace(
            self,
            parameters={path: state(own) for path, own in self.parameters.items()},
            shared={name: tensor.held() for name, tensor in self.shared.items()},
            others={path: tensor.held() for path, tensor in self.others.items()},
        )

    def mapped(self, map: Map) -> Checkpoint:  # noqa: A002  (the name of this argument everywhere)
        """The checkpoint under the names and in the shapes that a map gives."""
        return map.apply(self).checkpoint


@dataclass(frozen=True)
class Wanted:
    """A parameter that gets its state from a checkpoint, and its rule."""

    rule: Rule
    param: Any


def sorted_for(checkpoint: Checkpoint, wanted: Mapping[str, Wanted]) -> Checkpoint:
    """The checkpoint for an optimizer of the wanted parameters, which may differ from its own.

    A wanted parameter without state, such as a layer that is no longer frozen, becomes a parameter
    without state. A parameter without state that is not wanted goes to ``others``. What a wrapper
    of the model has added to a name, here or there, makes no difference.
    """
    checkpoint = _renamed(checkpoint, wanted)
    own = {
        path: state
        for path, state in checkpoint.parameters.items()
        if path in wanted or state.slots is not None or state.value is None
    }
    begun = {
        path: ParameterState(value.shape, value.dtype, 0, describe(wanted[path].rule), None, value)
        for path, value in checkpoint.others.items()
        if path in wanted
    }
    rest = {path: value for path, value in checkpoint.others.items() if path not in wanted}
    left = {
        path: state.value
        for path, state in checkpoint.parameters.items()
        if path not in own and state.value is not None
    }
    return replace(checkpoint, parameters=own | begun, others=rest | left)


def _renamed(checkpoint: Checkpoint, wanted: Mapping[str, Wanted]) -> Checkpoint:
    """The checkpoint with the wanted names, where only what wrappers add to a name differs."""
    meant = counterparts([*checkpoint.parameters, *checkpoint.others], wanted)

    def renamed(tree: Mapping[str, Any]) -> dict[str, Any]:
        return {meant.get(name, name): value for name, value in tree.items()}

    return replace(
        checkpoint,
        parameters=renamed(checkpoint.parameters),
        others=renamed(checkpoint.others),
    )


def matched(
    checkpoint: Checkpoint, wanted: Mapping[str, Wanted], shared: Iterable[str]
) -> dict[str, ParameterState]:
    """The states of these parameters, in their order.

    Raises:
        CheckpointError: parameters are missing or too many, a shape or an option of a rule differs,
            or the slots are not the slots of the rule.
    """
    _refuse_other_names(checkpoint, wanted)
    by = f"; it was written by {checkpoint.written_by}" if checkpoint.written_by else ""
    for path, one in wanted.items():
        saved = checkpoint.parameters[path]
        _refuse_other_rule(path, one.rule, saved, by)
        if saved.shape != tuple(one.param.shape):
            raise CheckpointError(
                f"parameter {path!r} has shape {tuple(one.param.shape)} here and {saved.shape} in "
                f"the checkpoint, whose layout is that of {checkpoint.layout}; a map can transpose "
                "it"
            )
        if saved.slots is not None:
            try:
                check_slots(one.rule, path, saved.slots, one.param.shape)
            except ValueError as error:
                raise CheckpointError(f"the checkpoint does not fit: {error}{by}") from None
    stepped = any(saved.step for saved in checkpoint.parameters.values())
    if stepped and {*shared} != {*checkpoint.shared}:
        raise CheckpointError(
            f"the checkpoint's shared state has {listed(checkpoint.shared)}; it must have "
            f"{listed(shared)}"
        )
    for name, tensor in checkpoint.shared.items():
        if tensor.shape or tensor.dtype not in FLOATING:
            raise CheckpointError(
                f"{name} of the checkpoint's shared state is {tensor.dtype} of shape "
                f"{tensor.shape}; it must be a number of {', '.join(FLOATING)}"
            )
    return {path: checkpoint.parameters[path] for path in wanted}


def _refuse_other_names(checkpoint: Checkpoint, wanted: Mapping[str, Wanted]) -> None:
    missing = [path for path in wanted if path not in checkpoint.parameters]
    spare = [path for path in checkpoint.parameters if path not in wanted]
    words = [f"not in the checkpoint: {few(missing, spare)}"] if missing else []
    words += [f"only in the checkpoint: {few(spare)}"] if spare else []
    if not words:
        return
    places = all(path.isdigit() for path in (*checkpoint.parameters, *wanted))
    mapped = "give a map of the names"
    hint = "parameters without names are called by their places" if places else mapped
    raise CheckpointError(
        f"the parameters are not those of the checkpoint ({hint}); {'; '.join(words)}"
    )


def _refuse_other_rule(path: str, rule: Rule, saved: ParameterState, by: str) -> None:
    differing = list(differing_options(rule, saved.rule, len(saved.shape)))
    if differing:
        raise CheckpointError(
            f"the checkpoint's state of {path!r} is not that of {rule!r}: "
            + "; ".join(differing)
            + by
        )


def common_count(who: str, states: Mapping[str, ParameterState]) -> int:
    """The common step count of several parameters.

    Raises:
        CheckpointError: the parameters have taken different numbers of steps.
    """
    steps = {own.step: path for path, own in states.items() if own.slots is not None and own.step}
    if len(steps) > 1:
        counts = ", ".join(f"{path!r} {step}" for step, path in sorted(steps.items()))
        raise CheckpointError(
            f"parameters have taken different numbers of steps ({counts}), and {who} counts for "
            "all of them together; samestep counts for each"
        )
    return next(iter(steps), 0)


def few(names: list[str], others: Iterable[str] = ()) -> str:
    """A few of many names, each with the similar names among ``others``."""

    def resembling(name: str) -> str:
        near = nearest(name, others)
        return f"{name} (is it {near[0]}?)" if near and not name.isdigit() else name

    shown = ", ".join(map(resembling, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
