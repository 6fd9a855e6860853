"""What people do to an optimizer of PyTorch between its steps, to torch's and to ours alike.

Everything is a function of the optimizer and of ``Pick``; one that returns an optimizer has put it
in the place of the other.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

import samestep.torch

__all__ = [
    "OPERATIONS",
    "Do",
    "Optimizer",
    "Pick",
    "append",
    "forget",
    "group_of",
    "held",
    "new",
    "params_of",
    "picked",
    "slot_of",
    "states_of",
    "values",
]

FORMS = {"m": "exp_avg", "v": "exp_avg_sq"}

Optimizer = torch.optim.Optimizer


class Pick(NamedTuple):
    """What an operation is about."""

    at: int
    flag: bool
    clock: int


Do = Callable[[Any, Pick], Any]
OPERATIONS: dict[str, Do] = {}


def operation(do: Do) -> Do:
    """Something that people do."""
    OPERATIONS[do.__name__] = do
    return do


def params_of(optimizer: Optimizer) -> list[Any]:
    """All parameters."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def picked(optimizer: Optimizer, pick: Pick) -> list[Any]:
    """One parameter, if there is any."""
    params = params_of(optimizer)
    return [params[pick.at % len(params)]] if params else []


def group_of(optimizer: Optimizer, pick: Pick) -> dict[str, Any]:
    """One group."""
    return optimizer.param_groups[pick.at % len(optimizer.param_groups)]


def slot_of(optimizer: Optimizer, pick: Pick) -> str:
    """The name of a slot in the state."""
    own = "v" if pick.flag else "m"
    return own if isinstance(optimizer, samestep.torch.RuleOptimizer) else FORMS[own]


def states_of(optimizer: Optimizer, pick: Pick) -> list[dict[str, Any]]:
    """The state of one parameter, if it has any."""
    return [own for param in picked(optimizer, pick) if (own := optimizer.state.get(param))]


