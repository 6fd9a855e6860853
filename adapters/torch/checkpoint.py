"""The state of a torch optimizer as a ``Checkpoint``, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from samestep.arrays import map_parts
from samestep.checkpoints.description import common_numbers
from samestep.checkpoints.processes import Processes, together
from samestep.checkpoints.state import (
    Checkpoint,
    CheckpointError,
    ParameterState,
    Slots,
    Wanted,
    matched,
    sorted_for,
)
from samestep.checkpoints.tensor import Tensor
from samestep.checkpoints.trees import check_values, warn_of_numbers
from samestep.counts import Counts, standing
from samestep.kept import rule_of
from samestep.names import unwrapped
from samestep.placement import Placement
from samestep.rule import Rule

from .counting import CALLS, calls_of, entry, missed
from .entries import slots_in
from .kernels import real
from .modes import POINT, TRAINED, TRAINING
from .pieces import is_spread
from .placement import slot_of
from .sharded import fill, placed, processes_of, refuse_slice, tensor_of

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = [
    "Params",
    "copied",
    "named",
    "names_of",
    "others_in",
    "others_of",
    "paths_of",
    "put",
    "restore",
    "taken",
]

Params: TypeAlias = (
    torch.nn.Module | Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]
)


class _Own(NamedTuple):
    """A parameter of the optimizer: its names in a checkpoint and here, its group, its rule."""

    path: str
    name: str
    group: int
    wanted: Wanted
    param: torch.Tensor


def taken(optimizer: RuleOptimizer, params: Params | None) -> Checkpoint:
    """The state of every parameter, and the parameters' values if ``params`` are given."""
    states, calls = {}, int(calls_of(optimizer, ()))
    processes = processes_of(everything(optimizer.param_groups, params))
    tensor = partial(tensor_of, processes=processes)
    first = optimizer.param_groups[0] if optimizer.param_groups else {}
    for own in _owned(optimizer, params):
        state = slots_in(optimizer.state.get(own.param) or {})
        rule, begun = own.wanted.rule, "step" in state
        count = Counts(calls, int(state["step"]), missed(rule, state)) if begun else 0
        states[own.path] = ParameterState.of(
            standing(rule, first),
            own.wanted.param,
            count,
            _tensors(rule, state, tensor) if begun else None,
            None if params is None else tensor(real(state.get(TRAINED, own.wanted.param))),
        )
    shared = {name: tensor(first[name]) for name in optimizer.rule.shared() if name in first}
    others = others_in(optimizer.param_groups, params, processes)
    point = "training" if optimizer.rule.has_point else ""
    return Checkpoint(states, shared, "torch", others, calls, point=point)


def _tensors(rule: Rule, state: Mapping[str, Any], tensor: Callable[[Any], Tensor]) -> Slots:
    return {n: map_parts(tensor, state[n]) for n in rule.declared_slots() if n in state}


def everything(groups: Iterable[Mapping[str, Any]], params: Params | None) -> list[torch.Tensor]:
    """The parameters of groups, and what the model has in addition."""
    own = [param for group in groups for param in group["params"]]
    return [*own, *others_of(groups, params).values()]


def restore(optimizer: RuleOptimizer, checkpoint: Checkpoint, params: Params | None) -> None:
    """Take over state, numbers and, where ``params`` are given, values; all or nothing."""
    processes = processes_of(everything(optimizer.param_groups, params))
    with together(processes):
        _restore(optimizer, checkpoint, params, processes)


def _restore(
    optimizer: RuleOptimizer,
    checkpoint: Checkpoint,
    params: Params | None,
    processes: Processes | None,
) -> None:
    owned = list(_owned(optimizer, params))
    wanted = {own.path: own.wanted for own in owned}
    checkpoint = sorted_for(checkpoint, wanted)
    found = matched(checkpoint, wanted, optimizer.rule.shared())
    own_params = {own.path: own.wanted.param for own in owned}
    others = others_of(optimizer.param_groups, params)
    if params is not None:
        check_values(found, own_params, others, checkpoint)
    for saved in found.values():
        if saved.value is not None:
            saved.value.verify()
    shared = {name: copied(tensor) for name, tensor in checkpoint.shared.items()}
    place = {path: at for at, path in enumerate(found)}
    groups, later = [], {}
    for at, group in enumerate(optimizer.param_groups):
        members = [own for own in owned if own.group == at]
        rule = optimizer._rule_of(group)
        new = _numbers(rule, members, found)
        with _fitting():
            rule = rule.replace(**new)
        for own in members:
            later[own.path] = Wanted(rule_of(rule, own.name, own.param), own.param)
        changed = {name: _held_as(group[name], number) for name, number in new.items()}
        keys = [place[own.path] for own in members]
        groups.append({**group, **changed, **shared, "params": keys, CALLS: checkpoint.all_calls})
    warn_of_numbers(later, found, checkpoint.all_calls, checkpoint.shared)
    states = {
        place[own.path]: {
            "step": torch.tensor(saved.step),
            **_forms(own, saved.slots),
            **{entry(name): torch.tensor(float(n)) for name, n in saved.missed.items()},
        }
        for own in owned
        if (saved := found[own.path]).slots is not None
    }
    if processes is not None:
        processes.agree({"what it does": "it has read the checkpoint"})
    optimizer.train()  # the parameters of a checkpoint are those at which gradients are taken
    for group in groups:
        group.update({POINT: TRAINING} if POINT in group else {})
    with _fitting():
        optimizer.load_state_dict({"state": states, "param_groups": groups})
    if params is not None:
        put(found, own_params, others, checkpoint)


