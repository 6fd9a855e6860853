"""What people do to an optimizer of PyTorch that it refuses, at once or at the next step."""

from __future__ import annotations

import torch

from .torch_operations import (
    Do,
    Optimizer,
    Pick,
    append,
    forget,
    group_of,
    new,
    params_of,
    picked,
    slot_of,
    states_of,
    values,
)

__all__ = ["MISTAKES"]

MISTAKES: dict[str, Do] = {}


def mistake(do: Do) -> Do:
    """Something that is refused, at once or at the step that follows."""
    MISTAKES[do.__name__] = do
    return do


@mistake
def the_same_parameter(optimizer: Optimizer, pick: Pick) -> None:
    for param in picked(optimizer, pick):
        optimizer.add_param_group({"params": [param]})


@mistake
def a_parameter_twice(optimizer: Optimizer, pick: Pick) -> None:
    for param in picked(optimizer, pick):
        append(group_of(optimizer, pick), param, "twice")


@mistake
def no_leaf(optimizer: Optimizer, pick: Pick) -> None:
    optimizer.add_param_group({"params": [new((2,), pick) * 2]})


@mistake
def no_tensor(optimizer: Optimizer, pick: Pick) -> None:
    if pick.flag:
        append(group_of(optimizer, pick), 3.0, "number")
    else:
        optimizer.add_param_group({"params": [3.0]})


@mistake
def a_set(optimizer: Optimizer, pick: Pick) -> None:
    optimizer.add_param_group({"params": {new((2,), pick)}})


@mistake
def a_state_dict_with_less(optimizer: Optimizer, pick: Pick) -> None:
    forget(optimizer)
    saved = optimizer.state_dict()
    if pick.at % 3 == 0:
        saved["param_groups"].pop()
    elif pick.at % 3 == 1:
        saved["param_groups"].append(saved["param_groups"][0])
    else:
        del saved["state" if pick.flag else "param_groups"]
    optimizer.load_state_dict(saved)


@mistake
def a_state_dict_of_another_rule(optimizer: Optimizer, pick: Pick) -> None:
    other = torch.optim.SGD(params_of(optimizer) or [torch.ones(1)], lr=0.1)
    optimizer.load_state_dict(other.state_dict())


@mistake
def a_slot_of_another_shape(optimizer: Optimizer, pick: Pick) -> None:
    for state in states_of(optimizer, pick):
        state[slot_of(optimizer, pick)] = torch.zeros(7, 3)


@mistake
def a_slot_less(optimizer: Optimizer, pick: Pick) -> None:
    for state in states_of(optimizer, pick):
        del state[slot_of(optimizer, pick)]


@mistake
def data_that_does_not_fit_the_state(optimizer: Optimizer, pick: Pick) -> None:
    for param in picked(optimizer, pick):
        if optimizer.state.get(param):
            param.grad, param.data = None, values((7, 3), pick.clock)


@mistake
def a_number_less(optimizer: Optimizer, pick: Pick) -> None:
    del group_of(optimizer, pick)["lr" if pick.flag else "eps"]


@mistake
def a_word_for_a_number(optimizer: Optimizer, pick: Pick) -> None:
    group_of(optimizer, pick)["lr"] = "fast"


@mistake
def a_number_out_of_range(optimizer: Optimizer, pick: Pick) -> None:
    group_of(optimizer, pick)["lr"] = -1.0


@mistake
def another_dtype(optimizer: Optimizer, pick: Pick) -> None:
    for param in picked(optimizer, pick):
        param.grad, param.data = None, param.data.double()


@mistake
def an_option_that_has_no_state(optimizer: Optimizer, pick: Pick) -> None:
    group_of(optimizer, pick)["amsgrad"] = True


@mistake
def a_sparse_gradient(optimizer: Optimizer, pick: Pick) -> None:
    for param in picked(optimizer, pick):
        param.grad = torch.ones(param.shape).to_sparse()
    optimizer.step()


@mistake
def a_closure_that_fails(optimizer: Optimizer, pick: Pick) -> None:
    optimizer.step(lambda: 1 / 0)
