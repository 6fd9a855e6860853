"""Attention's weights, held back where its logits grow: the clip of MuonClip."""

from __future__ import annotations

from typing import Any

import array_api_compat

from .arrays import cast, compute_dtype

__all__ = ["qk_clip"]

Array = Any


def qk_clip(
    weight: Array,
    max_logits: Array,
    *,
    threshold: float = 100.0,
    power: float = 0.5,
    heads: int | None = None,
    axis: int = 0,
) -> Array:
    """A projection of queries or keys, smaller in the heads whose logits exceed a threshold.

        rows of head h = rows of head h * (threshold / max_logits[h])^power
                                                            where max_logits[h] > threshold

    With ``power=0.5`` for queries and for keys the logits of a head are at most the threshold
    again. In multi-head latent attention it is 0.5 for the parts without position, 1 for queries
    with rotary position, and keys with rotary position, which heads share, stay.

    Source: Kimi team, "Kimi K2: open agentic intelligence", arXiv 2507.20534, Algorithm 1.

    Args:
        weight: the projection, whose outputs along ``axis`` are those of one head after another.
        max_logits: of each head of queries, the largest logit before softmax, of a batch or more.
        threshold: the largest logit that is left alone, > 0.
        power: the share of the weight in the logit, >= 0.
        heads: the number of heads of the weight, if it is not that of ``max_logits``: of keys that
            several heads of queries share, one after another. The largest logit of these counts.
        axis: the axis of the outputs: 0 of torch and MLX, -1 of a kernel of Flax.

    Returns:
        A new array. A head whose largest logit is NaN or infinite is not changed.

    Raises:
        ValueError: the heads do not divide the outputs, or the heads of queries; a number is out
            of range.
    """
    xp = array_api_compat.array_namespace(weight, max_logits)
    if max_logits.ndim != 1:
        raise ValueError(
            f"qk_clip: max_logits has the shape {tuple(max_logits.shape)}; it must have one number "
            "for each head"
        )
    if not threshold > 0:
        raise ValueError(f"qk_clip(threshold={threshold!r}): threshold must be > 0")
    if not power >= 0:
        raise ValueError(f"qk_clip(power={power!r}): power must be >= 0")
    number = int(max_logits.shape[0]) if heads is None else heads
    place, outputs = axis % weight.ndim, int(weight.shape[axis])
    for what, many in (("outputs", outputs), ("heads of queries", int(max_logits.shape[0]))):
        if number < 1 or many % number:
            raise ValueError(
                f"qk_clip: {number} heads do not divide the {many} {what} of a weight of shape "
                f"{tuple(weight.shape)} with axis={axis}"
            )
    dtype = compute_dtype(xp, weight.dtype)
    wide = max(dtype, compute_dtype(xp, max_logits.dtype), key=lambda d: -float(xp.finfo(d).eps))
    logits = xp.max(xp.reshape(cast(xp, max_logits, wide), (number, -1)), axis=1)
    clipped = (logits > threshold) & (logits < float("inf"))
    factor = xp.where(clipped, (threshold / xp.where(clipped, logits, threshold)) ** power, 1.0)
    before, after = weight.shape[:place], weight.shape[place + 1 :]
    split = xp.reshape(cast(xp, weight, dtype), (*before, number, outputs // number, *after))
    ones = (1,) * len(before), (1,) * (1 + len(after))
    held = split * xp.reshape(cast(xp, factor, dtype), (*ones[0], number, *ones[1]))
    return cast(xp, xp.reshape(held, weight.shape), weight.dtype)
