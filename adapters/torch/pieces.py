"""The pieces of DTensors: the elements that this process has, which an element rule steps.

``torch.distributed.tensor`` takes a second to import. It is imported where there is a DTensor, and
a tensor is known as one by its attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from samestep.arrays import map_parts

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = [
    "apart",
    "check_gradient",
    "is_spread",
    "kind_of",
    "piece",
    "pieces",
    "placed",
    "placements_of",
    "slots_of_piece",
]

Tensors = Sequence[torch.Tensor]


def is_spread(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a DTensor, of which this process may have a part only."""
    return hasattr(tensor, "_spec") and hasattr(tensor, "_local_tensor")


def piece(tensor: Any) -> Any:
    """The elements that this process has: of a plain tensor all."""
    return getattr(tensor, "_local_tensor", tensor)


def pieces(tensors: Sequence[Any]) -> list[Any]:
    """The piece of each tensor."""
    return [getattr(tensor, "_local_tensor", tensor) for tensor in tensors]


def slots_of_piece(slots: dict[str, Any]) -> dict[str, Any]:
    """The slots of the piece of a parameter."""
    return {name: map_parts(piece, value) for name, value in slots.items()}


def apart(optimizer: RuleOptimizer, params: Tensors, grads: Tensors) -> tuple[list[Any], list[Any]]:
    """The pieces of parameters and of their gradients.

    A gradient that is placed in another way than its parameter, such as one that has to be added up
    yet, is placed as the parameter is. That takes a collective, as it does in ``torch.optim``.

    Raises:
        TypeError, ValueError: a parameter and its gradient are not on the same mesh.
    """
    own = [getattr(param, "_spec", None) for param in params]
    theirs = [getattr(grad, "_spec", None) for grad in grads]
    other = [at for at, pair in enumerate(zip(own, theirs, strict=True)) if _differ(*pair)]
    if other:
        grads = [*grads]
        for at in other:
            name = optimizer._place_of(params[at])[1]
            who = f"{optimizer.rule.name}: parameter {name!r}"
            check_gradient(who, params[at], grads[at])
        for at in other:
            grads[at] = grads[at].redistribute(own[at].mesh, own[at].placements)  # type: ignore
    found = [g if type(g) is torch.Tensor else _waited(g) for g in pieces(grads)]
    return pieces(params), found


def _differ(one: Any, other: Any) -> bool:
    """Whether two tensors are placed in different ways; a plain tensor has no specification."""
    if one is other:
        return False
    if one is None or other is None:
        return True
    return bool(
        one.placements != other.placements
        or (one.mesh is not other.mesh and one.mesh != other.mesh)
    )


def _waited(tensor: Any) -> Any:
    """A tensor whose collective has come to its end; others are as they are."""
    return tensor.wait() if hasattr(tensor, "wait") else tensor


def check_gradient(who: str, param: Any, grad: Any) -> None:
    """Refuse a gradient that is not on the mesh of its parameter."""
    if is_spread(param) != is_spread(grad):
        kinds = [kind_of(tensor) for tensor in (param, grad)]
        raise TypeError(
            f"{who} is {kinds[0]}, its gradient {kinds[1]}; both must be DTensors of one mesh, or "
            "neither (DTensor.from_local makes one of the piece of each process, full_tensor() "
            "the whole of a DTensor)"
        )
    if is_spread(param) and param.device_mesh != grad.device_mesh:
        raise ValueError(
            f"{who} is on {param.device_mesh}, its gradient on {grad.device_mesh}; they must be on "
            "one mesh"
        )


def kind_of(tensor: Any) -> str:
    """A tensor in words."""
    if not is_spread(tensor):
        return f"a plain tensor of shape {(*tensor.shape,)}"
    return f"a DTensor placed {(*tensor.placements,)} on {tensor.device_mesh}"


def placed(param: Any, local: torch.Tensor, whole: torch.Tensor, slot: Any = None) -> Any:
    """A slot of a DTensor, from the piece of each process; a 0-d array stays as it is.

    Args:
        param: the parameter.
        local: the piece.
        whole: a tensor of the shape of the whole slot.
        slot: the slot's ``Placement``, if it is known.
    """
    from torch.distributed.tensor import DTensor  # noqa: PLC0415  (a second)

    if not local.ndim:
        return local
    return DTensor.from_local(
        local,
        param.device_mesh,
        placements_of(param, whole.shape, slot),
        run_check=False,
        shape=whole.shape,
        stride=whole.stride(),
    )


def placements_of(param: Any, shape: Sequence[int], slot: Any = None) -> tuple[Any, ...]:
    """How a slot of this shape is placed: as the parameter is.

    An axis of another length than the parameter's, such as that of a mean, is whole everywhere. So
    are all axes of a slot that has another number of them, unless its ``Placement`` says more.
    """
    ndim = param.ndim + param.is_complex()
    sizes = zip(shape, param.shape, strict=False) if len(shape) == ndim else ()
    same = [axis for axis, (one, other) in enumerate(sizes) if one == other]
    found = []
    for dim, place in enumerate(param.placements):
        own = getattr(place, "dim", None)
        cut_in = [own] if own in same else []
        if slot is not None:
            cut_in = [axis for axis, cut in enumerate(slot.cuts) if cut and dim in cut.over]
        found.append(place if cut_in == [own] else _moved(place, cut_in))
    return tuple(found)


def _moved(place: Any, cut_in: Sequence[int]) -> Any:
    """The same cut along another axis, if there is one."""
    from torch.distributed.tensor import Replicate  # noqa: PLC0415  (a second)

    if not cut_in:
        return Replicate()
    more = {"split_factor": place.split_factor} if hasattr(place, "split_factor") else {}
    return type(place)(cut_in[0], **more)
