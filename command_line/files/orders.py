"""The order of a model's parameters, by which ``torch.optim`` finds their state."""

# ruff: noqa: PLC0415  (torch is imported only for a file of its own)

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samestep.checkpoints import Checkpoint, CheckpointError, read

from .descriptions import few
from .kinds import kind_of

__all__ = ["NAMES", "ordered"]

NAMES = 8
"""Names that are printed of a long list."""
HELD = ("model", "model_state_dict", "state_dict")
"""Names under which training scripts save the model's state dict."""
LARGEST = 1 << 26
"""Bytes that a list of names may have."""


def ordered(saved: Checkpoint, path: Path) -> Checkpoint:
    """The checkpoint with its parameters in the order that a file says.

    The file is a model's state dict of ``torch.save``, which may have more than the parameters, a
    checkpoint of layout torch, or a list of exactly these names, in JSON or one a line.

    Raises:
        CheckpointError: the file is none of these, or is about other parameters.
        OSError: the file cannot be read.
    """
    kind = kind_of(path)
    try:
        if kind.name == "samestep":
            names = _of_checkpoint(path, saved)
        elif kind.name == "torch":
            names = _of_model(path, saved)
        elif kind.words.startswith(("no file", "a text", "a JSON text")):
            names = _listed(path, saved)
        else:
            raise CheckpointError(f"this is {kind.words}; it does not tell the order")
        missing = [name for name in saved.parameters if name not in {*names}]
        if missing:
            raise CheckpointError(
                f"it does not have {few(missing, NAMES)}; its names are like {few(names)}, and a "
                "map can rename the checkpoint's"
            )
    except CheckpointError as error:
        words = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(f"--order {path}: {words}") from None
    order = [name for name in names if name in saved.parameters]
    return replace(saved, parameters={name: saved.parameters[name] for name in order})


def _of_checkpoint(path: Path, saved: Checkpoint) -> Sequence[str]:
    other = read(path, lazily=True)
    if other.layout != "torch":
        raise CheckpointError(
            f"this checkpoint is of layout {other.layout}; only one of layout torch has the order "
            "of an optimizer of torch"
        )
    _refuse_shapes(saved, {name: own.shape for name, own in other.parameters.items()})
    return [*other.parameters]


def _of_model(path: Path, saved: Checkpoint) -> Sequence[str]:
    from . import torch_files

    content = torch_files.loaded(path)
    shapes = _shapes(content)
    for name in HELD if isinstance(content, Mapping) else ():
        shapes = shapes or _shapes(content.get(name))
    if not shapes:
        raise CheckpointError(f"it has {torch_files.described(content)}; no model's state dict")
    _refuse_shapes(saved, shapes)
    return [*shapes]


def _shapes(content: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a model's state dict, which may have other entries too."""
    import torch

    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return {}
    return {name: tuple(v.shape) for name, v in content.items() if torch.is_tensor(v)}


def _refuse_shapes(saved: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, own in saved.parameters.items():
        if shapes.get(name, own.shape) != own.shape:
            raise CheckpointError(
                f"{name!r} has shape {shapes[name]} there and {own.shape} in the checkpoint, whose "
                f"layout is that of {saved.layout}; a map can transpose it"
            )


def _listed(path: Path, saved: Checkpoint) -> Sequence[str]:
    if path.stat().st_size > LARGEST:
        raise CheckpointError(f"a list of names has at most {LARGEST:,} bytes")
    try:
        text = path.read_text(encoding="utf-8").strip()
        names = json.loads(text) if text[:1] in ("[", "{") else text.splitlines()
    except (ValueError, RecursionError):
        raise CheckpointError("this is neither a JSON list of names nor a text of them") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError('this is no list of names, as ["fc.weight", "fc.bias"] is')
    names = [name.strip() for name in names if name.strip()]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise CheckpointError(f"it has {few(twice, NAMES)} more than once")
    others = [name for name in names if name not in saved.parameters]
    if others:
        raise CheckpointError(
            f"it names {few(others, NAMES)}, but the checkpoint has no state for them; it has "
            f"state for {few([*saved.parameters], NAMES)}"
        )
    return names
