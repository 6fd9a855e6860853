"""States of optax as safetensors files, whose keys are ``jax.tree_util.keystr`` of their paths."""

# ruff: noqa: PLC0415  (JAX is imported only where its states are made)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import numpy

from samestep.checkpoints import Checkpoint, CheckpointError
from samestep.checkpoints import header as headers
from samestep.checkpoints.description import made
from samestep.checkpoints.tensor import Tensor
from samestep.rule import Rule

from .kinds import OPTAX
from .nesting import nested

__all__ = ["save", "to_optax"]


class _Spoken:
    """A module whose functions return their own call as text."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> _Spoken:
        return _Spoken(f"{self._name}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> _Spoken:
        given = [repr(value) for value in args]
        given += [f"{name}={value!r}" for name, value in kwargs.items()]
        return _Spoken(f"{self._name}({', '.join(given)})")

    def __repr__(self) -> str:
        return self._name


def to_optax(saved: Checkpoint) -> tuple[dict[str, Tensor], str]:
    """The arrays of the state by their paths in it, and the transformation as Python writes it.

    Parameters are a tree of dicts, by the parts of their paths.

    Raises:
        CheckpointError: no transformation of optax is known to compute the same.
    """
    import jax
    import optax  # type: ignore[import-untyped]  # ships no types

    from samestep.jax import to_optax as into

    rule, make = _made(saved)
    wide = any(own.dtype in ("float64", "int64") for own in saved.parameters.values())
    plain = {path: replace(own, value=None) for path, own in saved.parameters.items()}
    with jax.enable_x64(wide), jax.default_device(jax.devices("cpu")[0]):
        zeros = (
            (path, jax.numpy.zeros(own.shape, getattr(jax.numpy, own.dtype)))
            for path, own in saved.parameters.items()
        )
        tree = nested(zeros)
        first = make(optax, rule.hypers).init(tree)
        state = into(replace(saved, parameters=plain), first, tree)
        leaves, _ = jax.tree_util.tree_flatten_with_path(state)
        found = {jax.tree_util.keystr(path): Tensor.of(leaf) for path, leaf in leaves}
    return found, repr(make(_Spoken("optax"), rule.hypers))


def _made(saved: Checkpoint) -> tuple[Rule, Callable[..., Any]]:
    """The rule of a checkpoint, and the function that makes optax's transformation."""
    from samestep.jax.natives import MAKERS
    from samestep.wrapper import Wrapper

    descriptions: list[Any] = []
    for own in saved.parameters.values():
        if own.rule not in descriptions:
            descriptions.append(own.rule)
    if len(descriptions) != 1:
        raise CheckpointError(
            f"its parameters have {len(descriptions)} rules or numbers; one transformation has one"
        )
    rule = made(descriptions[0])
    if isinstance(rule, Wrapper) or rule.name not in MAKERS:
        raise CheckpointError(
            f"no transformation of optax is known here that computes {rule!r}; samestep.jax."
            f"{rule.name} reads the checkpoint itself: samestep.load(path, optimizer, params)"
        )
    return rule, MAKERS[rule.name]


def save(arrays: Mapping[str, Tensor], transformation: str, file: BinaryIO) -> None:
    """Write the arrays as safetensors."""
    ordered = dict(
        sorted(arrays.items(), key=lambda pair: pair[1].bits.dtype.itemsize, reverse=True)
    )
    file.write(headers.built(ordered, {"format": OPTAX, "transformation": transformation}))
    for tensor in ordered.values():
        file.write(numpy.ascontiguousarray(tensor.bits).data)