@contextmanager
def _fitting() -> Iterator[None]:
    """Say of an error that the checkpoint does not fit."""
    try:
        yield
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"the checkpoint does not fit: {error}") from None


def named(params: Params | None) -> list[tuple[str, torch.Tensor]]:
    """Names and tensors of a model, or of named tensors; wrappers add nothing to a name."""
    if isinstance(params, torch.nn.Module):
        params = params.named_parameters()
    pairs = [*params.items()] if isinstance(params, Mapping) else [*(params or ())]
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        return pairs  # which the caller refuses
    names = unwrapped([name for name, _ in pairs])
    return [(name, tensor) for name, (_, tensor) in zip(names, pairs, strict=True)]


def names_of(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all parameters, if every group has names."""
    if not all("param_names" in group for group in groups):
        return []
    return unwrapped([str(name) for group in groups for name in group["param_names"]])


def paths_of(own: Sequence[str], names: Sequence[str | None], first: int) -> list[str]:
    """Names of a group's parameters: their own, or their names in the given model, or places."""
    places = [str(place) if name is None else name for place, name in enumerate(names, first)]
    return [*own[first : first + len(places)]] or places


def others_of(
    groups: Iterable[Mapping[str, Any]], params: Params | None
) -> dict[str, torch.Tensor]:
    """Frozen parameters and buffers of a model, which an optimizer's groups do not have."""
    if not isinstance(params, torch.nn.Module):
        return {}
    held = {id(param) for group in groups for param in group["params"]}
    kept: dict[str, Any] = params.state_dict(keep_vars=True)
    tensors = {path: value for path, value in kept.items() if isinstance(value, torch.Tensor)}
    return {path: real(tensor) for path, tensor in named(tensors) if id(tensor) not in held}


def others_in(
    groups: Iterable[Mapping[str, Any]], params: Params | None, processes: Processes | None
) -> dict[str, Tensor]:
    """The same as a checkpoint has them."""
    others = others_of(groups, params)
    return {path: tensor_of(tensor.detach(), processes) for path, tensor in others.items()}


@torch.no_grad()
def put(
    found: Mapping[str, ParameterState],
    params: Mapping[str, torch.Tensor],
    others: Mapping[str, torch.Tensor],
    checkpoint: Checkpoint,
) -> None:
    """Write the values of a checkpoint into a model; ``check_values`` has seen that they fit."""
    for path, param in params.items():
        if (value := found[path].value) is not None:
            _put(param, value)
    for path in checkpoint.others.keys() & others.keys():
        _put(others[path], checkpoint.others[path])


def _put(param: torch.Tensor, value: Tensor) -> None:
    if is_spread(param):
        fill(param, value)
    else:
        param.copy_(copied(value))


def _owned(optimizer: RuleOptimizer, params: Params | None) -> Iterator[_Own]:
    """Every parameter; without a name of its own it has that of the model given."""
    pairs = named(params)
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            f"{optimizer.rule.name}: the parameters have no names; give the model, its "
            "named_parameters(), or a dict of tensors by name"
        )
    names = {id(param): name for name, param in pairs}
    seen: dict[str, torch.Tensor] = {}
    for at, group in enumerate(optimizer.param_groups):
        rule = optimizer._rule_of(group)
        for name, param in optimizer._named(group):
            path = name if "param_names" in group else names.get(id(param), str(name))
            if names and id(param) not in names:
                raise CheckpointError(
                    f"parameter {path!r} of the optimizer is not among the {len(names)} parameters "
                    "given; is it the model that the optimizer was made for?"
                )
            if path in seen:
                raise CheckpointError(f"two parameters are called {path!r}; rename one")
            seen[path] = param
            if hasattr(param, "__tensor_flatten__") and not is_spread(param):
                raise CheckpointError(
                    f"parameter {path!r} is a {type(param.data).__name__}, which keeps its values "
                    "in other tensors; torch.distributed.checkpoint saves and loads it, with "
                    "optimizer.init_state() before either"
                )
            refuse_slice(optimizer, path, param)
            own = rule_of(rule, name, param)
            yield _Own(path, name, at, Wanted(own, real(param.detach())), param)


def _numbers(
    rule: Rule, members: list[_Own], found: Mapping[str, ParameterState]
) -> dict[str, Any]:
    """The numbers that the checkpoint gives to all parameters of a group; others stay."""
    there = common_numbers(rule, ((own.wanted.rule, found[own.path].rule) for own in members))
    return {name: several.pop() for name, several in there.items() if len(several) == 1}


def _held_as(held: Any, number: Any) -> Any:
    """A number as a group has it: in a tensor where it is in one, as for a captured graph."""
    return torch.full_like(held, number) if isinstance(held, torch.Tensor) else number


def _forms(own: _Own, slots: Slots) -> dict[str, Any]:
    """The forms of slots without their values, which are perhaps in a file; ``copied`` reads them.

    The pieces of DTensors are read now, so that all processes know whether that has succeeded.
    """
    found, who = {}, f"{own.wanted.rule.name}: parameter {own.name!r}"
    for name, value in slots.items():
        slot = slot_of(own.wanted.rule, who, own.param, name, value)
        found[name] = map_parts(partial(_form, own.param), value, slot)
    return found


def _form(param: torch.Tensor, tensor: Tensor, slot: Placement | None) -> Any:
    if is_spread(param) and tensor.shape:
        there = placed(tensor, param, slot)
        there.copied = lambda: there
        return there
    made: Any = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype), device="meta")
    made.copied = lambda: copied(tensor)
    return made


def copied(tensor: Tensor) -> torch.Tensor:
    """The tensor in memory of its own."""
    return torch.from_numpy(tensor.copy()).view(getattr(torch, tensor.dtype))
