"""The state of a torch optimizer as a ``Checkpoint``, and back."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from ..arrays import map_parts
from ..checkpoint.checkpoint import Checkpoint, CheckpointError, ParameterState, Wanted, matched
from ..checkpoint.description import common_numbers
from ..checkpoint.tensor import Tensor, tensors
from ..checkpoint.trees import check_value
from .kernels import real

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["Params", "restore", "taken"]

Params: TypeAlias = (
    torch.nn.Module | Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]
)


class _Own(NamedTuple):
    """A parameter of the optimizer: what a checkpoint calls it, its group and its own rule."""

    path: str
    group: int
    wanted: Wanted
    param: torch.Tensor


def taken(optimizer: RuleOptimizer, params: Params | None) -> Checkpoint:
    """The state of every parameter, and the parameters' values if ``params`` are given."""
    states = {}
    for own in _owned(optimizer, params):
        state = optimizer.state.get(own.param) or {}
        rule, begun = own.wanted.rule, "step" in state
        states[own.path] = ParameterState.of(
            rule,
            own.wanted.param,
            int(state["step"]) if begun else 0,
            tensors({n: state[n] for n in rule.declared_slots() if n in state}) if begun else None,
            None if params is None else Tensor.of(own.wanted.param),
        )
    first = optimizer.param_groups[0] if optimizer.param_groups else {}
    shared = {name: Tensor.of(first[name]) for name in optimizer.rule.shared() if name in first}
    return Checkpoint(states, shared, "torch")


def restore(optimizer: RuleOptimizer, checkpoint: Checkpoint, params: Params | None) -> None:
    """Take over state, numbers and, where ``params`` are given, values; all or nothing."""
    owned = list(_owned(optimizer, params))
    wanted = {own.path: own.wanted for own in owned}
    found = matched(checkpoint, wanted, optimizer.rule.shared())
    if params is not None:
        for path, saved in found.items():
            check_value(path, saved, wanted[path].param)
    for saved in found.values():
        if saved.value is not None:
            saved.value.verify()
    shared = {name: _own(tensor) for name, tensor in checkpoint.shared.items()}
    place = {path: at for at, path in enumerate(found)}
    groups = []
    for at, group in enumerate(optimizer.param_groups):
        members = [own for own in owned if own.group == at]
        changed = _numbers(optimizer, at, members, found)
        keys = [place[own.path] for own in members]
        groups.append({**group, **changed, **shared, "params": keys})
    states = {
        place[path]: {"step": torch.tensor(saved.step), **_tensors_of(saved.slots)}
        for path, saved in found.items()
        if saved.slots is not None
    }
    try:
        optimizer.load_state_dict({"state": states, "param_groups": groups})
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"the checkpoint does not fit: {error}") from None
    with torch.no_grad():
        for own in owned if params is not None else ():
            if (value := found[own.path].value) is not None:
                own.wanted.param.copy_(_own(value))


def _owned(optimizer: RuleOptimizer, params: Params | None) -> Iterator[_Own]:
    """Every parameter; without a name of its own it has that of the model given."""
    if isinstance(params, torch.nn.Module):
        params = params.named_parameters()
    pairs = params.items() if isinstance(params, Mapping) else params or ()
    names = {id(param): name for name, param in pairs}
    seen: dict[str, torch.Tensor] = {}
    for at, group in enumerate(optimizer.param_groups):
        rule = optimizer._rule_of(group)
        for name, param in optimizer._named(group):
            path = name if "param_names" in group else names.get(id(param), name)
            if names and id(param) not in names:
                raise CheckpointError(
                    f"parameter {path!r} of the optimizer is not among the {len(names)} parameters "
                    "given; is it the model that the optimizer was made for?"
                )
            if path in seen:
                raise CheckpointError(f"two parameters are called {path!r}; rename one")
            seen[path] = param
            if hasattr(param, "__tensor_flatten__"):
                raise CheckpointError(
                    f"parameter {path!r} is a {type(param.data).__name__}, which keeps its values "
                    "in other tensors; torch.distributed.checkpoint saves and loads it, with "
                    "optimizer.init_state() before either"
                )
            own = rule.of(name, param.shape)
            yield _Own(path, at, Wanted(own, real(param.detach())), param)


def _numbers(
    optimizer: RuleOptimizer, at: int, members: list[_Own], found: Mapping[str, ParameterState]
) -> dict[str, Any]:
    """The hyperparameters that a group is to have."""
    rule = optimizer._rule_of(optimizer.param_groups[at])
    there = common_numbers(rule, ((own.wanted.rule, found[own.path].rule) for own in members))
    for name, several in there.items():
        if len(several) > 1:
            warnings.warn(
                f"{optimizer.rule.name}: group {at} keeps its own {name}; in the checkpoint its "
                f"parameters have {', '.join(sorted(map(repr, several)))}",
                UserWarning,
                stacklevel=4,
            )
    own = optimizer.param_groups[at]
    return {
        name: _held_as(own[name], several.pop())
        for name, several in there.items()
        if len(several) == 1
    }


def _held_as(held: Any, number: Any) -> Any:
    """A number as a group has it: in a tensor where it is in one, as for a captured graph."""
    return torch.full_like(held, number) if isinstance(held, torch.Tensor) else number


def _tensors_of(slots: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: map_parts(_mapped, value) for name, value in (slots or {}).items()}


def _mapped(tensor: Tensor) -> Any:
    """The tensor without a copy, which may be a map of a file; ``_copied`` asks it for a copy."""
    made: Any = torch.from_numpy(tensor.mapped()).view(getattr(torch, tensor.dtype))
    made.copied = lambda: _own(tensor)
    return made


def _own(tensor: Tensor) -> torch.Tensor:
    """The tensor in memory of its own."""
    return torch.from_numpy(tensor.copy()).view(getattr(torch, tensor.dtype))
