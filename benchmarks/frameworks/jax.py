"""Steps in JAX: the update and its application under ``jit``, parameters and state donated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as xp
import optax  # type: ignore[import-untyped]  # ships no types

import samestep.jax
from samestep.benchmarks.models import Shape

from . import Framework, Step, arrays, lengths

__all__ = ["FRAMEWORK"]


class JAX(Framework):
    """JAX, on its default device."""

    adapter = samestep.jax
    device = "cpu" if jax.default_backend() == "cpu" else "gpu"
    compiles = True

    def step(self, make: Callable[[Any], Any], shapes: Sequence[Shape], dtype: str) -> Step:
        """The update of an optax transformation, applied."""
        optimizer = make(optax)
        params, grads = ([xp.array(a, dtype) for a in arrays(shapes, seed)] for seed in (0, 1))
        # A copy, since a buffer that is both parameter and state cannot be donated twice.
        kept = params, jax.tree.map(xp.copy, optimizer.init(params))

        def one(params: Any, state: Any, grads: Any) -> Any:
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        compiled = jax.jit(one, donate_argnums=(0, 1))

        def step() -> None:
            nonlocal kept
            kept = _finished(compiled(*kept, grads))

        return step

    def copy(self, size: int) -> Step:
        """A compiled copy into donated arrays."""
        parts = lengths(size)
        source, target = ({part: xp.ones(part) for part in parts} for _ in range(2))
        copied = jax.jit(lambda old, new: xp.copy(new), donate_argnums=0, keep_unused=True)

        def copy() -> None:
            for part in parts:
                target[part] = copied(target[part], source[part])
            _finished(target)

        return copy


def _finished(tree: Any) -> Any:
    return jax.block_until_ready(tree)  # type: ignore[no-untyped-call]


FRAMEWORK = JAX
