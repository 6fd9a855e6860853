"""States of ``mlx.optimizers`` in safetensors, by the keys of ``tree_flatten(optimizer.state)``."""

# ruff: noqa: PLC0415  (MLX is imported only for a file of its own)

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy

from samestep.checkpoints import Checkpoint, CheckpointError
from samestep.checkpoints.correspondence import About
from samestep.checkpoints.description import made
from samestep.rule import Rule, registry

from .descriptions import native_classes
from .kinds import MLX_ENTRIES
from .nesting import nested

__all__ = ["save", "taken", "to_mlx"]


def taken(path: Path, named: str | None, said: str | None) -> tuple[Checkpoint, str]:
    """The state in a file of MLX, which names neither the optimizer nor its numbers.

    Args:
        path: of the file.
        named: a class of ``mlx.optimizers`` with its defaults, or a rule with its numbers.
        said: the optimizer that the file itself names, as files of ``convert`` do.

    Raises:
        CheckpointError: the state is not that optimizer's.
    """
    import mlx.core as mx

    from samestep.mlx import from_state

    loaded: Any = mx.load(str(path), format="safetensors")
    flat: dict[str, Any] = dict(loaded)
    if said and named and named != said:
        raise CheckpointError(
            f"the file says that it is the state of {said}, and --rule {named} says another; leave "
            "--rule out"
        )
    named = named or said
    shapes = _shapes(flat)
    if not named:
        raise CheckpointError(
            "a state of MLX does not say of which optimizer it is; it keeps "
            f"{', '.join(_entries(flat))} of a parameter. Name it, as --rule AdamW for "
            "MLX's defaults or --rule \"AdamW(like='mlx', weight_decay=0.1)\" for others"
        )
    rule = _rule(named)
    tree = nested((path, mx.zeros(s, getattr(mx, d))) for path, (s, d) in shapes.items())
    try:
        saved = from_state(flat, rule, tree)
    except TypeError as error:
        raise CheckpointError(f"--rule {named}: {error}") from None
    states = {path: replace(own, value=None) for path, own in saved.parameters.items()}
    what = f"{named} with MLX's defaults" if isinstance(rule, type) else named
    return replace(saved, parameters=states), f"MLX's state of {what}"


def _entries(flat: Mapping[str, Any]) -> list[str]:
    found = {name.rpartition(".")[2] for name in flat if "." in name}
    return sorted(found & {*MLX_ENTRIES})


def _shapes(flat: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every parameter, as its state tells them."""
    several: dict[str, dict[str, Any]] = {}
    for key, array in flat.items():
        path, _, entry = key.rpartition(".")
        start, _, rest = path.partition(".")
        place, _, inside = rest.partition(".")
        if start == "states" and place.isdigit():
            path = inside
        if path and entry in MLX_ENTRIES:
            several.setdefault(path, {})[entry] = array
    return {path: _shape(own) for path, own in several.items()}


def _shape(own: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    first = next(iter(own.values()))
    dtype = str(first.dtype).removeprefix("mlx.core.")
    if "exp_avg_sq_row" in own:
        row, col = own["exp_avg_sq_row"].shape, own["exp_avg_sq_col"].shape
        return (*row, col[-1]), dtype
    return tuple(first.shape), dtype


def _rule(text: str) -> Any:
    """The argument for ``from_state``: a class of MLX, an optimizer of MLX, or a rule.

    Raises:
        CheckpointError: the text is neither a name nor a name with numbers.
    """
    import mlx.optimizers

    try:
        call = ast.parse(text.strip(), mode="eval").body
        named = call.func if isinstance(call, ast.Call) else call
        if isinstance(call, ast.Call) and call.args:
            raise ValueError
        own = call.keywords if isinstance(call, ast.Call) else []
        values: Any = {one.arg: ast.literal_eval(one.value) for one in own}
    except (SyntaxError, ValueError):
        raise CheckpointError(
            f"--rule {text}: it must be a name, or a name with numbers as in AdamW(lr=1e-3)"
        ) from None
    library, _, name = ast.unparse(named).rpartition(".")
    theirs = library == "mlx.optimizers" or named is call
    found = getattr(mlx.optimizers, name, None) if theirs else registry.get(name)
    if not isinstance(found, type) or not issubclass(found, (Rule, mlx.optimizers.Optimizer)):
        raise CheckpointError(
            f"--rule {text}: there is no {name} {'in mlx.optimizers' if theirs else 'here'}"
        )
    try:
        return found if named is call else found(**values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"--rule {text}: {error}") from None


def to_mlx(saved: Checkpoint, named: str | None) -> tuple[dict[str, Any], str]:
    """The flattened state of an optimizer of MLX, and the call that makes this optimizer.

    Raises:
        CheckpointError: no class of ``mlx.optimizers`` computes the same.
    """
    from samestep.mlx.natives import MLX

    name, *_ = native_classes(saved, named, "mlx.optimizers", MLX)
    _refuse_wide(saved)
    return _flat_state(saved, name)


def _refuse_wide(saved: Checkpoint) -> None:
    """Refuse float64, which MLX cannot write to a safetensors file."""
    for path, own in saved.parameters.items():
        wide = [name for name, tensor in own.tensors() if tensor.dtype == "float64"]
        if wide or own.dtype == "float64":
            where = f"float64 in slot {' and '.join(wide)}" if wide else "dtype float64"
            raise CheckpointError(
                f"parameter {path!r} has {where}, which MLX cannot write to safetensors; "
                "samestep.load(path, optimizer, model) reads the checkpoint itself"
            )


def _flat_state(saved: Checkpoint, name: str) -> tuple[dict[str, Any], str]:
    import mlx.core as mx
    import mlx.optimizers
    from mlx.utils import tree_flatten

    from samestep.mlx.natives import MLX, restore

    first = next(iter(saved.parameters.values()))
    given = {n: v for n, v in made(first.rule).hypers.items() if n != "state_dtype"}
    arguments = MLX[name].arguments(given, About({}, first.dtype, first.step))
    try:
        optimizer: Any = getattr(mlx.optimizers, name)(**arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"mlx.optimizers.{name}: {error}") from None
    shapes = ((path, own.shape, own.dtype) for path, own in saved.parameters.items())
    tree = nested((path, mx.zeros(s, getattr(mx, d))) for path, s, d in shapes)
    plain = {path: replace(own, value=None) for path, own in saved.parameters.items()}
    with mx.stream(mx.cpu):
        optimizer.init(tree)
        restore(optimizer, replace(saved, parameters=plain), tree)
        flat = dict(tree_flatten(optimizer.state))
        mx.eval(flat)
    said = ", ".join(f"{n}={_said(value)}" for n, value in arguments.items())
    return flat, f"mlx.optimizers.{name}({said})"


def _said(value: Any) -> str:
    return repr(value.item() if isinstance(value, numpy.generic) else value)


def save(flat: Mapping[str, Any], optimizer: str, file: BinaryIO) -> None:
    """Write the state as safetensors."""
    import mlx.core as mx

    mx.save_safetensors(file, dict(flat), {"format": "mlx", "optimizer": optimizer})