def values(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Numbers that are the same for the same seed."""
    count = torch.Size(shape).numel()
    return torch.cos(torch.arange(count, dtype=torch.float32) + seed).reshape(shape)


def new(shape: tuple[int, ...], pick: Pick) -> torch.nn.Parameter:
    """A parameter."""
    return torch.nn.Parameter(values(shape, pick.clock))


def drop(group: dict[str, Any], place: int) -> Any:
    """Take a parameter out of a group."""
    if "param_names" in group:
        del group["param_names"][place]
    return group["params"].pop(place)


def append(group: dict[str, Any], param: Any, name: str) -> None:
    """Append a parameter to a group, with a name where the others have names."""
    if "param_names" in group:
        group["param_names"].append(name)
    group["params"].append(param)


@operation
def nothing(optimizer: Optimizer, pick: Pick) -> None:
    """Only a step."""


@operation
def a_closure(optimizer: Optimizer, pick: Pick) -> None:
    optimizer.step(lambda: sum(param.sum() for param in params_of(optimizer)))


@operation
def a_group_more(optimizer: Optimizer, pick: Pick) -> None:
    param = new((4,), pick)
    named = "param_names" in optimizer.param_groups[0]
    params = [(f"new{pick.clock}", param)] if named else [param]
    optimizer.add_param_group({"params": params, **({"lr": 0.3} if pick.flag else {})})


@operation
def other_defaults(optimizer: Optimizer, pick: Pick) -> None:
    optimizer.defaults["lr"] = 0.4
    a_group_more(optimizer, pick)


@operation
def a_group_less(optimizer: Optimizer, pick: Pick) -> None:
    if len(optimizer.param_groups) > 1:
        gone = optimizer.param_groups.pop(pick.at % len(optimizer.param_groups))
        for param in gone["params"] if pick.flag else ():
            optimizer.state.pop(param, None)


@operation
def groups_in_another_order(optimizer: Optimizer, pick: Pick) -> None:
    optimizer.param_groups.reverse()


@operation
def a_parameter_more(optimizer: Optimizer, pick: Pick) -> None:
    append(group_of(optimizer, pick), new((2, 2), pick), f"new{pick.clock}")


@operation
def a_parameter_less(optimizer: Optimizer, pick: Pick) -> None:
    group = group_of(optimizer, pick)
    if group["params"]:
        param = drop(group, 0)
        if pick.flag:
            optimizer.state.pop(param, None)


@operation
def a_parameter_elsewhere(optimizer: Optimizer, pick: Pick) -> None:
    group = group_of(optimizer, pick)
    if group["params"]:
        append(optimizer.param_groups[-1], drop(group, 0), f"moved{pick.clock}")


@operation
def another_parameter(optimizer: Optimizer, pick: Pick) -> None:
    """With the state of the old one, which is let go."""
    for old in picked(optimizer, pick):
        made = torch.nn.Parameter(old.detach() + 1)
        for group in optimizer.param_groups:
            group["params"][:] = [made if own is old else own for own in group["params"]]
        if old in optimizer.state:
            optimizer.state[made] = optimizer.state.pop(old)


@operation
def other_data(optimizer: Optimizer, pick: Pick) -> None:
    for param in picked(optimizer, pick):
        param.data = param.data.clone() * (2 if pick.flag else 1)


@operation
def data_with_other_strides(optimizer: Optimizer, pick: Pick) -> None:
    shared = any(one.is_shared() for one in held(optimizer))  # type: ignore[no-untyped-call]
    for param in picked(optimizer, pick):
        if param.ndim == 2 and not shared:
            param.data = param.data.t().contiguous().t()


@operation
def data_in_one_vector(optimizer: Optimizer, pick: Pick) -> None:
    params = params_of(optimizer)
    if params:
        vector = torch.cat([param.data.reshape(-1) for param in params])
        pieces = torch.split(vector, [param.numel() for param in params])
        for param, piece in zip(params, pieces, strict=True):
            param.data = piece.view(param.shape)


@operation
def data_of_another_shape(optimizer: Optimizer, pick: Pick) -> None:
    """And a new state: the vocabulary has grown."""
    for param in picked(optimizer, pick):
        param.data, param.grad = values((3, *param.shape), pick.clock), None
        optimizer.state.pop(param, None)


@operation
def another_slot(optimizer: Optimizer, pick: Pick) -> None:
    for state in states_of(optimizer, pick):
        name = slot_of(optimizer, pick)
        state[name] = state[name] * 0.5


@operation
def other_data_of_a_slot(optimizer: Optimizer, pick: Pick) -> None:
    for state in states_of(optimizer, pick):
        value = state[slot_of(optimizer, pick)]
        value.data = value.data * 0.5


@operation
def a_slot_in_place(optimizer: Optimizer, pick: Pick) -> None:
    for state in states_of(optimizer, pick):
        state[slot_of(optimizer, pick)].mul_(0.5)


@operation
def another_count(optimizer: Optimizer, pick: Pick) -> None:
    for state in states_of(optimizer, pick):
        if pick.flag:
            state["step"] = state["step"] + 3
        else:
            state["step"] += 2


@operation
def the_counts_elsewhere(optimizer: Optimizer, pick: Pick) -> None:
    for state in filter(None, optimizer.state.values()):
        state["step"].data = state["step"].data.clone()


@operation
def offloaded_and_brought_back(optimizer: Optimizer, pick: Pick) -> None:
    """To another device and back, as torch's forum has it."""
    for state in optimizer.state.values():
        for name, value in state.items():
            kept = value.clone()
            state[name] = value.to("meta")
            if pick.flag:
                value.data = kept
                state[name] = value
            else:
                state[name] = kept


@operation
def another_number(optimizer: Optimizer, pick: Pick) -> None:
    group, lr = group_of(optimizer, pick), (0.0, 0.01, 0.5)[pick.clock % 3]
    group["lr"] = torch.tensor(lr, dtype=torch.float64) if pick.flag else lr


@operation
def other_betas(optimizer: Optimizer, pick: Pick) -> None:
    group_of(optimizer, pick)["betas"] = (0.5, 0.9) if pick.flag else (0.8, 0.99)


@operation
def the_other_direction(optimizer: Optimizer, pick: Pick) -> None:
    group = group_of(optimizer, pick)
    group["maximize"] = not group["maximize"]


@operation
def a_tensor_of_a_number(optimizer: Optimizer, pick: Pick) -> None:
    group = group_of(optimizer, pick)
    if torch.is_tensor(group["lr"]):
        group["lr"].mul_(0.5)
    else:
        group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)


