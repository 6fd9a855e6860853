"""The state of parameters whose gradients may be missing inside a loop of JAX."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax
import jax.numpy as xp
from samestep.counts import Histories, placed, split
from samestep.rule import Rule, State

from .trees import dotted, flattened, matched

__all__ = ["prepared", "warn_in_loop"]


def prepared(rule: Rule, state: Any, params: Any, *grads: Any) -> Any:
    """A state that keeps its structure in steps with these gradients missing.

    A parameter without a gradient misses a call, and the state then has a count of what it has
    missed. Where the first such call is inside ``jax.lax.scan`` or another loop, the count must be
    in the state before.

        state = samestep.jax.prepared(optimizer.rule, state, params, grads)

    Args:
        rule: the rule of the transformation.
        state: a state of samestep, or one of optax that has some in it, for these parameters.
        params: the parameters.
        grads: trees like ``params`` with ``None`` where a gradient may be missing, one for every
            set of missing gradients.

    Returns:
        The same state, in which nothing more is missed than before.
    """
    paths, structure = flattened(params)
    form = placed(rule, (dotted(path) for path, _ in paths))

    def of(state: Any) -> Any:
        if not isinstance(state, State):
            return state
        common, missed = split(state.shared)
        for tree in grads:
            found = matched(rule, "the gradients", tree, paths, structure)
            absent = [place for place, grad in enumerate(found) if grad is None]
            histories = Histories(rule, range(len(found)), absent, missed, form)
            missed = histories.later(
                xp, missed, (0, 0), (common, common), lambda count: xp.asarray(count, xp.int32)
            )
        return state._replace(shared=common | missed)

    return jax.tree.map(of, state, is_leaf=lambda node: isinstance(node, State))


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def warn_in_loop(rule: Rule) -> None:
    """Warn that the structure of a state changes, if JAX is tracing the body of a loop."""
    if any("_src/lax/control_flow" in frame.f_code.co_filename for frame in _frames()):
        warnings.warn(
            f"{rule.name}: gradients are missing that were not before, so the state gets a count "
            "of missed calls here, inside a loop or a condition of JAX, which keep the structure "
            "of what they carry; prepare the state before: "
            "samestep.jax.prepared(rule, state, params, grads), with None where a gradient may be "
            "missing",
            stacklevel=2,
        )
