"""The state of an optimizer in a file, to be resumed exactly, in any framework.

    samestep.save("adan.safetensors", optimizer)
    samestep.load("adan.safetensors", optimizer)

The file has no framework's terms in it; see ``file`` for the format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from samestep.rule import Rule, State

from .file import FORMAT_VERSION, Progress, read, write
from .maps import Map
from .processes import Processes, together
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
    """The current state of an optimizer; later steps do not change it.

    Args:
        optimizer: an optimizer of ``samestep.torch`` or ``samestep.mlx``, a transformation of
            ``samestep.jax``, or a rule.
        params: the parameters, which become part of the checkpoint. For an optimizer of torch or
            MLX they are optional: a model (``torch.nn.Module``, ``mlx.nn.Module``) or named
                tensors.
        state: the state, if the optimizer does not hold it: in JAX, and for a rule by itself. It
            may be a state of optax. ``optimizer`` is then the rule that computes the same, or a
            dict of rules by label for ``optax.partition``.

    Raises:
        TypeError: ``optimizer`` is not an optimizer, or an argument that it needs is missing.
    """
    return _taken(optimizer, params, state).copied()


def _taken(optimizer: Any, params: Any, state: Any) -> Checkpoint:
    """The checkpoint without copies where possible; valid until the next step."""
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
    """Give an optimizer the state in a checkpoint, completely or not at all.

    Args:
        optimizer: as for ``checkpoint``.
        saved: the checkpoint, of this optimizer's rule.
        params: the parameters, which the parameters in the checkpoint replace: in JAX and NumPy a
            tree, else a model. JAX and NumPy need the tree for the structure of the state.

    Returns:
        In JAX and NumPy the new ``(params, state)``. Else ``None``: the change is in place.

    Raises:
        CheckpointError: the checkpoint is of other parameters or of another rule. Nothing has been
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
    """Write the state of an optimizer to a safetensors file, replacing an existing file.

        samestep.save(path, optimizer)                # torch, MLX
        samestep.save(path, optimizer, model)         # the parameters too
        samestep.save(path, optimizer, params, state) # JAX, or a rule by itself

    If the process is killed at any time, the file is the old file or the new file.

    Args:
        path: path of the file; its folder must exist.
        optimizer: as for ``checkpoint``; or a ``Checkpoint``.
        params: as for ``checkpoint``.
        state: as for ``checkpoint``.
        max_shard_bytes: if given, the largest size of a file in bytes. Arrays are spread over
            several files, and ``path`` is an index of them.
        progress: called with the number of bytes written and the number of all bytes.

    Raises:
        TypeError: ``optimizer`` is not an optimizer, or an argument that it needs is missing.
        OSError: the file cannot be written.
    """
    processes = _processes(optimizer, params)
    with together(processes):
        taken = optimizer
        if not isinstance(optimizer, Checkpoint):
            taken = _taken(optimizer, params, state)
        more: Any = {"max_shard_bytes": max_shard_bytes, "progress": progress}
        write(path, taken, processes=processes, **more)


def load(
    path: Path,
    optimizer: Any,
    params: Any = None,
    *,
    map: Map | Path | None = None,  # noqa: A002  (the name of this argument everywhere)
    allow_nan: bool = False,
    progress: Progress | None = None,
) -> Any:
    """Give an optimizer the state in a file that ``save`` has written, in any framework.

        samestep.load(path, optimizer)                          # torch, MLX: in place
        samestep.load(path, optimizer, model)                   # the parameters too
        params, state = samestep.load(path, optimizer, params)  # JAX, or a rule by itself

    The state keeps its dtypes and its step counts. torch and MLX also take the hyperparameters of
    the file, but for those that a schedule, a mask or a group sets. A warning names the
    hyperparameters that differ from the file.

    Args:
        path: path of the file.
        optimizer: as for ``checkpoint``.
        params: as for ``restore``.
        map: a map of the checkpoint's names and shapes to the names and shapes of this model, or
            the path of its TOML file; see ``Map``.
        allow_nan: whether state and parameters may hold NaN.
        progress: called with the number of bytes checked and the number of all bytes.

    Returns:
        As ``restore``.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file is damaged or is of another optimizer. Nothing has been changed.
        ValueError: the file of the map is not a map.
    """
    processes, after = _processes(optimizer, params), None
    try:
        with together(processes):
            chosen = map if map is None or isinstance(map, Map) else Map.read(map)
            checks: Any = {"allow_nan": allow_nan, "progress": progress, "processes": processes}
            saved, after = read(path, lazily=True, **checks), ""
            if chosen is not None:
                saved, report = chosen.apply(saved)
                after = f"; names and shapes are those after the map, of which\n{report}"
            return restore(optimizer, saved, params)
    except CheckpointError as error:
        if after is None:  # the error names the file
            raise
        raise CheckpointError(f"{os.fspath(path)}: {error}{after}") from None


def _processes(optimizer: Any, params: Any) -> Processes | None:
    """Those who have pieces of the arrays of an optimizer."""
    optimizer = _inside(optimizer)
    if isinstance(optimizer, (Checkpoint, Rule, Mapping)):
        return None
    if (library := _library_of(optimizer)) is not None:
        return library.processes(optimizer, params) if hasattr(library, "processes") else None
    return optimizer._processes(params) if hasattr(optimizer, "_processes") else None


def _inside(optimizer: Any) -> Any:
    """The optimizer inside a wrapper of accelerate or Lightning; else ``optimizer`` itself."""
    inner = None if isinstance(optimizer, Rule) else getattr(optimizer, "optimizer", None)
    return optimizer if inner is None else inner


def _library_of(optimizer: Any) -> Any:
    """The module that reads a library's own optimizer; ``None`` for an optimizer of samestep."""
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
    """The module that reads the optimizers of a package; ``None`` if there is none."""
    found = entry_points(group="samestep.natives", name=package)
    return next(iter(found)).load() if found else None


def _packages(state: Any) -> Iterator[str]:
    """The packages of a state's classes; a ``State`` inside another state counts as optax's."""
    inside = isinstance(state, (tuple, list, Mapping)) and not isinstance(state, State)
    for child in (state.values() if isinstance(state, Mapping) else state) if inside else ():
        yield from ("optax",) if isinstance(child, State) else _packages(child)
    yield type(state).__module__.partition(".")[0]
