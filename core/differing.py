"""What processes say that do not step the same, in words that are the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["differing"]


def differing(who: str, said: Sequence[tuple[str | None, tuple[str, ...]]]) -> str:
    """Why processes do not go on.

    Args:
        who: the rule.
        said: what each process says: its error, and each parameter that it steps.
    """
    for rank, (error, _) in enumerate(said):
        if error is not None:
            return f"{who}: process {rank} of {len(said)} cannot take the step: {error}"
    words = []
    for name in dict.fromkeys(name for _, names in said for name in names):
        ranks = [str(rank) for rank, (_, names) in enumerate(said) if name in names]
        if len(ranks) < len(said):
            words.append(f"{name} in {', '.join(ranks)} only")
    found = "; ".join(words[:5]) or "the same ones in another order"
    return (
        f"{who}: {len(said)} processes step different parameters: {found}. The sums of a step are "
        "over the parameters that have a gradient: give one to all processes, of zeros where there "
        "is none, or to no process"
    )
