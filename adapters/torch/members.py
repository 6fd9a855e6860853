"""The parameters that a torch optimizer steps: checks of them, and their state."""

from __future__ import annotations

import numbers
from itertools import chain
from typing import TYPE_CHECKING, Any

import array_api_compat.torch as xp

import torch
from samestep import step as stepping
from samestep.arrays import dtype_name, parts
from samestep.checks import check_shared, refuse_lacking
from samestep.kept import rule_of
from samestep.rule import Rule, registry
from samestep.step import FLOATING
from torch.nn.parameter import is_lazy

from . import kernels
from .counting import counts_in, missed_so_far, withheld_in
from .entries import entries_of, slots_in
from .kernels import real, real_gradient
from .memory import overlaps_itself
from .modes import TRAINED, refuse_evaluating
from .pieces import check_gradient, is_spread, piece
from .placement import begun, check_param, check_slot
from .plan import Member

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = [
    "check",
    "count_of",
    "is_floating",
    "is_ours",
    "members_of",
    "shared_of",
    "slots_of",
    "state_of",
]

LACKS = {"mps": ("float64",)}
"""The dtypes that a kind of device lacks."""


def _slots_of_all() -> set[str]:
    """The names of the slots of all rules."""
    return {name for rule in registry.values() for name in rule._slots}


def is_ours(rule: Rule, state: dict[str, Any]) -> bool:
    """Whether the state of a parameter has a slot of any rule."""
    return not {"step", *rule.slots(), *_slots_of_all()}.isdisjoint(slots_in(state))


def is_floating(tensor: torch.Tensor) -> bool:
    """Whether a tensor has a dtype that a rule can compute with."""
    return dtype_name(tensor.dtype) in FLOATING


def members_of(
    optimizer: RuleOptimizer, rules: list[Rule]
) -> tuple[list[Member], list[torch.Tensor]]:
    """The parameters that have a gradient, checked, with their state; new where there is none.

    No state is stored in the optimizer here, so that a step that is refused adds none.

    Args:
        optimizer: the optimizer.
        rules: the rule of each parameter group.

    Returns:
        The parameters, and their gradients.
    """
    found, grads = [], []
    for place, (group, rule) in enumerate(zip(optimizer.param_groups, rules, strict=True)):
        for name, param in optimizer._named(group):
            if (grad := param.grad) is None:
                continue
            own = check(rule, name, param, grad, optimizer.differentiable)
            state = state_of(optimizer, own, param)
            if TRAINED in state:  # of a group that has come since the model is evaluated
                refuse_evaluating(optimizer)
            found.append((place, own, name, param, state))
            grads.append(grad)
    withheld = [withheld_in(rules[place], state) for place, *_, state in found]
    steps = [state.get("step") for *_, state in found]
    read = iter(counts_in([*steps, *chain.from_iterable(map(dict.values, withheld))]))
    counts, members = [next(read) for _ in steps], []
    for (place, own, name, param, state), count, names in zip(found, counts, withheld, strict=True):
        _refuse_inference(rules[place], name, param, state)
        slots = slots_of(own, name, param, state, count)
        gone = tuple((by, number) for by in names if (number := next(read)))
        begins = bool(count) and not slots_in(optimizer.state[param]).keys() >= slots.keys()
        members.append(Member(place, name, param, state, slots, count or 0, gone, begins))
    return members, grads


def check(
    rule: Rule,
    name: str,
    param: torch.Tensor,
    grad: torch.Tensor | None = None,
    differentiable: bool = False,
) -> Rule:
    """The rule of a parameter; refuses one, or a gradient for it, that the rule cannot take."""
    who = f"{rule.name}: parameter {name!r}"
    if is_lazy(param):
        raise ValueError(f"{who} of a lazy module has no shape yet; run the model once before")
    if param.device.type in LACKS:
        refuse_lacking(rule, name, param.dtype, param.device, LACKS[param.device.type])
    if is_spread(param):
        check_param(who, param)
    if param.layout is not torch.strided:
        raise TypeError(f"{who} has layout {param.layout}; allowed: dense (torch.strided)")
    if param.is_conj() or param.is_neg():
        raise ValueError(
            f"{who} is a view that conjugates or negates, into which its values cannot be written; "
            "give its values (param.resolve_conj().resolve_neg()) or what it is a view of"
        )
    if overlaps_itself(param):
        raise ValueError(
            f"{who} has shape {tuple(param.shape)} and strides {param.stride()}, several "
            "elements in one place; every element must have its own (param.clone())"
        )
    if grad is not None and grad.layout is not torch.strided:
        raise TypeError(
            f"{who} has a gradient of layout {grad.layout}; allowed: dense (torch.strided)"
        )
    if grad is not None:
        check_gradient(who, param, grad)
    if grad is not None and grad.is_complex() != param.is_complex():
        raise TypeError(f"{who} has dtype {param.dtype}, its gradient {grad.dtype}")
    if param.is_complex() and rule.sees_axes:
        raise TypeError(
            f"{who} has dtype {param.dtype}; {rule.name} looks at the axes of real parameters "
            "(give it to an element rule, such as AdamW)"
        )
    if differentiable and param.is_leaf and param.requires_grad:
        raise ValueError(
            f"{who} is a leaf that requires a gradient; a step to differentiate through is "
            "taken on the result of an operation, such as param.clone()"
        )
    grad = None if grad is None else real_gradient(grad)
    own = rule_of(rule, name, param)
    stepping.check(own, xp, name, real(param), grad)
    return own


