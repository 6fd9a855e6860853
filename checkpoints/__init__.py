"""The state of an optimizer in a file, to be resumed exactly, in any framework.

    samestep.save("adan.safetensors", optimizer)
    samestep.load("adan.safetensors", optimizer)

What is written says nothing of a framework; see ``file`` for the format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from samestep.rule import Rule, State

from .file import FORMAT_VERSION, Progress, read, write
from .maps import Map
from .state import Checkpoint, CheckpointError, ParameterState
from .tensor import Tensor
from .trees import from_tree, into_tree

__all__ = [
    "FORMAT_VERSION",
    "Checkpoint",
    "CheckpointError",
    "Map",
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
    """The state of an optimizer as it is now, which later steps do not change.

    Args:
        optimizer: an optimizer of ``samestep.torch`` or ``samestep.mlx``, a transformation of
            ``samestep.jax``, or a rule.
        params: the parameters, which become part of it. An optimizer of torch or MLX needs none
            for its state; to it a model (``torch.nn.Module``, ``mlx.nn.Module``) or named tensors.
        state: the state, where the optimizer does not hold it: JAX, and rules by themselves. It
            may be one of optax's; the rule is then what computes the same, or a dict of rules by
            label for ``optax.partition``.

    Raises:
        TypeError: this is no optimizer, or what it needs is not given.
    """
    return _taken(optimizer, params, state).copied()


def _taken(optimizer: Any, params: Any, state: Any) -> Checkpoint:
    """The same without copies where possible, to be used before the next step."""
    optimizer = _inside(optimizer)
    if isinstance(optimizer, (Rule, Mapping)) and "optax" in _packages(state):
        found: Checkpoint = _native("optax").checkpoint(optimizer, params, state)
        return found
    if isinstance(optimizer, Rule):
        if not isinstance(state, State):
            raise TypeError(
                f"{optimizer.name}: the state is {type(state).__name__}; give the parameters and "
                "the State that update() returned"
            )
        return from_tree(optimizer, params, state)
    given = [part for part in (params, state) if part is not None]
    taken: Checkpoint
    if (library := _library_of(optimizer)) is not None:
        taken = library.checkpoint(optimizer, *given)
    else:
        taken = optimizer.checkpoint(*given)
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
    optimizer = _inside(optimizer)
    if isinstance(optimizer, Rule):
        if params is None:
            raise TypeError(
                f"{optimizer.name}: give the parameters, for the structure of the state"
            )
        return into_tree(optimizer, saved, params)
    given = [] if params is None else [params]
    if (library := _library_of(optimizer)) is not None:
        return library.restore(optimizer, saved, *given)
    return optimizer.restore(saved, *given)


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
        taken = _taken(optimizer, params, state)
    write(path, taken, max_shard_bytes=max_shard_bytes, progress=progress)


def load(
    path: Path,
    optimizer: Any,
    params: Any = None,
    *,
    map: Map | Path | None = None,  # noqa: A002  (what it is called everywhere)
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
        map: what makes the checkpoint's names and shapes those of this model, or a TOML file of it;
            see ``Map``.
        allow_nan: whether state and parameters may hold NaN.
        progress: called with the bytes checked and all there are.

    Returns:
        As ``restore``.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or not of this optimizer; nothing has been changed.
        ValueError: the file of the map is not one.
    """
    chosen = map if map is None or isinstance(map, Map) else Map.read(map)
    saved, after = read(path, allow_nan=allow_nan, lazily=True, progress=progress), ""
    try:
        if chosen is not None:
            saved, report = chosen.apply(saved)
            after = f"; names and shapes are those after the map, of which\n{report}"
        return restore(optimizer, saved, params)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}{after}") from None


def _inside(optimizer: Any) -> Any:
    """The optimizer that accelerate or Lightning has put its own around."""
    inner = None if isinstance(optimizer, Rule) else getattr(optimizer, "optimizer", None)
    return optimizer if inner is None else inner


def _library_of(optimizer: Any) -> Any:
    """The module that knows a library's own optimizers; ``None`` for one of samestep's."""
    cls = type(optimizer)
    if hasattr(cls, "checkpoint") and hasattr(cls, "restore"):
        return None
    for base in cls.__mro__:
        if (library := _native(base.__module__.partition(".")[0])) is not None:
            return library
    raise TypeError(
        f"{cls.__module__}.{cls.__qualname__} is no optimizer of samestep, nor a rule, nor a "
        "native optimizer whose state it knows"
    )


def _native(package: str) -> Any:
    """The module that knows what is a library's own; ``None`` where there is none."""
    found = entry_points(group="samestep.natives", name=package)
    return next(iter(found)).load() if found else None


def _packages(state: Any) -> Iterator[str]:
    """The packages that a state is of; a ``State`` within another is one among optax's."""
    inside = isinstance(state, (tuple, list, Mapping)) and not isinstance(state, State)
    for child in (state.values() if isinstance(state, Mapping) else state) if inside else ():
        yield from ("optax",) if isinstance(child, State) else _packages(child)
    yield type(state).__module__.partition(".")[0]
