"""The state of an optimizer in a file, to be resumed exactly, in any framework.

    samestep.save("adan.safetensors", optimizer)
    samestep.load("adan.safetensors", optimizer)

What is written says nothing of a framework; see ``file`` for the format.
"""

from __future__ import annotations

import os
from typing import Any

import numpy

from ..rule import Rule, State
from .checkpoint import Checkpoint, CheckpointError, ParameterState
from .contents import arrays
from .file import FORMAT_VERSION, Progress, read, write
from .tensor import Tensor
from .trees import from_tree, into_tree

__all__ = [
    "FORMAT_VERSION",
    "Checkpoint",
    "CheckpointError",
    "ParameterState",
    "Tensor",
    "checkpoint",
    "load",
    "read",
    "restore",
    "save",
    "write",
]

Path = str | os.PathLike[str]


def checkpoint(optimizer: Any, params: Any = None, state: Any = None) -> Checkpoint:
    """The state of an optimizer as a ``Checkpoint``, without copies where possible.

    Args:
        optimizer: an optimizer of ``samestep.torch`` or ``samestep.mlx``, a transformation of
            ``samestep.jax``, or a rule.
        params: the parameters, which become part of it. An optimizer of torch or MLX needs none
            for its state; to it a model (``torch.nn.Module``, ``mlx.nn.Module``) or named tensors.
        state: the state, where the optimizer does not hold it: JAX, and rules by themselves.
    """
    if isinstance(optimizer, Rule):
        if not isinstance(state, State):
            raise TypeError(
                f"{optimizer.name}: the state is {type(state).__name__}; give the parameters and "
                "the State that update() returned"
            )
        return from_tree(optimizer, params, state)
    _refuse_unknown(optimizer)
    taken: Checkpoint = optimizer.checkpoint(*(p for p in (params, state) if p is not None))
    return taken


def restore(optimizer: Any, saved: Checkpoint, params: Any = None) -> Any:
    """Give an optimizer the state in a checkpoint, all of it or none.

    Args:
        optimizer: as for ``checkpoint``.
        saved: the checkpoint, of this optimizer's rule.
        params: the parameters, to be overwritten by those in the checkpoint: in JAX and NumPy a
            tree, else a model. JAX and NumPy need it for the structure.

    Returns:
        In JAX and NumPy the new ``(params, state)``; else ``None``, as it is done in place.

    Raises:
        CheckpointError: the checkpoint is not of these parameters and this rule; nothing has been
            changed.
    """
    if isinstance(optimizer, Rule):
        return into_tree(optimizer, saved, params)
    _refuse_unknown(optimizer)
    return optimizer.restore(saved, *(part for part in (params,) if part is not None))


def save(
    path: Path,
    optimizer: Any,
    params: Any = None,
    state: Any = None,
    *,
    max_shard_bytes: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the state of an optimizer to a safetensors file, in the place of what was there.

        samestep.save(path, optimizer)                # torch, MLX
        samestep.save(path, optimizer, model)         # the parameters too
        samestep.save(path, optimizer, params, state) # JAX, or a rule by itself

    Whenever the process is killed, the file is the old one or the new one.

    Args:
        path: of the file; its folder must exist.
        optimizer: as for ``checkpoint``; or a ``Checkpoint``.
        params: as for ``checkpoint``.
        state: as for ``checkpoint``.
        max_shard_bytes: if given, arrays are spread over files of at most so many bytes, and
            ``path`` is an index of them.
        progress: called with the bytes written and all there are.

    Raises:
        TypeError: this is no optimizer of samestep, or what it needs is not given.
        OSError: it cannot be written.
    """
    taken = optimizer
    if not isinstance(optimizer, Checkpoint):
        taken = checkpoint(optimizer, params, state)
    write(path, taken, max_shard_bytes=max_shard_bytes, progress=progress)


def load(
    path: Path,
    optimizer: Any,
    params: Any = None,
    *,
    allow_nan: bool = False,
    progress: Progress | None = None,
) -> Any:
    """Give an optimizer the state in a file that ``save`` has written, in whatever framework.

        samestep.load(path, optimizer)                          # torch, MLX: in place
        samestep.load(path, optimizer, model)                   # the parameters too
        params, state = samestep.load(path, optimizer, params)  # JAX, or a rule by itself

    State keeps its dtypes and its step counts. torch takes over the hyperparameters as well, as
    its ``load_state_dict`` does, and MLX the learning rate; elsewhere a warning says which are
    others now.

    Args:
        path: of the file.
        optimizer: as for ``checkpoint``.
        params: as for ``restore``.
        allow_nan: whether state and parameters may hold NaN.
        progress: called with the bytes checked and all there are.

    Returns:
        As ``restore``.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or not of this optimizer; nothing has been changed.
    """
    saved = read(path, progress=progress)
    try:
        if not allow_nan:
            _refuse_nan(saved)
        return restore(optimizer, saved, params)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from None


def _refuse_unknown(optimizer: Any) -> None:
    if not (hasattr(optimizer, "checkpoint") and hasattr(optimizer, "restore")):
        raise TypeError(
            f"{type(optimizer).__module__}.{type(optimizer).__qualname__} is no optimizer of "
            "samestep, nor a rule"
        )


_PIECE = 1 << 20
"""Elements that are looked at together, so that memory stays bounded."""


def _refuse_nan(saved: Checkpoint) -> None:
    for key, tensor in arrays(saved).items():
        flat = tensor.bits.reshape(-1)
        pieces = range(0, flat.size, _PIECE)
        found = sum(
            int(numpy.isnan(tensor.reshaped(flat[at : at + _PIECE]).values()).sum())
            for at in pieces
        )
        if found:
            raise CheckpointError(
                f"{key}: {found} of {flat.size} elements are NaN; allow_nan=True takes them"
            )