def _refuse_inference(rule: Rule, name: str, param: torch.Tensor, state: dict[str, Any]) -> None:
    """Refuse tensors that torch lets nobody change outside of the mode that made them."""
    if torch.is_inference_mode_enabled():
        return
    held = {f"parameter {name!r}": param}
    held |= {f"{entry} in the state of {name!r}": value for entry, value in state.items()}
    for what, value in held.items():
        if isinstance(value, torch.Tensor) and value.is_inference():
            raise ValueError(
                f"{rule.name}: {what} was made under torch.inference_mode(), outside of which "
                "torch does not change it; step under torch.no_grad(). State is made anew by "
                "optimizer.load_state_dict(optimizer.state_dict()), a parameter by its clone()"
            )


def state_of(optimizer: RuleOptimizer, rule: Rule, param: torch.Tensor) -> dict[str, Any]:
    """The state of a parameter; a new one, not yet stored, where there is none."""
    state = optimizer.state.get(param, {})
    if not isinstance(state, dict):
        raise TypeError(
            f"{rule.name}: the state of a parameter of shape {tuple(param.shape)} is {state!r}; it "
            "must be a dict of tensors by slot (deleted, it begins anew)"
        )
    if any(isinstance(value, (tuple, list)) for value in state.values()):
        state = entries_of(state)  # as they were before each entry was one tensor
    device = param.device if optimizer.capturable else "cpu"
    if "step" in state and not isinstance(state["step"], torch.Tensor):
        state = {**state, "step": count_of(state["step"], device)}
    if slots_in(state).keys() >= {"step", *rule.slots()}:
        return state
    if optimizer.differentiable:
        first = stepping.init_slots(rule, kernels.Differentiable(), real(param))
    elif is_spread(param):
        first = begun(rule, f"{rule.name}: a parameter", param)
    else:
        first = stepping.init_slots(rule, xp, real(param.detach()))
    fresh = {"step": torch.zeros((), dtype=torch.int64, device=device), **first}
    conditional = {n for n, item in rule.slots().items() if item.only_if is not None}
    if is_ours(rule, state) and not fresh.keys() - slots_in(state) <= conditional:
        return state  # of another rule; slots_of says so
    return {**entries_of(fresh), **missed_so_far(optimizer), **state}


def slots_of(
    rule: Rule, name: str, param: torch.Tensor, state: dict[str, Any], count: int | None
) -> dict[str, Any]:
    """The slots in a state that the rule keeps now, checked. ``count``: the step of the state.

    A slot that a change of momentum has ended stays in the state. An entry that is no slot of any
    rule belongs to the code that wrote it, and stays too.

    Raises:
        ValueError: the state is that of another rule or parameter.
    """
    elsewhere = getattr(state.get("step"), "is_meta", False) and not param.is_meta
    if count is None or elsewhere:
        raise ValueError(
            f"{rule.name}: the state of {name!r} has step {state.get('step')!r}; "
            "it must be a 0-d tensor of a whole number >= 0"
        )
    ended = {n for n, item in rule.declared_slots().items() if item.only_if is not None}
    others = _slots_of_all() - ended
    slots = {n: v for n, v in slots_in(state).items() if n in rule.slots() or n in others}
    stepping.check_slots(rule, name, slots, real(param).shape)
    for slot in slots if any(map(is_spread, (param, *state.values()))) else ():
        who = f"{rule.name}: the state of {name!r} has a slot {slot}"
        check_slot(rule, who, param, slot, slots[slot])
    for slot, part in ((n, part) for n, value in slots.items() for part in parts(value)):
        tensor = isinstance(part, torch.Tensor)
        who = f"{rule.name}: the state of {name!r} has a slot {slot}"
        if not tensor or part.layout is not torch.strided or not is_floating(part):
            found = f"{part.dtype}, {part.layout}" if tensor else type(part).__name__
            raise ValueError(
                f"{who} that is {found}; it must be a dense tensor (torch.strided) of "
                f"{', '.join(stepping.FLOATING)}"
            )
        if part.is_meta and not (param.is_meta or hasattr(part, "copied")):
            raise ValueError(f"{who} that is on meta; it must be on {param.device}")
        if overlaps_itself(part):
            raise ValueError(
                f"{who} of shape {tuple(part.shape)} and strides {part.stride()}, several elements "
                "in one place; every element must have its own (slot.clone())"
            )
    return slots


def shared_of(optimizer: RuleOptimizer, params: list[torch.Tensor]) -> dict[str, Any]:
    """The state kept for all parameters together, on the device of one of them.

    It is new if none has stepped.
    """
    names = optimizer.rule.shared()
    if not names or not params:
        return {}
    first = optimizer.param_groups[0]
    held = {name: first[name] for name in names if name in first}
    if len(held) == len(names) or optimizer.steps_taken:
        check_shared(optimizer.rule, held)
        home = params[0].device
        if any((now := first[name].device) != home for name in names) and any(
            param.device == now for param in params
        ):
            home = now  # as parameters come and go
        return {name: first[name].to(home) for name in names}
    common: dict[str, Any] = {}
    values = [real(piece(param).detach()) for param in params]
    for rule in (*map(optimizer._rule_of, optimizer.param_groups), *optimizer._branches):
        common = stepping.init_shared(rule, xp, values) | common
    return common


def count_of(value: Any, device: torch.device | str) -> Any:
    """A step count as a tensor, which may be a number as it was in early versions of torch."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    counts = number and value >= 0 and value % 1 == 0
    return torch.tensor(int(value), device=device) if counts else value