@operation
def an_entry_of_ones_own(optimizer: Optimizer, pick: Pick) -> None:
    group_of(optimizer, pick)["layer"] = pick.at
    for state in states_of(optimizer, pick):
        state["seen"] = torch.tensor(1.0)


@operation
def frozen_or_not(optimizer: Optimizer, pick: Pick) -> None:
    for param in picked(optimizer, pick):
        param.requires_grad_(not param.requires_grad)
        param.grad = None


@operation
def no_gradients(optimizer: Optimizer, pick: Pick) -> None:
    optimizer.zero_grad(set_to_none=pick.flag)
    optimizer.step()


@operation
def no_state(optimizer: Optimizer, pick: Pick) -> None:
    if pick.flag:
        optimizer.state.clear()
    for param in picked(optimizer, pick):
        optimizer.state.pop(param, None)


@operation
def an_empty_state(optimizer: Optimizer, pick: Pick) -> None:
    for param in picked(optimizer, pick):
        optimizer.state[param] = {}


def forget(optimizer: Optimizer) -> None:
    """Drop the state of parameters that are in no group; torch can save none with it."""
    own = [*map(id, params_of(optimizer))]
    for param in [param for param in optimizer.state if id(param) not in own]:
        del optimizer.state[param]


@operation
def saved_and_loaded(optimizer: Optimizer, pick: Pick) -> None:
    forget(optimizer)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))


@operation
def a_state_dict_of_before(optimizer: Optimizer, pick: Pick) -> None:
    """Its counts are numbers, and an option came later."""
    forget(optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        if "step" in state:
            state["step"] = int(state["step"]) if pick.flag else float(state["step"])
    for group in saved["param_groups"]:
        group.pop("written_by", None)
        del group["amsgrad"]
    optimizer.load_state_dict(saved)


@operation
def copied(optimizer: Optimizer, pick: Pick) -> Any:
    return copy.deepcopy(optimizer) if pick.flag else pickle.loads(pickle.dumps(optimizer))


@operation
def shared_memory(optimizer: Optimizer, pick: Pick) -> None:
    """Where memory is contiguous; else ours may refuse it, in words."""
    if all(one.is_contiguous() for one in held(optimizer)):
        for state in optimizer.state.values():
            for value in state.values():
                value.share_memory_()


@operation
def another_default_device(optimizer: Optimizer, pick: Pick) -> None:
    with torch.device("meta"):
        optimizer.step()


@operation
def inference(optimizer: Optimizer, pick: Pick) -> None:
    with torch.no_grad():
        optimizer.step()


@operation
def all_let_go(optimizer: Optimizer, pick: Pick) -> None:
    """All parameters and states, and there are others."""
    optimizer.state.clear()
    for group in optimizer.param_groups:
        group["params"] = [torch.nn.Parameter(p.detach().clone()) for p in group["params"]]


def held(optimizer: Optimizer) -> list[torch.Tensor]:
    """All tensors that the owner of an optimizer sees in it."""
    params = [*params_of(optimizer), *optimizer.state]
    found = [*params, *(param.grad for param in params)]
    found += [value for state in optimizer.state.values() for value in state.values()]
    found += [value for group in optimizer.param_groups for value in group.values()]
    return [one for one in found if torch.is_tensor(one)]
