"""Steps in JAX: the update and its application under ``jit``, parameters and state donated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as xp
import optax  # type: ignore[import-untyped]  # ships no types

import samestep.jax
from samestep.benchmarks.models import Shape

from . import Framework, Step, block, lengths

__all__ = ["FRAMEWORK"]


class JAX(Framework):
    """JAX, on its default device."""

    adapter = samestep.jax
    device = "cpu" if jax.default_backend() == "cpu" else "gpu"
    compiles = True

    def step(self, make: Callable[[Any], Any], shapes: Sequence[Shape], dtype: str) -> Step:
        """The update of an optax transformation, applied."""
        optimizer = make(optax)
        params, grads = (
            [_repeated(block(seed), shape, dtype) for shape in shapes] for seed in (0, 1)
        )
        # A copy, since a buffer that is both parameter and state cannot be donated twice.
        kept = params, jax.tree.map(xp.copy, optimizer.init(params))

        def one(params: Any, state: Any, grads: Any) -> Any:
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        return _Compiled(jax.jit(one, donate_argnums=(0, 1)), kept, grads)

    def held(self) -> int:
        """Bytes that live arrays take, as the device says."""
        return int(self._told().get("bytes_in_use", 0))

    def room(self) -> int | None:
        """Bytes that are free of what JAX may take (``XLA_PYTHON_CLIENT_MEM_FRACTION``)."""
        limit = self._told().get("bytes_limit")
        return None if limit is None else int(limit) - self.held()

    def peak(self, step: Step) -> int | None:
        """Take a step; what XLA says that it takes, and what else there is."""
        held = self.held()
        step()
        own = step.bytes() if held and isinstance(step, _Compiled) else None
        return None if own is None else held + own

    def _told(self) -> dict[str, Any]:
        return jax.devices()[0].memory_stats() or {} if self.device == "gpu" else {}

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


class _Compiled:
    """A compiled step, which keeps parameters and state for the next."""

    def __init__(self, compiled: Any, kept: Any, grads: Any) -> None:
        self.compiled, self.kept, self.grads = compiled, kept, grads

    def __call__(self) -> None:
        self.kept = _finished(self.compiled(*self.kept, self.grads))

    def bytes(self) -> int | None:
        """Bytes of temporaries, and of results that overwrite no argument."""
        found = self.compiled.lower(*self.kept, self.grads).compile().memory_analysis()
        if found is None:
            return None
        new = found.output_size_in_bytes - found.alias_size_in_bytes
        return int(found.temp_size_in_bytes + max(new, 0))


@partial(jax.jit, static_argnums=(1, 2))
def _repeated(block: Any, shape: Shape, dtype: str) -> Any:
    """A new array of that shape, filled with the block again and again."""
    size = math.prod(shape)
    return xp.tile(block, -(-size // block.size))[:size].astype(dtype).reshape(shape)


def _finished(tree: Any) -> Any:
    return jax.block_until_ready(tree)  # type: ignore[no-untyped-call]


FRAMEWORK = JAX
